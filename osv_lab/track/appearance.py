"""What tracks look like: embeddings of detections, remembered per track."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from osv_lab.core.errors import InvalidDataError
from osv_lab.track.tracks import Ints

Vectors = npt.NDArray[np.float32]


def unit_vectors(embeddings: npt.ArrayLike, count: int) -> Vectors:
    """(n, d) embeddings scaled to length 1; one without length or with NaN becomes zeros, which resemble nothing.

    Raises:
        InvalidDataError: not one vector per detection.
    """
    vectors = np.asarray(embeddings, dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != count:
        raise InvalidDataError("embeddings do not fit the boxes", f"{vectors.shape}, {count} boxes", "give (n, d)")
    length = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    usable = np.isfinite(length) & (length > 0)
    unit: Vectors = np.zeros_like(vectors)
    unit[usable] = vectors[usable] / length[usable, None]
    return unit


class Gallery:
    """The last embeddings of each track, as one array.

    Args:
        size: How many are kept per track; the oldest is replaced.
        smooth: For a size of 1: how much of the old embedding stays when a new one comes.
    """

    def __init__(self, size: int = 1, smooth: float = 0.0) -> None:
        self.size, self.smooth = size, smooth
        self.vectors: Vectors | None = None
        self.count: Ints = np.zeros(0, np.int64)

    def unit_vectors(self, embeddings: npt.ArrayLike | None, count: int) -> Vectors | None:
        """The embeddings of a frame at length 1 (:func:`unit_vectors`), as long as those remembered.

        Raises:
            InvalidDataError: not one vector per detection, or of another length than before.
        """
        if embeddings is None:
            return None
        vectors = unit_vectors(embeddings, count)
        if self.vectors is not None and count and vectors.shape[1] != self.vectors.shape[2]:
            found = f"{vectors.shape[1]} values after {self.vectors.shape[2]}"
            raise InvalidDataError("embeddings of another length", found, "use one embedder per source")
        return vectors

    def pad(self, tracks: int) -> None:
        """Room for all tracks: those from frames without embeddings resemble nothing yet."""
        if self.vectors is not None and tracks > len(self.count):
            self._append(np.zeros((tracks - len(self.count), self.vectors.shape[2]), np.float32))

    def begin(self, tracks: int, vectors: Vectors) -> None:
        """New tracks with one embedding each, (n, d), after the ``tracks`` there are."""
        if self.vectors is None:
            self.vectors = np.zeros((0, self.size, vectors.shape[1]), np.float32)
        self.pad(tracks)
        self._append(vectors)

    def _append(self, vectors: Vectors) -> None:
        assert self.vectors is not None
        new = np.zeros((len(vectors), self.size, vectors.shape[1]), np.float32)
        new[:, 0] = vectors
        self.vectors = np.concatenate((self.vectors, new))
        self.count = np.concatenate((self.count, np.ones(len(vectors), np.int64)))

    def learn(self, rows: Ints, vectors: Vectors) -> None:
        """A new embedding for some tracks."""
        if self.vectors is None or not len(rows):
            return
        known = np.einsum("nd,nd->n", vectors, vectors) > 0
        rows, vectors = rows[known], vectors[known]
        if self.smooth:
            mixed = self.smooth * self.vectors[rows, 0] + (1 - self.smooth) * vectors
            length = np.sqrt(np.einsum("nd,nd->n", mixed, mixed))
            self.vectors[rows, 0] = mixed / np.maximum(length, np.float32(1e-12))[:, None]
        else:
            self.vectors[rows, self.count[rows] % self.size] = vectors
        self.count[rows] += 1

    def keep(self, keep: npt.NDArray[np.bool_]) -> None:
        """Drop all other tracks."""
        self.pad(len(keep))
        if self.vectors is not None:
            self.vectors, self.count = self.vectors[keep], self.count[keep]

    def distance(self, rows: Ints, vectors: Vectors, near: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """(n, m) least cosine distance (0 to 2) of each track's embeddings to each vector.

        Args:
            rows: (n,) tracks.
            vectors: (m, d) of unit length.
            near: (n, m) which pairs are asked for; the others are infinitely far.
        """
        far = np.full(near.shape, np.inf, np.float32)
        most = int(near.sum(axis=1).max(initial=0))
        if self.vectors is None or not most:
            return far
        filled = int(min(self.count[rows].max(), self.size))
        # Few detections are near a track: theirs first, as many for each track as the one with most has.
        columns = np.argsort(~near, axis=1, kind="stable")[:, :most]
        similarity = np.matmul(self.vectors[rows, :filled], vectors[columns].transpose(0, 2, 1))
        empty = np.arange(filled) >= self.count[rows, None]
        if empty.any():
            similarity[empty] = -1.0
        far[np.arange(len(rows))[:, None], columns] = 1 - similarity.max(axis=1)
        far[~near] = np.inf
        return far

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs."""
        return {
            "gallery": None if self.vectors is None else self.vectors.copy(),
            "gallery_count": self.count.copy(),
        }

    def restore(self, state: Any) -> None:
        """Go on from :meth:`state`."""
        vectors = state["gallery"]
        self.vectors = None if vectors is None else np.array(vectors, dtype=np.float32)
        self.count = np.array(state["gallery_count"], dtype=np.int64)
