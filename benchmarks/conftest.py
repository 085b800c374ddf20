"""What a benchmark's JSON says of the machine: its processor and versions, and not its name in somebody's network."""

from __future__ import annotations


def pytest_benchmark_update_machine_info(config, machine_info):  # noqa: ARG001 - pytest-benchmark names them
    machine_info.pop("node", None)
    processor = machine_info.get("cpu", {})
    machine_info["cpu"] = {name: processor[name] for name in ("brand_raw", "count") if name in processor}
