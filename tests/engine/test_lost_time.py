"""What a timeline says was lost, worked out by hand."""

from fastswitch.engine.lost_time import LostTime
from fastswitch.engine.switch_record import CLEAN, SwitchRecord
from fastswitch.engine.timeline import Iteration, Stall, Timeline
from fastswitch.memory import SwapDirection

OUT, IN = SwapDirection.SWAP_OUT, SwapDirection.SWAP_IN


def switch(direction, submitted_s, queue_s, copy_s, **other):
    return SwitchRecord(1, 1, direction, "per_run", submitted_s, 0.0, queue_s=queue_s, copy_s=copy_s, **other)


def test_seconds_of_the_engine_and_of_requests():
    timeline = Timeline(
        iterations=(Iteration(0.0, 1.0, 4, 4), Iteration(1.5, 4.5, 8, 20), Iteration(5.0, 6.0, 4, 4)),
        stalls=(Stall(1.0, 1.25, 1), Stall(4.5, 5.0, None)),
        switches=(
            switch(IN, 0.25, 0.25, 0.5),  # over at 1.0, seen at 1.5
            switch(IN, 2.0, 0.0, 3.0),  # over and seen at 5.0
            switch(IN, 5.5, 1.0, 1.0),  # over at 7.5: no iteration uses it
            switch(IN, 0.0, 9.0, 9.0, ahead=True),  # nobody waits for it
            switch(OUT, 0.0, 0.5, 0.75),  # over at 1.25, seen at 1.5
            switch(OUT, 0.0, 2.0, 2.0, handed_over=True),  # a return took its room
            SwitchRecord(1, 1, OUT, CLEAN, 3.0, 3.0),
        ),
    )
    lost = LostTime.of(timeline)
    assert lost == LostTime(
        mean_requests=(4 + 24 + 4) / 5, stall_s=0.75, queued_s=1.25, copied_s=4.5, unseen_s=0.5, vacating_s=1.5
    )
    assert lost.away_s == (1.25 + 4.5 + 0.5 + 1.5) / 6.4


def test_nothing_is_lost_where_nothing_happened():
    assert LostTime.of(Timeline((), (), ())).away_s == 0
