"""Copies that the test lets through, fails or holds up, and what is known of each: for finding out why bytes are wrong.

Every direction has two doors. A copy stands before the first one until the test lets it start. Where streams are lazy,
its thread then stands before the second one until the test lets it see the copies' end.
"""

from __future__ import annotations

import enum
import threading
from dataclasses import dataclass

import numpy as np

from fastswitch.kernels import TransferCount
from fastswitch.memory import SwapDirection, SwapJob

__all__ = ["Copies", "Door", "Fate", "Flight"]

PATIENCE_S = 60.0  # for what happens at once unless it never does


class Fate(enum.Enum):
    """How a copy ends."""

    WELL = "well"
    AT_ONCE = "it raises before it has copied anything"
    HALF_WAY = "it raises after its first run"
    DEADLY = "it ends its thread"


@dataclass(eq=False)
class Flight:
    """One job under way.

    Attributes:
        job: what to copy.
        number: its place among the jobs of its direction.
        fate: how its copy will end.
        begun_at: when, on the clock of all events.
        arrivals: what its destination must hold in the end: pairs of block ids and stamps, one a range.
        compute_len: items that the compute stream held when it was submitted, run or not.
        enqueued: its copies are on their stream.
        copied: and have run.
        early_by: of those items how many had not run then.
        lost_sources: block ids that had been given back between its begin and the end of its copies.
    """

    job: SwapJob
    number: int
    fate: Fate
    begun_at: int
    arrivals: list
    compute_len: int = 0
    enqueued: bool = False
    copied: bool = False
    early_by: int = 0
    lost_sources: frozenset = frozenset()

    def __str__(self):
        return f"{self.job.direction.value} job {self.job.job_id} of request {self.job.request_id}"

    @property
    def pairs(self):
        """dst block id |-> src block id."""
        return {dst + i: src + i for src, dst, num in self.job.runs.tolist() for i in range(num)}


class Door:
    """Lets numbers pass up to the one to which it was opened."""

    def __init__(self):
        self.open_to = 0
        self._changed = threading.Condition()

    def open(self, num_open):
        """Let all numbers below ``num_open`` pass."""
        with self._changed:
            self.open_to = max(self.open_to, num_open)
            self._changed.notify_all()

    def pass_through(self, number):
        with self._changed:
            if not self._changed.wait_for(lambda: number < self.open_to, PATIENCE_S):
                raise TimeoutError(f"copy {number} stood before a door for {PATIENCE_S} s")


class Copies:
    """A `Transfer` whose copies go as their flights say; also the ``host_may_wait`` of `LazyStreams`.

    Args:
        way: moves the bytes.
        pools: direction |-> source and destination as `StampedPool`.
        streams: lazy ones, or None: then copies run on the thread that calls.
    """

    def __init__(self, way, pools, streams):
        self.starts = {direction: Door() for direction in SwapDirection}
        self.ends = {direction: Door() for direction in SwapDirection}
        self._way = way
        self._pools = pools
        self._streams = streams
        self._flights = {}  # id of a job's runs |-> flight; the job lives as long
        self._serving = threading.local()
        if streams is not None:
            streams.host_may_wait = self

    def expect(self, flight):
        """The flight's job is about to be submitted."""
        if self._streams is not None:
            flight.compute_len = self._streams.compute.record().position
        self._flights[id(flight.job.runs)] = flight

    def open_all(self):
        for door in (*self.starts.values(), *self.ends.values()):
            door.open(2**62)

    def __call__(self, src_planes, dst_planes, runs):
        flight = self._serving.flight = self._flights[id(runs)]
        self.starts[flight.job.direction].pass_through(flight.number)
        if flight.fate is Fate.AT_ONCE:
            raise OSError("the link broke")
        if flight.fate is Fate.DEADLY:
            raise SystemExit("killed")
        some = runs if flight.fate is Fate.WELL else runs[:1]
        self._enqueue(flight, lambda: self._copy(flight, src_planes, dst_planes, some))
        if flight.fate is Fate.HALF_WAY:
            raise OSError("the link broke half-way")
        return TransferCount(num_bytes=0, copies=0, calls=0)

    def wait(self):
        """A thread wants to see the end of the copies that it enqueued."""
        flight = getattr(self._serving, "flight", None)
        if flight is not None:
            self.ends[flight.job.direction].pass_through(flight.number)

    def _enqueue(self, flight, copy):
        if self._streams is None:
            copy()
        elif flight.job.direction is SwapDirection.SWAP_OUT:
            self._streams.swap_out.enqueue(copy)
        else:
            self._streams.swap_in.enqueue(copy)
        flight.enqueued = True

    def _copy(self, flight, src_planes, dst_planes, runs):
        if self._streams is not None:
            flight.early_by = max(0, flight.compute_len - self._streams.compute.num_done)
        source, destination = self._pools[flight.job.direction]
        for _, dst, num_blocks in runs.tolist():
            destination.written_by[dst : dst + num_blocks] = [flight] * num_blocks
        self._way(src_planes, dst_planes, runs)
        for src, _, num_blocks in runs.tolist():  # not before: a block may be given back while it is read
            lost = np.flatnonzero(source.freed_at[src : src + num_blocks] > flight.begun_at)
            flight.lost_sources |= {*(src + lost).tolist()}
        flight.copied = True
