"""A registrar that notes every call, and whether what it unregisters is still mapped."""

from __future__ import annotations

from pathlib import Path

from fastswitch.memory import HostRegistrar


def is_mapped(address: int) -> bool:
    """Whether the process has memory at ``address``, as Linux tells it."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    spans = [line.split()[0].split("-") for line in maps.splitlines()]
    return any(int(start, 16) <= address < int(end, 16) for start, end in spans)


class RecordingRegistrar(HostRegistrar):
    """Locks nothing, and notes what it was asked to.

    Attributes:
        pieces: address |-> bytes of what is registered.
        calls: ("register" or "unregister", address), in order.
    """

    def __init__(self, fail_at: int | None = None):
        self.pieces: dict[int, int] = {}
        self.calls: list[tuple[str, int]] = []
        self._fail_at = fail_at  # the number of the call of `register` that fails

    def register(self, address: int, num_bytes: int) -> None:
        self.calls.append(("register", address))
        if len(self.calls) - 1 == self._fail_at:
            raise RuntimeError("out of memory (2)")
        assert address not in self.pieces
        self.pieces[address] = num_bytes

    def unregister(self, address: int) -> None:
        self.calls.append(("unregister", address))
        assert is_mapped(address), "unregistered after it was unmapped"
        del self.pieces[address]

    @property
    def registered(self) -> list[int]:
        return [address for what, address in self.calls if what == "register"]

    @property
    def unregistered(self) -> list[int]:
        return [address for what, address in self.calls if what == "unregister"]
