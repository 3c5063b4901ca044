"""The trackers' parameters: defaults that follow the detector, and those of the papers."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

from osv_lab.core.errors import UsageError

_NO_THRESHOLDS = ("lost_s", "height_power", "weak_noise")


@dataclass(frozen=True)
class ByteTrackSettings:
    """ByteTrack's parameters. The defaults follow the detector and the frame rate; :meth:`published` are the paper's.

    Attributes:
        high: Detections from this confidence on take part in the first association; ``None``: from the scores seen.
        low: Those above this one in the second; ``None``: 0.1 to 0.2, by ``high``.
        new: A track starts at this confidence; ``None``: from the scores seen.
        match, match_low, match_tentative: Greatest cost (1 - IoU, in the first and third association times
            confidence) of a pair in the first association, in the second, and of tentative tracks.
        lost_s: How many seconds a lost track is kept.
        fuse_confidence: Weigh IoU by confidence in the first and third association.
        height_power: Weigh IoU by the overlap in height alone, to this power (0: not at all). Heights and feet tell
            people in a crowd apart where widths are hidden (the idea of Hybrid-SORT, https://arxiv.org/abs/2308.00783).
            Where the detector's boxes end at what hides an object, 0 to 1 bridges more.
        weak_noise: How many times as uncertain the box of a weak detection is taken to be: most are half hidden.
        duplicate_iou: Of a tracked and a lost track that overlap more, the younger is dropped.
        new_iou: No track starts on a detection that overlaps one with a track by more.
        lost_discount: By what part the IoU of a lost track is lowered at the end of its time (linear up to there):
            the longer an object was not seen, the better it must fit.
        follow_camera: Estimate the camera's shift from the boxes.
        per_class: Associate only boxes of one class; otherwise a class is a vote of a track.
    """

    high: float | None = None
    low: float | None = None
    new: float | None = None
    match: float = 0.9
    match_low: float = 0.45
    match_tentative: float = 0.7
    lost_s: float = 1.0
    fuse_confidence: bool = True
    height_power: float = 2.0
    weak_noise: float = 4.0
    duplicate_iou: float = 0.9
    new_iou: float = 0.6
    lost_discount: float = 0.2
    follow_camera: bool = True
    per_class: bool = False

    @classmethod
    def published(cls, **changes: Any) -> Self:
        """The settings published for MOT17 with its YOLOX detector, nothing of ours added."""
        fixed = {
            "high": 0.6, "low": 0.1, "new": 0.7, "match_low": 0.5, "height_power": 0.0, "weak_noise": 1.0,
            "duplicate_iou": 0.85, "new_iou": 1.0, "lost_discount": 0.0, "follow_camera": False,
        }  # fmt: skip
        return cls(**{**fixed, **changes})

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in _NO_THRESHOLDS and value is not None and not 0 <= value <= 1:
                raise UsageError(f"{field.name} is not between 0 and 1", value, "thresholds are 0 to 1")
        if not 0 <= self.height_power <= 8 or not 1 <= self.weak_noise <= 1e6:
            found = f"height_power {self.height_power}, weak_noise {self.weak_noise}"
            raise UsageError("height_power is 0 to 8, weak_noise at least 1", found)
        if self.high is not None and self.low is not None and self.low > self.high:
            raise UsageError("low is above high", f"{self.low} > {self.high}", "low <= high")
        if not 0 <= self.lost_s < float("inf"):
            raise UsageError("lost_s is not a time", self.lost_s, "give seconds, 0 or more")


@dataclass(frozen=True)
class BotSortSettings(ByteTrackSettings):
    """BoT-SORT's parameters: those of ByteTrack, with a stricter first association, and for appearance.

    Attributes:
        near_iou: Appearance counts only for boxes that overlap at least this much (weighed by heights). The paper's
            0.5 leaves it no say where motion has gone astray, which is where it is needed.
        alike: Greatest half cosine distance of two boxes that look alike.
        smooth: How much of a track's embedding stays when a new one comes.
    """

    match: float = 0.8
    near_iou: float = 0.2
    alike: float = 0.25
    smooth: float = 0.9

    @classmethod
    def published(cls, **changes: Any) -> Self:
        """The settings published for MOT17 with its YOLOX detector, nothing of ours added."""
        return super().published(**{"near_iou": 0.5, **changes})


@dataclass(frozen=True)
class DeepSortSettings:
    """DeepSORT's parameters; the defaults are the paper's, but for the confidence, which follows the detector.

    Attributes:
        least: Detections below this confidence are ignored; ``None``: from the scores seen.
        alike: Greatest cosine distance of a track's nearest remembered embedding.
        match_iou: Greatest cost 1 - IoU of the last association.
        gate: Greatest squared Mahalanobis distance; 9.4877 is the 95 % quantile for four measured values.
        hits: A track is confirmed by this many matches in a row.
        lost_s: How many seconds a confirmed track is kept unseen.
        gallery: How many embeddings are remembered per track.
    """

    least: float | None = None
    alike: float = 0.2
    match_iou: float = 0.7
    gate: float = 9.4877
    hits: int = 3
    lost_s: float = 1.0
    gallery: int = 100

    def __post_init__(self) -> None:
        for name, most in (("least", 1), ("alike", 2), ("match_iou", 1)):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= most:
                raise UsageError(f"{name} is not between 0 and {most}", value, "see the settings' documentation")
        if self.hits < 1 or self.gallery < 1 or not 0 <= self.lost_s < float("inf"):
            raise UsageError("hits and gallery are at least 1, lost_s a time", f"{self.hits}, {self.gallery}")
