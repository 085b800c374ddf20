"""Rule 6 where the decision comes too late: an evictor that says "copy it out" of one that the host cannot take."""

from __future__ import annotations

from fastswitch.engine import InlineSwaps
from fastswitch.sched import EvictionWay
from tests.engine.small_engine import check_answers, finish, make_engine


class Stubborn:
    """Never looks at the host."""

    def choose(self, victim, host_free, num_waiting):
        return EvictionWay.SWAP_OUT


def test_a_victim_that_is_told_to_be_copied_and_does_not_fit_is_recomputed():
    engine = make_engine(device_blocks=6, host_blocks=2, swaps=InlineSwaps, evictor=Stubborn())
    log = engine.log_decisions()
    low = engine.submit(range(9), 3, priority=1)
    engine.step()
    high = engine.submit(range(50, 59), 3, priority=0)
    finish(engine)
    for turn_id in (low, high):
        check_answers([engine.turn(turn_id)])
    assert engine.counts.drops == 1
    assert [each.evicted for each in log.decisions if each.evicted] == [((0, "recompute"),)]
