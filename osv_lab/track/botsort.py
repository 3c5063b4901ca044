"""BoT-SORT: ByteTrack with a better filter, camera motion compensation, and appearance where boxes are near.

Aharon et al., 2022, https://arxiv.org/abs/2206.14651.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from osv_lab.track import kalman
from osv_lab.track.appearance import AppearanceTable, Gallery
from osv_lab.track.association import Overlaps
from osv_lab.track.bytetrack import ByteTrack, Match
from osv_lab.track.settings import BotSortSettings
from osv_lab.track.table import Seen
from osv_lab.track.tracks import Floats, Ints


class BotSort(AppearanceTable, ByteTrack):
    """BoT-SORT over arrays: centre, width and height are filtered, tracks follow the camera, and look like themselves.

    Example:
        >>> tracker = BotSort()
        >>> boxes = np.array([[0., 0, 10, 20], [50, 0, 60, 20]])
        >>> tracker.update(boxes, np.array([0.9, 0.8]), embeddings=np.eye(2)).tolist()
        [1, 2]
    """

    name: ClassVar[str] = "botsort"
    settings: BotSortSettings

    def __init__(
        self,
        settings: BotSortSettings | None = None,
        *,
        frame_rate: float = 30.0,
        model: kalman.BoxModel | None = None,
    ) -> None:
        super().__init__(settings or BotSortSettings(), frame_rate=frame_rate, model=model or kalman.SizeModel())

    def _new_gallery(self) -> Gallery:
        return Gallery(smooth=self.settings.smooth)

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
        """Take the detections of the next frame; see :meth:`ByteTrack.update`.

        Args:
            xyxy, confidence, class_id, timestamp, warp: As there.
            embeddings: (n, d) what each detection looks like; with every frame or with none.
        """
        self.embeddings = self.gallery.unit_vectors(embeddings, np.size(confidence))
        return super().update(xyxy, confidence, class_id, timestamp=timestamp, warp=warp)

    def _associate(self, overlap: Overlaps, seen: Seen, high: int, negated: Floats | None) -> Match:
        if self.embeddings is not None and self.gallery.vectors is not None and high:
            self.gallery.pad(self.tracks.shape[1])
            rows, columns = overlap.near(self.settings.near_iou)
            known = self.gallery.latest(rows)
            half = 0.5 * (1 - np.einsum("nd,nd->n", known, self.embeddings[seen.order[columns]]))
            overlap.resemble(rows, columns, np.where(half <= self.settings.alike, 1.0 - half, 0.0))
        return super()._associate(overlap, seen, high, negated)

    def _learn(self, match: Match, seen: Seen, high: int) -> None:
        if self.embeddings is not None:
            sure = match.columns < high
            self.gallery.learn(match.rows[sure], self.embeddings[seen.order[match.columns[sure]]])
