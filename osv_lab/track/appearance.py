"""What tracks look like: embeddings of detections, remembered per track."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from osv_lab.core.errors import InvalidDataError
from osv_lab.track.table import Seen, TrackTable
from osv_lab.track.tracks import Floats, Ints

Vectors = npt.NDArray[np.float32]
_ROOM = 16


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
    """The last embeddings of each track.

    They stay where they were written as long as the track lives: ``vectors`` is (capacity, size, d), a track's are at
    its ``slot``, as many as ``count`` says. What they took is given to the next new track.

    Args:
        size: How many are kept per track; the oldest is replaced.
        smooth: For a size of 1: how much of the old embedding stays when a new one comes.
    """

    def __init__(self, size: int = 1, smooth: float = 0.0) -> None:
        self.size, self.smooth = size, smooth
        self.vectors: Vectors | None = None
        self.slot: Ints = np.zeros(0, np.int64)
        self.count: Ints = np.zeros(0, np.int64)
        self._free: list[int] = []

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
            self.vectors = np.empty((0, self.size, vectors.shape[1]), np.float32)
        self.pad(tracks)
        self._append(vectors)

    def _append(self, vectors: Vectors) -> None:
        assert self.vectors is not None
        new = len(vectors)
        if not new:
            return
        if len(self._free) < new:
            room = len(self.vectors)
            more = max(room, new, _ROOM)
            # What is not written yet takes no memory.
            grown = np.empty((room + more, *self.vectors.shape[1:]), np.float32)
            grown[:room] = self.vectors
            self.vectors = grown
            self._free = [*range(room + more - 1, room - 1, -1), *self._free]
        slot = np.array(self._free[-new:])
        del self._free[-new:]
        self.vectors[slot, 0] = vectors
        self.slot = np.concatenate((self.slot, slot))
        self.count = np.concatenate((self.count, np.ones(new, np.int64)))

    def latest(self, rows: Ints) -> Vectors:
        """(n, d) for a size of 1: the embedding of each of the given tracks."""
        assert self.vectors is not None
        return np.asarray(self.vectors[self.slot[rows], 0])

    def learn(self, rows: Ints, vectors: Vectors) -> None:
        """A new embedding for some tracks."""
        if self.vectors is None or not len(rows):
            return
        self.pad(int(rows.max()) + 1)
        known = np.einsum("nd,nd->n", vectors, vectors) > 0
        rows, vectors = rows[known], vectors[known]
        if self.smooth:
            mixed = self.smooth * self.latest(rows) + (1 - self.smooth) * vectors
            length = np.sqrt(np.einsum("nd,nd->n", mixed, mixed))
            self.vectors[self.slot[rows], 0] = mixed / np.maximum(length, np.float32(1e-12))[:, None]
        else:
            self.vectors[self.slot[rows], self.count[rows] % self.size] = vectors
        self.count[rows] += 1

    def keep(self, keep: npt.NDArray[np.bool_]) -> None:
        """Drop all other tracks."""
        self.pad(len(keep))
        if self.vectors is not None:
            self._free += self.slot[~keep].tolist()
            self.slot, self.count = self.slot[keep], self.count[keep]

    def distance(self, rows: Ints, vectors: Vectors, near: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """(n, m) least cosine distance (0 to 2) of each track's embeddings to each vector.

        Args:
            rows: (n,) tracks.
            vectors: (m, d) of unit length.
            near: (n, m) which pairs are asked for; the others are infinitely far.
        """
        far = np.full(near.shape, np.inf)
        row, column = near.nonzero()
        if self.vectors is None or not len(row):
            return far
        filled = np.minimum(self.count[rows], self.size)
        similarity = np.empty((len(row), filled.max()), np.float32)
        similarity.fill(-1.0)
        looks = vectors.take(column, axis=0)
        # One small product per track, on its embeddings where they are: a product of all would copy them first, and
        # most tracks are near one or two detections while one that is lost for long may be near to all.
        at = 0
        each = zip(
            self.slot[rows].tolist(), filled.tolist(), np.bincount(row, minlength=len(rows)).tolist(), strict=True
        )
        for slot, known, count in each:
            if count:
                np.matmul(
                    looks[at : at + count], self.vectors[slot, :known].T, out=similarity[at : at + count, :known]
                )
                at += count
        far[row, column] = 1 - similarity.max(axis=1)
        return far

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs."""
        remembered = None
        if self.vectors is not None:
            remembered = self.vectors[self.slot]
            remembered[np.arange(self.size) >= self.count[:, None]] = 0.0
        return {"gallery": remembered, "gallery_count": self.count.copy()}

    def restore(self, state: Any) -> None:
        """Go on from :meth:`state`."""
        vectors = state["gallery"]
        self.vectors = None if vectors is None else np.array(vectors, dtype=np.float32)
        self.count = np.array(state["gallery_count"], dtype=np.int64)
        self.slot, self._free = np.arange(len(self.count)), []


class AppearanceTable(TrackTable):
    """A table of tracks that remember what they look like: the base of BoT-SORT and DeepSORT.

    Attributes:
        gallery: What each track looked like.
        embeddings: (n, d) of this frame's detections, in the input's order; ``None`` without.
    """

    gallery: Gallery
    embeddings: Vectors | None

    def _new_gallery(self) -> Gallery:
        raise NotImplementedError

    def reset(self) -> None:
        super().reset()
        self.gallery, self.embeddings = self._new_gallery(), None

    def _begin(self, seen: Seen, columns: Ints, measured: Floats, status: float) -> Ints:
        columns = super()._begin(seen, columns, measured, status)
        if self.embeddings is not None:
            self.gallery.begin(self.tracks.shape[1] - len(columns), self.embeddings[seen.order[columns]])
        return columns

    def _keep(self, keep: npt.NDArray[np.bool_]) -> None:
        super()._keep(keep)
        self.gallery.keep(keep)

    def _own_state(self) -> dict[str, Any]:
        return {**super()._own_state(), **self.gallery.state()}

    def _restore_own(self, state: Mapping[str, Any]) -> None:
        super()._restore_own(state)
        self.gallery.restore(state)
