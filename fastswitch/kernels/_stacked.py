"""Host planes that lie one behind the other in one memory, seen as a single array, so that one call serves them all.

Ours. numpy indexes dim 1 of ``[num_planes, num_blocks, plane_numel]`` in one call and lets go of the GIL; a loop over
planes takes it up again for each.
"""

from __future__ import annotations

import numpy as np

from fastswitch.kernels._blocks import as_integers
from fastswitch.kernels._planes import Pairs

__all__ = ["stack_planes"]


def stack_planes(pairs: Pairs) -> list[tuple[np.ndarray, np.ndarray]]:
    """The pairs as arrays ``[num_planes, num_blocks, plane_numel]``, one where the memory allows it, else one a pair.

    Args:
        pairs: contiguous host tensors ``[num_blocks, plane_numel]``; at least one pair.
    """
    sides = [[as_integers(tensor).numpy() for tensor in side] for side in zip(*pairs, strict=True)]
    src_stack, dst_stack = (_stack(side) for side in sides)
    if src_stack is not None and dst_stack is not None:
        return [(src_stack, dst_stack)]
    return [(src[None], dst[None]) for src, dst in zip(*sides, strict=True)]


def _stack(planes: list[np.ndarray]) -> np.ndarray | None:
    """One view of planes that are equally far apart; None if they are not, or not of one size."""
    addresses = np.array([plane.ctypes.data for plane in planes])
    gaps = np.unique(np.diff(addresses))
    if len(gaps) > 1 or (len(gaps) and gaps[0] < planes[0].nbytes) or len({plane.shape for plane in planes}) > 1:
        return None
    strides = (int(gaps[0]) if len(gaps) else 0, *planes[0].strides)
    return np.lib.stride_tricks.as_strided(planes[0], (len(planes), *planes[0].shape), strides)
