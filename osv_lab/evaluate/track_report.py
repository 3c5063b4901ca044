"""What an evaluation of tracks says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from osv_lab.core.report import Report
from osv_lab.evaluate.track_fields import events_clips, events_view
from osv_lab.store.records import Problem
from osv_lab.track.metrics import SequenceScores, TrackScores


@dataclass(frozen=True)
class LocatedEvent:
    """One mistake, where it is.

    Attributes:
        clip: The video or sequence.
        kind: See :class:`osv_lab.track.metrics.TrackEvent`.
        first_frame, last_frame: Frame numbers.
        truth: The true identity (after a merge: the new one) as the labels' ``index``.
        predicted: The predicted identity (after a switch: the new one).
        previous: The identity before: after a merge a true one, else a predicted one.
        label: The class: that of the truth, or of the prediction where there is none.
    """

    clip: str
    kind: str
    first_frame: int
    last_frame: int
    truth: int | None
    predicted: int | None
    previous: int | None
    label: str


@dataclass(frozen=True)
class TrackScore:
    """One true track.

    Attributes:
        clip: The video or sequence.
        track: Its identity, the labels' ``index``.
        label: Its class.
        first_frame, last_frame: Where it lives.
        coverage: Share of its boxes that were found, 0 to 1.
        switches: How often the predicted identity changed.
        fragmentations: How often it was lost and found again.
        predicted: The predicted identities it had, each with its number of boxes, the longest first.
        hota: Its own HOTA, 0 to 1; see :class:`osv_lab.track.metrics.hota.Hota`.
    """

    clip: str
    track: int
    label: str
    first_frame: int
    last_frame: int
    coverage: float
    switches: int
    fragmentations: int
    predicted: tuple[tuple[int, int], ...]
    hota: float


@dataclass(frozen=True)
class TrackReport(Report):
    """How good tracks are.

    Attributes:
        key: The evaluation's key, and the prefix of the fields it wrote.
        dataset: The dataset's name.
        pred_field, gt_field: What was compared.
        samples: Ids of the evaluated samples (of a sequence of images: its first), worst HOTA first.
        scores: The metrics of each clip and of all together.
        classes: The metrics of each class over all clips, if it was evaluated class by class.
        tracks: Every true track.
        events: Every mistake, clip by clip, in order of frames.
        rule: What counts as a match, in words.
        notes: What else the user should know.
        problems: Clips that could not be evaluated, and why.
        duration_s: Seconds spent.
    """

    key: str
    dataset: str
    pred_field: str
    gt_field: str
    samples: tuple[str, ...] = field(repr=False)
    scores: TrackScores
    classes: Mapping[str, SequenceScores] = field(default_factory=dict)
    tracks: tuple[TrackScore, ...] = ()
    events: tuple[LocatedEvent, ...] = ()
    rule: str = ""
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    duration_s: float = field(default=0.0, compare=False)

    def rows(self) -> list[Mapping[str, Any]]:
        """One row per clip, one for all together, then one per class."""
        by_class = TrackScores(self.classes, self.scores.combined).rows()[:-1]
        return [*self.scores.rows(), *({**row, "sequence": f"class {row['sequence']}"} for row in by_class)]

    def highlights(self) -> list[Mapping[str, Any]]:
        few = ("sequence", "HOTA", "DetA", "AssA", "MOTA", "IDF1", "IDSW", "Frag", "FP", "FN")
        return [{name: row[name] for name in few} for row in self.rows()]

    def track_rows(self) -> list[Mapping[str, Any]]:
        """One row per true track, that of the lowest HOTA first."""
        worst = sorted(self.tracks, key=lambda one: (one.hota, one.coverage, -one.switches))
        return [
            {
                "clip": one.clip,
                "track": one.track,
                "label": one.label,
                "frames": f"{one.first_frame}-{one.last_frame}",
                "HOTA": one.hota,
                "coverage": one.coverage,
                "switches": one.switches,
                "fragmentations": one.fragmentations,
                "predicted": ", ".join(f"{identity} ({boxes})" for identity, boxes in one.predicted),
            }
            for one in worst
        ]

    def event_rows(self, kind: str | None = None) -> list[Mapping[str, Any]]:
        """One row per mistake (of one kind)."""
        return [
            {
                "clip": one.clip,
                "kind": one.kind,
                "first frame": one.first_frame,
                "last frame": one.last_frame,
                "truth": one.truth,
                "predicted": one.predicted,
                "previous": one.previous,
                "label": one.label,
            }
            for one in self.events
            if kind in (None, one.kind)
        ]

    def summary(self) -> str:
        values = self.scores.combined.values()
        failed = f", {len(self.problems)} clips failed" if self.problems else ""
        return (
            f"{self.key}: HOTA {values['HOTA']:.3f} (DetA {values['DetA']:.3f}, AssA {values['AssA']:.3f}), MOTA "
            f"{values['MOTA']:.3f}, IDF1 {values['IDF1']:.3f}, {int(values['IDSW'])} identity switches on "
            f"{len(self.scores.sequences)} clips of {self.dataset}{failed}"
        )

    def view(self, kind: str | None = None) -> Any:
        """The evaluated samples, worst first; with a kind, those with such events only, and only those events."""
        from osv_lab.store.database import connect

        dataset = connect().load_dataset(self.dataset)
        return events_view(dataset, self.samples, f"{self.key}_events", kind)

    def clips(self, kind: str | None = None) -> Any:
        """A view with one clip per event (of one kind) of the videos."""
        from osv_lab.store.database import connect

        dataset = connect().load_dataset(self.dataset)
        return events_clips(dataset, self.samples, f"{self.key}_events", kind)
