"""A holding against a plain list of ids, through everything that changes it, in any order."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastswitch.memory.holding import Holding

sizes = st.integers(1, 6)


class HoldingMachine(RuleBasedStateMachine):
    """The ids are asked for only by a rule, so any number of changes lie between two times they are written out."""

    def __init__(self):
        super().__init__()
        self.holding, self.ids = Holding(), []

    @rule(start=st.integers(0, 40), size=sizes)
    def append(self, start, size):
        self.holding.append(start, size)
        self.ids += range(start, start + size)

    @precondition(lambda self: self.ids)
    @rule(size=sizes)
    def append_behind(self, size):
        self.append(self.holding.end, size)

    @precondition(lambda self: self.ids)
    @rule(size=sizes)
    def extend(self, size):
        assert self.holding.extend(size) == self.ids[-1] + 1
        self.ids += range(self.ids[-1] + 1, self.ids[-1] + 1 + size)

    @rule(data=st.data(), reserve=st.integers(0, 3), follow_the_rest=st.booleans())
    def cut(self, data, reserve, follow_the_rest):
        at = data.draw(st.integers(0, len(self.ids)))
        self.holding.reserve = reserve if self.ids else 0
        rest = self.holding.cut(at)
        rest.check_invariants()
        self.holding.check_invariants()
        kept = (rest if at < len(self.ids) else self.holding, self.holding if at < len(self.ids) else rest)
        assert (kept[0].reserve, kept[1].reserve) == (reserve if self.ids else 0, 0)
        assert self.holding.block_ids().tolist() == self.ids[:at]
        assert rest.block_ids().tolist() == self.ids[at:]
        self.holding, self.ids = (rest, self.ids[at:]) if follow_the_rest else (self.holding, self.ids[:at])

    @rule(data=st.data())
    def cut_unseen(self, data):
        at = data.draw(st.integers(0, len(self.ids)))
        self.holding.cut(at)
        del self.ids[at:]

    @rule()
    def block_ids(self):
        block_ids = self.holding.block_ids()
        assert block_ids.dtype == np.int32
        assert block_ids.tolist() == self.ids
        block_ids[:] = -1

    @invariant()
    def agrees_with_the_list(self):
        self.holding.check_invariants()
        assert self.holding.num_blocks == len(self.ids)
        runs = [block_id for start, size in self.holding for block_id in range(start, start + size)]
        assert runs == self.ids
        for index in range(len(self.ids) + 1):
            since = [block_id for start, size in self.holding.since(index) for block_id in range(start, start + size)]
            assert since == self.ids[index:]


TestHolding = HoldingMachine.TestCase
TestHolding.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def test_what_a_cut_took_is_not_found_in_the_ids_written_before():
    holding = Holding()
    holding.append(0, 4)
    holding.append(10, 4)
    assert holding.block_ids().tolist() == [0, 1, 2, 3, 10, 11, 12, 13]
    holding.cut(5)
    holding.append(20, 3)
    assert holding.block_ids().tolist() == [0, 1, 2, 3, 10, 20, 21, 22]


def test_runs_that_continue_the_last_lengthen_it():
    holding = Holding()
    holding.append(4, 3)
    holding.append(7, 2)
    assert list(holding) == [(4, 5)]


def test_an_empty_holding():
    holding = Holding()
    assert list(holding) == holding.since(0) == []
    assert holding.block_ids().tolist() == []
    assert holding.block_ids().dtype == np.int32
    assert holding.cut(0).num_blocks == 0
    holding.check_invariants()
