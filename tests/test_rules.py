"""The rules learned from others' bugs (docs/design.md, the scheduler's decisions), each with what fails without it.

For each a line of the code that keeps it, what it would be without, and the tests that see the difference. ``make
long`` breaks a copy of the package in each of these ways, and each of the tests must fail there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]


class Break(NamedTuple):
    """One way to break a rule: in ``file``, ``line`` becomes ``broken``, and each of ``tests`` fails."""

    file: str
    line: str
    broken: str
    tests: tuple[str, ...]


PLACEMENT, LOOP, SWITCHER = "sched/residency.py", "engine/step_loop.py", "engine/switcher.py"
PLACING, DEADLOCK, NO_THRASH = "sched/test_placement.py", "engine/test_deadlock.py", "engine/test_no_thrash.py"

RULES: dict[str, list[Break]] = {
    "1: charge what was enacted, never recomputed tokens; ask for the whole prompt and the next step's token": [
        Break(
            LOOP,
            "prompt = max(0, end - request.charged)",
            "prompt = end - start",
            ("engine/test_engine.py::test_recomputed_tokens_are_charged_to_nobody",),
        ),
        Break(
            LOOP,
            "        if not lost:\n",
            "        if lost is not None:\n",
            ("engine/test_faults.py::test_what_was_computed_from_a_copy_that_failed_after_all_is_no_token",),
        ),
        Break(
            PLACEMENT,
            "need = request.blocks_needed + request.device_blocks",
            "need = min(1, request.blocks_needed) + request.device_blocks",
            (f"{PLACING}::TestWhoCameInAtOnce::test_rule_1_the_whole_prompt_must_fit",),
        ),
        Break(
            "engine/request.py",
            "short = self.num_tokens - self.room",
            "short = self.num_tokens - 1 - self.room",
            ("engine/test_blocks_needed.py::test_one_that_runs_needs_room_for_its_newest_token_too",),
        ),
        Break(
            "sched/mlfq.py",
            "        if not (num_prefill_tokens or num_decode_tokens):\n            return",
            "        if not (num_prefill_tokens or num_decode_tokens):\n            pass",
            ("sched/test_mlfq.py::test_what_is_computed_again_is_neither_charged_nor_a_service",),
        ),
    ],
    "2: one that waits may push out; no lower rank takes what is vacated for a higher one": [
        Break(
            PLACEMENT,
            "return holder.idle_since is not None or self._may_preempt(challenger, holder)",
            "return holder.idle_since is not None",
            (f"{PLACING}::TestRule2::test_waiting_pushes_out_a_lower_rank",),
        ),
        Break(
            PLACEMENT,
            "self._soon -= num_blocks - in_hand",
            "self._soon -= 0",
            (
                f"{PLACING}::TestRule2::test_what_is_claimed_of_the_room_to_come_is_not_counted_twice",
                f"{PLACING}::test_placement_keeps_its_rules",
            ),
        ),
        Break(
            PLACEMENT,
            "in_hand = min(num_blocks, self._now)\n        self._now -= in_hand",
            "in_hand = min(num_blocks, self._now)\n        self._now -= in_hand * (in_hand == num_blocks)",
            (f"{PLACING}::TestRule2::test_lower_rank_does_not_take_what_a_higher_one_claims",),
        ),
    ],
    "3: who came in makes a productive step before it may leave": [
        Break(
            PLACEMENT,
            "if request.pinned or (request.protected and request.idle_since is None):",
            "if request.pinned:",
            (
                f"{PLACING}::TestRule3::test_protected_stays",
                f"{NO_THRASH}::test_who_comes_in_computes_before_it_leaves_however_the_levels_change",
            ),
        ),
        Break(
            SWITCHER,
            "request.protected = True",
            "request.protected = False",
            (
                f"{NO_THRASH}::test_who_comes_in_computes_before_it_leaves_however_the_levels_change",
                "engine/test_engine.py::test_who_comes_in_makes_a_step_before_it_leaves_again",
            ),
        ),
        Break(
            LOOP,
            "if samples or end > request.high_water:",
            "if True:",
            ("engine/test_rule_3.py::test_what_is_computed_again_is_no_progress",),
        ),
    ],
    "4: growth in rank order before the run; who cannot grow sits out, the lowest unprotected one leaves": [
        Break(
            PLACEMENT,
            "                self._sitting_out.append(request.request_id)\n",
            "                pass\n",
            (f"{PLACING}::TestRule4::test_in_rank_order",),
        ),
        Break(
            PLACEMENT,
            "                if self._victims[-1:] == [request]:\n",
            "                if not self._victims:\n",
            (
                f"{PLACING}::TestRule4::test_the_lowest_leaves_itself",
                f"{DEADLOCK}::test_a_ranker_that_lets_nobody_push_anybody_out_stops_nobody",
            ),
        ),
        Break(
            PLACEMENT,
            "len(self._victims) - self._passed)",
            "len(self._victims))",
            (f"{PLACING}::TestRule2::test_never_a_higher_rank_even_where_the_ranker_would_allow_it",),
        ),
    ],
    "5: nothing ready: wait for a copy, else for the next arrival, else the equation that fails": [
        Break(
            LOOP,
            "        if self._switcher.num_in_flight:\n",
            "        if self._switcher.num_in_flight and until is None:\n",
            (f"{DEADLOCK}::test_a_copy_under_way_is_waited_for_before_anything_else",),
        ),
        Break(
            LOOP,
            "        elif until is not None:\n",
            "        elif until is not None and not wanting:\n",
            (f"{DEADLOCK}::test_else_time_passes_to_the_next_arrival_be_it_that_somebody_can_never_run",),
        ),
        Break(
            LOOP,
            "            raise DeadlockError(self._broken_equation())",
            "            return",
            (f"{DEADLOCK}::test_of_one_that_waits", f"{DEADLOCK}::test_of_a_resident_that_cannot_grow"),
        ),
        Break(
            LOOP,
            "(first.device_blocks if first.state is RequestState.SWAPPED else 0)",
            "0",
            (f"{DEADLOCK}::test_of_a_resident_that_cannot_grow",),
        ),
    ],
    "6: victims that the host has no room for are recomputed; what can never fit is refused": [
        Break(
            "sched/evictors.py",
            "EvictionWay.SWAP_OUT if victim.host_blocks_needed <= host_free else EvictionWay.RECOMPUTE",
            "EvictionWay.SWAP_OUT",
            ("sched/test_evictors.py", f"{PLACING}::TestRule6::test_the_host_room_is_shared_by_the_victims"),
        ),
        Break(
            SWITCHER,
            "            except OutOfBlocksError:\n                self.drop(request)",
            "            except ZeroDivisionError:\n                self.drop(request)",
            ("engine/test_rule_6.py::test_a_victim_that_is_told_to_be_copied_and_does_not_fit_is_recomputed",),
        ),
        Break(
            "engine/conversations.py",
            "        if need > have:\n",
            "        if need > 2 * have:\n",
            ("engine/test_engine.py::test_what_can_never_be_served_is_refused_at_once",),
        ),
    ],
    "nobody starves: who was not served for long comes first, and keeps its room": [
        Break(
            "sched/aging.py",
            "        return [*_by_wait(requests, self._contending), *_without(ranked, self._contending)]",
            "        return ranked",
            ("engine/test_no_starvation.py::test_without_aging_the_bound_finds_who_starves",),
        ),
        Break(
            "sched/aging.py",
            "            self._was_served |= self._forget(request.request_id)\n",
            "",
            ("sched/test_aging.py::test_who_was_not_served_for_so_long_comes_first_and_goes_back_when_it_was",),
        ),
        Break(
            "sched/aging.py",
            "        if since is None:\n            return False",
            "        if since is None:\n            return self.ranker.may_preempt(challenger, holder)",
            ("sched/test_aging.py::test_only_the_aged_push_out_while_one_has_aged",),
        ),
    ],
}
BREAKS = [(rule[:1], number, each) for rule, breaks in RULES.items() for number, each in enumerate(breaks)]
NAMES = [f"{rule}-{number}-{Path(each.file).stem}" for rule, number, each in BREAKS]


@pytest.mark.parametrize("each", [each for _, _, each in BREAKS], ids=NAMES)
def test_the_table_names_lines_and_tests_that_there_are(each):
    source = (ROOT / "fastswitch" / each.file).read_text(encoding="utf-8")
    assert source.count(each.line) == 1
    for test in each.tests:
        file, *names = test.split("::")
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        for name in names:
            assert f"class {name}:" in text or f"def {name}(" in text


@pytest.mark.long
@pytest.mark.parametrize("each", [each for _, _, each in BREAKS], ids=NAMES)
def test_without_the_line_the_tests_fail(each, tmp_path):
    for folder in ("fastswitch", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    broken = tmp_path / "fastswitch" / each.file
    broken.write_text(broken.read_text(encoding="utf-8").replace(each.line, each.broken), encoding="utf-8")
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    for test in each.tests:
        command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "-m", "not long", f"tests/{test}"]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 1, f"{test} did not fail:\n{done.stdout[-2000:]}{done.stderr[-500:]}"
        assert "SyntaxError" not in done.stdout
