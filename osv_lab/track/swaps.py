"""Identities that were exchanged: two tracks that meet and go on as each other.

At every frame in which two tracks are close they might change places. Whether they did is told by the boxes just
before and just after: one straight line is fitted through those of a track as it stands, and one through its boxes
before and the other track's after. A swap is where the lines of exchanged identities fit clearly better.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from osv_lab.track.boxes import iou_matrix
from osv_lab.track.tracks import Floats, Ints, Tracks

# Boxes on either side of the change, and frames next to it that are left out: at once, or within a dim moment in which
# boxes slide from one object to the other.
_VIEWS = ((6, 0), (8, 3), (8, 6))
# How many frames away a box still tells where a track was heading, and the least number of boxes that do.
_REACH, _LEAST_BOXES = 30, 3
_NEAR_IOU = 0.1
# Exchanged, the mean square misfit must be less than this part of what it is as tracked. Both count in squares of the
# tracks' own jitter, taken as at least this part of the box height; a fit finer than this floor is no better.
_LESS, _JITTER_OF_HEIGHT, _FLOOR = 0.45, 0.01, 0.25
_CHUNK = 20_000


@dataclass(frozen=True)
class Swap:
    """Two tracks that probably exchanged identities.

    Attributes:
        track_ids: The two, in order.
        first_frame, last_frame: The change is between these: all frames at which an exchange explains the boxes better.
        kept, swapped: Root mean square misfit of straight lines as tracked, and with identities exchanged, in units of
            the tracks' usual jitter.
        score: 0.55 to 1: the part of the (squared) misfit that an exchange takes away.
    """

    track_ids: tuple[int, int]
    first_frame: int
    last_frame: int
    kept: float
    swapped: float
    score: float


def find_swaps(tracks: Tracks) -> list[Swap]:
    """Exchanged identities, by pair and frame.

    On the four MOT17 val halves in development, 563 exchanges in the truth (random frames of pairs that overlap by
    more than 0.2): 97 % found, at least 90 % of each sequence; none raised in 20,633 boxes of the truth as it is, none
    in 16,398 boxes of BoT-SORT's output, whose two mutual exchanges are missed: a tracker's own exchanges are those
    that motion cannot tell. Boxes that slide wholly into each other's place and back are taken for a swap.

    Args:
        tracks: The boxes of one video. Of a box its centre's x, its bottom and its height are compared: the width of
            a walking person changes with every step.

    Example:
        >>> path = np.arange(1, 41)
        >>> boxes = np.array([[x, 0, x + 40, 100] for x in (*(4.0 * path), *(164 - 4.0 * path))])
        >>> identity = np.repeat([1, 2], 40)
        >>> find_swaps(Tracks([*path, *path], identity, boxes))
        []
        >>> identity[[*range(24, 40), *range(64, 80)]] = np.repeat([2, 1], 16)
        >>> [swap.track_ids for swap in find_swaps(Tracks([*path, *path], identity, boxes))]
        [(1, 2)]
    """
    paths = _Paths(tracks)
    pair, cut = _meetings(paths)
    kept, swapped = np.full((2, len(cut)), _FLOOR)
    for boxes, margin in _VIEWS:
        for start in range(0, len(cut), _CHUNK):
            part = slice(start, start + _CHUNK)
            one = paths.misfits(pair[part], cut[part], boxes, margin)
            clearer = one[0] * swapped[part] > one[1] * kept[part]
            kept[part] = np.where(clearer, one[0], kept[part])
            swapped[part] = np.where(clearer, one[1], swapped[part])
    likely = np.flatnonzero(swapped < _LESS * kept)
    # Cuts of one pair a few frames apart are one exchange.
    apart = (np.diff(pair[likely], axis=0) != 0).any(axis=1) | (np.diff(cut[likely]) > 5)
    found = []
    for rows in np.split(likely, np.flatnonzero(apart) + 1) if len(likely) else []:
        best = rows[np.argmin(swapped[rows] / kept[rows])]
        a, b = paths.identity[pair[best]].tolist()
        first, last = int(cut[rows[0]]) - 1, int(cut[rows[-1]])
        as_tracked, exchanged = float(kept[best]), float(swapped[best])
        rms = math.sqrt(as_tracked - _FLOOR), math.sqrt(exchanged - _FLOOR)
        found.append(Swap((a, b), first, last, rms[0], rms[1], 1 - exchanged / as_tracked))
    return found


class _Paths:
    """The boxes of a video, track by track in time, and what is usual for each track."""

    def __init__(self, tracks: Tracks) -> None:
        order = np.lexsort((tracks.frame, tracks.track_id))
        self.frame, self.xyxy = tracks.frame[order], tracks.xyxy[order]
        self.identity, first, index = np.unique(tracks.track_id[order], return_index=True, return_inverse=True)
        self.bounds = np.append(first, len(order))
        x1, y1, x2, y2 = self.xyxy.T
        self.place = np.column_stack(((x1 + x2) / 2, y2, y2 - y1))
        # Frame numbers of all tracks on one axis, so that one search finds a frame in any of them.
        self.span = tracks.last_frame + 2 * _REACH
        self.key = index * self.span + self.frame
        self.variance = np.array(
            [self._variance(slice(*ends)) for ends in zip(first, self.bounds[1:], strict=True)]
        )

    def _variance(self, rows: slice) -> Floats:
        """(3,) squares of a track's jitter: the scatter of its boxes about a steady motion."""
        place = self.place[rows]
        bend = np.abs(np.diff(place, n=2, axis=0))
        # A second difference of independent errors has six times their variance.
        jitter = 1.4826 * np.median(bend, axis=0) / np.sqrt(6) if len(bend) >= 3 else np.zeros(3)
        squares: Floats = np.maximum(jitter, max(1e-9, _JITTER_OF_HEIGHT * float(np.median(place[:, 2])))) ** 2
        return squares

    def filled(self) -> Iterator[Tracks]:
        """Each track under its index, short gaps filled on straight lines."""
        for index, (start, end) in enumerate(zip(self.bounds, self.bounds[1:], strict=False)):
            frame = self.frame[start:end]
            every = np.arange(frame[0], frame[-1] + 1)
            after = np.searchsorted(frame, every)
            every = every[(frame[after] == every) | (frame[after] - frame[after - 1] <= _REACH)]
            box = np.column_stack([np.interp(every, frame, side) for side in self.xyxy[start:end].T])
            yield Tracks(every, np.full(len(every), index), box)

    def misfits(self, pair: Ints, cut: Ints, boxes: int, margin: int) -> Floats:
        """Mean square misfit for identities kept and exchanged, (2, c), where both tracks change at a frame.

        Args:
            pair: (c, 2) indices of tracks.
            cut: (c,) the first frame after the change.
            boxes: How many boxes on either side are used.
            margin: Frames on either side that are left out.
        """
        start, end = self.bounds[pair], self.bounds[pair + 1]
        step = np.arange(boxes)
        before = np.searchsorted(self.key, pair * self.span + (cut - margin)[:, None])[:, :, None] - 1 - step
        after = np.searchsorted(self.key, pair * self.span + (cut + margin)[:, None])[:, :, None] + step
        rows = np.stack((before, after), axis=1)
        there = (rows >= start[:, None, :, None]) & (rows < end[:, None, :, None])
        rows = np.where(there, rows, 0)
        time = (self.frame[rows] - cut[:, None, None, None]).astype(float)
        there &= np.abs(time) <= _REACH
        usual = self.variance[pair].mean(axis=1)
        # Around the mean of all boxes concerned: sums of squares of far-off coordinates would lose digits.
        weight = there[..., None].astype(float)
        place = self.place[rows]
        some = np.maximum(weight.sum(axis=(1, 2, 3), keepdims=True), 1)
        place = place - (place * weight).sum(axis=(1, 2, 3), keepdims=True) / some
        sums = _Sums.of(weight, time[..., None] * weight, place * weight)
        kept = sums.joined(0, 0) + sums.joined(1, 1)
        swapped = sums.joined(0, 1) + sums.joined(1, 0)
        count = there.sum(axis=(1, 2, 3)) * self.place.shape[1]
        enough = there.sum(axis=3).min(axis=(1, 2)) >= _LEAST_BOXES
        both = np.stack([(one / usual).sum(axis=1) for one in (kept, swapped)]) / np.maximum(count, 1)
        misfit: Floats = np.where(enough, both, 0) + _FLOOR
        return misfit


