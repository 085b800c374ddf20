"""Drives a ranker that is its own accountant as the engine does, over plain records, without memory or copies."""

from __future__ import annotations

from tests.sched.fakes import FakeRequest


class Driver:
    """One iteration at a time; whoever is to be served is the test's to say.

    Args:
        ranker: ranker and accountant.
    """

    def __init__(self, ranker):
        self.ranker = ranker
        self.iterations = 0
        self.requests = {}
        self.newcomers = []
        self.num_dues = 0

    def arrive(self, request_id, num_prompt_tokens=1, *, priority=None):
        """A turn comes; its conversation too, if it is the first. ``priority`` is set behind it, as ``submit`` does."""
        request = self.requests.get(request_id)
        if request is None:
            request = self.requests[request_id] = FakeRequest(request_id)
            self.newcomers.append(request)
        request.idle_since, request.arrival = None, float(self.iterations)
        request.num_prompt_tokens = num_prompt_tokens
        self.ranker.arrived(request)
        if priority is not None:
            request.priority = priority
        return request

    def end(self, request_id):
        request = self.requests[request_id]
        self.ranker.ended(request)
        request.idle_since, request.num_prompt_tokens = float(self.iterations), 0

    def look(self):
        """What a step does before it places: levels are asked for and written down; the order of the active ones."""
        due = self.ranker.is_due(self.iterations)
        asked = list(self.requests.values()) if due else self.newcomers
        self.newcomers = []
        self.num_dues += due
        if asked:
            for request_id, level in self.ranker.new_levels(asked, self.iterations).items():
                self.requests[request_id].priority = level
        return [r.request_id for r in self.ranker.order([r for r in self.requests.values() if r.idle_since is None])]

    def step(self, *served):
        """One executed iteration that gives (request_id, prefill tokens, decode tokens) each; the order before it."""
        order = self.look()
        for request_id, num_prefill, num_decode in served:
            self.ranker.charge(self.requests[request_id], num_prefill, num_decode)
        self.iterations += 1
        return order

    def queues(self):
        """request_id |-> level after a look."""
        self.look()
        return {r.request_id: r.priority for r in self.requests.values() if r.idle_since is None}
