"""IDF1: one predicted identity for each true one over the whole sequence. Ristani et al., 2016."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass

import numpy as np

from osv_lab.track.metrics.matching import Sequence, best_pairs

THRESHOLD = 0.5


@dataclass(frozen=True)
class Identity:
    """Boxes that carry the right identity, that lack it (``fn``) and that carry a wrong one (``fp``)."""

    tp: int
    fn: int
    fp: int

    @property
    def idf1(self) -> float:
        return self.tp / max(1.0, self.tp + 0.5 * self.fp + 0.5 * self.fn)

    def scores(self) -> dict[str, float]:
        """IDF1, identity recall and precision, 0 to 1."""
        return {
            "IDF1": self.idf1,
            "IDR": self.tp / max(1, self.tp + self.fn),
            "IDP": self.tp / max(1, self.tp + self.fp),
        }


def identity(sequence: Sequence, threshold: float = THRESHOLD) -> Identity:
    """IDF1 of one sequence.

    The official definition minimises the boxes without a right identity over a square matrix with dummies; that is
    the one-to-one assignment of identities with the most common boxes.
    """
    common = np.zeros((len(sequence.truth_ids), len(sequence.predicted_ids)))
    for frame in sequence.frames:
        rows, columns = np.nonzero(frame.similarity >= threshold)
        common[frame.truth[rows], frame.predicted[columns]] += 1
    tp = int(common[best_pairs(common)].sum()) if common.size else 0
    return Identity(tp, sequence.truth_count - tp, sequence.predicted_count - tp)


def combine_identity(parts: Many[Identity]) -> Identity:
    """Over sequences: counts add up."""
    return Identity(sum(p.tp for p in parts), sum(p.fn for p in parts), sum(p.fp for p in parts))
