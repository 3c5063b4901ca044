"""BoT-SORT: ByteTrack with a better filter, camera motion compensation, and appearance where boxes are near.

Aharon et al., 2022, https://arxiv.org/abs/2206.14651.
"""

from __future__ import annotations

from typing import ClassVar

from osv_lab.track import kalman
from osv_lab.track.bytetrack import ByteTrack
from osv_lab.track.settings import BotSortSettings


class BotSort(ByteTrack):
    """BoT-SORT over arrays: centre, width and height are filtered, tracks follow the camera."""

    name: ClassVar[str] = "botsort"

    def __init__(
        self,
        settings: BotSortSettings | None = None,
        *,
        frame_rate: float = 30.0,
        model: kalman.BoxModel | None = None,
    ) -> None:
        super().__init__(settings or BotSortSettings(), frame_rate=frame_rate, model=model or kalman.SizeModel())
