"""The command line: ``fastswitch bench``, ``simulate``, ``reproduce``, ``generate``, ``calibrate`` and ``info``.

Exit status: 0 done, 1 a failure, 2 the caller's mistake (one line on stderr), 130 Ctrl-C (with what was measured so
far).
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from fastswitch import __version__
from fastswitch.engine.attention import RefusedModelError
from fastswitch.engine.help_panels import arrange_help, examples
from fastswitch.engine.options import BenchOptions, SimulateOptions
from fastswitch.engine.shared_options import (
    Aging,
    Arrival,
    BlockSize,
    Clients,
    ClientsPlot,
    Decisions,
    Evictor,
    GrowthBlocks,
    Horizon,
    Json,
    MinLevels,
    MinStay,
    MinTurns,
    Packer,
    Plot,
    PolicyOption,
    Priority,
    Runs,
    Seed,
    SimulatedRuns,
    TbtTarget,
    TimelineOption,
    TimeScale,
    TokenBudget,
    TraceOut,
    Victims,
    WorkloadOption,
)
from fastswitch.engine.usage import UsageError
from fastswitch.engine.workloads import WorkloadError

__all__ = ["app", "main"]

app = typer.Typer(name="fastswitch", add_completion=False, pretty_exceptions_enable=False)
COMPARE, HERE = "Compare ways to switch requests", "On this machine"


@app.callback(
    invoke_without_command=True,
    epilog="New here? fastswitch simulate --setup llama8b-a10 --conversations 60, which needs neither GPU nor model.",
)
def _root(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="print the version and leave")] = False,
) -> None:
    """Move an LLM request's KV cache off the GPU and back, cheaply: compare ways to do it, here or simulated."""
    if version:
        typer.echo(f"fastswitch {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(
    rich_help_panel=COMPARE,
    epilog=examples(
        "fastswitch bench --conversations 32 --device-tokens 640 --block-size 4",
        "fastswitch bench --runs vllm_0_3,fastswitch --json out.json --plot out.png",
        "fastswitch bench --clients 4 --policy vtc-preemptive --clients-plot clients.png",
    ),
)
def bench(
    model: Annotated[str, typer.Option(help="tiny, a folder, a hub id, or *-shapes")] = "tiny",
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    dtype: Annotated[str | None, typer.Option(help="float64 for tiny on the cpu, else the model's own")] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="draw weights instead of reading them")
    ] = False,
    workload: WorkloadOption = "synthetic",
    conversations: Annotated[int | None, typer.Option(help="how many; synthetic: 24, a file: all")] = None,
    min_turns: MinTurns = None,
    scale: Annotated[float | None, typer.Option(help="factor on token lengths; synthetic: 0.05, a file: 1")] = None,
    arrival: Arrival = "conversation",
    rate: Annotated[float | None, typer.Option(help="arrivals per second (Poisson)")] = None,
    think: Annotated[float | None, typer.Option(help="mean think time in seconds")] = None,
    time_scale: TimeScale = None,
    policy: PolicyOption = "priority",
    priority: Priority = None,
    frequency: Annotated[float | None, typer.Option(help="priority updates per iteration; 0.04")] = None,
    aging: Aging = None,
    horizon: Horizon = None,
    packer: Packer = "prefill-first",
    evictor: Evictor = "swap-out",
    victims: Victims = "lowest-rank",
    min_levels: MinLevels = 0,
    min_stay: MinStay = 0,
    token_budget: TokenBudget = None,
    tbt_target: TbtTarget = None,
    device_tokens: Annotated[int | None, typer.Option(help="device pool; so small that requests are switched")] = None,
    host_tokens: Annotated[int | None, typer.Option(help="host pool; 8 x the device's")] = None,
    block_size: BlockSize = 16,
    growth_blocks: GrowthBlocks = 60,
    link: Annotated[str | None, typer.Option(help="emulated (cpu) or none")] = None,
    call_us: Annotated[float | None, typer.Option(help="emulated cost of a copy call; 10 x 32 / layers")] = None,
    link_gbps: Annotated[
        float | None, typer.Option(help="emulated bandwidth; as long beside an iteration as on an A10")
    ] = None,
    runs: Runs = None,
    seed: Seed = 0,
    json: Json = None,
    plot: Plot = None,
    trace_out: TraceOut = None,
    timeline: TimelineOption = None,
    decisions: Decisions = None,
    clients: Clients = None,
    clients_plot: ClientsPlot = None,
    check: Annotated[
        bool, typer.Option("--check", help="poison freed blocks, check invariants at each step (slow)")
    ] = False,
) -> None:
    """Serve one workload with each run and compare tails, throughput and switches."""
    given: dict[str, Any] = dict(locals())
    from fastswitch.engine.bench_command import run_bench

    run_bench(BenchOptions(command=shlex.join(["fastswitch", *sys.argv[1:]]), **given))


