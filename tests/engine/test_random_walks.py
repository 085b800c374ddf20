"""Anything a caller can do, at any moment: every turn's tokens are those of an engine that never switches."""

from __future__ import annotations

import itertools
import random

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastswitch.engine import AdaptiveSwap, InlineSwaps, SwapCoordinator
from fastswitch.engine.checks import InvariantChecker, check_all_free
from fastswitch.kernels import per_run
from fastswitch.memory import BlockGroupAllocator, PagedAllocator
from fastswitch.sched import ChunkedPrefill, PrefillFirst, Recompute, SwapOut
from tests.engine.small_engine import check_answers, finish, make_engine

DEVICE_BLOCKS, BLOCK_SIZE = 8, 2
ROOM = DEVICE_BLOCKS * BLOCK_SIZE  # tokens that a conversation may have


class Conversation:
    """What the caller knows of one conversation."""

    def __init__(self, conversation_id):
        self.conversation_id = conversation_id
        self.turns = []  # (turn_id, turn), in order; cancelled ones that never started are taken out
        self.cancelled = set()
        self.ending = False

    @property
    def num_tokens(self):
        return sum(
            len(turn.prompt) + (len(turn.generated) if turn.ended else turn.max_new_tokens) for _, turn in self.turns
        )

    @property
    def open_turns(self):
        return [(turn_id, turn) for turn_id, turn in self.turns if not turn.ended]

    def cancel(self, engine, turn_id, turn):
        started = self.open_turns[0] == (turn_id, turn)
        engine.cancel(turn_id)
        self.cancelled.add(turn_id)
        if not started:
            self.turns.remove((turn_id, turn))

    def check(self):
        check_answers([turn for _, turn in self.turns])
        for turn_id, turn in self.turns:
            assert turn.ended
            assert len(turn.generated) == turn.max_new_tokens or turn_id in self.cancelled


class Caller:
    """Drives an engine and remembers what it must answer; ``draw(low, high)`` chooses."""

    def __init__(self, engine, draw):
        self.engine = engine
        self.draw = draw
        self.conversations = []
        self.checker = InvariantChecker(engine)
        self.next_token = 0

    def pick(self, options):
        return options[self.draw(0, len(options) - 1)] if options else None

    def submit(self):
        choices = [each for each in self.conversations if not each.ending][-3:]
        conversation = self.pick([None, *choices])
        if conversation is None:
            conversation = Conversation(len(self.conversations))
        prompt_len, num_new = 8 - self.draw(1, 7), 7 - self.draw(1, 5)
        if conversation.num_tokens + prompt_len + num_new > ROOM:
            return
        if conversation not in self.conversations:
            self.conversations.append(conversation)
        prompt = list(range(self.next_token, self.next_token + prompt_len))
        self.next_token += prompt_len
        turn_id = self.engine.submit(
            prompt,
            num_new,
            priority=self.pick([None, 0, 1, 2, 3]),
            client_id=conversation.conversation_id % 2,
            conversation_id=conversation.conversation_id,
        )
        conversation.turns.append((turn_id, self.engine.turn(turn_id)))

    def on_a_turn(self, act):
        conversation = self.pick([each for each in self.conversations if each.open_turns])
        if conversation is not None:
            act(conversation, *self.pick(conversation.open_turns))

    def cancel(self):
        self.on_a_turn(lambda conversation, turn_id, turn: conversation.cancel(self.engine, turn_id, turn))

    def suspend(self):
        self.on_a_turn(lambda _, turn_id, turn: self.engine.suspend(turn_id))

    def resume(self):
        self.on_a_turn(lambda _, turn_id, turn: self.engine.resume(turn_id))

    def set_priority(self):
        self.on_a_turn(lambda _, turn_id, turn: self.engine.set_priority(turn_id, self.draw(0, 3)))

    def end_conversation(self):
        conversation = self.pick([each for each in self.conversations if not each.ending])
        if conversation is not None:
            conversation.ending = True
            self.engine.end_conversation(conversation.conversation_id)

    def end_everything(self):
        for conversation in self.conversations:
            for turn_id, _ in conversation.open_turns:
                self.engine.resume(turn_id)
            if not conversation.ending:
                self.engine.end_conversation(conversation.conversation_id)
        finish(self.engine, self.checker.check)
        for conversation in self.conversations:
            conversation.check()
        assert self.engine.num_conversations == 0
        check_all_free(self.engine)
        self._check_charges()

    def _check_charges(self):
        # a prompt that was cancelled before it was computed is charged to nobody, so a limit is all there is then
        for client_id in (0, 1):
            turns = [
                turn for each in self.conversations for _, turn in each.turns if each.conversation_id % 2 == client_id
            ]
            accountant = self.engine.accountant
            assert accountant.decode_tokens[client_id] == sum(len(turn.generated) for turn in turns)
            submitted = sum(len(turn.prompt) for turn in turns)
            exact = not any(each.cancelled for each in self.conversations)
            charged = accountant.prefill_tokens[client_id]
            assert charged == submitted if exact else charged <= submitted


