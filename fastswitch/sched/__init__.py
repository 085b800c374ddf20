"""Who gets memory, who gets tokens, what happens to a victim. Pure Python; knows no tensor and no thread."""

from fastswitch.sched.accounting import TokenAccountant
from fastswitch.sched.aging import Aging
from fastswitch.sched.chunked import ChunkedPrefill
from fastswitch.sched.decisions import Decision, first_difference
from fastswitch.sched.evictors import CheapestSwitch, Recompute, SwapOut, SwitchCosts
from fastswitch.sched.fcfs import FCFS
from fastswitch.sched.hysteresis import Hysteresis
from fastswitch.sched.mlfq import MLFQ
from fastswitch.sched.packers import PrefillFirst
from fastswitch.sched.placement import Eviction, Placement
from fastswitch.sched.preemptive_vtc import HORIZON, PreemptiveVTC
from fastswitch.sched.priority import NUM_LEVELS, MarkovPriorities, Priorities, PriorityTrace, RandomPriorities
from fastswitch.sched.ranking import Insiders, Ranking
from fastswitch.sched.recorded import RecordedPriorities
from fastswitch.sched.roles import (
    Accountant,
    EvictionWay,
    Evictor,
    Packer,
    Ranker,
    ScheduledTokens,
    SchedulerOutput,
)
from fastswitch.sched.scheduler import Scheduler
from fastswitch.sched.service_counters import ServiceCounters
from fastswitch.sched.token_budget import token_budget_for
from fastswitch.sched.victims import LeastBytes, LowestRank, VictimChoice
from fastswitch.sched.view import PoolView, RequestState, RequestView, Room
from fastswitch.sched.vtc import VTC

__all__ = [
    "FCFS",
    "HORIZON",
    "MLFQ",
    "NUM_LEVELS",
    "VTC",
    "Accountant",
    "Aging",
    "CheapestSwitch",
    "ChunkedPrefill",
    "Decision",
    "Eviction",
    "EvictionWay",
    "Evictor",
    "Hysteresis",
    "Insiders",
    "LeastBytes",
    "LowestRank",
    "MarkovPriorities",
    "Packer",
    "Placement",
    "PoolView",
    "PreemptiveVTC",
    "PrefillFirst",
    "Priorities",
    "PriorityTrace",
    "RandomPriorities",
    "Ranker",
    "Ranking",
    "Recompute",
    "RecordedPriorities",
    "RequestState",
    "RequestView",
    "Room",
    "ScheduledTokens",
    "Scheduler",
    "SchedulerOutput",
    "ServiceCounters",
    "SwapOut",
    "SwitchCosts",
    "TokenAccountant",
    "VictimChoice",
    "first_difference",
    "token_budget_for",
]
