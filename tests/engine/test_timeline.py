"""A timeline is plain: it crosses to another process and is the same there."""

from __future__ import annotations

import pickle

from fastswitch.engine.timeline import Iteration, Stall, Timeline
from tests.engine.test_switch_record import record


def test_it_survives_pickling():
    timeline = Timeline((Iteration(0.0, 1.0, 2, 9),), (Stall(1.0, 2.0, None), Stall(2.0, 3.0, 7)), (record("per_run"),))
    copy = pickle.loads(pickle.dumps(timeline))  # noqa: S301  # our own
    assert copy == timeline
    assert copy.switches[0].conversation_id == "talk"