class EngineMachine(RuleBasedStateMachine):
    """One thread, copies in flight for as long as the machine likes, any of them failing."""

    @initialize(
        data=st.data(),
        allocator=st.sampled_from([BlockGroupAllocator, PagedAllocator]),
        order=st.sampled_from(["block_major", "layer_major"]),
        host_blocks=st.sampled_from([64, 10, 6, 1]),
        reuse=st.booleans(),
        evictor=st.sampled_from([SwapOut, SwapOut, SwapOut, Recompute]),
        packer=st.sampled_from([(PrefillFirst, 2), (PrefillFirst, 8192), (ChunkedPrefill, 1), (ChunkedPrefill, 5)]),
        frequency=st.sampled_from([1.0, 0.5, None]),
        adaptive=st.booleans(),
        copies_ahead=st.booleans(),
    )
    def start(self, data, allocator, order, host_blocks, reuse, evictor, packer, frequency, adaptive, copies_ahead):
        self.engine = make_engine(
            device_blocks=DEVICE_BLOCKS,
            block_size=BLOCK_SIZE,
            host_blocks=host_blocks,
            order=order,
            allocator=allocator,
            reuse=reuse,
            evictor=evictor(),
            packer=packer[0](packer[1]),
            frequency=frequency,
            adaptive=AdaptiveSwap() if adaptive else None,
            copies_ahead=copies_ahead,
        )
        self.caller = Caller(self.engine, lambda low, high: data.draw(st.integers(low, high)))

        for _ in range(3):
            self.caller.submit()

    def _caller(self, data):
        self.caller.draw = lambda low, high: data.draw(st.integers(low, high))
        return self.caller

    @rule(data=st.data())
    def submit(self, data):
        self._caller(data).submit()

    @rule(times=st.integers(1, 6))
    def step(self, times):
        for _ in range(times):
            self.engine.step()

    @rule(data=st.data())
    def set_priority(self, data):
        self._caller(data).set_priority()

    @rule(data=st.data(), act=st.sampled_from(["resume", "suspend", "cancel", "end_conversation"]))
    def meddle(self, data, act):
        getattr(self._caller(data), act)()

    @precondition(lambda self: self.engine.swaps.jobs)
    @rule(data=st.data(), lands=st.sampled_from([True, True, True, False]))
    def end_a_copy(self, data, lands):
        index = data.draw(st.integers(0, len(self.engine.swaps.jobs) - 1))
        (self.engine.swaps.land if lands else self.engine.swaps.fail)(index)

    @invariant()
    def consistent(self):
        if hasattr(self, "caller"):
            self.caller.checker.check()

    def teardown(self):
        if hasattr(self, "caller"):
            self.caller.end_everything()


TestEngine = EngineMachine.TestCase
TestEngine.settings = settings(settings.default, max_examples=150, stateful_step_count=50)


class Unreliable:
    """A transfer of which one copy in eight raises half-way, and one kills its thread."""

    def __init__(self, seed, deadly_copy):
        self._copies = itertools.count(seed)
        self._deadly_copy = deadly_copy

    def __call__(self, src_planes, dst_planes, runs):
        number = next(self._copies)
        if number == self._deadly_copy:
            raise SystemExit("killed")
        if number % 8 == 0:
            per_run(src_planes, dst_planes, runs[:1])
            raise OSError("the link broke")
        return per_run(src_planes, dst_planes, runs)


def unreliable(swaps_class, seed, deadly_copy):
    transfer = Unreliable(seed, deadly_copy)
    return lambda device_pool, host_pool: swaps_class(device_pool, host_pool, transfer=transfer)


def walk(engine, draws, *more_acts):
    """Do 400 things at random, then come to an end."""
    caller = Caller(engine, draws.randint)
    acts = [caller.submit] * 6 + [engine.step] * 12 + [caller.resume] * 2
    acts += [caller.cancel, caller.suspend, caller.set_priority, caller.end_conversation, *more_acts]
    for _ in range(400):
        draws.choice(acts)()
        caller.checker.check()
    caller.end_everything()
    assert engine.counts.failed > 0
    assert engine.counts.reports


@pytest.mark.parametrize("host_blocks", [6, 64])
@pytest.mark.parametrize("swaps_class", [SwapCoordinator, InlineSwaps])
@pytest.mark.parametrize("seed", range(4))
def test_walk_with_copies_that_fail(swaps_class, host_blocks, seed):
    deadly_copy = 12 if swaps_class is SwapCoordinator and seed == 3 else None
    engine = make_engine(
        device_blocks=DEVICE_BLOCKS,
        block_size=BLOCK_SIZE,
        host_blocks=host_blocks,
        reuse=bool(seed % 2),
        allocator=[BlockGroupAllocator, PagedAllocator][seed % 2],
        swaps=unreliable(swaps_class, seed, deadly_copy),
        frequency=1.0,
        adaptive=AdaptiveSwap() if seed == 1 else None,
        copies_ahead=seed >= 2,
    )
    try:
        walk(engine, random.Random(seed))
    finally:
        engine.swaps.close()


@pytest.mark.parametrize("seed", range(24))
def test_walk_with_copies_that_stay_in_flight(seed):
    draws = random.Random(seed)
    engine = make_engine(
        device_blocks=DEVICE_BLOCKS,
        block_size=BLOCK_SIZE,
        host_blocks=draws.choice([6, 12, 64]),
        reuse=bool(seed % 2),
        allocator=draws.choice([BlockGroupAllocator, PagedAllocator]),
        order=draws.choice(["block_major", "layer_major"]),
        frequency=draws.choice([0.3, 1.0]),
        copies_ahead=bool(seed // 2 % 2),
    )

    def end_a_copy():
        if jobs := engine.swaps.jobs:
            end = engine.swaps.fail if draws.random() < 0.25 else engine.swaps.land
            end(draws.randrange(len(jobs)))

    walk(engine, draws, *[end_a_copy] * 8)
