"""CLEAR MOT: MOTA, MOTP, identity switches and fragmentations. Bernardin and Stiefelhagen, 2008."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass, field

import numpy as np

from osv_lab.track.metrics.matching import EPS, Sequence, best_pairs
from osv_lab.track.tracks import Floats, Ints

THRESHOLD = 0.5
"""The least similarity of a match."""


@dataclass(frozen=True, eq=False)
class Matches:
    """Every match of a sequence, in order of frames: (k,) rows and dense identities, and the similarity.

    ``step`` numbers the frames that have both truth and predictions: matches of one identity in consecutive steps are
    not interrupted.
    """

    frame: Ints
    step: Ints
    truth: Ints
    predicted: Ints
    truth_row: Ints
    predicted_row: Ints
    similarity: Floats


@dataclass(frozen=True)
class Clear:
    """Counts of one or of several sequences; the scores follow from them."""

    tp: int
    fn: int
    fp: int
    switches: int
    fragmentations: int
    mostly_tracked: int
    partly_tracked: int
    mostly_lost: int
    similarity_sum: float = field(repr=False)

    @property
    def mota(self) -> float:
        return (self.tp - self.fp - self.switches) / max(1, self.tp + self.fn)

    @property
    def motp(self) -> float:
        return self.similarity_sum / max(1, self.tp)

    @property
    def recall(self) -> float:
        return self.tp / max(1, self.tp + self.fn)

    @property
    def precision(self) -> float:
        return self.tp / max(1, self.tp + self.fp)

    def scores(self) -> dict[str, float]:
        """MOTA, MOTP, recall and precision (0 to 1), and the counts."""
        return {
            "MOTA": self.mota,
            "MOTP": self.motp,
            "Recall": self.recall,
            "Precision": self.precision,
            "TP": self.tp,
            "FN": self.fn,
            "FP": self.fp,
            "IDSW": self.switches,
            "Frag": self.fragmentations,
            "MT": self.mostly_tracked,
            "PT": self.partly_tracked,
            "ML": self.mostly_lost,
        }


def match(sequence: Sequence, threshold: float = THRESHOLD) -> Matches:
    """Match frame by frame: a pair of the frame before is kept while it overlaps enough, then the similarity counts."""
    previous = np.full(len(sequence.truth_ids), -1)
    parts = []
    step = 0
    for frame in sequence.frames:
        if not frame.similarity.size:
            continue
        continued = frame.predicted == previous[frame.truth][:, None]
        score = np.where(frame.similarity < threshold - EPS, 0.0, 1000.0 * continued + frame.similarity)
        rows, columns = best_pairs(score)
        kept = score[rows, columns] > EPS
        rows, columns = rows[kept], columns[kept]
        truth, predicted = frame.truth[rows], frame.predicted[columns]
        previous[:] = -1
        previous[truth] = predicted
        parts.append(
            (
                np.full(len(rows), frame.number),
                np.full(len(rows), step),
                truth,
                predicted,
                frame.truth_rows[rows],
                frame.predicted_rows[columns],
                frame.similarity[rows, columns],
            )
        )
        step += 1
    if not parts:
        none = np.empty(0, np.int64)
        return Matches(none, none, none, none, none, none, np.empty(0))
    return Matches(*(np.concatenate(column) for column in zip(*parts, strict=True)))


@dataclass(frozen=True, eq=False)
class Breaks:
    """Where identities break: indices into the matches, by true identity.

    ``switch_to[k]`` is the match at which a true identity has another predicted identity than at its match before,
    ``switch_from[k]``. ``resumed[k]`` is a match after an interruption that followed match ``stopped[k]``.
    """

    switch_from: Ints
    switch_to: Ints
    stopped: Ints
    resumed: Ints


def find_breaks(matches: Matches) -> Breaks:
    """Identity switches and fragmentations, each with the match before and the match after."""
    order = np.lexsort((matches.step, matches.truth))
    before, after = order[:-1], order[1:]
    same = matches.truth[before] == matches.truth[after]
    switched = same & (matches.predicted[before] != matches.predicted[after])
    interrupted = same & (matches.step[after] - matches.step[before] > 1)
    return Breaks(before[switched], after[switched], before[interrupted], after[interrupted])


def clear(sequence: Sequence, matches: Matches | None = None) -> Clear:
    """CLEAR of one sequence (from its matches, if they are already there)."""
    found = match(sequence) if matches is None else matches
    breaks = find_breaks(found)
    identities = len(sequence.truth_ids)
    length = np.zeros(identities)
    for frame in sequence.frames:
        length[frame.truth] += 1
    ratio = np.bincount(found.truth, minlength=identities)[length > 0] / length[length > 0]
    mostly = int(np.count_nonzero(ratio > 0.8))
    partly = int(np.count_nonzero(ratio >= 0.2)) - mostly
    tp = len(found.truth)
    return Clear(
        tp,
        sequence.truth_count - tp,
        sequence.predicted_count - tp,
        len(breaks.switch_to),
        len(breaks.resumed),
        mostly,
        partly,
        identities - mostly - partly,
        float(found.similarity.sum()),
    )


def combine_clear(parts: Many[Clear]) -> Clear:
    """Over sequences: everything adds up."""
    names = Clear.__dataclass_fields__
    return Clear(**{name: sum(getattr(part, name) for part in parts) for name in names})
