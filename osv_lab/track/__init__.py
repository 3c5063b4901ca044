"""ByteTrack, BoT-SORT and DeepSORT on arrays and on detections, MOT files, metrics and events. No FiftyOne, no torch.

>>> from osv_lab.track import ObjectTracker
>>> tracker = ObjectTracker("bytetrack", frame_rate=25)
>>> tracker.update_arrays([[10, 10, 50, 90]], [0.8]).tolist()
[1]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from osv_lab.track.metrics import TrackScores, evaluate_sequence, evaluate_sequences
    from osv_lab.track.refinement import refine
    from osv_lab.track.result import TrackResult
    from osv_lab.track.tracker import ObjectTracker, Tracker
    from osv_lab.track.tracks import Tracks
    from osv_lab.track.video import track_video
    from osv_lab.track.zones import Line, Zone, count_tracks

_PUBLIC = {
    "ObjectTracker": "osv_lab.track.tracker",
    "Tracker": "osv_lab.track.tracker",
    "Tracks": "osv_lab.track.tracks",
    "TrackScores": "osv_lab.track.metrics",
    "evaluate_sequence": "osv_lab.track.metrics",
    "evaluate_sequences": "osv_lab.track.metrics",
    "refine": "osv_lab.track.refinement",
    "TrackResult": "osv_lab.track.result",
    "track_video": "osv_lab.track.video",
    "Line": "osv_lab.track.zones",
    "Zone": "osv_lab.track.zones",
    "count_tracks": "osv_lab.track.zones",
}

__all__ = [
    "Line", "ObjectTracker", "TrackResult", "TrackScores", "Tracker", "Tracks", "Zone", "count_tracks",
    "evaluate_sequence", "evaluate_sequences", "refine", "track_video",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'osv_lab.track' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
