"""Who gets memory, who gets tokens, what happens to a victim. Pure Python; knows no tensor and no thread."""

from fastswitch.sched.accounting import TokenAccountant
from fastswitch.sched.chunked import ChunkedPrefill
from fastswitch.sched.evictors import Recompute, SwapOut
from fastswitch.sched.fcfs import FCFS
from fastswitch.sched.packers import PrefillFirst
from fastswitch.sched.placement import Eviction, Placement
from fastswitch.sched.priority import NUM_LEVELS, MarkovPriorities, Priorities, PriorityTrace, RandomPriorities
from fastswitch.sched.ranking import Insiders, Ranking
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
from fastswitch.sched.token_budget import token_budget_for
from fastswitch.sched.view import PoolView, RequestState, RequestView, Room

__all__ = [
    "FCFS",
    "NUM_LEVELS",
    "Accountant",
    "ChunkedPrefill",
    "Eviction",
    "EvictionWay",
    "Evictor",
    "Insiders",
    "MarkovPriorities",
    "Packer",
    "Placement",
    "PoolView",
    "PrefillFirst",
    "Priorities",
    "PriorityTrace",
    "RandomPriorities",
    "Ranker",
    "Ranking",
    "Recompute",
    "RequestState",
    "RequestView",
    "Room",
    "ScheduledTokens",
    "Scheduler",
    "SchedulerOutput",
    "SwapOut",
    "TokenAccountant",
    "token_budget_for",
]
