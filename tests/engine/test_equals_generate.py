"""The engine's tokens are ``model.generate()``'s, however often and in whatever way its requests are switched."""

from __future__ import annotations

import functools
import itertools
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
import torch

from fastswitch.engine import AdaptiveSwap, Engine, InlineSwaps, RealClock, SwapCoordinator
from fastswitch.engine.checks import InvariantChecker, PoisoningAllocator, check_all_free
from fastswitch.engine.model_executor import ModelExecutor, kv_layout
from fastswitch.memory import BlockGroupAllocator, KVCacheManager, PagedAllocator
from fastswitch.memory.pool import KVPool
from fastswitch.sched import (
    MLFQ,
    Aging,
    ChunkedPrefill,
    PrefillFirst,
    PriorityTrace,
    RandomPriorities,
    Recompute,
    Scheduler,
    SwapOut,
)
from tests.engine.comparing_swaps import ComparingSwaps
from tests.engine.small_models import SIZES, build

BLOCK_SIZE, DEVICE_BLOCKS, HOST_BLOCKS = 4, 14, 96
MODELS = ["llama", "qwen3", "mistral"]
PLAIN = {"allocator": BlockGroupAllocator, "order": "block_major", "way": "per_run", "reuse": True}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw_conversations():
    """Conversations of (prompt, answer length) turns, each of 40 to 52 tokens in all."""
    rng = np.random.default_rng(5)
    conversations = []
    for _ in range(5):
        turns = [(rng.integers(0, SIZES["vocab_size"], rng.integers(5, 10)).tolist(), 9) for _ in range(3)]
        conversations.append(turns)
    return conversations


CONVERSATIONS = draw_conversations()


@functools.cache
def generated(name):
    """What ``generate()`` answers, turn by turn, each conversation alone."""
    model = build(name, attn_implementation="sdpa")
    answers = []
    for turns in CONVERSATIONS:
        history, conversation = [], []
        for prompt, num_tokens in turns:
            history += prompt
            ids = torch.tensor([history])
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=num_tokens,
                min_new_tokens=num_tokens,
                do_sample=False,
                pad_token_id=0,
            )
            conversation.append(out[0, len(history) :].tolist())
            history += conversation[-1]
        answers.append(conversation)
    return answers


@functools.cache
def routed(name):
    """The model with our attention, and its layout."""
    model = build(name)
    return model, kv_layout(model, BLOCK_SIZE, "block_major")


def serve(engine, checker):
    """Each conversation's next turn comes a few steps after the one before has ended; the answers, turn by turn."""
    waiting = [deque(turns) for turns in CONVERSATIONS]
    turns = [[] for _ in CONVERSATIONS]
    for step in range(5_000):
        for index, (left, done) in enumerate(zip(waiting, turns, strict=True)):
            if (step + index) % 3 == 0 and left and (not done or done[-1].ended):
                prompt, num_tokens = left.popleft()
                done.append(engine.turn(engine.submit(prompt, num_tokens, conversation_id=index)))
                if not left:
                    engine.end_conversation(index)
        ran = engine.step()
        checker.check()
        if not engine.num_conversations and not engine.num_in_flight:
            return [[turn.generated for turn in done] for done in turns]
        if not ran and engine.num_in_flight:
            engine.wait_for_work()
    raise AssertionError("the engine has not come to an end")


def run(name, swaps_class, *, allocator, order, way, reuse, evictor, host_order=None, packer=None, ranker=None):
    model, layout = routed(name)
    device_pool = KVPool(replace(layout, order=order), DEVICE_BLOCKS)
    host_pool = KVPool(replace(layout, order=host_order or order), HOST_BLOCKS)
    device = PoisoningAllocator(allocator(DEVICE_BLOCKS), device_pool)
    kv = KVCacheManager(device, PoisoningAllocator(allocator(HOST_BLOCKS), host_pool), BLOCK_SIZE, reuse=reuse)
    device.spare(kv.still_read)
    ranker = ranker or PriorityTrace(RandomPriorities(1), 0.5)
    scheduler = Scheduler(ranker, packer or PrefillFirst(), evictor)
    clock = RealClock()
    adaptive = AdaptiveSwap() if swaps_class is SwapCoordinator else None
    swaps = ComparingSwaps(swaps_class(device_pool, host_pool, transfer=way, clock=clock), kv, device_pool, host_pool)
    engine = Engine(ModelExecutor(model, device_pool), scheduler, kv, swaps, clock=clock, adaptive=adaptive)
    try:
        answers = serve(engine, InvariantChecker(engine))
    finally:
        swaps.close()
    check_all_free(engine)
    return answers, engine.counts.as_json(engine.stall_s), swaps.num_compared


ALL_WAYS = list(
    itertools.product(
        [InlineSwaps, SwapCoordinator],
        [BlockGroupAllocator, PagedAllocator],
        ["block_major", "layer_major"],
        ["per_run", "per_block"],
        [True, False],
    )
)
# each pair of choices occurs: the last one is the parity of those before it
HALF = [way for way in ALL_WAYS if sum(choice is not first for choice, first in zip(way, ALL_WAYS[0], strict=True)) % 2]