@dataclass(frozen=True)
class _Sums:
    """What a straight line needs to know of boxes, (c, side, track, coordinate); sums of two sets add."""

    parts: tuple[npt.NDArray[np.float64], ...]

    @classmethod
    def of(cls, weight: Floats, time: Floats, place: Floats) -> _Sums:
        pieces = (weight, time, place, time * time, time * place, place * place)
        return cls(tuple(piece.sum(axis=3) for piece in pieces))

    def joined(self, earlier: int, later: int) -> Floats:
        """(c, 3) sum of squares about one line through a track before the cut and a track after it."""
        n, t, y, tt, ty, yy = (part[:, 0, earlier] + part[:, 1, later] for part in self.parts)
        n = np.maximum(n, 1)
        tt, ty, yy = tt - t * t / n, ty - t * y / n, yy - y * y / n
        rest: Floats = np.maximum(yy - ty * ty / np.maximum(tt, 1e-9), 0)
        return rest


def _meetings(paths: _Paths) -> tuple[Ints, Ints]:
    """(c, 2) pairs of track indices and (c,) frames at which they might change places, by pair and frame."""
    found = [np.empty((0, 3), np.int64)]
    for number, frame in Tracks.concatenate(paths.filled()).frames():
        if len(frame) < 2:
            continue
        near = np.argwhere(np.triu(iou_matrix(frame.xyxy, frame.xyxy) > _NEAR_IOU, k=1))
        ids = np.sort(frame.track_id[near], axis=1)
        # A change may be at this frame or at the next.
        found += [np.column_stack((ids, np.full(len(ids), cut))) for cut in (number, number + 1)]
    rows = np.unique(np.concatenate(found), axis=0)
    return rows[:, :2], rows[:, 2]
