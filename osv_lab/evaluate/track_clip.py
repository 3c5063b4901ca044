"""One clip compared: its scores, its mistakes and what each of its labels turned out to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from osv_lab.evaluate.track_report import LocatedEvent, TrackScore
from osv_lab.store.clips import Clip
from osv_lab.store.convert.tracks import LabelledTracks
from osv_lab.store.formats.mot import CLASSES as MOT_CLASSES
from osv_lab.track.metrics import Comparison, SequenceScores, combine, compare
from osv_lab.track.metrics.clear import find_breaks
from osv_lab.track.tracks import Tracks


@dataclass(frozen=True)
class Rule:
    """What counts as a match; see :func:`osv_lab.evaluate.tracking.evaluate_tracks`."""

    benchmark: str | None = None
    iou: float = 0.5
    per_class: bool = False
    classes: tuple[str, ...] | None = None
    only_labelled_frames: bool = False

    def words(self) -> str:
        """The rule in one line."""
        who = "boxes of one class" if self.per_class else "boxes of any class"
        prepared = f", after {self.benchmark} preprocessing" if self.benchmark else ""
        return (
            f"{who}{prepared}; HOTA: Luiten et al. 2020, IoU 0.05 to 0.95; CLEAR, IDF1 and events: IoU of at least "
            f"{self.iou:g}, matches of the frame before kept"
        )


@dataclass(frozen=True, eq=False)
class ClipResult:
    """One clip: its tracks, and a comparison per class (or one, under ``""``)."""

    clip: Clip
    truth: LabelledTracks
    predicted: LabelledTracks
    comparisons: Mapping[str, Comparison]
    scores: SequenceScores

    @classmethod
    def of(cls, clip: Clip, truth: LabelledTracks, predicted: LabelledTracks, rule: Rule) -> ClipResult:
        comparisons = {}
        for name in sorted({*truth.classes, *predicted.classes}) if rule.per_class else [""]:
            if rule.per_class and rule.classes is not None and name not in rule.classes:
                continue
            wanted = [name] if rule.per_class else rule.classes
            true_rows, predicted_rows = _rows(truth, wanted), _rows(predicted, wanted)
            if rule.only_labelled_frames:
                frames = predicted.tracks.frame[predicted_rows]
                predicted_rows = predicted_rows[np.isin(frames, truth.labelled)]
            comparison = compare(
                _numbered(truth, true_rows),
                _numbered(predicted, predicted_rows),
                benchmark=rule.benchmark,
                iou=rule.iou,
            )
            comparisons[name] = replace(
                comparison,
                truth_rows=true_rows[comparison.truth_rows],
                predicted_rows=predicted_rows[comparison.predicted_rows],
            )
        parts = [one.scores for one in comparisons.values()]
        scores = (
            parts[0] if len(parts) == 1 else combine(parts or [compare(Tracks.empty(), Tracks.empty()).scores])
        )
        return cls(clip, truth, predicted, comparisons, scores)

    def events(self) -> Iterator[LocatedEvent]:
        found = [event for one in self.comparisons.values() for event in one.scores.events]
        for event in sorted(found, key=lambda event: (event.first_frame, event.last_frame, event.kind)):
            true_id, true_label = self.truth.named(event.truth_id)
            predicted_id, predicted_label = self.predicted.named(event.predicted_id)
            side = self.truth if event.kind == "merge" else self.predicted
            previous = side.named(event.previous_id)[0]
            yield LocatedEvent(
                self.clip.name,
                event.kind,
                event.first_frame,
                event.last_frame,
                true_id,
                predicted_id,
                previous,
                true_label or predicted_label,
            )

    def tracks(self) -> Iterator[TrackScore]:
        for comparison in self.comparisons.values():
            for life in comparison.lifetimes():
                index, label = self.truth.named(life.truth_id)
                named = tuple((self.predicted.named(k)[0] or 0, boxes) for k, boxes in life.predicted_ids)
                yield TrackScore(
                    self.clip.name,
                    index or 0,
                    label,
                    life.first_frame,
                    life.last_frame,
                    life.coverage,
                    life.switches,
                    life.fragmentations,
                    named,
                    life.hota,
                )

    def marks(self) -> tuple[Marks, Marks]:
        """The marks of the true and of the predicted labels, row by row."""
        true, predicted = Marks.blank(len(self.truth.tracks)), Marks.blank(len(self.predicted.tracks))
        for one in self.comparisons.values():
            matches = one.matches
            true_rows, predicted_rows = (
                one.truth_rows[matches.truth_row],
                one.predicted_rows[matches.predicted_row],
            )
            true.kind[one.truth_rows], predicted.kind[one.predicted_rows] = "fn", "fp"
            switched = find_breaks(matches).switch_to
            for marks, rows, others in ((true, true_rows, predicted_rows), (predicted, predicted_rows, true_rows)):
                marks.kind[rows] = "tp"
                marks.kind[rows[switched]] = "idsw"
                marks.iou[rows] = matches.similarity
                marks.other[rows] = others
        return true, predicted


@dataclass(frozen=True, eq=False)
class Marks:
    """Per row: what it is, its overlap with its match, and the row of that on the other side (-1: none)."""

    kind: np.ndarray
    iou: np.ndarray
    other: np.ndarray

    @classmethod
    def blank(cls, rows: int) -> Marks:
        return cls(np.full(rows, "ignored", dtype=object), np.full(rows, np.nan), np.full(rows, -1))


def _rows(tracks: LabelledTracks, classes: Sequence[str] | None) -> np.ndarray:
    if classes is None:
        return np.arange(len(tracks.tracks))
    wanted = [number for number, name in enumerate(tracks.classes) if name in classes]
    return np.flatnonzero(np.isin(tracks.tracks.class_id, wanted))


def _numbered(found: LabelledTracks, rows: np.ndarray) -> Tracks:
    """The tracks with MOTChallenge's class numbers, 0 for other classes."""
    numbers = {name: number for number, name in enumerate(MOT_CLASSES, start=1)}
    number = np.array([numbers.get(name, 0) for name in found.classes], dtype=np.int64)
    part = found.tracks[rows]
    return Tracks(part.frame, part.track_id, part.xyxy, part.confidence, number[part.class_id])


def told(
    key: str, side: LabelledTracks, marks: Marks, other: LabelledTracks, rows: slice
) -> dict[int, dict[str, dict[str, Any]]]:
    """By frame and label id, the attributes of some rows."""
    found: dict[int, dict[str, dict[str, Any]]] = {}
    for row in range(rows.start, rows.stop):
        values: dict[str, Any] = {key: marks.kind[row]}
        match = int(marks.other[row])
        if match >= 0:
            values[f"{key}_iou"] = float(marks.iou[row])
            values[f"{key}_id"] = other.label_id[match]
            values[f"{key}_index"] = int(other.index[match])
        found.setdefault(int(side.tracks.frame[row]), {})[side.label_id[row]] = values
    return found
