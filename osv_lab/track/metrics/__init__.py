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

from osv_lab.core.report import Report
from osv_lab.track.metrics.clear import Clear, clear, combine_clear, match
from osv_lab.track.metrics.events import TrackEvent, track_events
from osv_lab.track.metrics.hota import Hota, combine_hota, hota
from osv_lab.track.metrics.identity import Identity, combine_identity, identity
from osv_lab.track.metrics.matching import motchallenge_preprocess, pair
from osv_lab.track.tracks import Tracks

__all__ = ["SequenceScores", "TrackEvent", "TrackScores", "evaluate_sequence", "evaluate_sequences"]

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


def evaluate_sequence(
    truth: Tracks, predicted: Tracks, frames: int | None = None, *, benchmark: str | None = None
) -> SequenceScores:
    """Compare predicted tracks with true ones.

    Args:
        truth: True boxes with identities.
        predicted: Predicted boxes with identities.
        frames: Length of the sequence; the last frame with a box when ``None``.
        benchmark: ``"mot17"`` (also MOT16) or ``"mot20"`` for MOTChallenge's preprocessing: only considered
            pedestrians count and boxes on distractors are forgiven. ``None``: everything counts.

    Raises:
        InvalidDataError: boxes after the end of the sequence.
        UsageError: an unknown benchmark.
    """
    if benchmark is not None:
        truth, predicted = motchallenge_preprocess(truth, predicted, frames, benchmark=benchmark)
    sequence = pair(truth, predicted, frames)
    matches = match(sequence)
    events = track_events(truth, predicted, matches)
    return SequenceScores(hota(sequence), clear(sequence, matches), identity(sequence), tuple(events))


def evaluate_sequences(
    pairs: Mapping[str, tuple[Tracks, Tracks]],
    *,
    frames: Mapping[str, int] | None = None,
    benchmark: str | None = None,
) -> TrackScores:
    """Compare several sequences, ``{name: (truth, predicted)}``, each and all together."""
    lengths = frames or {}
    scores = {
        name: evaluate_sequence(truth, predicted, lengths.get(name), benchmark=benchmark)
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
