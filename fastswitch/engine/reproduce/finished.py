"""Simulations that are done, on disk: a command that was interrupted goes on from them.

Ours. A file's name is a digest of everything that decides its figures: options, run, the workload's file, and the
package's source. So what was made by other code, or from another trace, is not found.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import zipfile
from pathlib import Path

import fastswitch
from fastswitch.engine.reproduce.case import Simulation
from fastswitch.engine.reproduce.outcome import Outcome

__all__ = ["Finished"]

# Of reproduce/, these decide figures; the rest plans, reports and draws.
DECIDING = ("outcome.py", "kept_samples.py", "saturation.py")


class Finished:
    """A folder of outcomes.

    Args:
        folder: made if it is not there.

    Raises:
        OSError: if it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def find(self, simulation: Simulation) -> Outcome | None:
        """Its outcome, if it is there and whole."""
        path = self._path(simulation)
        if not zipfile.is_zipfile(path):  # nor is what is not there, or was cut short: simulate it again
            return None
        try:
            return Outcome.load(path)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return None

    def keep(self, simulation: Simulation, outcome: Outcome) -> None:
        """Write it down.

        Raises:
            OSError: if the disk refuses.
        """
        outcome.save(self._path(simulation))

    def _path(self, simulation: Simulation) -> Path:
        asked = {name: str(value) for name, value in dataclasses.asdict(simulation.options).items()}
        facts = json.dumps([asked, simulation.run, _source_digest(), _file_digest(simulation.options.workload)])
        return self._folder / f"{hashlib.sha256(facts.encode()).hexdigest()[:24]}.npz"


@functools.cache
def _source_digest() -> str:
    root, digest = Path(fastswitch.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        if path.parent.name != "reproduce" or path.name in DECIDING:
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


@functools.cache
def _file_digest(name: str) -> str:
    # a name that is no file is `synthetic`
    return hashlib.sha256(Path(name).read_bytes()).hexdigest() if os.path.isfile(name) else ""  # noqa: PTH113
