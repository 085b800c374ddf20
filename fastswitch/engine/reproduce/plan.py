"""Which cases the evaluation is made of.

Paper: FastSwitch (arXiv 2411.18424): two setups, conversations of several turns, priorities Random and Markov, Poisson
       arrivals of "1 request/s", the conversations' own lengths.
Ours:  everything that the paper leaves open is varied. "1 request/s" is read both as conversations and as turns; a
       sweep offers 0.6 to 1.4 of what ``free_switch`` can serve, since whether a system is beyond saturation decides
       most of a ratio. The rates of the sweep follow from simulations, so the cases come in two stages. Of several
       seeds all runs are simulated with the first, four with each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastswitch.engine.reproduce.case import Case, options_of
from fastswitch.engine.reproduce.reproduce_options import ReproduceOptions
from fastswitch.engine.runs import SIMULATED_RUNS
from fastswitch.engine.simulator.setup import Assumptions, find_setup

__all__ = [
    "ALL_RUNS",
    "CAPACITY",
    "FOUR_RUNS",
    "GROUPS",
    "HEADLINE",
    "LOAD",
    "PATTERNS",
    "SENSITIVITY",
    "THINK_S",
    "TURNS",
    "capacity_cases",
    "first_cases",
    "later_cases",
]

HEADLINE, TURNS, CAPACITY, LOAD, SENSITIVITY, GROUPS = (
    "headline",
    "turns",
    "capacity",
    "load",
    "sensitivity",
    "block groups",
)
ALL_RUNS = tuple(SIMULATED_RUNS)
FOUR_RUNS = ("vllm_0_3", "paper", "fastswitch", "free_switch")
PATTERNS = ("random", "markov")
RATE = 1.0  # a second: the paper's, of whatever
THINK_S = 10.0  # mean, of synthetic conversations; the default where a trace records no gaps
AT_ONCE = 1000.0  # conversations a second: all are there before the first is served
LOADS = (0.6, 0.8, 1.0, 1.2, 1.4)
FULL_LOADS = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4)
FULL_CONVERSATIONS, FULL_SEEDS = 1000, 3

CALLS_US = (1.0, 2.0, 5.0, 10.0, 20.0)
# times the setup's own
FREQUENCIES, POOLS = (0.25, 0.5, 1.0, 2.0, 4.0), (0.5, 0.75, 1.0, 1.5, 2.0)
HOSTS = (0.5, 1.0, 2.0, 4.0)  # times the device's pool; and the setup's own
GROWTH_BLOCKS = (4, 15, 60, 240)
GROWTH_GROUP = 60  # blocks, unless asked otherwise
THINKS_S = (0.0, 3.0, 10.0, 30.0, 100.0)

LINKS_GBPS = {"PCIe 4.0": 25.6, "PCIe 5.0": 51.2}  # 80 % of an x16 link's, a way
FULL_HOST = 1.5  # times the device's pool: KV must be given up


def first_cases(asked: ReproduceOptions, scales: Mapping[str, float | None]) -> list[Case]:
    """Both readings of the paper's rate; ``scales`` are factors on token lengths, by setup."""
    return [
        case
        for setup in asked.setups
        for priority in PATTERNS
        for case in (
            *_headline(asked, setup, priority, scales[setup]),
            _case(TURNS, asked, setup, priority, scales[setup], FOUR_RUNS, arrival="turn", rate=RATE),
        )
    ]


def capacity_cases(asked: ReproduceOptions, scales: Mapping[str, float | None]) -> list[Case]:
    """What ``free_switch`` serves when everybody is there from the start."""
    return [
        _case(CAPACITY, asked, setup, priority, scales[setup], ("free_switch",), rate=AT_ONCE)
        for setup in asked.setups
        for priority in PATTERNS
    ]


def later_cases(
    asked: ReproduceOptions, scales: Mapping[str, float | None], capacity: Mapping[tuple[str, str], float]
) -> list[Case]:
    """What goes by conversations a second that ``free_switch`` can serve: (setup, pattern) |-> that."""
    found = []
    for setup in asked.setups:
        for priority in PATTERNS if asked.full else PATTERNS[:1]:
            for load in FULL_LOADS if asked.full else LOADS:
                found.append(_at_load(LOAD, asked, setup, priority, scales[setup], capacity, load))
        if asked.full:
            found += _sensitivity(asked, setup, scales[setup], capacity)
    if asked.full:
        found += _groups(asked, asked.setups[0], scales[asked.setups[0]])
    return found