def _id(value):
    return value if isinstance(value, str) else "-".join(getattr(choice, "__name__", str(choice)) for choice in value)


@pytest.mark.parametrize(
    ("name", "way"),
    [("llama", way) for way in ALL_WAYS] + [(name, way) for name in MODELS[1:] for way in HALF],
    ids=_id,
)
def test_switched_requests_equal_generate(name, way):
    swaps_class, allocator, order, transfer, reuse = way
    answers, switches, num_compared = run(
        name, swaps_class, allocator=allocator, order=order, way=transfer, reuse=reuse, evictor=SwapOut()
    )
    assert answers == generated(name)
    assert switches["swap_outs"] > 10
    assert switches["swap_ins"] > 10
    assert (switches["drops"], switches["failed"], switches["recomputed_tokens"]) == (0, 0, 0)
    assert (switches["reused_tokens"] > 0) == reuse
    assert num_compared > 200


def mlfq():
    """A prompt of 10 takes as long as 5 answers: it is demoted in the middle of its answer, and so are all."""
    return MLFQ(lambda num_tokens: num_tokens / 2, 1.0, starving_iterations=30)


def aged_mlfq():
    ranker = mlfq()
    return Aging(ranker, max_wait=5)


@pytest.mark.parametrize("make_ranker", [mlfq, aged_mlfq])
@pytest.mark.parametrize("evictor", [SwapOut, Recompute])
def test_so_do_those_that_are_ranked_by_what_was_served(make_ranker, evictor):
    answers, switches, _ = run(
        "llama",
        SwapCoordinator,
        **PLAIN,
        evictor=evictor(),
        ranker=make_ranker(),
    )
    assert answers == generated("llama")
    assert switches["swap_ins" if evictor is SwapOut else "drops"] > 5


@pytest.mark.parametrize(
    ("way", "order", "host_order"),
    [
        ("batched", "block_major", None),
        ("batched", "layer_major", None),
        ("zero_copy", "block_major", None),
        ("zero_copy", "block_major", "layer_major"),
        ("staged", "layer_major", None),
        ("staged", "layer_major", "block_major"),
        ("staged", "block_major", "layer_major"),
        ("chosen", "layer_major", None),
        ("chosen", "layer_major", "block_major"),
    ],
)
def test_whole_jobs_and_jobs_between_orders_equal_generate(way, order, host_order, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where `chosen` keeps what it measured
    answers, switches, num_compared = run(
        "llama",
        SwapCoordinator,
        allocator=BlockGroupAllocator,
        order=order,
        host_order=host_order,
        way=way,
        reuse=True,
        evictor=SwapOut(),
    )
    assert answers == generated("llama")
    assert (switches["drops"], switches["failed"]) == (0, 0)
    assert sum(switches["ways"].values()) == switches["swap_outs"] + switches["swap_ins"] > 20
    assert way in (*switches["ways"], "chosen")
    assert num_compared > 200


@pytest.mark.parametrize("name", MODELS)
def test_recomputed_requests_equal_generate(name):
    answers, switches, _ = run(
        name,
        InlineSwaps,
        **PLAIN,
        evictor=Recompute(),
    )
    assert answers == generated(name)
    assert switches["drops"] > 10
    assert switches["swap_outs"] == 0


@pytest.mark.parametrize("name", MODELS)
def test_prompts_in_pieces_equal_generate(name):
    answers, switches, _ = run(
        name,
        SwapCoordinator,
        allocator=BlockGroupAllocator,
        order="layer_major",
        way="per_run",
        reuse=True,
        evictor=SwapOut(),
        packer=PrefillFirst(4),
    )
    assert answers == generated(name)
    assert switches["swap_ins"] > 10


CHUNKS = [1, 2, 3, 7, 16, 64]
SLICE = [("llama", 1), ("llama", 7), ("qwen3", 3)]  # in the normal run; all of them in the long one


def _long_but_for(cases, some):
    return [pytest.param(*case, marks=() if case in some else pytest.mark.long) for case in cases]


@pytest.mark.parametrize(("name", "token_budget"), _long_but_for(itertools.product(MODELS, CHUNKS), SLICE))
def test_prompts_in_pieces_beside_decodes_equal_generate(name, token_budget):
    answers, switches, num_compared = run(
        name,
        SwapCoordinator,
        **PLAIN,
        evictor=SwapOut(),
        packer=ChunkedPrefill(token_budget),
    )
    assert answers == generated(name)
    assert switches["swap_ins"] > 10
    assert (switches["drops"], switches["failed"], switches["recomputed_tokens"]) == (0, 0, 0)
    assert num_compared > 200


@pytest.mark.parametrize("token_budget", _long_but_for(zip(CHUNKS, strict=True), [(3,)]))
def test_recomputed_prompts_in_pieces_equal_generate(token_budget):
    answers, switches, _ = run(
        "llama",
        InlineSwaps,
        **PLAIN,
        evictor=Recompute(),
        packer=ChunkedPrefill(token_budget),
    )
    assert answers == generated("llama")
    assert switches["drops"] > 10
    assert switches["recomputed_tokens"] > 0
