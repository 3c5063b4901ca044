"""How likely each label is a mistake, learned from mistakes that are made on purpose.

ObjectLab (U. Tkachenko, A. Thyagarajan, J. Mueller, "ObjectLab: Automated Diagnosis of Mislabeled Images in Object
Detection Data", 2023, https://arxiv.org/abs/2309.00832) scores overlooked, badly located and swapped labels by
fixed formulas of confidence and overlap. How much an unsupported label or an unexplained prediction means depends
on the data set though: on the class, on the detector, on how thorough the annotators were. So the formula is
learned here: labels of the data set itself are dropped, added, moved and relabelled at random, and gradient
boosting learns what gives such mistakes away. The images that a model judges are never those that it learned from.
What the annotators really did wrong counts as correct while it learns, which makes it careful about what is common
in the data set. That would teach it to overlook labels that are often missing. So missing labels are learned twice
(after B. Liu et al., "Partially Supervised Classification of Text Documents", 2002): the second time without the
predictions that look as much like a missing label as the dropped ones do. That tells their order; how likely they are,
beside other mistakes, the first time tells.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from osv_lab.core.progress import Progress, silent
from osv_lab.curate.evidence import ClassSizes, Evidence, ImageBoxes, gather, iou

KINDS = ("spurious", "wrong_class", "badly_placed")
"""What a label can be guilty of."""

ALL_KINDS = (*KINDS, "missing")
RATE = 0.03
"""The share of labels that each kind of mistake is made of, per round."""
ROUNDS = 6
FOLDS = 4
MISSING_SIGNS = {1: 1, 2: -1, 3: -1}
"""By column of :attr:`~osv_lab.curate.evidence.Evidence.missing`: a surer prediction is likelier a missing label, and
one that a label overlaps more is less so."""
ALIKE = 0.15
"""An unexplained prediction is likely a label that is really missing where it has a higher chance than this share of
the dropped ones."""
SAME = 0.5
"""Unexplained predictions that overlap by this IoU are of one object."""
LEAST_LABELS = 200
"""With fewer labels there is nothing to learn from, and a fixed formula serves."""


@dataclass(frozen=True)
class Judged:
    """What one image's labels look like.

    Attributes:
        evidence: What it was judged by.
        labels: Per label the probability of each of :data:`KINDS`, ``(n, 3)``.
        missing: Per unexplained prediction the probability that a label is missing there. Of predictions of one object
            there is only the likeliest.
    """

    evidence: Evidence
    labels: np.ndarray
    missing: np.ndarray


def judge(images: list[ImageBoxes], classes: int, seed: int, progress: Progress = silent) -> list[Judged]:
    """The probabilities of mistakes in every image, at the rate that they were made at.

    Args:
        images: Labels and predictions.
        classes: How many classes there are.
        seed: Of the mistakes.
        progress: Told about rounds.
    """
    sizes = ClassSizes.of(images, classes) if images else ClassSizes(np.zeros((0, 2)), np.ones((0, 2)))
    evidence = [gather(one, sizes) for one in images]
    if sum(len(one.boxes) for one in images) < LEAST_LABELS or len(images) < 2 * FOLDS:
        return [_one_each(*one) for one in zip(images, map(_by_formula, evidence), strict=True)]
    learned = _learn(images, classes, sizes, seed, progress)
    found, order = list[Judged](), list[np.ndarray]()
    for place, one in enumerate(evidence):
        labels, missing, again = learned[place % FOLDS]
        judged = _by_formula(one)
        if labels is not None:
            judged = replace(judged, labels=_probabilities(labels, one.labels, 4)[:, 1:])
        if missing is not None:
            judged = replace(judged, missing=_probabilities(missing, one.missing, 2)[:, 1])
        found.append(judged)
        order.append(_probabilities(again, one.missing, 2)[:, 1] if again is not None else judged.missing)
    missing = _in_order([one.missing for one in found], order)
    found = [replace(one, missing=chances) for one, chances in zip(found, missing, strict=True)]
    return [_one_each(*one) for one in zip(images, found, strict=True)]


def _in_order(chances: list[np.ndarray], order: list[np.ndarray]) -> list[np.ndarray]:
    """The same chances, of all images together, given out in the order of other numbers."""
    every = np.concatenate(chances)
    given = np.empty_like(every)
    given[np.argsort(np.concatenate(order), kind="stable")] = np.sort(every)
    return np.split(given, np.cumsum([len(one) for one in chances])[:-1])


def make_mistakes(
    image: ImageBoxes, pool: np.ndarray, classes: int, random: np.random.Generator, rate: float = RATE
) -> tuple[ImageBoxes, np.ndarray, np.ndarray]:
    """An image with some labels dropped, relabelled, moved or resized, and some added.

    Args:
        image: The image.
        pool: Labels to add, ``(k, 5)``: class and box, of which class and size are taken.
        classes: How many classes there are.
        random: Decides.
        rate: The share of each kind of mistake.

    Returns:
        The image, per label what was done (0 nothing, else the place in :data:`KINDS` from 1), and the dropped boxes.
    """
    chance = random.random(len(image.boxes))
    kind = np.minimum((chance / rate).astype(int), 3)
    boxes, number = image.boxes.copy(), image.classes.copy()
    if classes > 1:
        swapped = kind == 1
        number[swapped] = (number[swapped] + random.integers(1, classes, swapped.sum())) % classes
    moved = np.flatnonzero(kind == 2)
    for place in moved:
        boxes[place] = _misplaced(boxes[place], random)
    done = np.where(kind == 1, 2 if classes > 1 else 0, np.where(kind == 2, 3, 0))
    added = pool[random.integers(len(pool), size=random.poisson(rate * len(boxes)))]
    extent = added[:, 3:] - added[:, 1:3]
    corner = random.random((len(added), 2)) * np.maximum(np.array(image.size) - extent, 1)
    kept = kind != 0
    boxes = np.concatenate([boxes[kept], np.concatenate([corner, corner + extent], axis=1)])
    boxes = np.clip(boxes, 0, [*image.size, *image.size])
    number = np.concatenate([number[kept], added[:, 0].astype(int)])
    truth = np.concatenate([done[kept], np.ones(len(added), int)])
    return image.with_labels(boxes, number), truth, image.boxes[~kept]


def _misplaced(box: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A box moved by 20% to 70% of its size, or with sides 25% to 80% longer or shorter."""
    size, centre = box[2:] - box[:2], (box[2:] + box[:2]) / 2
    if random.random() < 0.7:
        angle, far = random.uniform(0, 2 * np.pi), random.uniform(0.2, 0.7)
        centre = centre + far * size * [np.cos(angle), np.sin(angle)]
    else:
        size = size * np.exp(random.uniform(0.22, 0.6, 2) * random.choice([-1, 1], 2))
    return np.concatenate([centre - size / 2, centre + size / 2])


