"""Streams that run nothing until somebody waits, so that a missing wait shows on a CPU.

As on a GPU, ``run`` calls its argument at once, and what that enqueues on the current stream runs later: here when an
event behind it is synchronised or when another stream's forced work waits for such an event, and not before.
``lazy_transfer`` enqueues copies so. Every method may be called from any thread.
"""

from __future__ import annotations

import threading

from fastswitch.kernels import TransferCount, per_run

_current = threading.local()


class LazyEvent:
    def __init__(self, stream, position):
        self.stream = stream
        self.position = position  # items enqueued on the stream before it

    def query(self):
        if threading.current_thread().name.startswith("fastswitch-") and self.stream.streams.host_may_wait.is_set():
            self.stream.force(self.position)  # a copy thread that asks again and again is waiting
        return self.stream.num_done >= self.position

    def synchronize(self):
        self.stream.streams.host_may_wait.wait()
        self.stream.force(self.position)

    def seconds_since(self, earlier):
        return 0.0


class LazyStream:
    def __init__(self, streams):
        self.streams = streams
        self.num_done = 0
        self._items = []

    def run(self, work):
        previous, _current.stream = getattr(_current, "stream", None), self
        try:
            return work()
        finally:
            _current.stream = previous

    def wait(self, event):
        self.enqueue(lambda: event.stream.force(event.position))

    def record(self):
        with self.streams.lock:
            return LazyEvent(self, len(self._items))

    def enqueue(self, item):
        with self.streams.lock:
            self._items.append(item)

    def force(self, position):
        """Run the items before ``position`` that have not run, and what they wait for."""
        with self.streams.lock:
            while self.num_done < position:
                item = self._items[self.num_done]
                item()
                self.num_done += 1

    def finish(self):
        """Run everything enqueued so far, as the device does in its own time; no thread waits."""
        self.force(self.record().position)


class LazyStreams:
    """Satisfies ``Streams``. While ``host_may_wait`` is clear, ``synchronize`` blocks whoever calls it."""

    def __init__(self):
        self.lock = threading.RLock()
        self.host_may_wait = threading.Event()
        self.host_may_wait.set()
        self.compute, self.swap_out, self.swap_in = LazyStream(self), LazyStream(self), LazyStream(self)


def lazy_transfer(src_planes, dst_planes, runs):
    _current.stream.enqueue(lambda: per_run(src_planes, dst_planes, runs))
    return TransferCount(num_bytes=0, copies=0, calls=0)
