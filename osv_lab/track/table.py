"""What every tracker here shares: its tracks as one array, time, identities, class votes, checked input, saved state.

One column per track, so that a step over all tracks is one call:

    rows 0-19  Kalman filters (:mod:`osv_lab.track.kalman`)
    STATUS     0 tentative, 1 tracked, 2 lost
    SEEN       when it was last matched, in frames
    BORN       when it was first seen, in frames
    ID         its identity, 0 until it is confirmed
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.track import kalman
from osv_lab.track.tracks import Floats, Ints

STATUS, SEEN, BORN, ID = range(kalman.ROWS, kalman.ROWS + 4)
ROWS = kalman.ROWS + 4
TENTATIVE, TRACKED, LOST = 0.0, 1.0, 2.0
UNTRACKED = -1

# No image is that large; beyond it, and at infinity, arithmetic on boxes is not to be trusted.
_FARTHEST = 1e7
_STATE_VERSION = 1


@dataclass(eq=False, slots=True)
class Seen:
    """The usable detections of a frame, by falling confidence.

    Attributes:
        order: (k,) where each was in the input.
        corners: (4, k) x1, y1, x2, y2.
        negated: (k,) confidence, negated: rising, as searching needs it.
        rising: The same as a list: looking something up in an array takes ten times as long.
        class_id: (k,), or ``None`` when none was given.
        total: How many the input had.
    """

    order: Ints
    corners: Floats
    negated: Floats
    rising: list[float]
    class_id: Ints | None
    total: int

    @property
    def confidence(self) -> Floats:
        """(k,), falling."""
        return np.negative(self.negated)

    def above(self, least: float) -> int:
        """How many have a confidence of ``least`` or more: that many of the first."""
        return bisect_right(self.rising, -least)


def all_true(count: int) -> npt.NDArray[np.bool_]:
    """(count,) of which some are about to be crossed out."""
    mask = np.empty(count, dtype=bool)
    mask.fill(True)
    return mask


class TrackTable:
    """Base of the trackers: the table of tracks and the bookkeeping around it.

    Args:
        model: How a box is filtered.
        frame_rate: Frames per second when nothing else is said; timestamps are counted in frames of this length.
        lost_s: How many seconds a lost track is kept; :attr:`buffer` is that in frames.
    """

    name: ClassVar[str]

    def __init__(self, model: kalman.BoxModel, frame_rate: float, lost_s: float) -> None:
        if not frame_rate > 0 or not np.isfinite(frame_rate):
            raise UsageError("the frame rate must be positive", frame_rate, "give frames per second")
        self.model = model
        self.frame_rate = float(frame_rate)
        self.buffer = round(lost_s * self.frame_rate, 6)
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next update is the first frame of a new source, identities start at 1 again."""
        self.tracks: Floats = np.zeros((ROWS, 0))
        self.confirmed = 0
        self.updates = 0
        self.now = 0.0
        self.issued = 0
        self._timestamp: float | None = None
        self._classes: list[int] = []
        self._votes: Floats = np.zeros((0, 0))

    # -- input -------------------------------------------------------------------------------------------------

    def _check(
        self, xyxy: npt.ArrayLike, confidence: npt.ArrayLike, class_id: npt.ArrayLike | None, least: float
    ) -> Seen:
        """The detections above ``least`` that can be tracked: boxes with an area, within ten million pixels."""
        boxes = np.asarray(xyxy, dtype=np.float64)
        scores = np.asarray(confidence, dtype=np.float64)
        total = len(scores) if scores.ndim == 1 else -1
        if boxes.shape != (total, 4):
            if boxes.size == 0 and total == 0:
                boxes = boxes.reshape(0, 4)
            else:
                raise InvalidDataError(
                    "boxes and confidences do not fit together",
                    f"xyxy {boxes.shape}, confidence {scores.shape}",
                    "give xyxy (n, 4) and confidence (n,)",
                )
        # Falling confidence is rising negated confidence; NaN comes last, and is not above anything.
        negated = np.negative(scores)
        order = negated.argsort(kind="stable")
        negated = negated.take(order)
        rising = negated.tolist()
        count = bisect_left(rising, -least)
        if count < total:
            order, negated, rising = order[:count], negated[:count], rising[:count]
        corners = boxes.T.take(order, axis=1)
        if count:
            best = -rising[0]
            if best > 1:
                raise InvalidDataError("a confidence above 1", best, "confidences are 0 to 1, not per cent")
            # The first NaN is the least and the greatest of all, and fails both.
            within = corners.item(corners.argmin()) > -_FARTHEST and corners.item(corners.argmax()) < _FARTHEST
            wide = corners[2:] > corners[:2]
            if not within or np.count_nonzero(wide) < wide.size:
                usable = wide.all(axis=0) & (np.abs(corners) < _FARTHEST).all(axis=0)
                order, negated, corners = order[usable], negated[usable], corners[:, usable]
                rising = negated.tolist()
        classes = None
        if class_id is not None:
            classes = np.asarray(class_id)
            if classes.shape != (total,):
                raise InvalidDataError("class ids do not fit the boxes", f"{classes.shape}, {total} boxes")
            classes = classes[order].astype(np.int64)
        return Seen(order, corners, negated, rising, classes, total)

    def _advance(self, timestamp: float | None) -> float:
        """Count the frame; how many frames of the nominal length have passed since the last update."""
        elapsed = 1.0
        if timestamp is not None:
            if not np.isfinite(timestamp):
                raise InvalidDataError("a timestamp that is no number", timestamp, "give seconds")
            if self._timestamp is not None:
                elapsed = (timestamp - self._timestamp) * self.frame_rate
                if elapsed <= 0:
                    raise InvalidDataError(
                        "frames out of order",
                        f"timestamp {timestamp:g} s after {self._timestamp:g} s",
                        "pass frames in order, or reset() for a new source",
                    )
                # The clock of a video is not exact; what is one frame within a thousandth is one frame.
                if abs(elapsed - round(elapsed)) < 1e-3:
                    elapsed = float(round(elapsed))
            self._timestamp = float(timestamp)
        elif self._timestamp is not None:
            raise UsageError("a frame without a timestamp", "earlier frames had one", "pass one with every frame")
        self.updates += 1
        self.now += elapsed
        return elapsed

    # -- tracks ------------------------------------------------------------------------------------------------

    def _correct(self, rows: Ints, measured: Floats, noise: Floats | None = None) -> None:
        """Correct matched tracks by their measurements (4, k), ``noise`` (k,) times as uncertain: tracked, now."""
        matched = self.tracks.take(rows, axis=1)
        kalman.correct(self.model, matched, measured, noise)
        matched[STATUS], matched[SEEN] = TRACKED, self.now
        self.tracks[:, rows] = matched

    def _lose(self, rows: Ints) -> None:
        """Tracks without a match are lost. What is not seen does not change its size."""
        self.tracks[STATUS][rows] = LOST
        for size in self.model.sizes:
            self.tracks[size][rows] = 0.0

    def _begin(self, seen: Seen, columns: Ints, measured: Floats, status: float) -> Ints:
        """Start a track on each of the chosen detections, in an order that does not depend on the input's.

        Returns:
            ``columns`` in the order of the new rows.
        """
        if len(columns) > 1:
            x1, y1, x2, y2 = seen.corners[:, columns]
            columns = columns[np.lexsort((y2, x2, y1, x1, -seen.confidence[columns]))]
        new = np.empty((ROWS, len(columns)))
        new[: kalman.ROWS] = kalman.start(self.model, measured.take(columns, axis=1))
        new[STATUS], new[SEEN], new[BORN], new[ID] = status, self.now, self.now, 0.0
        self.tracks = np.concatenate((self.tracks, new), axis=1)
        if self._votes.size:
            self._votes = np.concatenate((self._votes, np.zeros((len(self._votes), len(columns)))), axis=1)
        return columns

    def _issue_ids(self, rows: Ints) -> None:
        """Give confirmed tracks the next identities: 1, 2, 3 and so on, none skipped."""
        self.tracks[ID, rows] = np.arange(self.issued + 1, self.issued + 1 + len(rows))
        self.issued += len(rows)

    def _forget(self) -> None:
        """After a stall: what was not seen for longer than a lost track is kept may be anywhere."""
        keep = self.now - self.tracks[SEEN] <= self.buffer + 1
        if not keep.all():
            self.confirmed = int(np.count_nonzero(keep[: self.confirmed]))
            self._keep(keep)

    def _keep(self, keep: npt.NDArray[np.bool_]) -> None:
        """Drop all other tracks."""
        self.tracks = self.tracks.compress(keep, axis=1)
        if self._votes.size:
            self._votes = self._votes[:, keep]

    # -- classes -----------------------------------------------------------------------------------------------

    def _vote(self, rows: Ints, columns: Ints, seen: Seen) -> None:
        """Add each matched detection's confidence to its class, for its track."""
        if seen.class_id is None or not len(rows):
            return
        class_id = seen.class_id.take(columns)
        self._classes += sorted(set(class_id.tolist()).difference(self._classes))
        if len(self._classes) > len(self._votes) or self._votes.shape[1] != self.tracks.shape[1]:
            missing = len(self._classes) - len(self._votes), self.tracks.shape[1] - self._votes.shape[1]
            self._votes = np.pad(self._votes, ((0, missing[0]), (0, missing[1])))
        if len(self._classes) == 1:
            self._votes[0][rows] -= seen.negated.take(columns)
            return
        classes = np.array(self._classes)
        by_value = np.argsort(classes)
        index = by_value[np.searchsorted(classes, class_id, sorter=by_value)]
        self._votes[index, rows] -= seen.negated.take(columns)

    def _track_class(self) -> Ints:
        """(n,) the class each track has most votes for; -1 without votes."""
        if not self._votes.size:
            return np.full(self.tracks.shape[1], -1)
        best: Ints = self._votes.argmax(axis=0)
        return np.array(self._classes, dtype=np.int64)[best]

    def classes(self) -> dict[int, int]:
        """The class of each living identity: the one with the highest sum of confidences so far."""
        ids = self.tracks[ID].astype(np.int64)
        return {k: c for k, c in zip(ids.tolist(), self._track_class().tolist(), strict=True) if k > 0}

    # -- output ------------------------------------------------------------------------------------------------

    def current(self) -> tuple[Ints, Floats]:
        """The tracks that were seen in the last update: identities (n,) and filtered boxes (n, 4) as corners."""
        chosen = (self.tracks[STATUS] == TRACKED) & (self.tracks[ID] > 0)
        return self.tracks[ID, chosen].astype(np.int64), kalman.corners(
            self.model, self.tracks[:4, chosen]
        ).T.copy()

    def state(self) -> dict[str, Any]:
        """Everything that the next update depends on, as arrays and plain numbers (for ``np.savez`` or JSON)."""
        return {
            "version": _STATE_VERSION,
            "algorithm": self.name,
            "tracks": self.tracks.copy(),
            "confirmed": self.confirmed,
            "updates": self.updates,
            "now": self.now,
            "issued": self.issued,
            "timestamp": self._timestamp,
            "classes": list(self._classes),
            "votes": self._votes.copy(),
            **self._own_state(),
        }

    def _own_state(self) -> dict[str, Any]:
        """What a tracker remembers besides the table."""
        return {}

    def _restore_own(self, state: Mapping[str, Any]) -> None:
        """Set again what :meth:`_own_state` gave."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state` of a tracker with the same settings.

        Raises:
            InvalidDataError: a state of another algorithm, or damaged.
        """
        if state.get("version") != _STATE_VERSION or state.get("algorithm") != self.name:
            found = f"{state.get('algorithm')!r}, version {state.get('version')!r}"
            raise InvalidDataError("not a state of this tracker", found, f"it needs {self.name!r}, version 1")
        try:
            tracks = np.array(state["tracks"], dtype=np.float64).reshape(ROWS, -1)
            votes = np.array(state["votes"], dtype=np.float64)
            self.tracks = tracks
            self._classes = [int(value) for value in state["classes"]]
            self._votes = votes.reshape(len(self._classes), -1) if votes.size else np.zeros((0, 0))
            self.confirmed, self.updates = int(state["confirmed"]), int(state["updates"])
            self.now, self.issued = float(state["now"]), int(state["issued"])
            self._timestamp = None if state["timestamp"] is None else float(state["timestamp"])
            self._restore_own(state)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidDataError("a damaged tracker state", repr(error), "start with reset()") from error
