"""What ``submit`` and ``landed`` take of the engine's thread, beside an iteration of 64 decodes of the demo's model.

``pytest benchmarks/bench_swap.py``. With 0, 1 and 8 jobs in flight; in ``extra_info`` microseconds, those of the
iteration, and the share, each a median. One torch thread. `beside_the_model.py` has the same figures with a check
that the machine was quiet.
"""

from __future__ import annotations

import statistics

import pytest
from demo_copies import demo_options
from swap_cost import IN_FLIGHT, RESIDENTS, SwapCost
from tiny_decodes import Decodes, one_thread

from fastswitch.engine.model_executor import kv_layout
from fastswitch.engine.models import load_model

ITERATIONS = 7
CONTEXT = 55  # tokens: of the demo's conversations half-way, on average


@pytest.fixture(scope="module")
def layout_and_iteration_s():
    options = demo_options("")
    model = load_model(options.model, device="cpu", dtype=None, random_weights=False, seed=0)
    layout = kv_layout(model.model, options.block_size, "block_major")
    with one_thread():
        decodes = Decodes(model, layout, RESIDENTS, CONTEXT)
        decodes.iterate()
        return layout, statistics.median(decodes.seconds(1) for _ in range(ITERATIONS))


@pytest.mark.parametrize("num_in_flight", IN_FLIGHT)
def test_submit_and_landed(benchmark, layout_and_iteration_s, num_in_flight):
    layout, iteration_s = layout_and_iteration_s
    benchmark.group = "submit + landed"
    cost = SwapCost(layout)
    try:
        cost.prepare(num_in_flight)
        assert cost.once() == 1
        benchmark.pedantic(cost.once, setup=lambda: cost.prepare(num_in_flight), rounds=300)
    finally:
        cost.close()
    info = benchmark.extra_info
    info.update({"in_flight": num_in_flight, "residents": RESIDENTS, "context": CONTEXT, "target": "share <= 0.03"})
    info["iteration_us"] = round(iteration_s * 1e6, 1)
    if benchmark.stats is not None:
        seconds = benchmark.stats.stats.median
        info["us"] = round(seconds * 1e6, 2)
        info["share"] = round(seconds / iteration_s, 5)
