"""Serves a timed workload: each turn is submitted when its time has come, each conversation ended after its last one.

Ours. Time in which nothing can run and nothing is in flight is skipped; a turn's arrival is the planned one, also when
the engine was in the middle of an iteration then.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fastswitch.engine.request import Turn
from fastswitch.engine.step_loop import DeadlockError
from fastswitch.engine.workloads import ArrivalPlan, Workload, next_arrival_s

if TYPE_CHECKING:
    from fastswitch.engine.engine import Engine

__all__ = ["Replay"]


class Replay:
    """One workload on one engine.

    Args:
        engine: fresh or idle.
        workload: conversations.
        plan: their timing.
        prompt: (conversation index, turn index) |-> the turn's new token ids.
        on_step: called after each step with the number of turns ended so far; for progress bars and checks.

    Attributes:
        turns: (conversation index, turn index) |-> the engine's record of it.
    """

    def __init__(
        self,
        engine: Engine,
        workload: Workload,
        plan: ArrivalPlan,
        prompt: Callable[[int, int], Sequence[int]],
        on_step: Callable[[int], None] | None = None,
    ) -> None:
        self._engine = engine
        self._workload = workload
        self._plan = plan
        self._prompt = prompt
        self._on_step = on_step
        self._start_s = engine.clock.now()
        self._skipped_before_s = engine.clock.skipped_s
        self._arrivals = [(timing.start_s, index, 0) for index, timing in enumerate(plan.conversations)]
        heapq.heapify(self._arrivals)
        self._running: dict[tuple[int, int], Turn] = {}
        self._num_ended = engine.num_ended_turns  # when the running ones were looked through last
        self._seconds, self._ended = 0.0, False
        self.turns: dict[tuple[int, int], Turn] = {}

    @property
    def seconds(self) -> float:
        """From the start to the end of the last turn, or to now while turns are missing; skipped time left out."""
        return self._seconds if self._ended else self._elapsed()

    def run(self) -> None:
        """Serve everything.

        Raises:
            ValueError: if a turn can never fit.
            DeadlockError: if the engine can never go on, or nothing is left but what is suspended.
        """
        while self._arrivals or self._running:
            self._submit_due()
            ran = self._engine.step()
            self._follow_up()
            if self._on_step is not None:
                self._on_step(len(self.turns) - len(self._running))
            if not ran and (self._running or self._arrivals):
                self._wait()
        self._seconds, self._ended = self._elapsed(), True
        self._settle()

    def _wait(self) -> None:
        if self._arrivals:
            self._engine.wait_for_work(self._start_s + self._arrivals[0][0])
            return
        held = sorted(request.request_id for request in self._engine.requests if request.suspended)
        wanting = any(request.turn is not None and not request.suspended for request in self._engine.requests)
        if held and not wanting and not self._engine.num_in_flight:
            raise DeadlockError(f"nothing is left to run but suspended requests, {held}: resume one")
        self._engine.wait_for_work()

    def _elapsed(self) -> float:
        clock = self._engine.clock
        return clock.now() - self._start_s - (clock.skipped_s - self._skipped_before_s)

    def _submit_due(self) -> None:
        now = self._engine.clock.now()
        # the very sum that the clock skips to, or rounding could leave it a hair too early for ever
        while self._arrivals and self._start_s + self._arrivals[0][0] <= now:
            when, index, turn_index = heapq.heappop(self._arrivals)
            conversation = self._workload.conversations[index]
            turn_id = self._engine.submit(
                self._prompt(index, turn_index),
                conversation.turns[turn_index].output_tokens,
                client_id=conversation.client_id,
                conversation_id=index,
                arrival=self._start_s + when,
            )
            turn = self._engine.turn(turn_id)
            self.turns[index, turn_index] = self._running[index, turn_index] = turn

    def _follow_up(self) -> None:
        if self._num_ended == self._engine.num_ended_turns:
            return
        self._num_ended = self._engine.num_ended_turns
        for (index, turn_index), turn in [entry for entry in self._running.items() if entry[1].ended]:
            del self._running[index, turn_index]
            if turn_index + 1 == len(self._workload.conversations[index].turns):
                self._engine.end_conversation(index)
                continue
            ended_s = (turn.token_times[-1] if turn.token_times else turn.arrival) - self._start_s
            when = next_arrival_s(self._plan, index, turn_index + 1, turn.arrival - self._start_s, ended_s)
            heapq.heappush(self._arrivals, (when, index, turn_index + 1))

    def _settle(self) -> None:
        """Land the copies of conversations that have ended, so that every block is free."""
        self._engine.step()
        while self._engine.num_in_flight:
            self._engine.wait_for_work()
            self._engine.step()
