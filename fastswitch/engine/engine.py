"""The reference engine: turns in, tokens out, KV moved between the tiers as the scheduler says.

Ours. This file is the public surface; ``step_loop`` holds the step, ``conversations`` the turns, ``switcher`` the
switches. Greedy decoding; an answer has exactly the length asked for. All methods are called from one thread.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Sequence

from fastswitch.engine.clock import Clock, RealClock
from fastswitch.engine.conversations import Conversations
from fastswitch.engine.decision_log import DecisionLog
from fastswitch.engine.executor import Executor
from fastswitch.engine.replay import Replay
from fastswitch.engine.request import Request, Turn
from fastswitch.engine.service_recorder import ServiceRecorder
from fastswitch.engine.step_loop import DeadlockError, StepLoop
from fastswitch.engine.swap_rule import SwapRule
from fastswitch.engine.swaps import Swaps
from fastswitch.engine.switch_costs import RunningCosts
from fastswitch.engine.switch_counts import SwitchCounts
from fastswitch.engine.switcher import Switcher
from fastswitch.engine.timeline_recorder import TimelineRecorder
from fastswitch.engine.vocabulary import check_vocabulary
from fastswitch.engine.workloads import ArrivalPlan, Workload, plan_as_recorded
from fastswitch.memory import KVCacheManager
from fastswitch.sched import Scheduler

__all__ = ["Engine"]


class Engine:
    """Serves conversations from one device pool and one host pool.

    Args:
        executor: computes batches.
        scheduler: decides who holds memory and who gets tokens.
        kv: owns both pools' blocks.
        swaps: moves bytes; closed by its owner, not by the engine.
        clock: time, the one that ``swaps`` uses.
        adaptive: overlap a copy or wait for it; None always overlaps.
        copies_ahead: while the link is idle, copy what will probably have to move (`ahead`).
        costs: told what copies and prompts took; give the scheduler's `CheapestSwitch` the same object.
    """

    def __init__(
        self,
        executor: Executor,
        scheduler: Scheduler,
        kv: KVCacheManager,
        swaps: Swaps,
        *,
        clock: Clock | None = None,
        adaptive: SwapRule | None = None,
        copies_ahead: bool = False,
        costs: RunningCosts | None = None,
    ) -> None:
        self.clock: Clock = clock or RealClock()
        self.kv = kv
        self.swaps = swaps
        self.counts = SwitchCounts()
        self._vocab_size = executor.vocab_size
        self._scheduler = scheduler
        self._service: ServiceRecorder | None = None
        self._conversations = Conversations(kv, self.clock, executor.max_context, scheduler.accountant)
        self._switcher = Switcher(kv, swaps, adaptive, self.counts, costs)
        parts = (executor, scheduler, self._switcher, self._conversations, self.clock, adaptive, costs)
        self._loop = StepLoop(*parts, copies_ahead=copies_ahead)

    def submit(
        self,
        tokens: Sequence[int],
        max_new_tokens: int,
        *,
        priority: int | None = None,
        client_id: Hashable = None,
        conversation_id: Hashable = None,
        arrival: float | None = None,
    ) -> int:
        """Ask for ``max_new_tokens`` tokens after the conversation's history and ``tokens``.

        The history is all earlier turns' tokens and those that the engine generated itself. A turn that is submitted
        while the one before it is being computed waits for its end.

        Args:
            tokens: the turn's new token ids, at least one. A tuple or ``range`` is kept as it is, and copied nowhere.
            max_new_tokens: length of the answer, at least 1.
            priority: level, a smaller one is served first; None leaves it to the ranker.
            client_id: who asks.
            conversation_id: None makes a conversation of one turn, which ends by itself.
            arrival: when the turn arrived, in seconds of the engine's clock; now, if None.

        Returns:
            The turn's id, for ``stream``, ``cancel``, ``set_priority``, ``suspend`` and ``resume``.

        Raises:
            ValueError: if there is nothing to do, it can never fit the pool or the model's positions, a token id is
                outside the vocabulary, or the arrival is in the future.
        """
        now = self.clock.now()
        when = now if arrival is None else arrival
        if when > now:
            raise ValueError(f"arrival must not be in the future, got {when:g} at {now:g}")
        prompt = tokens if isinstance(tokens, (tuple, range)) else list(tokens)
        check_vocabulary(prompt, self._vocab_size)
        turn, request = self._conversations.submit(prompt, max_new_tokens, when, client_id, conversation_id)
        if priority is not None:
            request.priority = priority
            self._conversations.rank_anew()
        return turn.turn_id

    def step(self) -> bool:
        """Do one step; whether an iteration ran. Waits for nothing but a copy that is worth waiting for."""
        ran = self._loop.step()
        if self._service is not None:
            self._service.end_step()
        return ran

    def wait_for_work(self, until: float | None = None) -> None:
        """When ``step`` ran nothing: wait for a copy, or jump to ``until``, when the next turn arrives.

        Raises:
            DeadlockError: if neither can help, and somebody wants to run.
        """
        self._loop.wait_for_work(until)

    def stream(self, turn_id: int) -> Iterator[int]:
        """The turn's tokens as they come, stepping the engine as needed.

        Raises:
            KeyError: if there is no such turn.
            DeadlockError: if the turn can never go on, be it that it is suspended.
        """
        turn = self._conversations.turn(turn_id)
        given = 0
        while True:
            while given < len(turn.generated):
                yield turn.generated[given]
                given += 1
            if turn.ended:
                return
            if self._conversations.live(turn_id).suspended:
                raise DeadlockError(f"turn {turn_id} is suspended: resume it")
            if not self.step():
                self.wait_for_work()

    def turn(self, turn_id: int) -> Turn:
        """The turn's record, read-only for callers; ended turns stay on record."""
        return self._conversations.turn(turn_id)

    def cancel(self, turn_id: int) -> None:
        """End the turn now; what it generated stays in the conversation's history. Nothing if it has ended."""
        self._conversations.cancel(self._conversations.turn(turn_id))

    def set_priority(self, turn_id: int, priority: int) -> None:
        """Change the level of the turn's conversation, until the ranker draws a new one."""
        self._conversations.live(turn_id).priority = priority
        self._conversations.rank_anew()

    def suspend(self, turn_id: int) -> None:
        """Hold the turn's conversation off the device until ``resume``; its KV leaves at the next step."""
        self._conversations.suspend(self._conversations.live(turn_id))

    def resume(self, turn_id: int) -> None:
        """Let a suspended conversation compete for the device again."""
        self._conversations.resume(self._conversations.live(turn_id))

    def end_conversation(self, conversation_id: Hashable) -> None:
        """Free the conversation's KV on both tiers, when its turns are over.

        Raises:
            KeyError: if there is no such conversation.
        """
        self._conversations.end(conversation_id)

    def run(self, workload: Workload, plan: ArrivalPlan | None = None) -> Replay:
        """Serve a workload to its end; what comes back holds the record of every turn.

        Args:
            workload: conversations.
            plan: their timing. By default recorded times as they are; what is not recorded as in the paper's setting:
                one conversation a second (Poisson), a think time of 10 s (exponential).

        Raises:
            ValueError: if a turn can never fit.
            DeadlockError: if the engine can never go on, or nothing is left but what is suspended.
        """

        def prompt(conversation: int, turn: int) -> Sequence[int]:
            return workload.prompt_tokens(conversation, turn, self._vocab_size)

        replay = Replay(self, workload, plan or plan_as_recorded(workload, seed=workload.seed), prompt)
        replay.run()
        return replay

    def record(self) -> TimelineRecorder:
        """From now on note what happens when: iterations, stalls, switches. ``timeline()`` of what comes back has it.

        Costs a few objects an iteration and a switch, kept until the recorder goes; an earlier recorder gets no more.
        """
        self._loop.recorder = self._switcher.recorder = recorder = TimelineRecorder(self.clock, self.swaps)
        return recorder

    def record_service(self) -> ServiceRecorder:
        """Note who is served and who waits, from the first turn on; ``record()`` of what comes back has it.

        Raises:
            RuntimeError: if there were turns already, or it is recorded already.
        """
        if self._service is not None or self.num_ended_turns or self.num_conversations:
            raise RuntimeError("service must be recorded once, before the first turn")
        self._service = ServiceRecorder(self._scheduler.accountant, self.clock)
        self._scheduler.accountant = self._conversations.accountant = self._service
        return self._service

    def log_decisions(self) -> DecisionLog:
        """From now on write the schedule down: `sched.Decision` after `Decision`, in what comes back.

        One object an iteration, kept until the log goes; an earlier log gets no more.
        """
        return self._loop.log_decisions()

    @property
    def requests(self) -> Collection[Request]:
        """The conversations that have not ended, read-only for callers; for checks."""
        return self._conversations.requests

    @property
    def num_in_flight(self) -> int:
        """Copies under way."""
        return self._loop.num_in_flight

    @property
    def leaves_waiting(self) -> bool:
        """Whether, at the last step, somebody wanted device room and did not get it."""
        return self._loop.leaves_waiting

    @property
    def num_conversations(self) -> int:
        """Conversations that have not ended."""
        return len(self._conversations)

    @property
    def num_ended_turns(self) -> int:
        """Turns that have finished or were cancelled."""
        return self._conversations.num_ended_turns

    @property
    def executed_iterations(self) -> int:
        """Iterations that ran."""
        return self._loop.executed_iterations

    @property
    def stall_s(self) -> float:
        """Seconds in which no iteration ran because of copies, while somebody wanted to run."""
        return self.swaps.stall_s + self._loop.waited_s
