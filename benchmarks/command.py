"""What the scripts of this folder share as commands: mistakes in one line, and an exit status."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from rich.console import Console

from fastswitch.engine.usage import UsageError
from fastswitch.engine.workloads import WorkloadError

__all__ = ["Parser", "exit_status", "output"]


class Parser(argparse.ArgumentParser):
    """Its mistakes are ``UsageError``, as everybody else's."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see --help)")


def exit_status(name: str, work: Callable[[], None]) -> int:
    """Do the work; 0 done, 2 the caller's mistake, in one line, 130 Ctrl-C."""
    try:
        work()
    except (UsageError, WorkloadError) as error:
        sys.stderr.write(f"{name}: {' '.join(str(error).split())}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(f"{name}: interrupted\n")
        return 130
    return 0


def output(width: int) -> Console:
    """Standard output; in a pipe rich assumes 80 columns and would break the lines."""
    return Console(width=None if sys.stdout.isatty() else width)
