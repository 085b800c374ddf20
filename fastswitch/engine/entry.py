"""The console script: the command line, or one line that says what it needs.

Ours. The parts of this package install without the command line's own dependencies.
"""

from __future__ import annotations

import sys

__all__ = ["main"]

NEEDED = ("typer", "rich")


def main() -> None:
    """Run the command line; exit with status 2 where it is not installed.

    Raises:
        SystemExit: always, with the command's status.
    """
    try:
        from fastswitch.engine.cli import main as run
    except ModuleNotFoundError as error:
        if error.name not in NEEDED:
            raise
        sys.stderr.write(f"fastswitch: the command line needs {error.name}: pip install 'fastswitch[engine]'\n")
        raise SystemExit(2) from None
    run()


if __name__ == "__main__":
    main()
