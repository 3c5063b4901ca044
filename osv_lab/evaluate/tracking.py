"""Evaluate tracks against truth by the official definitions, and write into the store what went wrong where."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from osv_lab.core.errors import InvalidDataError, OsvError, UnavailableError, UsageError, nearest
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import plain
from osv_lab.evaluate.track_clip import ClipResult, Rule, told
from osv_lab.evaluate.track_fields import (
    StoredEvent,
    begin_run,
    declare_attributes,
    frame_batches,
    write_events,
    write_scores,
)
from osv_lab.evaluate.track_report import LocatedEvent, TrackReport
from osv_lab.store.bulk_tracks import check_field, mark_labels
from osv_lab.store.clips import clips_of
from osv_lab.store.database import connect
from osv_lab.store.records import Problem
from osv_lab.store.tracks import labelled_tracks
from osv_lab.track.metrics import SequenceScores, TrackScores, combine
from osv_lab.track.metrics.matching import DISTRACTORS

_SCORES = (
    "HOTA", "DetA", "AssA", "LocA", "MOTA", "MOTP", "IDF1", "IDP", "IDR", "IDSW", "Frag", "FP", "FN", "MT", "ML",
)  # fmt: skip
_COUNTS = frozenset({"IDSW", "Frag", "FP", "FN", "MT", "ML"})
_ATTRIBUTES: Mapping[str, type] = {"": str, "_iou": float, "_id": str, "_index": int}
_GRAVITY = ("switch", "merge", "fragmentation", "false_track", "missed_track", "false", "missed")


def evaluate_tracks(
    view: Any,
    pred_field: str = "frames.tracks",
    gt_field: str = "frames.ground_truth",
    *,
    benchmark: str | None = None,
    iou: float = 0.5,
    per_class: bool = False,
    classes: Sequence[str] | None = None,
    only_labelled_frames: bool = False,
    key: str = "track_eval",
    progress: Progress = silent,
) -> TrackReport:
    """Compare tracks with true ones: HOTA, CLEAR, IDF1, every true track, and every mistake with its frames.

    The tracks are those labels of the two fields that have an ``index``. By default a box matches whatever its class,
    as tracking is judged where detectors confuse classes; the notes say how often matched boxes differ. With
    ``per_class`` each class is compared on its own, a box of another class is a miss and a false box, and the results
    of all classes are pooled (TrackEval's detection-averaged classes).

    What is written, so that the App shows it (a run of the same key is replaced):

    - ``<key>_hota``, ``<key>_mota``, ``<key>_idf1``, ... of samples;
    - ``<key>_events``: every mistake as ``TemporalDetections`` of the video (tags with their frames on the grid,
      counts and filters in the sidebar, one clip each in ``report.clips()``), with the identities; for sequences of
      images as ``Classifications`` of the image at which it ends;
    - of predicted labels ``<key>`` (``tp``, ``fp``, ``idsw``: found, under a new identity, ``ignored``), of true ones
      ``<key>`` (``tp``, ``fn``, ``idsw``, ``ignored``); of matched ones also ``<key>_iou`` and the other side's label,
      ``<key>_id``, and identity, ``<key>_index``.

    Args:
        view: Videos, or images with the fields ``sequence`` and ``frame_number``.
        pred_field: The predicted tracks, a field of ``Detections``.
        gt_field: The true ones.
        benchmark: ``"mot17"`` or ``"mot20"`` for MOTChallenge's preprocessing, where the truth has its classes and
            ``ignored`` marks: only considered pedestrians count, boxes on distractors are forgiven.
        iou: Least overlap of a match for CLEAR, IDF1 and the events. HOTA averages over 0.05 to 0.95.
        per_class: Compare class by class.
        classes: Only labels of these classes.
        only_labelled_frames: Leave out frames whose truth field is not set, for truth on key frames only. By default
            such a frame is one without objects.
        key: The evaluation's name.
        progress: Told about clips.

    Returns:
        The report. A clip that cannot be evaluated is named in it; the others are.

    Raises:
        NotFoundError: a field does not exist; the nearest that does is named.
        UsageError: a field of another kind, or an argument that cannot be used.
        InvalidDataError: no true or no predicted track at all.

    Example:
        >>> report = evaluate_tracks(videos, "frames.tracks")
        >>> print(report.summary())
        track_eval: HOTA 0.674 (DetA 0.944, AssA 0.480), MOTA 0.922, IDF1 0.629, 2 identity switches on 1 clips of cars
        >>> len(report.clips("switch"))
        2
    """
    started = time.monotonic()
    connect()
    pred_field, gt_field = _checked(view, pred_field, gt_field, benchmark, iou, per_class)
    dataset = view._dataset
    clips = clips_of(view)
    if not clips:
        raise InvalidDataError("there is nothing to evaluate", "the view has no clips")
    rule = Rule(benchmark, iou, per_class, None if classes is None else tuple(classes), only_labelled_frames)
    results, problems = [], []
    progress("evaluate", 0, len(clips))
    for number, clip in enumerate(clips, start=1):
        try:
            truth = labelled_tracks(view, clip, gt_field.removeprefix("frames."))
            predicted = labelled_tracks(view, clip, pred_field.removeprefix("frames."))
            results.append(ClipResult.of(clip, truth, predicted, rule))
        except UnavailableError:
            raise
        except OsvError as error:
            problems.append(Problem(clip.name, str(error), "", "file skipped"))
        progress("evaluate", number, len(clips))
    _check_results(results, problems, pred_field, gt_field)
    report = _report(results)
    notes = _notes(results, per_class)
    begin_run(
        view,
        key,
        [f"{key}_events", *(f"{key}_{name.lower()}" for name in _SCORES)],
        {name: [f"{key}{end}" for end in _ATTRIBUTES] for name in (pred_field, gt_field)},
        {"pred_field": pred_field, "gt_field": gt_field, **plain(rule)},
    )
    notes += _write(dataset, key, pred_field, gt_field, results)
    return TrackReport(
        key=key,
        dataset=str(dataset.name),
        pred_field=pred_field,
        gt_field=gt_field,
        rule=rule.words(),
        notes=tuple(notes),
        problems=tuple(problems),
        duration_s=time.monotonic() - started,
        **report,
    )


def _checked(
    view: Any, pred_field: str, gt_field: str, benchmark: str | None, iou: float, per_class: bool
) -> tuple[str, str]:
    """The two fields, with ``frames.`` for videos and without for images."""
    if not 0 < iou <= 1:
        raise UsageError("iou must lie above 0 and at most at 1", iou)
    if benchmark is not None and benchmark not in DISTRACTORS:
        raise UsageError("unknown benchmark", repr(benchmark), nearest(benchmark, DISTRACTORS))
    if benchmark is not None and per_class:
        raise UsageError(
            "a benchmark of pedestrians has one class", f"benchmark={benchmark!r}", "leave out per_class"
        )
    prefix = "frames." if view.media_type == "video" else ""
    predicted, true = prefix + pred_field.removeprefix("frames."), prefix + gt_field.removeprefix("frames.")
    if predicted == true:
        raise UsageError("predictions and ground truth are the same field", repr(true))
    for name in (predicted, true):
        check_field(view, name)
    return predicted, true


def _check_results(
    results: Sequence[ClipResult], problems: Sequence[Problem], pred_field: str, gt_field: str
) -> None:
    if not results:
        raise InvalidDataError("no clip can be evaluated", f"{problems[0].file}: {problems[0].what}")
    for name, sides in ((gt_field, [r.truth for r in results]), (pred_field, [r.predicted for r in results])):
        if not any(len(side.tracks) for side in sides):
            without = sum(side.without_index for side in sides)
            found = f"{without} labels without index" if without else "no labels at all"
            raise InvalidDataError("there are no tracks to evaluate", f"'{name}' has {found}", "track first")


def _report(results: Sequence[ClipResult]) -> dict[str, Any]:
    by_class: dict[str, list[SequenceScores]] = {}
    for result in results:
        for name, comparison in result.comparisons.items():
            by_class.setdefault(name, []).append(comparison.scores)
    by_class.pop("", None)
    scores = {result.clip.name: result.scores for result in results}
    worst = sorted(results, key=lambda result: result.scores.values()["HOTA"])
    return {
        "samples": tuple(result.clip.sample_id for result in worst),
        "scores": TrackScores(scores, combine(list(scores.values()))),
        "classes": {name: combine(parts) for name, parts in sorted(by_class.items())},
        "tracks": tuple(track for result in results for track in result.tracks()),
        "events": tuple(event for result in results for event in result.events()),
    }


def _notes(results: Sequence[ClipResult], per_class: bool) -> list[str]:
    notes = []
    for side in ("truth", "predicted"):
        without = sum(getattr(result, side).without_index for result in results)
        if without:
            notes.append(f"{without} {side} labels without an index were left out")
    if per_class:
        return notes
    other, matched = 0, 0
    for result in results:
        for one in result.comparisons.values():
            true = np.array(result.truth.classes, dtype=object)[
                result.truth.tracks.class_id[one.truth_rows[one.matches.truth_row]]
            ]
            predicted = np.array(result.predicted.classes, dtype=object)[
                result.predicted.tracks.class_id[one.predicted_rows[one.matches.predicted_row]]
            ]
            other += int(np.count_nonzero(true != predicted))
            matched += len(true)
    if other:
        notes.append(f"{other} of {matched} matched boxes have another class: per_class=True counts them as wrong")
    return notes


def _write(dataset: Any, key: str, pred_field: str, gt_field: str, results: Sequence[ClipResult]) -> list[str]:
    clips = [result.clip for result in results]
    attributes = {f"{key}{end}": kind for end, kind in _ATTRIBUTES.items()}
    for name in (pred_field, gt_field):
        declare_attributes(dataset, name, attributes)
    for result in results:
        true, predicted = result.marks()
        for name, side, marks, other in (
            (gt_field, result.truth, true, result.predicted),
            (pred_field, result.predicted, predicted, result.truth),
        ):
            for rows in frame_batches(side.tracks.frame):
                mark_labels(
                    dataset, result.clip, name.removeprefix("frames."), told(key, side, marks, other, rows)
                )
    scores = []
    for result in results:
        values = result.scores.values()
        scores.append(
            {f"{key}_{n.lower()}": int(values[n]) if n in _COUNTS else float(values[n]) for n in _SCORES}
        )
    write_scores(dataset, clips, scores)
    events = [
        [_stored(event) for event in sorted(result.events(), key=lambda event: _GRAVITY.index(event.kind))]
        for result in results
    ]
    notes = write_events(dataset, f"{key}_events", clips, events)
    dataset.reload()
    return notes


def _stored(event: LocatedEvent) -> StoredEvent:
    attributes = {
        "truth": event.truth,
        "predicted": event.predicted,
        "previous": event.previous,
        "object": event.label or None,
    }
    return StoredEvent(event.kind, event.first_frame, event.last_frame, None, attributes)
