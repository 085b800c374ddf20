"""What happens to a victim."""

import pytest

from fastswitch.sched import EvictionWay, Recompute, SwapOut
from tests.sched.fakes import running


@pytest.mark.parametrize(
    ("dirty", "host_free", "way"),
    [
        (3, 3, EvictionWay.SWAP_OUT),
        (4, 3, EvictionWay.RECOMPUTE),
        (0, 0, EvictionWay.SWAP_OUT),  # clean: the host has it already
        (1, 0, EvictionWay.RECOMPUTE),
    ],
)
def test_swap_out_unless_the_host_is_full(dirty, host_free, way):
    assert SwapOut().choose(running(0, 5, dirty=dirty), host_free, 0) is way


def test_recompute_always():
    assert Recompute().choose(running(0, 5, dirty=0), 100, 0) is EvictionWay.RECOMPUTE