@dataclass(frozen=True)
class _Table:
    """What is learned from: rows ``(n, c)``, their outcomes ``(n,)`` and the folds of their images ``(n,)``."""

    rows: np.ndarray
    outcomes: np.ndarray
    folds: np.ndarray


def _learn(
    images: list[ImageBoxes], classes: int, sizes: ClassSizes, seed: int, progress: Progress
) -> list[tuple[object, object, object]]:
    """For each fold a model of labels and two of unexplained predictions, learned from the other folds.

    There is none where there is too little to learn from: predictions that labels explain all of, for instance.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    labels, missing = _tables(images, classes, sizes, seed, progress)
    # Dropped labels are few of very many predictions: smaller trees, which keep to what must be so.
    small = {"learning_rate": 0.06, "max_leaf_nodes": 8}
    small["min_samples_leaf"] = int(np.clip(len(missing.rows) * (FOLDS - 1) // FOLDS // 200, 20, 50))
    # OpenMP's threads spin while they wait: on a busy machine one per core is many times slower than half of them.
    with threadpool_limits(max((os.cpu_count() or 1) // 2, 1), "openmp"):
        of_labels = _fit(labels, seed, {}, {"learning_rate": 0.08, "max_leaf_nodes": 15})
        progress("learn mistakes", 1, 3)
        once = _fit(missing, seed, MISSING_SIGNS, small)
        progress("learn mistakes", 2, 3)
        again = _fit(_without_real_ones(missing, once), seed, MISSING_SIGNS, small)
        progress("learn mistakes", 3, 3)
    return list(zip(of_labels, once, again, strict=True))


def _tables(
    images: list[ImageBoxes], classes: int, sizes: ClassSizes, seed: int, progress: Progress
) -> tuple[_Table, _Table]:
    """Labels by what was done to them, and unexplained predictions by whether a label was dropped there."""
    random = np.random.default_rng(seed)
    pool = np.concatenate([np.column_stack([one.classes, one.boxes]) for one in images])
    labels: list[_Table] = []
    missing: list[_Table] = []
    for round in range(ROUNDS):
        for place, image in enumerate(images):
            spoiled, truth, dropped = make_mistakes(image, pool, classes, random)
            found = gather(spoiled, sizes)
            hit = (iou(image.found[found.which], dropped) > 0.5).any(axis=1).astype(int)
            labels.append(_Table(found.labels, truth, np.full(len(truth), place % FOLDS)))
            missing.append(_Table(found.missing, hit, np.full(len(hit), place % FOLDS)))
        progress("make mistakes", round + 1, ROUNDS)

    def joined(parts: list[_Table]) -> _Table:
        return _Table(
            np.concatenate([one.rows for one in parts]),
            np.concatenate([one.outcomes for one in parts]),
            np.concatenate([one.folds for one in parts]),
        )

    return joined(labels), joined(missing)


def _fit(table: _Table, seed: int, signs: Mapping[int, int], options: Mapping[str, Any]) -> list[object]:
    """For each fold a model of the others, ``None`` where they have one outcome only."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # type: ignore[import-untyped]

    models: list[object] = []
    for fold in range(FOLDS):
        others = table.folds != fold
        rows, outcomes = table.rows[others], table.outcomes[others]
        if len(np.unique(outcomes)) < 2:
            models.append(None)
            continue
        # A column without any value cannot be binned.
        rows[:, np.isnan(rows).all(axis=0)] = 0
        monotonic = np.array([signs.get(column, 0) for column in range(rows.shape[1])]) if signs else None
        model = HistGradientBoostingClassifier(
            max_iter=120, l2_regularization=1.0, monotonic_cst=monotonic, random_state=seed, **options
        )
        models.append(model.fit(rows, outcomes))
    return models


