"""Skip-join multi-level feedback queue: short answers before long ones, though nobody says which are short.

Paper: FastServe (arXiv 2305.05920). Queues of growing quanta; the first one's is the shortest iteration, each next one
       has twice the one before. A job skips the queues whose quantum its first iteration, a prefill whose time was
       profiled, would exceed. One that has used up its queue's quantum is demoted to the next; one that has starved is
       promoted to the first. Preemption between iterations, by queue, first come first served within one.
Ours:  the job is a turn: each turn of a conversation joins anew. Time is the profile's and not the clock's, so that the
       same requests are always served in the same order; a prompt that is computed in pieces costs what it costs whole,
       and tokens that are computed again cost nothing (rule 1). The last queue has no end. 8 queues. A turn starves
       that was not served for 1,000 executed iterations. What it used beyond a quantum is not counted in the next.

The queue is the request's level. `Engine.set_priority` so moves a turn to that queue (a level beyond the last: to the
last), where it has a whole quantum to use. It keeps it until the rules move it on. A level that is submitted with a
turn is the conversation's at once, so it moves the turn that is being served, if there is one; else the new turn joins
there, if it is not the level that the conversation had anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from fastswitch.sched.roles import Accountant, Ranker
from fastswitch.sched.view import RequestView
from fastswitch.sched.waits import Waits

__all__ = ["MLFQ"]

NUM_QUEUES = 8
STARVING_ITERATIONS = 1000
EXACT = 1e-9  # relative; sums of a token's time may miss the quantum that they make up by rounding


@dataclass(slots=True, eq=False)
class _Job:
    """A turn that is not over."""

    level: int | None  # of the request, when it was looked at last
    num_prompt_tokens: int
    joined: bool = False  # was given a queue
    num_prefilled: int = 0
    used_s: float = 0.0  # of its queue's quantum


class MLFQ(Ranker, Accountant):
    """Ranks by queue, then by the arrival of the turn, then by request id; ranker and accountant in one.

    >>> mlfq = MLFQ(prefill_s=lambda num_tokens: 0.01 * num_tokens, decode_s=0.03, num_queues=4)
    >>> mlfq.quanta_s
    (0.03, 0.06, 0.12, inf)
    >>> [mlfq.queue_of_prompt(num_tokens) for num_tokens in (1, 3, 4, 12, 5000)]
    [0, 0, 1, 2, 3]

    Args:
        prefill_s: seconds that a prompt of so many tokens takes; does not fall with their number.
        decode_s: seconds that an iteration takes which gives each request a token.
        num_queues: at least 1; with one it is first come, first served.
        first_quantum_s: of the first queue; ``decode_s``, if None.
        ratio: of a queue's quantum to the one before it, above 1.
        starving_iterations: executed without serving a turn until it is promoted.

    Attributes:
        quanta_s: of each queue, the last one's without end.

    Raises:
        ValueError: if an argument is outside its range.
    """

    def __init__(
        self,
        prefill_s: Callable[[int], float],
        decode_s: float,
        *,
        num_queues: int = NUM_QUEUES,
        first_quantum_s: float | None = None,
        ratio: float = 2.0,
        starving_iterations: int = STARVING_ITERATIONS,
    ) -> None:
        first_s = decode_s if first_quantum_s is None else first_quantum_s
        for name, value in (("decode_s", decode_s), ("first_quantum_s", first_s)):
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value:g}")
        for name, number in (("num_queues", num_queues), ("starving_iterations", starving_iterations)):
            if number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        if not ratio > 1:
            raise ValueError(f"ratio must be above 1: each quantum is longer than the one before, got {ratio:g}")
        self.quanta_s = (*[first_s * ratio**i for i in range(num_queues - 1)], float("inf"))
        self._prefill_s = prefill_s
        self._decode_s = decode_s
        self._starving_iterations = starving_iterations
        self._jobs: dict[int, _Job] = {}  # request_id |-> its turn
        self._waits = Waits()
        self._moving: set[int] = set()  # request_ids that join or are to be demoted

    def queue_of_prompt(self, num_tokens: int) -> int:
        """The first queue whose quantum a prompt of so many tokens does not exceed."""
        seconds = self._prefill_s(num_tokens)
        return next(queue for queue, quantum in enumerate(self.quanta_s) if seconds <= quantum * (1 + EXACT))

    # as accountant

    def arrived(self, request: RequestView) -> None:
        """It will join a queue by the prompt that it brought."""
        self._jobs[request.request_id] = _Job(request.priority, request.num_prompt_tokens)
        self._moving.add(request.request_id)
        self._waits.begin(request)

    def ended(self, request: RequestView) -> None:
        """The turn leaves its queue."""
        self._jobs.pop(request.request_id, None)
        self._moving.discard(request.request_id)
        self._waits.end(request.request_id)

    def charge(self, request: RequestView, num_prefill_tokens: int, num_decode_tokens: int) -> None:
        """Take the tokens' time from its quantum; a prompt's first token comes with its prefill."""
        if not (num_prefill_tokens or num_decode_tokens):
            return  # computed again
        self._waits.begin(request)
        job = self._jobs[request.request_id]
        self._follow(job, request)
        job.used_s += self._seconds(job, num_prefill_tokens, num_decode_tokens)
        if job.used_s >= self.quanta_s[self._queue(request)] * (1 - EXACT):
            self._moving.add(request.request_id)

    # as ranker

    def order(self, requests: Sequence[RequestView]) -> list[RequestView]:
        """First queue first. O(n log n)."""
        # three stable passes over numbers: a tuple for each of thousands sets off the garbage collector
        ranked = sorted(requests, key=attrgetter("request_id"))
        ranked.sort(key=attrgetter("arrival"))
        queues = {level: self._queue_of(level) for level in set(map(attrgetter("priority"), ranked))}
        ranked.sort(key=lambda request: queues[request.priority])
        return ranked

    def may_preempt(self, challenger: RequestView, holder: RequestView) -> bool:
        """Whether ``challenger`` is in an earlier queue, or came earlier to the same one."""
        return self._key(challenger) < self._key(holder)

    def is_due(self, executed_iterations: int) -> bool:
        """Whether a turn has come, used up its quantum or starved. O(those served since it was asked last)."""
        self._waits.date(executed_iterations)
        return bool(self._moving) or self._anybody_starves(executed_iterations)

    def new_levels(self, requests: Sequence[RequestView], executed_iterations: int) -> Mapping[int, int]:
        """The queues of those who join, are demoted or are promoted. O(n)."""
        self._waits.date(executed_iterations)
        levels: dict[int, int] = {}
        starved = self._starved(executed_iterations)
        for request in requests:
            request_id = request.request_id
            if request_id in self._moving:
                levels[request_id] = self._next_queue(request)
            if request_id in starved:
                levels[request_id] = 0
                self._waits.begin(request)
            if request_id in levels:
                self._enter(request_id, levels[request_id])
        self._waits.date(executed_iterations)
        return levels

    def forecast(self, requests: Sequence[RequestView], executed_iterations: int) -> list[RequestView] | None:
        """With those in the first queue who will have starved then; who is demoted is not known beforehand."""
        starved = self._starved(executed_iterations)
        if not starved:
            return None
        return sorted(requests, key=lambda r: (0, *self._key(r)[1:]) if r.request_id in starved else self._key(r))

    def _seconds(self, job: _Job, num_prefill_tokens: int, num_decode_tokens: int) -> float:
        if not num_prefill_tokens:
            return num_decode_tokens * self._decode_s
        before_s = self._prefill_s(job.num_prefilled) if job.num_prefilled else 0.0
        job.num_prefilled += num_prefill_tokens
        return self._prefill_s(job.num_prefilled) - before_s

    def _next_queue(self, request: RequestView) -> int:
        """Where one goes that joins or is spent; nowhere else if its user has moved it meanwhile."""
        job = self._jobs[request.request_id]
        if request.priority != job.level:
            return self._queue(request)
        if not job.joined:
            return self.queue_of_prompt(job.num_prompt_tokens)
        return self._queue(request) + 1  # the last queue is never used up

    def _enter(self, request_id: int, queue: int) -> None:
        job = self._jobs[request_id]
        job.level, job.joined, job.used_s = queue, True, 0.0
        self._moving.discard(request_id)

    def _follow(self, job: _Job, request: RequestView) -> None:
        """Its user may have moved it: then it has the whole quantum of the queue where it is now."""
        if request.priority != job.level:
            job.level, job.used_s = request.priority, 0.0

    def _starved(self, executed_iterations: int) -> set[int]:
        """Ids of those outside the first queue who were not served for too long."""
        waiting = self._waits.longer_than(self._starving_iterations, executed_iterations)
        return {request.request_id for request, _ in waiting if self._queue(request) > 0}

    def _anybody_starves(self, executed_iterations: int) -> bool:
        """Whether there is one; those in the first queue begin to wait anew, or they would be passed over each time."""
        for request, _ in self._waits.longer_than(self._starving_iterations, executed_iterations):
            if self._queue(request) > 0:
                return True
            self._waits.begin(request)
        return False

    def _queue(self, request: RequestView) -> int:
        return self._queue_of(request.priority)

    def _queue_of(self, level: int | None) -> int:
        return min(max(level or 0, 0), len(self.quanta_s) - 1)

    def _key(self, request: RequestView) -> tuple[int, float, int]:
        return (self._queue(request), request.arrival, request.request_id)
