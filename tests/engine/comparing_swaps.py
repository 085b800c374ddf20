"""Swaps that compare the KV of every token, bit for bit, as it left the device and as it came back."""

from __future__ import annotations

import torch

from fastswitch.memory import SwapDirection


class ComparingSwaps:
    """Wraps ``Swaps``; a block of poison that is copied anywhere is an error too.

    Args:
        swaps: moves the jobs.
        kv: whose blocks they are.
        device_pool, host_pool: their memory, of a float type.
    """

    def __init__(self, swaps, kv, device_pool, host_pool):
        self.num_compared = 0
        self._swaps = swaps
        self._kv = kv
        self._pools = {"device": device_pool, "host": host_pool}
        self._left = {}  # segment_id |-> bytes of each token as it left the device, [num_tokens, bytes]

    def submit(self, job):
        if job.direction is SwapDirection.SWAP_OUT:
            for entry in job.ranges:
                rows = self._tokens("device", entry.segment_id, entry.end_token)
                known = self._left.get(entry.segment_id, rows[:0])[: entry.start_token]
                assert torch.equal(rows[: len(known)], known), f"{entry}: KV that was out before has changed"
                self._left[entry.segment_id] = rows
        return self._swaps.submit(job)

    def landed(self):
        reports = self._swaps.landed()
        for report in reports:
            if report.error is None:
                self._compare(report.job)
        return reports

    def _compare(self, job):
        tier = "host" if job.direction is SwapDirection.SWAP_OUT else "device"
        for entry in job.ranges:
            rows = self._tokens(tier, entry.segment_id, entry.end_token)
            assert torch.equal(rows, self._left[entry.segment_id][: entry.end_token]), (
                f"{job.direction}: {entry} differs"
            )
            self.num_compared += entry.end_token - entry.start_token

    def _tokens(self, tier, segment_id, num_tokens):
        """The KV of the first tokens, ``[num_tokens, bytes]``, whatever blocks and order it lies in."""
        pool = self._pools[tier]
        block_ids = torch.from_numpy(getattr(self._kv, tier).block_ids(segment_id)).long()
        tokens = pool.blocks[block_ids].movedim(3, 1).flatten(0, 1)[:num_tokens]
        assert not torch.isnan(tokens).any(), f"segment {segment_id}: poison on the {tier}"
        return tokens.reshape(num_tokens, -1).view(torch.uint8)

    @property
    def stall_s(self):
        return self._swaps.stall_s

    def lost(self):
        return self._swaps.lost()

    def wait(self, jobs):
        self._swaps.wait(jobs)

    def wait_any(self, timeout_s):
        self._swaps.wait_any(timeout_s)

    def close(self):
        self._swaps.close()