def _without_real_ones(table: _Table, models: list[object]) -> _Table:
    """Unexplained predictions but for those that are likely labels which are really missing."""
    made = table.outcomes == 1
    if not made.any() or None in models:
        return table
    chances = np.zeros(len(table.rows))
    for fold, model in enumerate(models):
        own = table.folds == fold
        chances[own] = _probabilities(model, table.rows[own], 2)[:, 1]
    kept = made | (chances < np.quantile(chances[made], ALIKE))
    return _Table(table.rows[kept], table.outcomes[kept], table.folds[kept])


def _probabilities(model: object, rows: np.ndarray, outcomes: int) -> np.ndarray:
    """``(n, outcomes)``; an outcome that was never seen has none."""
    found = np.zeros((len(rows), outcomes))
    if len(rows):
        found[:, model.classes_] = model.predict_proba(rows)  # type: ignore[attr-defined]
    return found


def _one_each(image: ImageBoxes, judged: Judged) -> Judged:
    """Of unexplained predictions the likeliest for each object."""
    evidence, found = judged.evidence, image.found[judged.evidence.which]
    same, kept = iou(found, found) >= SAME, list[int]()
    for place in np.argsort(-judged.missing, kind="stable"):
        if not same[place, kept].any():
            kept.append(int(place))
    kept.sort()
    evidence = replace(evidence, missing=evidence.missing[kept], which=evidence.which[kept])
    return replace(judged, evidence=evidence, missing=judged.missing[kept])


def _by_formula(evidence: Evidence) -> Judged:
    """Scores after ObjectLab, of the evidence's columns."""
    table = evidence.labels
    agreeing, sure, overlap = table[:, 1], table[:, 2], table[:, 3]
    spurious = np.clip(1 - table[:, 17], 0, 1)
    swapped = table[:, 10] * (1 - agreeing) * (table[:, 10] > sure)
    misplaced = np.where(sure > 0, sure * (1 - overlap), 0) * (overlap > 0.1)
    missing = evidence.missing[:, 1] * (1 - evidence.missing[:, 2])
    return Judged(evidence, np.stack([spurious, swapped, misplaced], axis=1), missing)
