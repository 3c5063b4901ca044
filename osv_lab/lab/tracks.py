"""Following objects through videos."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.lab.base import LabBase

if TYPE_CHECKING:
    from osv_lab.evaluate.suspicious import SuspicionReport
    from osv_lab.evaluate.track_report import TrackReport
    from osv_lab.evaluate.track_timeline import TrackTimeline
    from osv_lab.store.track_edits import TrackEditor
    from osv_lab.store.track_run import TrackingReport


class TrackStage(LabBase):
    """Track, compare with true tracks, find what looks wrong."""

    def track(
        self,
        model: str | Path | None = None,
        tracker: str | Mapping[str, Any] = "botsort",
        field: str = "tracks",
        *,
        split: str | None = None,
        from_field: str | None = None,
        **options: Any,
    ) -> TrackingReport:
        """Follow objects through the videos (or image sequences) with a model, by default the deployed one.

        ``from_field="frames.detections"`` tracks detections that are there already, without a model.
        """
        from osv_lab.store.tracks import track

        detector = None if from_field and model is None else self.detector(model)
        options |= {"from_field": from_field, "progress": self.progress}
        return track(self.view(split), detector, tracker, field, **options)

    def import_tracks(
        self, file: str | Path, field: str = "ground_truth", *, clip: Any = None, **options: Any
    ) -> None:
        """Put tracks of a MOTChallenge file into a clip's field, by default as the truth.

        Args:
            file: ``frame,id,x,y,w,h,confidence,class,visibility`` per line, frames from 1.
            field: The field; for videos without ``frames.``.
            clip: As for :meth:`edit_tracks`.
            options: As for :func:`osv_lab.store.tracks.write_tracks` (``class_names``, ``overwrite``).
        """
        from osv_lab.store.tracks import write_tracks
        from osv_lab.track.mot import read_tracks

        write_tracks(self._clip(clip), read_tracks(file), field, **options)

    def evaluate_tracks(
        self,
        pred_field: str = "frames.tracks",
        *,
        split: str | None = None,
        key: str = "track_eval",
        **options: Any,
    ) -> TrackReport:
        """Compare tracks with true ones; the App lists every mistake with its frames as ``<key>_events``."""
        from osv_lab.evaluate.tracking import evaluate_tracks

        return evaluate_tracks(self.view(split), pred_field, key=key, progress=self.progress, **options)

    def suspicious_tracks(
        self, field: str = "frames.tracks", *, split: str | None = None, key: str = "suspicious", **options: Any
    ) -> SuspicionReport:
        """Find where tracks probably went wrong, without truth; the App lists it as ``<key>_events``."""
        from osv_lab.evaluate.suspicious import suspicious

        return suspicious(self.view(split), field, key, progress=self.progress, **options)

    def edit_tracks(self, clip: Any = None, field: str = "frames.tracks") -> TrackEditor:
        """Mend the tracks of a clip: merge, split, swap, relabel, delete, with undo and redo over sessions.

        Args:
            clip: A video or a view of one clip; or the id of a sample, or the name of a video file or a sequence. It
                may be left out where the dataset has one clip.
            field: The tracks.
        """
        from osv_lab.store.track_edits import TrackEditor

        return TrackEditor(self._clip(clip), field)

    def track_timeline(
        self, clip: Any = None, field: str = "frames.tracks", *, key: str | None = None
    ) -> TrackTimeline:
        """When each identity of a clip is seen, and what happened to it; ``clip`` as for :meth:`edit_tracks`."""
        from osv_lab.evaluate.track_timeline import track_timeline

        return track_timeline(self._clip(clip), field, key)

    def _clip(self, clip: Any) -> Any:
        from osv_lab.store.clips import clip_view

        return clip_view(self.dataset, clip) if clip is None or isinstance(clip, str) else clip
