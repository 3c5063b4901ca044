"""ByteTrack: associate every detection box, first the confident ones, then the rest.

Zhang et al., ECCV 2022, https://arxiv.org/abs/2110.06864.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from osv_lab.track import kalman
from osv_lab.track.association import Overlaps, greatest_iou, overlaps, paired_iou
from osv_lab.track.motion import LEAST_PAIRS, check_warp, shift_from_boxes
from osv_lab.track.settings import ByteTrackSettings
from osv_lab.track.table import (
    BORN,
    ID,
    LOST,
    SEEN,
    STATUS,
    TENTATIVE,
    TRACKED,
    UNTRACKED,
    Seen,
    TrackTable,
    all_true,
)
from osv_lab.track.thresholds import LOW_RANGE, ScoreScale
from osv_lab.track.tracks import Floats, Ints

# Before the camera's shift is known almost any overlap may be a match; the median forgives the wrong ones.
_SHAKEN = 0.95

# Comparing with an array instead of a number spares a conversion.
_TRACKED, _LOST = np.array(TRACKED), np.array(LOST)
_NONE: Ints = np.empty(0, np.int64)


@dataclass(eq=False, slots=True)
class Match:
    """The outcome of a frame's associations.

    Attributes:
        rows, columns: Tracks and detections of the pairs.
        missed: Tracks that were seen in the last frame and are not in this one.
        free: Confident detections without a track.
    """

    rows: Ints
    columns: Ints
    missed: Ints
    free: Ints


class ByteTrack(TrackTable):
    """ByteTrack over arrays.

    Args:
        settings: Thresholds.
        frame_rate: Frames per second. Timestamps are counted in frames of this length.
        model: Box filter; ByteTrack's is centre, aspect ratio and height.

    Example:
        >>> tracker = ByteTrack()
        >>> tracker.update(np.array([[0., 0, 10, 20], [50, 0, 60, 20]]), np.array([0.9, 0.8])).tolist()
        [1, 2]
        >>> tracker.update(np.array([[51., 0, 61, 20], [1, 0, 11, 20]]), np.array([0.9, 0.3])).tolist()
        [2, 1]
    """

    name: ClassVar[str] = "bytetrack"

    def __init__(
        self,
        settings: ByteTrackSettings | None = None,
        *,
        frame_rate: float = 30.0,
        model: kalman.BoxModel | None = None,
    ) -> None:
        self.settings = settings or ByteTrackSettings()
        self.scale = ScoreScale()
        super().__init__(model or kalman.AspectModel(), frame_rate, self.settings.lost_s)

    def reset(self) -> None:
        super().reset()
        self.scale = ScoreScale()

    @property
    def high(self) -> float:
        """The confidence from which detections take part in the first association."""
        return self.scale.high if self.settings.high is None else self.settings.high

    @property
    def low(self) -> float:
        """The confidence above which detections take part in the second association."""
        given = self.settings.low
        return min(max(2 * self.high - 1, LOW_RANGE[0]), LOW_RANGE[1]) if given is None else given

    @property
    def new(self) -> float:
        """The confidence from which a track starts."""
        return self.scale.new if self.settings.new is None else self.settings.new

    def explain(self) -> str:
        """The thresholds in use and why, in one line."""
        if self.settings.high is None or self.settings.new is None:
            return self.scale.explain()
        return f"tracks start at confidence {self.new:.2f} and are first matched from {self.high:.2f}, as set"

    def _own_state(self) -> dict[str, Any]:
        return {"level": self.scale.level}

    def _restore_own(self, state: Mapping[str, Any]) -> None:
        self.scale = ScoreScale(float(state["level"]))

    def update(
        self,
        xyxy: npt.ArrayLike,
        confidence: npt.ArrayLike,
        class_id: npt.ArrayLike | None = None,
        *,
        timestamp: float | None = None,
        warp: npt.ArrayLike | None = None,
    ) -> Ints:
        """Take the detections of the next frame.

        Args:
            xyxy: (n, 4) boxes as corners, absolute pixels.
            confidence: (n,) 0 to 1.
            class_id: (n,) int; only votes on the class of a track.
            timestamp: Seconds; with every frame or with none.
            warp: (2, 3) camera motion from the frame before to this one, if it is known.

        Returns:
            (n,) int64 identity of each detection, from 1; -1 where it has none (too weak, not yet confirmed, or no
            proper box).

        Raises:
            InvalidDataError: arrays that do not fit together, confidences above 1, frames out of order.
        """
        settings = self.settings
        seen = self._check(xyxy, confidence, class_id, self.low)
        matrix = None if warp is None else check_warp(warp)
        elapsed = self._advance(timestamp)
        if elapsed > 1:
            self._forget()
        measured = self.model.measure(seen.corners)

        # Where the tracks should be now. Tentative tracks, last in the table, wait where they were seen.
        before = self.tracks.shape[1]
        kalman.predict(self.model, self.tracks[:, : self.confirmed], elapsed)
        if matrix is not None:
            kalman.warp(self.model, self.tracks, matrix)
        if len(seen.order):
            self.scale.see(-seen.rising[0])
        high = seen.above(self.high)
        negated = None
        if settings.fuse_confidence:
            negated = seen.negated[:high]
            if settings.high is None:
                negated = np.negative(self.scale.calibrated(np.negative(negated)))
        overlap = self._overlaps(seen)
        if settings.follow_camera and self._follow_camera(overlap, measured, high, negated):
            overlap = self._overlaps(seen)
        match = self._associate(overlap, seen, high, negated)

        rows, columns = match.rows, match.columns
        noise = None
        if settings.weak_noise != 1 and high < len(seen.order):
            noise = np.where(columns < high, 1.0, settings.weak_noise)
        self._correct(rows, measured.take(columns, axis=1), noise)
        if len(match.missed):
            self._lose(match.missed)

        # Confident detections that no track explains start tracks; a second match confirms them.
        fresh = match.free
        if len(fresh):  # increasing indices into falling confidences
            fresh = fresh[: fresh.searchsorted(seen.above(self.new))]
        if len(fresh) and settings.new_iou < 1:
            fresh = fresh[greatest_iou(seen.corners[:, fresh], seen.corners[:, columns]) <= settings.new_iou]
        if len(fresh):
            fresh = self._begin(seen, fresh, measured, TRACKED if self.updates == 1 else TENTATIVE)
            rows = np.concatenate((rows, np.arange(before, before + len(fresh))))
            columns = np.concatenate((columns, fresh))
        self._vote(rows, columns, seen)
        self._learn(match, seen, high)

        ending = self._ending(before, overlap, rows, columns)
        if len(ending) or before > self.confirmed or self.updates == 1:
            shown = self._settle(before, ending, rows)
        else:
            shown = self.tracks[ID].take(rows)
            if len(fresh):
                shown[len(match.rows) :] = UNTRACKED
        ids = np.empty(seen.total)
        ids.fill(UNTRACKED)
        ids[seen.order.take(columns)] = shown
        return ids.astype(np.int64)

    def _overlaps(self, seen: Seen) -> Overlaps:
        """IoU of the predicted tracks with the detections."""
        boxes = kalman.corners(self.model, self.tracks[:4])
        overlap = overlaps(boxes, seen.corners, self.settings.height_power)
        if self.settings.lost_discount:
            lost = self.tracks[STATUS] == LOST
            if np.count_nonzero(lost):
                absent = (self.now - self.tracks[SEEN]) * lost
                overlap.discount(1 - self.settings.lost_discount * np.minimum(absent / max(self.buffer, 1), 1))
        if self.settings.per_class and seen.class_id is not None:
            overlap.forbid(self._track_class(), seen.class_id)
        return overlap

    def _follow_camera(self, overlap: Overlaps, measured: Floats, high: int, negated: Floats | None) -> bool:
        """Shift all tracks by what the surely matched ones have in common; whether there was anything."""
        tracked = (self.tracks[STATUS, : self.confirmed] == TRACKED).nonzero()[0]
        if min(len(tracked), high) < LEAST_PAIRS:
            return False
        rows, columns = overlap.pairs(tracked, slice(0, high), _SHAKEN, negated)
        shift = shift_from_boxes(self.tracks[:2, rows], measured[:2, columns])
        if shift is None:
            return False
        self.tracks[:2] += shift
        return True

    def _associate(self, overlap: Overlaps, seen: Seen, high: int, negated: Floats | None) -> Match:
        """The three associations.

        Args:
            high: How many detections, the first ones, are confident.
            negated: (high,) minus the confidence that their IoU is weighed by.
        """
        settings, confirmed = self.settings, self.confirmed
        total, count = self.tracks.shape[1], len(seen.order)

        # First: tracked and lost tracks with confident detections.
        rows, columns = overlap.pairs(slice(0, confirmed), slice(0, high), settings.match, negated)
        waiting = self.tracks[STATUS, :confirmed] == _TRACKED
        waiting[rows] = False
        missed = waiting.nonzero()[0]
        sure, free = columns, _others(columns, high)

        # Second: tracks seen in the last frame that are still unmatched, with the weak detections.
        if len(missed) and high < count:
            more_rows, more_columns = overlap.pairs(missed, slice(high, count), settings.match_low)
            if len(more_rows):
                rows, columns = np.concatenate((rows, more_rows)), np.concatenate((columns, more_columns))
                waiting[more_rows] = False
                missed = waiting.nonzero()[0]

        # Third: tentative tracks with the confident detections that are left.
        if confirmed < total and len(free):
            negated = None if negated is None else negated[free]
            more_rows, more_columns = overlap.pairs(
                slice(confirmed, total), free, settings.match_tentative, negated
            )
            if len(more_rows):
                rows, columns = np.concatenate((rows, more_rows)), np.concatenate((columns, more_columns))
                free = _others(np.concatenate((sure, more_columns)), high)
        return Match(rows, columns, missed, free)

    def _learn(self, match: Match, seen: Seen, high: int) -> None:
        """Remember more of the matched detections; ByteTrack needs nothing but boxes."""

    def _ending(self, before: int, overlap: Overlaps, rows: Ints, columns: Ints) -> Ints:
        """The tracks that end: tentative ones that were missed, those lost too long, duplicates.

        Args:
            before: How many tracks there were before the new ones of this frame.
            rows, columns: The tracks that have a detection in this frame, and their detections.
        """
        status, confirmed = self.tracks[STATUS], self.confirmed
        ending = _NONE
        if before > confirmed:
            ending = confirmed + (status[confirmed:before] != TRACKED).nonzero()[0]
        lost = (status == _LOST).nonzero()[0]
        if len(lost):
            twice = self._duplicates(overlap, rows, columns, lost)
            if len(twice):
                ending = np.concatenate((ending, twice))
            last = self.tracks[SEEN].take(lost)
            if self.now - last.item(last.argmin()) > self.buffer:
                ending = np.concatenate((ending, lost[self.now - last > self.buffer]))
        return ending

    def _duplicates(self, overlap: Overlaps, rows: Ints, columns: Ints, lost: Ints) -> Ints:
        """Of a seen and a lost track that overlap by more than ``duplicate_iou`` the younger.

        A track is corrected towards its detection, so only a lost one that overlaps that is worth a closer look.
        """
        least = self.settings.duplicate_iou
        far, near = overlap.among(lost, columns, least / 2)
        if not len(near):
            return _NONE
        near, far = rows.take(near), lost.take(far)
        corrected = kalman.corners(self.model, self.tracks[kalman.POSITION].take(near, axis=1))
        twice = paired_iou(corrected, overlap.boxes.take(far, axis=1)) > least
        if not np.count_nonzero(twice):
            return _NONE
        near, far = near[twice], far[twice]
        age = self.tracks[SEEN] - self.tracks[BORN]
        return np.where(age[near] > age[far], far, near)

    def _settle(self, before: int, ending: Ints, rows: Ints) -> Floats:
        """Give identities to tracks that are confirmed now, and drop those that end.

        Returns:
            The identities of ``rows``, -1 where there is none.
        """
        keep = all_true(self.tracks.shape[1])
        keep[ending] = False
        status, identity, confirmed = self.tracks[STATUS], self.tracks[ID], self.confirmed
        matched = keep[confirmed:] & (status[confirmed:] == TRACKED)
        self._issue_ids(confirmed + matched.nonzero()[0])
        shown: Floats = identity.take(rows)
        shown[~keep[rows] | (shown == 0)] = UNTRACKED
        tentative = 0 if self.updates == 1 else np.count_nonzero(keep[before:])
        if len(ending):
            self._keep(keep)
        self.confirmed = self.tracks.shape[1] - tentative
        return shown


def _others(chosen: Ints, count: int) -> Ints:
    """Those of the first ``count`` that are not chosen, rising; the chosen ones are among them."""
    if len(chosen) == count:
        return _NONE
    left = all_true(count)
    left[chosen] = False
    return left.nonzero()[0]
