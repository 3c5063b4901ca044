"""Tracking metrics by the official definitions: HOTA, CLEAR MOT, IDF1, and their mistakes as located events.

>>> from osv_lab.track.metrics import evaluate_sequence
>>> from osv_lab.track.tracks import Tracks
>>> truth = Tracks([1, 2, 3], [1, 1, 1], [[0, 0, 10, 10]] * 3)
>>> found = Tracks([1, 2, 3], [5, 5, 6], [[0, 0, 10, 10]] * 3)
>>> scores = evaluate_sequence(truth, found)
>>> round(scores.values()["HOTA"], 3), scores.clear.switches
(0.745, 1)
>>> scores.events[0].kind, scores.events[0].last_frame
('switch', 3)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from osv_lab.core.report import Report
from osv_lab.track.metrics.clear import THRESHOLD, Clear, Matches, clear, combine_clear, match
from osv_lab.track.metrics.events import TrackEvent, track_events
from osv_lab.track.metrics.hota import Hota, combine_hota, hota
from osv_lab.track.metrics.identity import Identity, combine_identity, identity
from osv_lab.track.metrics.lifetimes import Lifetime, lifetimes
from osv_lab.track.metrics.matching import motchallenge_masks, pair
from osv_lab.track.tracks import Ints, Tracks

__all__ = [
    "Comparison", "Lifetime", "SequenceScores", "TrackEvent", "TrackScores", "compare", "evaluate_sequence",
    "evaluate_sequences",
]  # fmt: skip

_HEADLINE = (
    "HOTA",
    "DetA",
    "AssA",
    "MOTA",
    "IDF1",
    "IDSW",
    "Frag",
    "LocA",
    "Recall",
    "Precision",
    "FP",
    "FN",
    "MT",
    "ML",
)


@dataclass(frozen=True)
class SequenceScores:
    """The metrics of one sequence (or of several together), and its events."""

    hota: Hota
    clear: Clear
    identity: Identity
    events: tuple[TrackEvent, ...] = field(default=(), repr=False)

    def values(self) -> dict[str, float]:
        """Every score by its usual name; ratios are 0 to 1."""
        return {**self.hota.scores(), **self.clear.scores(), **self.identity.scores()}


@dataclass(frozen=True)
class TrackScores(Report):
    """The metrics of each sequence and of all together (not their mean: counts are pooled, as the benchmarks do)."""

    sequences: Mapping[str, SequenceScores]
    combined: SequenceScores

    def rows(self) -> list[dict[str, object]]:
        named = {**self.sequences, "all": self.combined}
        return [
            {"sequence": name, **{key: scores.values()[key] for key in _HEADLINE}}
            for name, scores in named.items()
        ]

    def summary(self) -> str:
        values = self.combined.values()
        return (
            f"HOTA {values['HOTA']:.3f}, MOTA {values['MOTA']:.3f}, IDF1 {values['IDF1']:.3f}, "
            f"{int(values['IDSW'])} identity switches over {len(self.sequences)} sequences"
        )

    def to_dict(self) -> dict[str, object]:
        return {
            "sequences": {name: scores.values() for name, scores in self.sequences.items()},
            "combined": self.combined.values(),
        }


@dataclass(frozen=True, eq=False)
class Comparison:
    """One sequence compared box by box.

    Attributes:
        truth, predicted: What was evaluated.
        truth_rows, predicted_rows: Where that was in what was given: (n,) and (m,) rows. Preprocessing leaves out some.
        matches: Which box is which; its rows are those of ``truth`` and ``predicted``.
        scores: The metrics and events.
    """

    truth: Tracks
    predicted: Tracks
    truth_rows: Ints
    predicted_rows: Ints
    matches: Matches
    scores: SequenceScores

    def lifetimes(self) -> list[Lifetime]:
        """Each true identity: how much of it was found, under how many identities."""
        return lifetimes(self.truth, self.predicted, self.matches, self.scores.hota)


def compare(
    truth: Tracks,
    predicted: Tracks,
    frames: int | None = None,
    *,
    benchmark: str | None = None,
    iou: float = THRESHOLD,
) -> Comparison:
    """Compare predicted tracks with true ones, box by box; see :func:`evaluate_sequence`."""
    truth_rows, predicted_rows = np.arange(len(truth)), np.arange(len(predicted))
    if benchmark is not None:
        considered, kept = motchallenge_masks(truth, predicted, frames, benchmark=benchmark)
        truth, predicted = truth[considered], predicted[kept]
        truth_rows, predicted_rows = truth_rows[considered], predicted_rows[kept]
    sequence = pair(truth, predicted, frames)
    matches = match(sequence, iou)
    events = track_events(truth, predicted, matches)
    scores = SequenceScores(hota(sequence), clear(sequence, matches), identity(sequence, iou), tuple(events))
    return Comparison(truth, predicted, truth_rows, predicted_rows, matches, scores)


def evaluate_sequence(
    truth: Tracks,
    predicted: Tracks,
    frames: int | None = None,
    *,
    benchmark: str | None = None,
    iou: float = THRESHOLD,
) -> SequenceScores:
    """Compare predicted tracks with true ones.

    Args:
        truth: True boxes with identities.
        predicted: Predicted boxes with identities.
        frames: Length of the sequence; the last frame with a box when ``None``.
        benchmark: ``"mot17"`` (also MOT16) or ``"mot20"`` for MOTChallenge's preprocessing: only considered
            pedestrians count and boxes on distractors are forgiven. ``None``: everything counts.
        iou: Least overlap of a match for CLEAR, IDF1 and the events, 0 to 1. HOTA averages over 0.05 to 0.95.

    Raises:
        InvalidDataError: boxes after the end of the sequence.
        UsageError: an unknown benchmark.
    """
    return compare(truth, predicted, frames, benchmark=benchmark, iou=iou).scores


def evaluate_sequences(
    pairs: Mapping[str, tuple[Tracks, Tracks]],
    *,
    frames: Mapping[str, int] | None = None,
    benchmark: str | None = None,
    iou: float = THRESHOLD,
) -> TrackScores:
    """Compare several sequences, ``{name: (truth, predicted)}``, each and all together."""
    lengths = frames or {}
    scores = {
        name: evaluate_sequence(truth, predicted, lengths.get(name), benchmark=benchmark, iou=iou)
        for name, (truth, predicted) in pairs.items()
    }
    return TrackScores(scores, combine(list(scores.values())))


def combine(parts: Sequence[SequenceScores]) -> SequenceScores:
    """The metrics of several sequences together."""
    return SequenceScores(
        combine_hota([part.hota for part in parts]),
        combine_clear([part.clear for part in parts]),
        combine_identity([part.identity for part in parts]),
    )
