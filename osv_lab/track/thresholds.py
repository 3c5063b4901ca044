"""Thresholds that follow the detector: one detector's sure score is 0.95, another's 0.5."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from osv_lab.track.tracks import Floats

# The greatest values are those published for a detector whose sure scores are 0.95 and more; the least ones keep out
# what no detector means seriously.
_HIGH_AT_ONE, _NEW_AT_ONE = 0.665, 0.72
_HIGH_RANGE, _NEW_RANGE = (0.2, 0.6), (0.25, 0.65)
_USUAL_SPAN = 0.95 - 0.6
_FORGET = 1 / 1000

LOW_RANGE = (0.1, 0.2)
"""The second association takes boxes as far below the line of the first as that is below 1, within this range.

What a detector that is sure of its objects (line at 0.6) scores 0.15 is background; one that is not scores objects so.
"""


@dataclass
class ScoreScale:
    """How high this detector's scores go: the highest score of each frame, an old peak slowly forgotten.

    Thresholds are proportional to the square of that level. A detector with low scores does not merely scale them
    down, it also spreads its true objects over more of its range; so with scores up to 0.95 tracks start at 0.65,
    with scores up to 0.6 at 0.26.

    Example:
        >>> scale = ScoreScale()
        >>> for best in (0.55, 0.6, 0.4):
        ...     scale.see(best)
        >>> round(scale.high, 2), round(scale.new, 2)
        (0.24, 0.26)
    """

    level: float = 0.0

    def see(self, best: float) -> None:
        """Take the highest score of a frame."""
        if best >= self.level:
            self.level = best
        else:
            self.level += (best - self.level) * _FORGET

    @property
    def high(self) -> float:
        """From this confidence on a detection is taken for an object."""
        return min(max(_HIGH_AT_ONE * self.level**2, _HIGH_RANGE[0]), _HIGH_RANGE[1])

    @property
    def new(self) -> float:
        """From this confidence on a detection starts a track."""
        return min(max(_NEW_AT_ONE * self.level**2, _NEW_RANGE[0]), _NEW_RANGE[1])

    def calibrated(self, confidence: Floats) -> Floats:
        """Confidences as the detector would give them whose scale the trackers' costs were published for.

        There 0.6 is the least of a sure detection and 0.95 is usual. Costs multiply IoU by confidence, so that
        without this a detector's 0.35 could match nothing but an almost identical box.
        """
        scale = _USUAL_SPAN / max(self.level - self.high, 0.05)
        return np.minimum((confidence - self.high) * scale + _HIGH_RANGE[1], 1.0)

    def explain(self) -> str:
        """What was chosen and why, in one line."""
        return (
            f"tracks start at confidence {self.new:.2f} and are first matched from {self.high:.2f}, "
            f"because this detector's best scores are about {self.level:.2f}"
        )
