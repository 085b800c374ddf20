"""Who gets memory, who gets tokens, what happens to a victim. Pure Python; knows no tensor and no thread."""

from fastswitch.sched.accounting import TokenAccountant
from fastswitch.sched.evictors import CheapestSwitch, Recompute, SwapOut, SwitchCosts
from fastswitch.sched.fcfs import FCFS
from fastswitch.sched.hysteresis import Hysteresis
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
from fastswitch.sched.victims import LeastBytes, LowestRank, VictimChoice
from fastswitch.sched.view import PoolView, RequestState, RequestView, Room

__all__ = [
    "FCFS",
    "NUM_LEVELS",
    "Accountant",
    "CheapestSwitch",
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
    "SwitchCosts",
    "TokenAccountant",
    "VictimChoice",
]
