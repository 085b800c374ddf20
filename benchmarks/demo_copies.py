"""What the demo copies: its swap jobs, and the share of the time for which its copy threads copy.

`make demo`'s workload is served once by the run ``fastswitch``, with no emulated link: on one, most of a copy's time is
a sleep, which takes nothing from the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fastswitch.engine.bench import prepare
from fastswitch.engine.model_bed import ModelBed
from fastswitch.engine.options import BenchOptions
from fastswitch.engine.replay import Replay
from fastswitch.memory import SwapDirection, SwapJob

__all__ = ["DemoCopies", "DemoLoad", "demo_options", "serve_demo"]

DEMO: dict[str, Any] = {"conversations": 32, "device_tokens": 640, "block_size": 4, "runs": "fastswitch"}


@dataclass(frozen=True, slots=True)
class DemoLoad:
    """How busy model and copy threads were.

    Attributes:
        copy_share: seconds of copying, both directions, in a second of serving.
        seconds: of serving.
        iterations: in these.
        jobs: landed.
        copied_bytes: moved by them.
        mean_requests: that an iteration gave a token.
        mean_context: tokens of a conversation half-way.
    """

    copy_share: float
    seconds: float
    iterations: int
    jobs: int
    copied_bytes: int
    mean_requests: int
    mean_context: int


@dataclass(frozen=True, slots=True)
class DemoCopies:
    """A served demo.

    Attributes:
        bed: what it was served on.
        load: in figures.
        jobs: in the order in which they landed.
    """

    bed: ModelBed
    load: DemoLoad
    jobs: Sequence[SwapJob]

    def as_json(self) -> dict[str, Any]:
        """The load and the pools."""
        spec = self.bed.spec
        pools = {"device_blocks": spec.device_blocks, "host_blocks": spec.host_blocks}
        return {**asdict(self.load), **pools, "block_bytes": spec.layout.block_bytes}


def demo_options(command: str, **changed: Any) -> BenchOptions:
    """Those of `make demo`, of the run ``fastswitch`` alone."""
    return BenchOptions(command=command, **{**DEMO, **changed})


def serve_demo(options: BenchOptions) -> DemoCopies:
    """Serve it once, and look at the copies.

    Raises:
        UsageError: an option is of no use.
        WorkloadError: the workload is.
    """
    experiment, bed = prepare(options)
    workload = experiment.workload
    with bed.engine(experiment.runs[0]) as engine:

        def prompt(conversation: int, turn: int) -> Sequence[int]:
            return bed.prompt_tokens(workload, conversation, turn)

        replay = Replay(engine, workload, experiment.plan, prompt)
        replay.run()
        reports = [report for direction in SwapDirection for report in engine.counts.of(direction)]
        reports.sort(key=lambda report: report.job.job_id)
        load = DemoLoad(
            copy_share=sum(report.copy_s for report in reports) / replay.seconds,
            seconds=replay.seconds,
            iterations=engine.executed_iterations,
            jobs=len(reports),
            copied_bytes=sum(report.num_bytes for report in reports),
            mean_requests=max(1, round(workload.output_tokens / engine.executed_iterations)),
            mean_context=max(1, round((workload.input_tokens + workload.output_tokens) / len(workload) / 2)),
        )
        return DemoCopies(bed, load, [report.job for report in reports])
