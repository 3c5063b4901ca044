"""HOTA: higher order tracking accuracy. Luiten et al., IJCV 2020, https://arxiv.org/abs/2009.07736."""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass, field

import numpy as np

from osv_lab.track.metrics.matching import EPS, Sequence, best_pairs
from osv_lab.track.tracks import Floats, Ints

ALPHAS: Floats = np.arange(0.05, 0.99, 0.05)
"""The 19 localisation thresholds."""


@dataclass(frozen=True, eq=False)
class Hota:
    """HOTA and its parts at each of the 19 alphas, each a (19,) array; :meth:`scores` averages them.

    ``tp``, ``fn`` and ``fp`` count boxes; ``ass_a``, ``ass_re`` and ``ass_pr`` are averages over true positives, and
    ``loc_a`` the mean similarity of true positives.

    ``by_truth`` (n,) is what each true identity has of it, averaged over alpha: the root of its boxes' mean association
    score, where a box that was not found has 0. False boxes are nobody's and are left out. In the order of identities;
    empty for several sequences together.
    """

    tp: Floats
    fn: Floats
    fp: Floats
    ass_a: Floats
    ass_re: Floats
    ass_pr: Floats
    loc_a: Floats
    by_truth: Floats = field(default_factory=lambda: np.zeros(0))

    @property
    def det_re(self) -> Floats:
        return self.tp / np.maximum(1, self.tp + self.fn)

    @property
    def det_pr(self) -> Floats:
        return self.tp / np.maximum(1, self.tp + self.fp)

    @property
    def det_a(self) -> Floats:
        return self.tp / np.maximum(1, self.tp + self.fn + self.fp)

    @property
    def hota(self) -> Floats:
        return np.asarray(np.sqrt(self.det_a * self.ass_a))

    def scores(self) -> dict[str, float]:
        """The averages over alpha, 0 to 1."""
        parts = {
            "HOTA": self.hota,
            "DetA": self.det_a,
            "AssA": self.ass_a,
            "DetRe": self.det_re,
            "DetPr": self.det_pr,
            "AssRe": self.ass_re,
            "AssPr": self.ass_pr,
            "LocA": self.loc_a,
        }
        return {name: float(np.mean(values)) for name, values in parts.items()}


def hota(sequence: Sequence) -> Hota:
    """HOTA of one sequence."""
    if not sequence.truth_count or not sequence.predicted_count:
        return _nothing(sequence)

    truth_length, predicted_length, potential = _potential_matches(sequence)
    # How well two identities agree over the whole sequence, before any box is matched.
    alignment = potential / (truth_length[:, None] + predicted_length - potential)

    truth_ids, predicted_ids, similarities = [], [], []
    for frame in sequence.frames:
        if not frame.similarity.size:
            continue
        score = alignment[frame.truth[:, None], frame.predicted] * frame.similarity
        rows, columns = best_pairs(score)
        truth_ids.append(frame.truth[rows])
        predicted_ids.append(frame.predicted[columns])
        similarities.append(frame.similarity[rows, columns])
    if not similarities:
        return _nothing(sequence)
    matched_pair = np.concatenate(truth_ids) * len(sequence.predicted_ids) + np.concatenate(predicted_ids)
    similarity = np.concatenate(similarities)

    columns_by_alpha, by_truth = [], np.zeros(len(truth_length))
    for alpha in ALPHAS:
        parts, own = _at_alpha(float(alpha), matched_pair, similarity, truth_length, predicted_length)
        columns_by_alpha.append(parts)
        by_truth += np.sqrt(own / truth_length) / len(ALPHAS)
    tp, ass_a, ass_re, ass_pr, loc_a = np.array(columns_by_alpha).T
    missed, false = sequence.truth_count - tp, sequence.predicted_count - tp
    return Hota(tp, missed, false, ass_a, ass_re, ass_pr, loc_a, by_truth)


def _nothing(sequence: Sequence) -> Hota:
    """HOTA where no box meets another."""
    none = np.zeros(len(ALPHAS))
    missed, false = none + sequence.truth_count, none + sequence.predicted_count
    by_truth = np.zeros(len(sequence.truth_ids))
    return Hota(none, missed, false, none, none, none, np.ones(len(ALPHAS)), by_truth)


def _potential_matches(sequence: Sequence) -> tuple[Floats, Floats, Floats]:
    """Boxes per true and predicted identity, and per pair of them the sum of normalised similarities."""
    truth_length, predicted_length = np.zeros(len(sequence.truth_ids)), np.zeros(len(sequence.predicted_ids))
    potential = np.zeros((len(truth_length), len(predicted_length)))
    for frame in sequence.frames:
        truth_length[frame.truth] += 1
        predicted_length[frame.predicted] += 1
        similarity = frame.similarity
        total = similarity.sum(axis=0) + similarity.sum(axis=1)[:, None] - similarity
        share = np.divide(similarity, total, out=np.zeros_like(similarity), where=total > EPS)
        potential[frame.truth[:, None], frame.predicted] += share
    return truth_length, predicted_length, potential


def _at_alpha(
    alpha: float, matched_pair: Ints, similarity: Floats, truth_length: Floats, predicted_length: Floats
) -> tuple[tuple[float, float, float, float, float], Floats]:
    """The parts at one alpha; and per true identity the sum of its true positives' association scores."""
    matched = similarity >= alpha - EPS
    tp = float(np.count_nonzero(matched))
    pairs, counts = np.unique(matched_pair[matched], return_counts=True)
    truth = truth_length[pairs // len(predicted_length)]
    predicted = predicted_length[pairs % len(predicted_length)]

    def average(union: Floats) -> float:
        # Each true positive has its pair's association score, so a pair weighs as often as it matched.
        return float(np.sum(counts * (counts / np.maximum(1, union))) / max(1.0, tp))

    localisation = max(1e-10, float(similarity[matched].sum())) / max(1e-10, tp)
    union = truth + predicted - counts
    own = np.bincount(
        pairs // len(predicted_length), weights=counts * counts / np.maximum(1, union), minlength=len(truth_length)
    )
    parts = tp, average(union), average(truth), average(predicted), localisation
    return parts, np.asarray(own, dtype=np.float64)


def combine_hota(parts: Many[Hota]) -> Hota:
    """Over sequences: counts add up, association and localisation are weighted by true positives."""
    tp = np.sum([part.tp for part in parts], axis=0)

    def weighted(name: str) -> Floats:
        return np.asarray(sum(getattr(part, name) * part.tp for part in parts) / np.maximum(1, tp))

    loc_a = np.maximum(1e-10, sum(part.loc_a * part.tp for part in parts)) / np.maximum(1e-10, tp)
    fn, fp = np.sum([part.fn for part in parts], axis=0), np.sum([part.fp for part in parts], axis=0)
    return Hota(tp, fn, fp, weighted("ass_a"), weighted("ass_re"), weighted("ass_pr"), loc_a)
