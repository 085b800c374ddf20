"""The backends a kernel test runs on, and memory to copy: random bytes, so that NaNs of every payload occur."""

from __future__ import annotations

import os

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DTYPES = [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn]
LAYOUTS = ["block_major", "layer_major", "heads_first", "padded", "layers"]

gpu = [pytest.mark.gpu, pytest.mark.skipif(INTERPRETED or not torch.cuda.is_available(), reason="needs a CUDA device")]
on_every_backend = pytest.mark.parametrize(
    "device",
    [
        pytest.param("cpu", id="torch", marks=pytest.mark.skipif(INTERPRETED, reason="TRITON_INTERPRET is set")),
        pytest.param(
            "cpu",
            id="interpreter",
            marks=[pytest.mark.interpret, pytest.mark.skipif(not INTERPRETED, reason="TRITON_INTERPRET is not set")],
        ),
        pytest.param("cuda", id="cuda", marks=gpu),
    ],
)
on_every_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=gpu)])
# Tests whose caches lie beyond 2 ** 31 elements take up to 34 GB of a GPU: never two of them at once.
in_large_memory = pytest.mark.xdist_group("large memory")


def random_bytes(shape, dtype, *, seed, device="cpu"):
    numel = torch.Size(shape).numel() * dtype.itemsize
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (numel,), dtype=torch.uint8, generator=generator).to(device).view(dtype).view(shape)


def make_pool(layout, num_blocks, block_shape, dtype, *, seed, device="cpu"):
    """A pool of ``[num_blocks, layers, 2, block_size, heads, dim]`` in the layout, and all of the memory it lies in."""
    layers, two, block_size, heads, dim = block_shape
    shape, order = {
        "block_major": ((num_blocks, *block_shape), (0, 1, 2, 3, 4, 5)),
        "layer_major": ((layers, two, num_blocks, block_size, heads, dim), (2, 0, 1, 3, 4, 5)),
        "layers": ((layers, two, num_blocks, block_size, heads, dim), (2, 0, 1, 3, 4, 5)),
        "heads_first": ((num_blocks, layers, two, heads, block_size, dim), (0, 1, 2, 4, 3, 5)),
        "padded": ((num_blocks, layers, two, block_size, heads, dim + 1), (0, 1, 2, 3, 4, 5)),
    }[layout]
    memory = random_bytes(shape, dtype, seed=seed, device=device)
    pool = memory.permute(order)[..., :dim]
    return (pool.unbind(1) if layout == "layers" else pool), memory


def same_bytes(left, right):
    left, right = (tensor.cpu().clone(memory_format=torch.contiguous_format) for tensor in (left, right))
    return torch.equal(left.view(torch.uint8), right.view(torch.uint8))
