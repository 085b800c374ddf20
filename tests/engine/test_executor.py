"""A batch's entries: plain numbers, and what a model needs made on demand."""

import numpy as np

from fastswitch.engine.executor import BatchEntry, KnownTokens
from tests.engine.small_engine import finish, make_engine


class Untouchable:
    """A request that nobody may ask for anything."""

    def token_ids(self, start, end):
        raise AssertionError("token ids were made")

    @property
    def block_table(self):
        raise AssertionError("a block table was made")


def test_numbers_cost_nothing():
    entry = BatchEntry(3, 10, 2, samples=True, source=Untouchable())
    assert (entry.request_id, entry.start, entry.num_tokens, entry.samples) == (3, 10, 2, True)


def test_ids_and_blocks_are_the_sources():
    table = np.arange(4, dtype=np.int32)
    entry = BatchEntry(0, 2, 3, samples=False, source=KnownTokens([5, 6, 7, 8, 9, 10], table))
    assert list(entry.token_ids) == [7, 8, 9]
    assert entry.block_table is table


def test_known_tokens_may_begin_behind_others():
    source = KnownTokens([42], np.arange(1, dtype=np.int32), first=100)
    assert list(BatchEntry(0, 100, 1, samples=True, source=source).token_ids) == [42]


def test_an_engines_entries_know_their_tokens_and_blocks():
    engine, seen = make_engine(device_blocks=8, block_size=2), []
    run = engine.executor.run

    def look(batch):
        seen.extend((entry.start, list(entry.token_ids), len(entry.block_table)) for entry in batch)
        return run(batch)

    engine.executor.run = look
    turn = engine.turn(engine.submit(range(5, 8), 3))
    finish(engine)
    first, second, _ = turn.generated
    assert seen == [(0, [5, 6, 7], 2), (3, [first], 2), (4, [second], 3)]
