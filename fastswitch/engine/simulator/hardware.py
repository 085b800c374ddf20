"""Accelerators as numbers from their data sheets: what they could do at best.

Source: NVIDIA's data sheets of each card, dense figures (those with sparsity are twice as high), a link's bandwidth one
way (data sheets of PCIe cards state both ways together). What of it is achieved is an assumption of whoever simulates,
never a fact about the card: see ``Assumptions`` in `simulator.setup`.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HARDWARE", "Hardware"]


@dataclass(frozen=True, slots=True)
class Hardware:
    """One accelerator with its link to the host.

    Attributes:
        name: as in a setup's name.
        title: for people.
        flops: peak dense floating-point operations a second in bfloat16, accumulating in float32.
        memory_bytes_per_s: peak of its memory.
        memory_bytes: capacity.
        link_bytes_per_s: nominal bandwidth to the host, one way.
        host_bytes: of the host's memory, for KV: the paper's 60 GB a GPU, elsewhere about four fifths of a GPU's share.
        source: where the numbers are from.
    """

    name: str
    title: str
    flops: float
    memory_bytes_per_s: float
    memory_bytes: float
    link_bytes_per_s: float
    host_bytes: float
    source: str


HARDWARE = {
    each.name: each
    for each in (
        Hardware(
            "a10", "A10, PCIe 4.0 x16", 125e12, 600e9, 24e9, 32e9, 60e9, "NVIDIA A10 data sheet; the paper's host"
        ),
        Hardware(
            "a100",
            "A100 80 GB SXM, PCIe 4.0 x16",
            312e12,
            2039e9,
            80e9,
            32e9,
            60e9,
            "NVIDIA A100 80GB data sheet; the paper's host",
        ),
        Hardware(
            "h100",
            "H100 SXM, PCIe 5.0 x16",
            989e12,
            3350e9,
            80e9,
            64e9,
            200e9,
            "NVIDIA H100 and DGX H100 data sheets: 2 TB of host memory for 8 GPUs",
        ),
        Hardware(
            "h200",
            "H200 SXM, PCIe 5.0 x16",
            989e12,
            4800e9,
            141e9,
            64e9,
            200e9,
            "NVIDIA H200 and DGX H200 data sheets: 2 TB of host memory for 8 GPUs",
        ),
        Hardware(
            "gh200",
            "GH200 96 GB HBM3, NVLink-C2C",
            990e12,
            4000e9,
            96e9,
            450e9,
            400e9,
            "NVIDIA GH200 data sheet: 480 GB of host memory",
        ),
    )
}
