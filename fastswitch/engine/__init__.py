"""Puts the parts together: step loop, swaps on threads of their own, metrics. Needs torch; models need more."""

from fastswitch.engine.adaptive import AdaptiveSwap
from fastswitch.engine.clock import Clock, RealClock
from fastswitch.engine.engine import Engine
from fastswitch.engine.executor import BatchEntry, Executor
from fastswitch.engine.fixed_rules import AlwaysOverlap, AlwaysWait
from fastswitch.engine.inline_swaps import InlineSwaps
from fastswitch.engine.link import EmulatedLink
from fastswitch.engine.request import Request, Turn
from fastswitch.engine.step_loop import DeadlockError
from fastswitch.engine.swap import SwapCoordinator
from fastswitch.engine.swap_rule import SwapMode, SwapRule
from fastswitch.engine.swaps import SwapReport, Swaps

__all__ = [
    "AdaptiveSwap",
    "AlwaysOverlap",
    "AlwaysWait",
    "BatchEntry",
    "Clock",
    "DeadlockError",
    "EmulatedLink",
    "Engine",
    "Executor",
    "InlineSwaps",
    "RealClock",
    "Request",
    "SwapCoordinator",
    "SwapMode",
    "SwapReport",
    "SwapRule",
    "Swaps",
    "Turn",
]
