"""What comes out of a tracker and goes into a metric: one row per box, as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from osv_lab.core.errors import InvalidDataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, init=False)
class Tracks:
    """The boxes of one sequence, sorted by frame (rows of a frame keep their order).

    Args:
        frame: (m,) int, frame numbers from 1.
        track_id: (m,) int, unique within a frame.
        xyxy: (m, 4) float, absolute pixels.
        confidence: (m,) float, 0 to 1; ones when not given. In MOTChallenge truth this is the "consider" mark.
        class_id: (m,) int; zeros when not given. In MOTChallenge files this is the class number, from 1.

    Raises:
        InvalidDataError: columns of different length, frames below 1, boxes that are not finite, or an identity twice
            in one frame.

    Example:
        >>> tracks = Tracks([2, 1], [7, 7], [[0, 0, 10, 10], [0, 0, 9, 9]])
        >>> tracks.frame.tolist(), tracks.xyxy[:, 2].tolist()
        ([1, 2], [9.0, 10.0])
    """

    frame: Ints
    track_id: Ints
    xyxy: Floats
    confidence: Floats
    class_id: Ints

    def __init__(
        self,
        frame: npt.ArrayLike,
        track_id: npt.ArrayLike,
        xyxy: npt.ArrayLike,
        confidence: npt.ArrayLike | None = None,
        class_id: npt.ArrayLike | None = None,
    ) -> None:
        rows = np.size(frame)
        columns: dict[str, npt.NDArray[Any]] = {
            "frame": np.asarray(frame, dtype=np.int64).reshape(-1),
            "track_id": np.asarray(track_id, dtype=np.int64).reshape(-1),
            "xyxy": np.asarray(xyxy, dtype=np.float64).reshape(-1, 4),
            "confidence": np.asarray(np.ones(rows) if confidence is None else confidence, np.float64).reshape(-1),
            "class_id": np.asarray(np.zeros(rows) if class_id is None else class_id, np.int64).reshape(-1),
        }
        frame = columns["frame"]
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise InvalidDataError("columns of tracks differ in length", lengths, "give one value per box")
        if rows and frame.min() < 1:
            raise InvalidDataError("a frame number below 1", int(frame.min()), "count frames from 1")
        if not np.isfinite(columns["xyxy"]).all():
            row = int(np.flatnonzero(~np.isfinite(columns["xyxy"]).all(axis=1))[0])
            raise InvalidDataError("a box that is not finite", f"{columns['xyxy'][row]} in frame {frame[row]}")
        order = np.lexsort((columns["track_id"], frame))
        same = (np.diff(frame[order]) == 0) & (np.diff(columns["track_id"][order]) == 0)
        if same.any():
            row = order[int(np.flatnonzero(same)[0])]
            raise InvalidDataError(
                "an identity twice in one frame",
                f"track {columns['track_id'][row]} in frame {frame[row]}",
                "an identity has one box per frame",
            )
        by_frame = np.argsort(frame, kind="stable")
        for name, column in columns.items():
            object.__setattr__(self, name, column[by_frame])

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, rows: slice | npt.NDArray[Any]) -> Tracks:
        """The rows chosen by a mask or by indices."""
        return Tracks(**{item.name: getattr(self, item.name)[rows] for item in fields(self)})

    @classmethod
    def concatenate(cls, parts: Iterable[Tracks]) -> Tracks:
        """The rows of all parts, in one."""
        items = list(parts) or [cls.empty()]
        return cls(**{item.name: np.concatenate([getattr(p, item.name) for p in items]) for item in fields(cls)})

    @classmethod
    def empty(cls) -> Tracks:
        """No boxes."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 4)))

    @property
    def last_frame(self) -> int:
        """The highest frame number, 0 when there are no boxes."""
        return int(self.frame[-1]) if len(self) else 0

    def spans(self, frames: int) -> Ints:
        """(frames + 1,) row offsets: frame ``f`` (from 1) has rows ``spans[f - 1]:spans[f]``."""
        return np.searchsorted(self.frame, np.arange(1, frames + 2)).astype(np.int64)

    def frames(self, frames: int | None = None) -> Iterator[tuple[int, Tracks]]:
        """Every frame from 1 to ``frames`` (default: the last with a box) with its rows, empty frames included."""
        count = self.last_frame if frames is None else frames
        spans = self.spans(count)
        for number in range(1, count + 1):
            yield number, self[slice(spans[number - 1], spans[number])]

    def between(self, first: int, last: int) -> Tracks:
        """Frames ``first`` to ``last`` inclusive, renumbered from 1."""
        part = self[(self.frame >= first) & (self.frame <= last)]
        return Tracks(part.frame - (first - 1), part.track_id, part.xyxy, part.confidence, part.class_id)
