"""A model on an accelerator, by name, and what is assumed of it.

Paper: FastSwitch (arXiv 2411.18424) serves LLaMA-8B on an A10 and Qwen-32B on an A100 80 GB, each with 60 GB of swap
       space on the host; its pools of about 40,000 and 25,000 tokens and its update frequencies we have second-hand.
Ours:  every other pair; what of a data sheet's figures is achieved, how long a copy call takes, and how long an
       iteration takes besides its arithmetic. All of it is an option, and nothing is fitted to results.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fastswitch.engine.link import EmulatedLink
from fastswitch.engine.simulator.hardware import HARDWARE, Hardware
from fastswitch.engine.simulator.model_shape import MODELS, ModelShape
from fastswitch.engine.simulator.roofline import Roofline
from fastswitch.engine.usage import UsageError

__all__ = ["Assumptions", "Setup", "find_setup"]

POOL_SHARE = 0.9  # of the device's memory, for weights and KV: what engines take by default
# setup |-> device tokens: the paper's
PAPER_POOLS = {"llama8b-a10": 40_000, "qwen32b-a100": 25_000}
LARGE_MODEL = 20e9  # parameters: above, levels are updated half as often, as in the paper


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What nobody states and a simulation needs.

    Attributes:
        compute_share: of the peak dense FLOP/s, that matrix products achieve.
        memory_share: of the memory's bandwidth.
        link_share: of the link's.
        iteration_ms: milliseconds of an iteration besides: launches, sampling, the engine's own work.
        decision_us: microseconds that a decision takes for each request it looks at: what ``bench_decision`` measures.
        call_us: microseconds to issue one copy, or to launch a kernel: about 10, by a digest of the paper.
    """

    compute_share: float = 0.6
    memory_share: float = 0.8
    link_share: float = 0.8
    iteration_ms: float = 3.0
    decision_us: float = 1.0
    call_us: float = 10.0


@dataclass(frozen=True, slots=True)
class Setup:
    """What is simulated.

    Attributes:
        name: model and hardware.
        model, hardware: by their data sheets.
        device_tokens: of the device's pool.
        host_tokens: of the host's.
        frequency: of priority updates, an iteration.
    """

    name: str
    model: ModelShape
    hardware: Hardware
    device_tokens: int
    host_tokens: int
    frequency: float

    def roofline(self, assumed: Assumptions) -> Roofline:
        """What an iteration takes."""
        return Roofline(
            self.model,
            flops=assumed.compute_share * self.hardware.flops,
            bytes_per_s=assumed.memory_share * self.hardware.memory_bytes_per_s,
            iteration_s=assumed.iteration_ms * 1e-3,
        )

    def link(self, assumed: Assumptions, gbps: float | None = None) -> EmulatedLink:
        """What a copy job takes; ``gbps`` is taken literally where it is given."""
        return EmulatedLink(
            call_us=assumed.call_us,
            gbps=assumed.link_share * self.hardware.link_bytes_per_s / 1e9 if gbps is None else gbps,
            gather_gbps=assumed.memory_share * self.hardware.memory_bytes_per_s / 2 / 1e9,
        )

    def as_json(self) -> dict[str, Any]:
        """Names, numbers and sources."""
        return asdict(self)


def find_setup(name: str, option: str = "setup") -> Setup:
    """The setup of that name, ``MODEL-HARDWARE``; ``option`` is what an error calls it by.

    >>> setup = find_setup("qwen32b-a100")
    >>> setup.device_tokens, setup.host_tokens, setup.frequency
    (25000, 228881, 0.02)

    Raises:
        UsageError: if a part of the name is unknown, or the weights do not fit the device.
    """
    model_name, _, hardware_name = name.rpartition("-")
    if model_name not in MODELS or hardware_name not in HARDWARE:
        raise UsageError(
            f"--{option} must be MODEL-HARDWARE with a model of {', '.join(MODELS)} and hardware of "
            f"{', '.join(HARDWARE)}, got {name!r}"
        )
    model, hardware = MODELS[model_name], HARDWARE[hardware_name]
    weight_bytes = model.num_parameters * model.weight_bytes_each
    device_tokens = PAPER_POOLS.get(
        name, int((POOL_SHARE * hardware.memory_bytes - weight_bytes) / model.kv_token_bytes)
    )
    if device_tokens < 1:
        raise UsageError(
            f"--{option} {name}: the weights have {weight_bytes / 1e9:.0f} GB, {POOL_SHARE:.0%} of the device's memory "
            f"are {POOL_SHARE * hardware.memory_bytes / 1e9:.0f} GB: take a smaller model or a larger device"
        )
    frequency = 0.02 if model.num_parameters > LARGE_MODEL else 0.04
    return Setup(name, model, hardware, device_tokens, int(hardware.host_bytes / model.kv_token_bytes), frequency)
