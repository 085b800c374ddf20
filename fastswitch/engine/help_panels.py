"""What ``--help`` shows beside the options themselves: panels of those that belong together, and examples."""

from __future__ import annotations

from typing import Any

__all__ = ["PANELS", "arrange_help", "examples"]

# Panel |-> names of the options in it; what is in none stays in the first one.
PANELS = {
    "Workload": (
        "workload",
        "conversations",
        "min_turns",
        "scale",
        "arrival",
        "rate",
        "think",
        "time_scale",
        "clients",
    ),
    "Scheduling": (
        "policy",
        "priority",
        "frequency",
        "aging",
        "horizon",
        "packer",
        "token_budget",
        "tbt_target",
        "evictor",
        "victims",
        "min_levels",
        "min_stay",
    ),
    "Memory and copies": (
        "device_tokens",
        "host_tokens",
        "block_size",
        "growth_blocks",
        "link",
        "link_gbps",
        "link_share",
        "call_us",
        "calibration",
    ),
    "Cost of an iteration": ("compute_share", "memory_share", "iteration_ms", "decision_us"),
    "Output": ("json", "plot", "report", "trace_out", "timeline", "decisions", "clients_plot"),
}


def arrange_help(commands: Any) -> Any:
    """Put the options of each command of a group into their panels; returns the group."""
    panel_of = {name: panel for panel, names in PANELS.items() for name in names}
    for command in commands.commands.values():
        for option in command.params:
            if len(command.params) > len(PANELS) * 2:  # few options need no panels
                option.rich_help_panel = panel_of.get(option.name)
    return commands


def examples(*commands: str) -> str:
    """A command's examples, a line each, as they stand below its options."""
    return "\n\n".join(["Examples:", *commands])
