"""One call makes the engine that is otherwise put together by hand."""

import doctest

import pytest

from fastswitch.engine.simulator import simulated_engine
from fastswitch.engine.usage import UsageError
from fastswitch.engine.workloads import synthetic_workload
from fastswitch.sched import FCFS, PrefillFirst, PriorityTrace, RandomPriorities, Scheduler, SwapOut


def scheduler(ranker=None):
    return Scheduler(ranker or FCFS(), PrefillFirst(), SwapOut())


def test_the_example_in_its_docstring():
    module = __import__(simulated_engine.__module__, fromlist=["_"])
    found = doctest.testmod(module)
    assert (found.failed, found.attempted) == (0, 5)


def test_pools_are_the_setup_s_or_as_given():
    assert simulated_engine("llama8b-a10", scheduler()).kv.num_free == 40_000 // 16
    assert simulated_engine("llama8b-a10", scheduler(), device_tokens=1000, block_size=8).kv.num_free == 125


def test_a_small_pool_is_switched_and_a_slow_way_costs_more():
    workload = synthetic_workload(conversations=12)
    seconds = {}
    for way in ("per_block", "per_run"):
        engine = simulated_engine(
            "llama8b-a10", scheduler(PriorityTrace(RandomPriorities(0))), device_tokens=6000, block_size=1, way=way
        )
        recorder = engine.record()
        seconds[way] = engine.run(workload).seconds
        assert any(switch.copied for switch in recorder.timeline().switches), "nothing was switched"
    assert seconds["per_block"] > seconds["per_run"]


@pytest.mark.parametrize(("options", "error"), [({"setup": "gpt-a10"}, UsageError), ({"way": "teleport"}, ValueError)])
def test_what_is_of_no_use_is_refused(options, error):
    with pytest.raises(error):
        simulated_engine(**{"setup": "llama8b-a10", "scheduler": scheduler(), **options})
