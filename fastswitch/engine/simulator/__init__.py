"""The same engine on a virtual clock: what a setup that is not here would do, by arithmetic.

Only clock, executor and swaps are virtual. `Roofline` says what an iteration takes, `LinkCosts` what a copy job takes;
scheduler, memory manager and step loop are the engine's own.
"""

from fastswitch.engine.simulator.copy_costs import CalibratedCosts, CopyCosts, CopyWork, FreeCosts, JobCost, LinkCosts
from fastswitch.engine.simulator.hardware import HARDWARE, Hardware
from fastswitch.engine.simulator.model_shape import MODELS, ModelShape
from fastswitch.engine.simulator.roofline import IterationWork, Roofline, RooflineExecutor
from fastswitch.engine.simulator.setup import Assumptions, Setup, find_setup
from fastswitch.engine.simulator.simulated_bed import SimulatedBed
from fastswitch.engine.simulator.simulated_engine import simulated_engine
from fastswitch.engine.simulator.virtual_swaps import VirtualInlineSwaps, VirtualSwaps

__all__ = [
    "HARDWARE",
    "MODELS",
    "Assumptions",
    "CalibratedCosts",
    "CopyCosts",
    "CopyWork",
    "FreeCosts",
    "Hardware",
    "IterationWork",
    "JobCost",
    "LinkCosts",
    "ModelShape",
    "Roofline",
    "RooflineExecutor",
    "Setup",
    "SimulatedBed",
    "VirtualInlineSwaps",
    "VirtualSwaps",
    "find_setup",
    "simulated_engine",
]