@app.command(
    rich_help_panel=COMPARE,
    epilog=examples(
        "fastswitch simulate --setup llama8b-a10 --conversations 200 --json out.json --plot out.png",
        "fastswitch simulate --setup qwen32b-a100 --runs vllm_0_3,fastswitch,free_switch --priority markov",
        "fastswitch simulate --setup llama8b-a100 --packer chunked --tbt-target 50",
    ),
)
def simulate(
    setup: Annotated[
        str,
        typer.Option(help="MODEL-HARDWARE: llama8b, qwen32b, llama70b or llama70b-fp8; a10, a100, h100, h200 or gh200"),
    ],
    workload: WorkloadOption = "synthetic",
    conversations: Annotated[int | None, typer.Option(help="how many; synthetic: 200, a file: all")] = None,
    min_turns: MinTurns = None,
    scale: Annotated[float | None, typer.Option(help="factor on token lengths; default 1")] = None,
    arrival: Arrival = "conversation",
    rate: Annotated[float | None, typer.Option(help="arrivals per second (Poisson); as recorded, else 1")] = None,
    think: Annotated[float | None, typer.Option(help="mean think time in seconds; as recorded, else 10")] = None,
    time_scale: TimeScale = None,
    policy: PolicyOption = "priority",
    priority: Priority = None,
    frequency: Annotated[float | None, typer.Option(help="priority updates per iteration; the setup's")] = None,
    aging: Aging = None,
    horizon: Horizon = None,
    packer: Packer = "prefill-first",
    evictor: Evictor = "swap-out",
    victims: Victims = "lowest-rank",
    min_levels: MinLevels = 0,
    min_stay: MinStay = 0,
    token_budget: TokenBudget = None,
    tbt_target: TbtTarget = None,
    device_tokens: Annotated[int | None, typer.Option(help="device pool; the setup's")] = None,
    host_tokens: Annotated[int | None, typer.Option(help="host pool; the setup's")] = None,
    block_size: BlockSize = 16,
    growth_blocks: GrowthBlocks = 60,
    compute_share: Annotated[float | None, typer.Option(help="achieved of the peak dense FLOP/s; default 0.6")] = None,
    memory_share: Annotated[float | None, typer.Option(help="achieved of the memory bandwidth; default 0.8")] = None,
    iteration_ms: Annotated[
        float | None, typer.Option(help="of an iteration, besides its arithmetic; default 3")
    ] = None,
    decision_us: Annotated[
        float | None, typer.Option(help="that a decision takes for each request it looks at; default 1")
    ] = None,
    link_share: Annotated[float | None, typer.Option(help="achieved of the link's bandwidth; default 0.8")] = None,
    link_gbps: Annotated[
        float | None, typer.Option(help="achieved bandwidth of the link, in place of the share")
    ] = None,
    call_us: Annotated[float | None, typer.Option(help="to issue a copy call; default 10")] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="what fastswitch calibrate --json wrote: its costs in place of the link's")
    ] = None,
    runs: SimulatedRuns = None,
    seed: Seed = 0,
    json: Json = None,
    plot: Plot = None,
    trace_out: TraceOut = None,
    timeline: TimelineOption = None,
    decisions: Decisions = None,
    clients: Clients = None,
    clients_plot: ClientsPlot = None,
    check: Annotated[bool, typer.Option("--check", help="check invariants at each step (slow)")] = False,
) -> None:
    """Simulate the same engine on hardware that is not here: by arithmetic, on a virtual clock."""
    given: dict[str, Any] = dict(locals())
    from fastswitch.engine.simulator.simulate_command import run_simulation

    run_simulation(SimulateOptions(command=shlex.join(["fastswitch", *sys.argv[1:]]), **given))