def _headline(asked: ReproduceOptions, setup: str, priority: str, scale: float | None) -> list[Case]:
    if not asked.full:
        return [_case(HEADLINE, asked, setup, priority, scale, ALL_RUNS, rate=RATE)]
    first, *others = range(asked.seed, asked.seed + FULL_SEEDS)
    return [
        _case(HEADLINE, asked, setup, priority, scale, runs, rate=RATE, seed=seed, conversations=FULL_CONVERSATIONS)
        for seed, runs in ((first, ALL_RUNS), *((seed, FOUR_RUNS) for seed in others))
    ]


def _sensitivity(
    asked: ReproduceOptions, setup: str, scale: float | None, capacity: Mapping[tuple[str, str], float]
) -> list[Case]:
    """One thing changed at a time, where ``free_switch`` is offered just what it can serve, with Random levels.

    What is the setup's own value is no option, so that those cases are one simulation, the sweep's at load 1.0.
    """
    own = find_setup(setup)
    # what is changed |-> option, the setup's own, values
    changes: dict[str, tuple[str, float, Sequence[float]]] = {
        "dispatch, us a call": ("call_us", Assumptions().call_us, CALLS_US),
        "updates an iteration": ("frequency", own.frequency, [own.frequency * k for k in FREQUENCIES]),
        "growth group, blocks": ("growth_blocks", GROWTH_GROUP, GROWTH_BLOCKS),
        "device pool, tokens": ("device_tokens", own.device_tokens, [int(own.device_tokens * k) for k in POOLS]),
        "host pool, tokens": (
            "host_tokens",
            own.host_tokens,
            [*(int(own.device_tokens * k) for k in HOSTS), own.host_tokens],
        ),
        "think time, s": ("think", THINK_S, THINKS_S),
    }
    return [
        _at_load(
            SENSITIVITY,
            asked,
            setup,
            "random",
            scale,
            capacity,
            1.0,
            changed=changed,
            value=value,
            **({} if value == usual else {option: value}),
        )
        for changed, (option, usual, values) in changes.items()
        for value in values
    ]


def _groups(asked: ReproduceOptions, setup: str, scale: float | None) -> list[Case]:
    """Blocks one by one or in groups, once all layers of a block are one piece; in overload, where it matters most.

    Several seeds, since the two differ little.
    """
    own = find_setup(setup)
    return [
        _case(
            GROUPS,
            asked,
            setup,
            "random",
            scale,
            ("modern", "fastswitch"),
            rate=RATE,
            changed=f"{link}, {host}",
            value=call_us,
            call_us=call_us,
            link_gbps=gbps,
            block_size=block_size,
            host_tokens=host_tokens,
            seed=seed,
        )
        for block_size, calls in ((16, CALLS_US[:4]), (1, (1.0, 10.0)))
        for host, host_tokens in (("host roomy", None), ("host full", int(own.device_tokens * FULL_HOST)))
        for link, gbps in LINKS_GBPS.items()
        for call_us in calls
        for seed in range(asked.seed, asked.seed + FULL_SEEDS)
    ]


def _at_load(
    part: str,
    asked: ReproduceOptions,
    setup: str,
    priority: str,
    scale: float | None,
    capacity: Mapping[tuple[str, str], float],
    load: float,
    **changed: Any,
) -> Case:
    rate = float(f"{load * capacity[setup, priority]:.4g}")  # as it is said in the case's command
    return _case(part, asked, setup, priority, scale, FOUR_RUNS, load=load, rate=rate, **changed)


def _case(
    part: str,
    asked: ReproduceOptions,
    setup: str,
    priority: str,
    scale: float | None,
    runs: tuple[str, ...],
    *,
    load: float | None = None,
    changed: str = "",
    value: float | None = None,
    **options: Any,
) -> Case:
    usual = {
        "setup": setup,
        "workload": asked.workload,
        "conversations": asked.conversations,
        "min_turns": asked.min_turns,
        "scale": scale,
        "priority": priority,
        "seed": asked.seed,
        "think": THINK_S if asked.workload == "synthetic" else None,  # recorded ones keep their gaps
    }
    return Case(part, options_of({**usual, **options}), runs, load, changed, value)
