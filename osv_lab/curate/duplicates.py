"""Groups of images that show the same: candidates by hash or embedding, then a look at the pixels of each pair."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import numpy as np

from osv_lab.core.errors import OsvError, UsageError
from osv_lab.core.progress import Progress, silent
from osv_lab.curate.hamming import pairs_within, unique_hashes
from osv_lab.detect.images import decode_small, read_image

RADIUS = 11
"""Bits of 64 that may differ in a candidate's pHash or dHash. BCCD photos differ from their JPEGs of quality 40, half
size or other brightness by 4 at most, from a crop of 3% at each side by 8 in the median; from other photos by 32."""

SIMILARITY = 0.9
"""Least correlation of two pictures (after the best shift and scale) that show the same."""

NEIGHBOURS = 10

Embed: TypeAlias = Callable[[Sequence[np.ndarray]], np.ndarray]
"""BGR uint8 images to one row of numbers each, ``(n, d)``."""


@dataclass(frozen=True)
class Group:
    """Images that show the same.

    Attributes:
        samples: Sample ids.
        splits: The splits that they are in.
        exact: Whether all are the same file, byte by byte.
        similarity: The least correlation by which one joined the group, 0 to 1.
    """

    samples: tuple[str, ...]
    splits: tuple[str, ...]
    exact: bool
    similarity: float

    @property
    def leak(self) -> bool:
        """Whether the group is in more than one split."""
        return len(self.splits) > 1


class Union:
    """Which of ``n`` things belong together (R. Tarjan, "Efficiency of a Good But Not Linear Set Union", 1975)."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def find(self, one: int) -> int:
        """The representative of a thing's group."""
        while self._parent[one] != one:
            self._parent[one] = self._parent[self._parent[one]]
            one = self._parent[one]
        return one

    def join(self, a: int, b: int) -> bool:
        """Put two groups together; whether they were apart."""
        a, b = self.find(a), self.find(b)
        self._parent[max(a, b)] = min(a, b)
        return a != b

    def groups(self) -> list[list[int]]:
        """Groups of more than one, each in order."""
        found: dict[int, list[int]] = {}
        for one in range(len(self._parent)):
            found.setdefault(self.find(one), []).append(one)
        return [group for group in found.values() if len(group) > 1]


def near_pairs(hashes: Sequence[np.ndarray], radius: int = RADIUS) -> Iterator[tuple[int, int]]:
    """Pairs of places whose hashes of one of the kinds are within a radius, nearest-first within a block.

    Args:
        hashes: ``(n,) uint64`` of each kind of hash.
        radius: Largest distance in bits.

    Yields:
        Places in the arrays. Of images with equal hashes each is paired with the first only.
    """
    for kind in hashes:
        unique, which = unique_hashes(kind)
        order = np.argsort(which, kind="stable")
        first = order[np.searchsorted(which[order], np.arange(len(unique)))]
        for place in np.flatnonzero(first[which] != np.arange(len(kind))):
            yield int(first[which[place]]), int(place)
        for i, j, distance in pairs_within(unique, radius):
            for k in np.argsort(distance, kind="stable"):
                yield int(first[i[k]]), int(first[j[k]])


def embedding_pairs(embeddings: np.ndarray, least: float) -> Iterator[tuple[int, int]]:
    """Pairs of rows whose cosine is at least ``least``, among each row's 10 nearest; no all-pairs matrix is made.

    Args:
        embeddings: ``(n, d)``.
        least: 0 to 1.
    """
    from sklearn.neighbors import NearestNeighbors  # type: ignore[import-untyped]

    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = np.asarray(embeddings, np.float32) / np.maximum(length, 1e-12)
    search = NearestNeighbors(n_neighbors=min(NEIGHBOURS + 1, len(unit)), algorithm="brute").fit(unit)
    for begin in range(0, len(unit), 1024):
        distances, places = search.kneighbors(unit[begin : begin + 1024])
        near = distances**2 / 2 <= 1 - least
        for row, column in np.argwhere(near):
            i, j = begin + int(row), int(places[row, column])
            if i != j:
                yield min(i, j), max(i, j)


def embeddings_of(paths: Sequence[str], embed: Embed, batch: int = 32, progress: Progress = silent) -> np.ndarray:
    """Embeddings of image files, ``(n, d)``.

    Raises:
        UsageError: ``embed`` does not give one row per image.
    """
    found = []
    for begin in range(0, len(paths), batch):
        images = [read_image(path) for path in paths[begin : begin + batch]]
        rows = np.asarray(embed(images))
        if rows.ndim != 2 or len(rows) != len(images):
            raise UsageError("embed must give one row per image", f"shape {rows.shape} for {len(images)} images")
        found.append(rows)
        progress("embed", begin + len(images), len(paths))
    return np.concatenate(found) if found else np.zeros((0, 1))


def join_similar(
    union: Union, pairs: Iterator[tuple[int, int]], paths: Sequence[str], least: float = SIMILARITY
) -> dict[int, float]:
    """Put together the images of candidate pairs that show the same; pairs that are together already cost nothing.

    Returns:
        For each image that joined another the least correlation by which it did.
    """
    seen: dict[int, float] = {}
    rejected: set[tuple[int, int]] = set()
    for i, j in pairs:
        if union.find(i) == union.find(j) or (i, j) in rejected:
            continue
        alike = similarity(paths[i], paths[j])
        if alike >= least:
            union.join(i, j)
            for one in (i, j):
                seen[one] = min(alike, seen.get(one, 1.0))
        else:
            rejected.add((i, j))
    return seen


def similarity(first: str, second: str) -> float:
    """How alike two image files are, -1 to 1: the best correlation over shifts and sizes of the middle of the first.

    The middle 80% of the first, at 5 sizes from 0.9 to 1.1, is sought in the second (OpenCV's ``TM_CCOEFF_NORMED``), so
    that crops, borders and changes of brightness do not matter. Of two flat pictures the brightness decides.
    """
    a, b = _thumbnail(first), _thumbnail(second)
    if a is None or b is None:
        return -1.0
    if min(a.std(), b.std()) < 2:
        return 1.0 if max(a.std(), b.std()) < 3 and abs(float(a.mean()) - float(b.mean())) < 3 else -1.0
    return max(_best_match(a, b), _best_match(b, a))


def _best_match(a: np.ndarray, b: np.ndarray) -> float:
    import cv2

    size = (b.shape[1], b.shape[0])
    fitted = cv2.resize(a, size, interpolation=cv2.INTER_AREA)
    top, left = size[1] // 10, size[0] // 10
    middle = fitted[top : size[1] - top, left : size[0] - left]
    best = -1.0
    for scale in (0.9, 0.95, 1.0, 1.05, 1.1):
        sought = cv2.resize(middle, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        best = max(best, float(cv2.matchTemplate(b, sought, cv2.TM_CCOEFF_NORMED).max()))
    return best


@lru_cache(maxsize=4096)
def _thumbnail(path: str) -> np.ndarray | None:
    """Grey uint8, the longer side 96 pixels; ``None`` where it cannot be read."""
    import cv2

    try:
        pixels, _ = decode_small(Path(path).read_bytes(), 64, name=path)
    except (OSError, OsvError):
        return None
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    by = 96 / max(grey.shape)
    size = (max(round(grey.shape[1] * by), 16), max(round(grey.shape[0] * by), 16))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))
