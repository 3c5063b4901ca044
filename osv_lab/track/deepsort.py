"""DeepSORT: a matching cascade by appearance within a motion gate, then IoU. Wojke et al., 2017.

https://arxiv.org/abs/1703.07402
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from osv_lab.track import kalman
from osv_lab.track.appearance import AppearanceTable, Gallery
from osv_lab.track.assignment import assign
from osv_lab.track.association import overlaps
from osv_lab.track.motion import check_warp
from osv_lab.track.settings import DeepSortSettings
from osv_lab.track.table import ID, LOST, SEEN, STATUS, TENTATIVE, TRACKED, UNTRACKED, Seen
from osv_lab.track.thresholds import ScoreScale
from osv_lab.track.tracks import Floats, Ints

_NONE: Ints = np.empty(0, np.int64)


class DeepSort(AppearanceTable):
    """DeepSORT over arrays. Without embeddings it is SORT with the same bookkeeping.

    Args:
        settings: Thresholds.
        frame_rate: Frames per second. Timestamps are counted in frames of this length.

    Example:
        >>> tracker = DeepSort()
        >>> box, look = np.array([[0., 0, 10, 20]]), np.array([[1., 0]])
        >>> [tracker.update(box + k, np.array([0.9]), embeddings=look).tolist() for k in range(3)]
        [[-1], [-1], [1]]
    """

    name: ClassVar[str] = "deepsort"

    def __init__(self, settings: DeepSortSettings | None = None, *, frame_rate: float = 30.0) -> None:
        self.settings = settings or DeepSortSettings()
        super().__init__(kalman.AspectModel(), frame_rate, self.settings.lost_s)

    def reset(self) -> None:
        super().reset()
        self.scale = ScoreScale()
        self.hits: Ints = np.zeros(0, np.int64)

    def _new_gallery(self) -> Gallery:
        return Gallery(self.settings.gallery)

    @property
    def least(self) -> float:
        """The confidence below which detections are ignored."""
        return self.scale.high if self.settings.least is None else self.settings.least

    def explain(self) -> str:
        """The threshold in use and why, in one line."""
        if self.settings.least is not None:
            return f"detections from confidence {self.least:.2f} are tracked, as set"
        return (
            f"detections from confidence {self.least:.2f} are tracked, "
            f"because this detector's best scores are about {self.scale.level:.2f}"
        )

    def update(
        self,
        xyxy: npt.ArrayLike,
        confidence: npt.ArrayLike,
        class_id: npt.ArrayLike | None = None,
        *,
        timestamp: float | None = None,
        warp: npt.ArrayLike | None = None,
        embeddings: npt.ArrayLike | None = None,
    ) -> Ints:
        """Take the detections of the next frame; see :meth:`osv_lab.track.bytetrack.ByteTrack.update`.

        Args:
            xyxy, confidence, class_id, timestamp, warp: As there.
            embeddings: (n, d) what each detection looks like; with every frame or with none.
        """
        self.embeddings = self.gallery.unit_vectors(embeddings, np.size(confidence))
        matrix = None if warp is None else check_warp(warp)
        # A copy, so that a frame that turns out to be wrong changes nothing.
        scale = replace(self.scale)
        if np.size(confidence):
            scale.see(float(np.nanmax(np.asarray(confidence, dtype=np.float64), initial=0.0)))
        least = scale.high if self.settings.least is None else self.settings.least
        seen = self._check(xyxy, confidence, class_id, least - 1e-9)
        elapsed = self._advance(timestamp)
        self.scale = scale
        if elapsed > 1:
            self._forget()
        measured = self.model.measure(seen.corners)

        kalman.predict(self.model, self.tracks, elapsed)
        if matrix is not None:
            kalman.warp(self.model, self.tracks, matrix)
        before = self.tracks.shape[1]
        rows, columns = self._associate(seen, measured)
        self._correct(rows, measured[:, columns])
        self.hits[rows] += 1
        missed = np.ones(before, dtype=bool)
        missed[rows] = False
        lost = (missed & (self.tracks[STATUS] == TRACKED)).nonzero()[0]
        self.tracks[STATUS, lost] = LOST
        # A match makes a track "tracked"; one that has too few of them yet stays tentative.
        self.tracks[STATUS, (self.hits < self.settings.hits) & (self.tracks[ID] == 0)] = TENTATIVE
        if self.embeddings is not None:
            self.gallery.learn(rows, self.embeddings[seen.order[columns]])

        free = np.ones(len(seen.order), dtype=bool)
        free[columns] = False
        fresh = self._begin(seen, free.nonzero()[0], measured, TRACKED if self.settings.hits == 1 else TENTATIVE)
        rows = np.concatenate((rows, np.arange(before, before + len(fresh))))
        columns = np.concatenate((columns, fresh))
        self._vote(rows, columns, seen)

        keep = np.ones(self.tracks.shape[1], dtype=bool)
        keep[:before] = ~(missed & (self.tracks[STATUS, :before] == TENTATIVE))
        keep &= self.now - self.tracks[SEEN] <= self.buffer
        self._issue_ids((keep & (self.tracks[STATUS] == TRACKED) & (self.tracks[ID] == 0)).nonzero()[0])
        ids = np.full(seen.total, UNTRACKED)
        shown = self.tracks[ID, rows]
        ids[seen.order[columns]] = np.where(shown > 0, shown, UNTRACKED)
        if not keep.all():
            self._keep(keep)
        return ids

    def _associate(self, seen: Seen, measured: Floats) -> tuple[Ints, Ints]:
        """The cascade, then IoU for what is left of the tentative tracks and of those seen a frame ago."""
        confirmed = self.tracks[ID] > 0
        age = self.now - self.tracks[SEEN]
        free = np.ones(len(seen.order), dtype=bool)
        rows, columns = _NONE, _NONE
        if self.embeddings is not None and confirmed.any() and len(seen.order):
            rows, columns = self._cascade(confirmed.nonzero()[0], age, seen, measured, free)
        waiting = ~confirmed | (self.tracks[STATUS] == TRACKED)
        if self.embeddings is None:
            waiting[:] = True
        waiting[rows] = False
        left = free.nonzero()[0]
        if waiting.any() and len(left):
            overlap = overlaps(kalman.corners(self.model, self.tracks[:4]), seen.corners)
            more_rows, more_columns = overlap.pairs(waiting.nonzero()[0], left, self.settings.match_iou)
            rows, columns = np.concatenate((rows, more_rows)), np.concatenate((columns, more_columns))
        return rows, columns

    def _cascade(
        self, confirmed: Ints, age: Floats, seen: Seen, measured: Floats, free: npt.NDArray[np.bool_]
    ) -> tuple[Ints, Ints]:
        """By appearance, those seen last first; takes from ``free``."""
        assert self.embeddings is not None
        self.gallery.pad(self.tracks.shape[1])
        near = self._gating(confirmed, measured) <= self.settings.gate
        cost = self.gallery.distance(confirmed, self.embeddings[seen.order], near)
        limit = self.settings.alike + 1e-5
        # Only tracks that some detection is near to and looks like take part.
        possible = (cost.min(axis=1) < limit).nonzero()[0]
        age = age[confirmed[possible]]
        rows, columns = [_NONE], [_NONE]
        for level in sorted(set(age.tolist())):
            left = free.nonzero()[0]
            if not len(left):
                break
            local = possible[age == level]
            found, taken = assign(cost[local][:, left], limit)
            rows.append(confirmed[local[found]])
            columns.append(left[taken])
            free[left[taken]] = False
        return np.concatenate(rows), np.concatenate(columns)

    def _gating(self, rows: Ints, measured: Floats) -> Floats:
        """(n, m) squared Mahalanobis distance of tracks to detections: a sum, as the four filters are independent."""
        state = self.tracks[: kalman.ROWS, rows]
        difference = measured[:, None, :] - state[:4, :, None]
        variance = kalman.innovation_variance(self.model, state)
        return np.asarray((difference * difference / variance[:, :, None]).sum(axis=0))

    def _begin(self, seen: Seen, columns: Ints, measured: Floats, status: float) -> Ints:
        columns = super()._begin(seen, columns, measured, status)
        self.hits = np.concatenate((self.hits, np.ones(len(columns), np.int64)))
        return columns

    def _keep(self, keep: npt.NDArray[np.bool_]) -> None:
        super()._keep(keep)
        self.hits = self.hits[keep]

    def _own_state(self) -> dict[str, Any]:
        return {**super()._own_state(), "level": self.scale.level, "hits": self.hits.copy()}

    def _restore_own(self, state: Mapping[str, Any]) -> None:
        super()._restore_own(state)
        self.scale = ScoreScale(float(state["level"]))
        self.hits = np.array(state["hits"], dtype=np.int64)
