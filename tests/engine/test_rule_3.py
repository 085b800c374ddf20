"""Rule 3: a productive step is one that the request had not made before."""

from __future__ import annotations

from fastswitch.sched import PrefillFirst, Recompute, RequestState
from tests.engine.small_engine import check_answers, make_engine


def test_what_is_computed_again_is_no_progress():
    """The live-lock of recomputing in pieces: whoever is on the device deserves it least, and a piece takes a step.

    If a piece that was computed before were a productive step, each would be dropped after it and begin anew, for ever.
    """
    engine = make_engine(device_blocks=6, evictor=Recompute(), packer=PrefillFirst(2))
    turns = [engine.submit(range(20 * i, 20 * i + 7), 4) for i in range(2)]
    for _ in range(300):
        for turn_id in turns:
            if not engine.turn(turn_id).ended:
                (state,) = [r.state for r in engine.requests if r.request_id == engine.turn(turn_id).request_id]
                engine.set_priority(turn_id, 3 if state is RequestState.RUNNING else 0)
        if not engine.step():
            engine.wait_for_work()
        if not engine.requests:
            break
    for turn_id in turns:
        assert engine.turn(turn_id).ended
        check_answers([engine.turn(turn_id)])
    assert engine.counts.recomputed_tokens > 0
