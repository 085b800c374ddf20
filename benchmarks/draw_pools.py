"""Draw what one history leaves behind in the pool of each allocator: ``python benchmarks/draw_pools.py``.

Prompts of U(8..96) blocks; all running requests grow by one block in turn, as decoding does; some finish, some are
swapped out, which frees their blocks, and come back later in one piece. The pool is filled once and then kept about
85 % full, and the same seeded decisions are played on every allocator. Needs matplotlib; no tensors.
"""

from __future__ import annotations

import argparse
import itertools
import random
from pathlib import Path

from fastswitch.memory.allocator import BlockAllocator
from fastswitch.memory.block_group import BlockGroupAllocator
from fastswitch.memory.buddy import BuddyAllocator
from fastswitch.memory.paged import PagedAllocator
from fastswitch.memory.plot import draw_pools
from fastswitch.memory.statistics import pool_statistics

NUM_BLOCKS = 2048
ROUNDS = 1_500
FULL = 0.85  # of the pool at most, when a request is admitted
LEAVES = 1 / 30  # the chance that a request leaves in a round: finished or swapped out, one as likely as the other
ALLOCATORS = {"paged": PagedAllocator, "buddy": BuddyAllocator, "block groups": BlockGroupAllocator}


def play(allocator: BlockAllocator, seed: int) -> None:
    """Live through ``ROUNDS`` rounds; every decision hangs on the seed and on block counts, never on block ids."""
    rng = random.Random(seed)
    running: dict[int, int] = {}  # request |-> its blocks
    waiting: list[tuple[int, int]] = []  # (request, the blocks it comes in with), new or swapped out
    new_requests = itertools.count()
    for round_index in range(ROUNDS):
        full = 1 if round_index == 0 else FULL
        for request in list(running):
            fate = rng.random()
            if fate < LEAVES or not allocator.num_free:
                allocator.free(request)
                num_blocks = running.pop(request)
                if fate >= LEAVES / 2:
                    waiting.append((request, num_blocks))
            else:
                allocator.allocate(request, 1)
                running[request] += 1
        while True:
            back = waiting and rng.random() < 0.5
            request, num_blocks = waiting.pop(0) if back else (next(new_requests), rng.randint(8, 96))
            if sum(running.values()) + num_blocks > full * allocator.num_blocks:
                waiting.insert(0, (request, num_blocks))
                break
            allocator.allocate(request, num_blocks)
            running[request] = num_blocks
    allocator.check_invariants()


def path_to_write(text: str) -> Path:
    """The path of a picture that can be written, told before any work is done."""
    path = Path(text)
    if path.suffix != ".png":
        raise argparse.ArgumentTypeError(f"the picture is a PNG, so name it *.png, got {text}")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder, name a file to write")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"no folder {path.parent} to write {path.name} into; make it first")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=path_to_write, default="docs/pools.png", help="the PNG; default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the history; default %(default)s")
    options = parser.parse_args()
    pools: dict[str, BlockAllocator] = {name: make(NUM_BLOCKS) for name, make in ALLOCATORS.items()}
    for name, allocator in pools.items():
        play(allocator, options.seed)
        statistics = pool_statistics(allocator)
        print(
            f"{name}: {statistics.groups_per_owner_mean:.1f} runs per owner, {statistics.num_owners} owners, "
            f"{1 - statistics.num_free / NUM_BLOCKS:.0%} full, free room "
            f"{statistics.external_fragmentation:.0%} fragmented"
        )
    draw_pools(pools).savefig(options.out, dpi=150)
    print(f"drawn: {options.out}")


if __name__ == "__main__":
    main()
