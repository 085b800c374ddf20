"""Copies by the CUDA driver, against a stand-in that records its calls: what is issued, how, and when it fails.

Functions named ``in_a_process_...`` run where the stand-in is the driver; the tests start them.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastswitch.kernels._memcpy import copy_each, list_copies
from fastswitch.kernels._memcpy_batch import copy_batch, why_no_batch
from fastswitch.kernels._planes import check_transfer
from fastswitch.kernels._runs import expand_runs
from tests.kernels.backends import random_bytes
from tests.kernels.fake_driver import FakeDriver, build_fake_driver, run_with_fake_driver

RUNS = np.array([[0, 5, 3], [7, 0, 2], [4, 8, 1]])
STREAM = 0x5EA


def make_planes(num_planes=2, num_blocks=10, numel=6):
    src, dst = (
        tuple(random_bytes((num_blocks, numel), torch.bfloat16, seed=seed + i) for i in range(num_planes))
        for seed in (1, 100)
    )
    expected = [plane.clone() for plane in dst]
    for plane, source in zip(expected, src, strict=True):
        for src_id, dst_id in zip(*expand_runs(RUNS), strict=True):
            plane[dst_id] = source[src_id]
    return src, dst, expected


def same(planes, expected):
    words = [(plane.view(torch.int16), other.view(torch.int16)) for plane, other in zip(planes, expected, strict=True)]
    return all(torch.equal(*pair) for pair in words)


def in_a_process_copies_go_out_one_by_one():
    driver = FakeDriver()
    src, dst, expected = make_planes()
    copy_each(list_copies(check_transfer(src, dst, RUNS), RUNS), STREAM)
    assert same(dst, expected)
    assert (driver.calls, driver.stream) == (6, STREAM)
    assert driver.sizes == [36, 24, 12] * 2  # bytes of a run, in each plane


def in_a_process_a_refused_copy_is_told():
    driver = FakeDriver()
    src, dst, expected = make_planes()
    driver.set("fail_at", 4)
    message = "copy 4 of 6 failed: CUDA driver error 1"
    with pytest.raises(RuntimeError, match=f"^{message}$"):
        copy_each(list_copies(check_transfer(src, dst, RUNS), RUNS), STREAM)
    assert driver.entries == 4
    assert same(dst[:1], expected[:1])


def in_a_process_the_loop_is_compiled():
    from fastswitch.kernels._cache_folder import cache_folder
    from fastswitch.kernels._memcpy import _compiled_loop

    assert _compiled_loop() is not None
    assert [path.suffix for path in cache_folder().iterdir()] == [".so"]


def in_a_process_the_loop_cannot_be_compiled():
    from fastswitch.kernels._memcpy import _compiled_loop

    assert _compiled_loop() is None
    in_a_process_copies_go_out_one_by_one()
    FakeDriver().set("entries", 0)
    in_a_process_a_refused_copy_is_told()


def in_a_process_a_batch_is_one_call():
    driver = FakeDriver()
    assert why_no_batch() is None
    src, dst, expected = make_planes()
    copies = list_copies(check_transfer(src, dst, RUNS), RUNS)
    copy_batch(copies, STREAM)
    assert same(dst, expected)
    assert (driver.calls, driver.entries, driver.stream) == (1, 6, STREAM)  # coalesced: 3 runs, not 6 blocks, a plane
    assert driver.sizes == [36, 24, 12] * 2
    stream_order = 1
    assert (driver.source_order, driver.flags, driver.location_types) == (stream_order, 0, 0)
    assert (driver.attributes, driver.first_index) == (1, 0)
    assert driver.version_asked == 12080
    with pytest.raises(ValueError, match=r"^batched needs a stream of its own, got the default stream"):
        copy_batch(copies, 0)
    assert driver.calls == 1


def in_a_process_a_refused_batch_is_told():
    driver = FakeDriver()
    src, dst, _ = make_planes()
    driver.set("fail_at", 3)
    with pytest.raises(RuntimeError, match=r"^a batch of copies was refused at entry 3 of 6: CUDA driver error 1$"):
        copy_batch(list_copies(check_transfer(src, dst, RUNS), RUNS), STREAM)


def in_a_process_an_old_driver_has_no_batch():
    FakeDriver().set("has_batch", 0)
    lacks = "batched needs cuMemcpyBatchAsync, which this CUDA driver lacks: install driver 12.8 or newer"
    assert why_no_batch() == lacks


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    pytest.importorskip("cuda.bindings")
    return build_fake_driver(tmp_path_factory.mktemp("driver"))


@pytest.mark.parametrize("function", [name for name in dir() if name.startswith("in_a_process_")])
def test_with_a_stand_in_for_the_driver(driver, tmp_path, function):
    without_compiler = str(tmp_path) if function == "in_a_process_the_loop_cannot_be_compiled" else None
    run_with_fake_driver(driver, tmp_path, __name__, function, path=without_compiler)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a driver")
def test_without_a_driver_the_way_out_is_named():
    pytest.importorskip("cuda.bindings")
    assert why_no_batch() == "batched needs a CUDA driver, and none is installed"