@app.command(
    rich_help_panel=COMPARE,
    epilog=examples(
        "fastswitch reproduce --report out/reproduce",
        "fastswitch reproduce --full",
    ),
)
def reproduce(
    full: Annotated[
        bool, typer.Option("--full", help="1000 conversations and three seeds, and what each assumption is worth")
    ] = False,
    workload: WorkloadOption = "synthetic",
    conversations: Annotated[int, typer.Option(help="how many; with --full of all parts but the headline")] = 200,
    min_turns: MinTurns = None,
    setups: Annotated[str, typer.Option(help="comma-separated MODEL-HARDWARE")] = "llama8b-a10,qwen32b-a100",
    seed: Seed = 0,
    report: Annotated[
        Path, typer.Option(help="folder of the report; what is finished is kept there, and not made again")
    ] = Path("out/reproduce"),
    json: Json = None,
) -> None:
    """The paper's evaluation, simulated: in five minutes on two cores, with --full in ninety."""
    from fastswitch.engine.reproduce.reproduce_command import run_reproduce
    from fastswitch.engine.reproduce.reproduce_options import ReproduceOptions

    run_reproduce(
        ReproduceOptions(
            command=shlex.join(["fastswitch", *sys.argv[1:]]),
            report=report,
            full=full,
            workload=workload,
            conversations=conversations,
            min_turns=min_turns,
            setups=tuple(name.strip() for name in setups.split(",") if name.strip()),
            seed=seed,
            json=json,
        )
    )


@app.command(
    rich_help_panel=HERE,
    epilog=examples(
        'fastswitch generate --model ./my-model --prompt "Once upon a time"',
    ),
)
def generate(
    model: Annotated[str, typer.Option(help="tiny, a folder, a hub id, or *-shapes")],
    prompt: Annotated[str, typer.Option(help="text to continue")],
    max_new_tokens: Annotated[int, typer.Option(help="length of the answer at most")] = 64,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    dtype: Annotated[str | None, typer.Option(help="the model's own")] = None,
) -> None:
    """Continue a prompt greedily, with the tokens that the model's own loop would give."""
    from fastswitch.engine.generate import generate_text

    generate_text(model, prompt, max_new_tokens=max_new_tokens, device=device, dtype=dtype)


@app.command(
    rich_help_panel=HERE,
    epilog=examples(
        "fastswitch calibrate --plot costs.png",
    ),
)
def calibrate(
    device: Annotated[str | None, typer.Option(help="cpu or cuda; the GPU if there is one")] = None,
    json: Annotated[Path | None, typer.Option(help="write the table here")] = None,
    plot: Annotated[Path | None, typer.Option(help="write a PNG of the crossovers here")] = None,
) -> None:
    """Measure what the ways of copying cost on this machine, and remember it for --runs fastswitch."""
    from fastswitch.engine.calibrate_command import run_calibrate

    run_calibrate(device=device, json_path=json, plot_path=plot, command=shlex.join(["fastswitch", *sys.argv[1:]]))


@app.command(
    rich_help_panel=HERE,
    epilog=examples(
        "fastswitch info --json machine.json",
    ),
)
def info(
    json: Annotated[Path | None, typer.Option(help="write the same as an object here, for a bug report")] = None,
) -> None:
    """Say what this machine has: versions, device, pinned memory, ways to copy, and how to get what is missing."""
    from fastswitch.engine.info_command import run_info

    run_info(json_path=json, command=shlex.join(["fastswitch", *sys.argv[1:]]))


def main() -> None:
    """The console script's entry: one line for every mistake."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # One core is left to the threads that copy; with two matmul threads on two cores they would take turns.
    torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))
    try:
        status = arrange_help(typer.main.get_command(app)).main(standalone_mode=False)
    except (UsageError, WorkloadError, RefusedModelError) as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except Exception as error:
        message = getattr(error, "format_message", None)  # click's own errors, wherever typer keeps click
        if message is not None:
            _fail(f"{message()} (see fastswitch --help)", getattr(error, "exit_code", 2))
        if type(error).__name__ == "Abort":
            _fail("interrupted", 130)
        if os.environ.get("FASTSWITCH_TRACEBACK"):
            raise
        _fail(f"{type(error).__name__}: {error} (FASTSWITCH_TRACEBACK=1 shows where)", 1)
    if status == 130:  # what some versions of typer make of Ctrl-C; others raise Abort
        _fail("interrupted", 130)
    raise SystemExit(status or 0)


def _fail(message: str, status: int) -> None:
    sys.stderr.write(f"fastswitch: {' '.join(message.split())}\n")
    raise SystemExit(status)


if __name__ == "__main__":
    main()
