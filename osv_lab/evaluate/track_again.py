"""Run an evaluation or a search of tracks again, as it was, after the tracks were edited."""

from __future__ import annotations

import inspect
from typing import Any

from osv_lab.core.errors import NotFoundError, nearest
from osv_lab.core.progress import Progress, silent
from osv_lab.evaluate.suspicious import SuspicionReport, suspicious
from osv_lab.evaluate.track_fields import track_runs
from osv_lab.evaluate.track_report import TrackReport
from osv_lab.evaluate.tracking import evaluate_tracks


def look_again(dataset: Any, key: str, *, progress: Progress = silent) -> TrackReport | SuspicionReport:
    """Run the evaluation or search of a key again on the clips that it looked at, with the settings it had.

    Args:
        dataset: The dataset.
        key: The run's key; its fields are replaced.
        progress: Told about clips.

    Raises:
        NotFoundError: no such run.

    Example:
        >>> from osv_lab.store.track_edits import TrackEditor
        >>> report = evaluate_tracks(videos, "frames.tracks")            # two identity switches
        >>> edit = TrackEditor(videos.first(), "frames.tracks").swap(1, 2, 16)
        >>> look_again(videos, "track_eval").summary()
        'track_eval: HOTA 0.948 (...), MOTA 0.944, IDF1 0.971, 0 identity switches on 1 clips of cars'
    """
    runs = {run.key: run for run in track_runs(dataset)}
    if key not in runs:
        raise NotFoundError("no evaluation of tracks", repr(key), nearest(key, runs))
    about = runs[key].about
    function: Any = suspicious if "field" in about else evaluate_tracks
    known = inspect.signature(function).parameters
    settings = {name: value for name, value in about.items() if name in known}
    report: TrackReport | SuspicionReport = function(
        dataset.exists(f"{key}_events"), key=key, progress=progress, **settings
    )
    return report
