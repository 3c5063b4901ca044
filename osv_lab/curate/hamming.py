"""All pairs of 64-bit hashes within a Hamming radius, without comparing all pairs.

Multi-index hashing (M. Norouzi, A. Punjani, D. Fleet, "Fast Search in Hamming Space with Multi-Index Hashing", CVPR
2012): cut the hashes into 4 parts of 16 bits. Two hashes within ``radius`` agree in one of the parts up to ``radius //
4`` bits, so only hashes whose part is that near are compared. Time grows with the pairs found in the buckets; memory is
bounded by a block of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations

import numpy as np

from osv_lab.core.errors import UsageError

PARTS = 4
PART_BITS = 16
MAX_RADIUS = 15
BLOCK = 1 << 20
"""Candidate pairs that are compared at a time: about 60 MB."""


def pairs_within(hashes: np.ndarray, radius: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pairs of different hashes within a Hamming distance.

    Args:
        hashes: ``(n,) uint64``, no two equal (:func:`unique_hashes`).
        radius: Largest distance, 0 to 15 bits.

    Yields:
        Blocks of ``(i, j, distance)``, each ``(k,)``, with ``i < j``; every pair once.

    Raises:
        UsageError: the radius is too large for four parts to help.

    Example:
        >>> [(i.tolist(), j.tolist(), d.tolist()) for i, j, d in pairs_within(np.array([0, 7, 255], np.uint64), 3)]
        [([0], [1], [3])]
    """
    if not 0 <= radius <= MAX_RADIUS:
        raise UsageError("the radius must be 0 to 15 bits", radius)
    hashes = np.ascontiguousarray(hashes, dtype="<u8")
    parts = hashes.view("<u2").reshape(-1, PARTS)
    near = radius // PARTS
    for part in range(PARTS):
        order = np.argsort(parts[:, part], kind="stable")
        sorted_part = parts[order, part]
        starts = np.searchsorted(sorted_part, np.arange((1 << PART_BITS) + 1))
        for mask in _masks(near):
            wanted = parts[:, part] ^ mask
            first = starts[wanted]
            for i, place in _spans(first, starts[wanted.astype(np.int64) + 1] - first):
                j = order[place]
                keep = i < j
                i, j = i[keep], j[keep]
                differing = _bit_counts()[(hashes[i] ^ hashes[j]).view("<u2").reshape(-1, PARTS)]
                distance = differing.sum(axis=1)
                # A pair that an earlier part brought together was compared then.
                found = (distance <= radius) & (differing[:, :part] > near).all(axis=1)
                if found.any():
                    yield i[found], j[found], distance[found]


def unique_hashes(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(unique, which)``: the different hashes, and for each hash its place among them."""
    unique, which = np.unique(hashes, return_inverse=True)
    return unique, which


def _spans(first: np.ndarray, counts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """``(row, place)`` for every place of every row's span, in blocks; a row's own span is never cut."""
    rows = np.flatnonzero(counts)
    ends = np.cumsum(counts[rows])
    begin = 0
    while begin < len(rows):
        before = ends[begin - 1] if begin else 0
        end = max(int(np.searchsorted(ends, before + BLOCK, side="right")), begin + 1)
        some = rows[begin:end]
        number = counts[some]
        offset = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
        yield np.repeat(some, number), np.repeat(first[some], number) + offset
        begin = end


def _masks(most: int) -> list[np.uint16]:
    """Every 16-bit value with at most ``most`` bits set."""
    return [
        np.uint16(sum(1 << bit for bit in bits))
        for number in range(most + 1)
        for bits in combinations(range(PART_BITS), number)
    ]


@cache
def _bit_counts() -> np.ndarray:
    """How many bits are set in each 16-bit value."""
    counts = np.zeros(1 << PART_BITS, dtype=np.uint8)
    for bit in range(PART_BITS):
        counts += (np.arange(1 << PART_BITS) >> bit & 1).astype(np.uint8)
    return counts
