"""How likely each label is a mistake, learned from mistakes that are made on purpose.

ObjectLab (U. Tkachenko, A. Thyagarajan, J. Mueller, "ObjectLab: Automated Diagnosis of Mislabeled Images in Object
Detection Data", 2023, https://arxiv.org/abs/2309.00832) scores overlooked, badly located and swapped labels by
fixed formulas of confidence and overlap. How much an unsupported label or an unexplained prediction means depends
on the data set though: on the class, on the detector, on how thorough the annotators were. So the formula is
learned here: labels of the data set itself are dropped, added, moved and relabelled at random, and gradient
boosting learns what gives such mistakes away. The images that a model judges are never those that it learned from.
What the annotators really did wrong counts as correct while it learns, which makes it careful about what is common
in the data set.
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
LEAST_LABELS = 200
"""With fewer labels there is nothing to learn from, and a fixed formula serves."""


@dataclass(frozen=True)
class Judged:
    """What one image's labels look like.

    Attributes:
        evidence: What it was judged by.
        labels: Per label the probability of each of :data:`KINDS`, ``(n, 3)``.
        missing: Per unexplained prediction the probability that a label is missing there.
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
        return [_by_formula(one) for one in evidence]
    learned = _learn(images, classes, sizes, seed, progress)
    found = []
    for place, one in enumerate(evidence):
        labels, missing = learned[place % FOLDS]
        judged = _by_formula(one)
        if labels is not None:
            judged = replace(judged, labels=_probabilities(labels, one.labels, 4)[:, 1:])
        if missing is not None:
            judged = replace(judged, missing=_probabilities(missing, one.missing, 2)[:, 1])
        found.append(judged)
    return found


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


def _learn(
    images: list[ImageBoxes], classes: int, sizes: ClassSizes, seed: int, progress: Progress
) -> list[tuple[object, object]]:
    """For each fold a model of labels and one of unexplained predictions, learned from the other folds.

    There is none where there is too little to learn from: predictions that labels explain all of, for instance.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier  # type: ignore[import-untyped]
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    random = np.random.default_rng(seed)
    pool = np.concatenate([np.column_stack([one.classes, one.boxes]) for one in images])
    rows: Mapping[str, list[np.ndarray]] = {
        name: [] for name in ("x", "y", "fold", "free_x", "free_y", "free_fold")
    }
    for round in range(ROUNDS):
        for place, image in enumerate(images):
            spoiled, truth, dropped = make_mistakes(image, pool, classes, random)
            found = gather(spoiled, sizes)
            hit = (iou(image.found[found.which], dropped) > 0.5).any(axis=1).astype(int)
            rows["x"].append(found.labels)
            rows["y"].append(truth)
            rows["free_x"].append(found.missing)
            rows["free_y"].append(hit)
            rows["fold"].append(np.full(len(truth), place % FOLDS))
            rows["free_fold"].append(np.full(len(hit), place % FOLDS))
        progress("make mistakes", round + 1, ROUNDS)
    table = {name: np.concatenate(parts) for name, parts in rows.items()}
    options: dict[str, Any] = {
        "max_iter": 120,
        "learning_rate": 0.08,
        "max_leaf_nodes": 15,
        "l2_regularization": 1.0,
    }

    def fitted(prefix: str, fold: int) -> object:
        others = table[f"{prefix}fold"] != fold
        rows, outcomes = table[f"{prefix}x"][others], table[f"{prefix}y"][others]
        if len(np.unique(outcomes)) < 2:
            return None
        # A column without any value cannot be binned.
        rows[:, np.isnan(rows).all(axis=0)] = 0
        chosen = dict(options)
        if prefix:
            # Few of very many: smaller trees, which keep to what must be so. On BCCD the average precision of dropped
            # labels in images that were not learned from rises from 0.25 to 0.27.
            signs = np.zeros(rows.shape[1], int)
            signs[list(MISSING_SIGNS)] = list(MISSING_SIGNS.values())
            chosen |= {"learning_rate": 0.06, "max_leaf_nodes": 8, "monotonic_cst": signs}
            chosen["min_samples_leaf"] = int(np.clip(len(rows) // 200, 20, 50))
        return HistGradientBoostingClassifier(**chosen, random_state=seed).fit(rows, outcomes)

    models = []
    # OpenMP's threads spin while they wait: on a busy machine one per core is many times slower than half of them.
    with threadpool_limits(max((os.cpu_count() or 1) // 2, 1), "openmp"):
        for fold in range(FOLDS):
            models.append((fitted("", fold), fitted("free_", fold)))
            progress("learn mistakes", fold + 1, FOLDS)
    return models


def _probabilities(model: object, rows: np.ndarray, outcomes: int) -> np.ndarray:
    """``(n, outcomes)``; an outcome that was never seen has none."""
    found = np.zeros((len(rows), outcomes))
    if len(rows):
        found[:, model.classes_] = model.predict_proba(rows)  # type: ignore[attr-defined]
    return found


def _by_formula(evidence: Evidence) -> Judged:
    """Scores after ObjectLab, of the evidence's columns."""
    table = evidence.labels
    agreeing, sure, overlap = table[:, 1], table[:, 2], table[:, 3]
    spurious = np.clip(1 - table[:, 17], 0, 1)
    swapped = table[:, 10] * (1 - agreeing) * (table[:, 10] > sure)
    misplaced = np.where(sure > 0, sure * (1 - overlap), 0) * (overlap > 0.1)
    missing = evidence.missing[:, 1] * (1 - evidence.missing[:, 2])
    return Judged(evidence, np.stack([spurious, swapped, misplaced], axis=1), missing)
