"""The ceilings that every other figure is a percentage of: memory bandwidth (copy, scale, add, triad), and the link.

Run: ``pytest benchmarks/bench_stream.py``. The first four are McCalpin's STREAM in torch; bytes are counted as it
counts them, read and written. ``link`` is one large memcpy between pinned host memory and the device, bytes counted
once; on a CPU, where both tiers are one memory, it is one large memcpy.
"""

from __future__ import annotations

import pytest
import torch
from measuring import DEVICE, MINIATURE, measure, transfer_seconds

NUM_BYTES = (4 << 20) if MINIATURE else (1 << 30) if DEVICE == "cuda" else (128 << 20)
LINK_BYTES = (4 << 20) if MINIATURE else (256 << 20) if DEVICE == "cuda" else (128 << 20)
NUMEL = NUM_BYTES // 4


@pytest.fixture(scope="module")
def arrays():
    return tuple(torch.rand(NUMEL, device=DEVICE) for _ in range(3))


# op |-> (what it does to a, b and c; what c is then; arrays read and written)
OPS = {
    "copy": (lambda a, _b, c: c.copy_(a), lambda a, _b: a, 2),
    "scale": (lambda a, _b, c: torch.mul(a, 3.0, out=c), lambda a, _b: 3.0 * a, 2),
    "add": (lambda a, b, c: torch.add(a, b, out=c), lambda a, b: a + b, 3),
    "triad": (lambda a, b, c: torch.add(a, b, alpha=3.0, out=c), lambda a, b: a + 3.0 * b, 3),
}


@pytest.mark.parametrize("op", OPS)
def test_stream(benchmark, arrays, op):
    a, b, c = arrays
    run, expected, num_arrays = OPS[op]
    run(a, b, c)
    torch.testing.assert_close(c, expected(a, b))
    facts = {"op": op, "dtype": "float32", "shape": [NUMEL]}
    measure(benchmark, lambda: run(a, b, c), group="stream", num_bytes=num_arrays * NUM_BYTES, **facts)


@pytest.mark.parametrize("direction", ["device_to_host", "host_to_device"])
def test_link(benchmark, direction):
    host = torch.randint(0, 255, (LINK_BYTES,), dtype=torch.uint8, pin_memory=DEVICE == "cuda")
    device = torch.randint(0, 255, (LINK_BYTES,), dtype=torch.uint8, device=DEVICE)
    dst, src = (host, device) if direction == "device_to_host" else (device, host)

    def memcpy():
        dst.copy_(src, non_blocking=True)

    memcpy()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    assert torch.equal(dst.cpu(), src.cpu())
    facts = {"op": "link", "direction": direction, "dtype": "uint8", "shape": [LINK_BYTES]}
    measure(benchmark, memcpy, group=f"link {direction}", num_bytes=LINK_BYTES, timed=transfer_seconds, **facts)
