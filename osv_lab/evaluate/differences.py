"""Every metric of two models, on every slice, on the same resamples of the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from osv_lab.detect.metrics import SIZES, Matches, match_by_class
from osv_lab.evaluate.bootstrap import (
    estimates,
    mean_precision,
    one_sided_adjusted,
    part_of,
    resample_weights,
    weighted_precision,
)
from osv_lab.evaluate.outcomes import Operated

if TYPE_CHECKING:
    import supervision as sv

Slices = Mapping[str, Mapping[str, np.ndarray]]
"""Kind of slice ("tag", "weather") to its values, each a ``(images,) bool`` mask."""

MAX_DETECTIONS = 100
MIN_OBJECTS = 20
"""A slice with fewer objects is not judged together with the others: its few images make it jump, and hide them."""


@dataclass(frozen=True)
class Difference:
    """One metric of one slice: the second model's minus the first's. Numbers are 0 to 1, NaN where not known.

    Attributes:
        kind: What the slice is by: ``all``, ``class``, ``size``, or a kind that was asked for.
        slice: Its value, such as a class.
        metric: ``mAP50-95``, ``mAP50``, ``precision``, ``recall`` or ``F1``; of a class, ``mAP`` is its AP.
        a: Of the first model.
        b: Of the second.
        difference: ``b - a``.
        low: Lower end of the difference's 95% interval.
        high: Upper end.
        p: Of no difference, this one alone.
        p_adjusted: Of no difference, judged together with all rows of the metric that have enough objects.
        p_fall: One-sided, judged together: that luck alone shows such a fall below the margin.
        objects: In the slice.
        images: In the slice.
    """

    kind: str
    slice: str
    metric: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    p: float
    p_adjusted: float
    p_fall: float
    objects: int
    images: int

    @property
    def name(self) -> str:
        """The slice in words."""
        return self.slice if self.kind == "all" else f"{self.kind} {self.slice}"


@dataclass
class _Row:
    kind: str
    slice: str
    metric: str
    a: np.ndarray
    b: np.ndarray
    objects: int
    images: int


@dataclass(frozen=True)
class _Model:
    """One model's matches and its counts at its operating point: ``(images, classes)`` right, kept and found."""

    matches: Mapping[int, Mapping[str, Matches]]
    right: np.ndarray
    kept: np.ndarray


def differences(
    first: Sequence[sv.Detections],
    second: Sequence[sv.Detections],
    targets: Sequence[sv.Detections],
    class_names: Sequence[str],
    operating: tuple[Sequence[Operated], Sequence[Operated]],
    slices: Slices,
    *,
    n_boot: int,
    seed: int,
    margin: float = 0.0,
    min_objects: int = MIN_OBJECTS,
) -> tuple[Difference, ...]:
    """All differences, with intervals.

    Thresholds are held as they are: what is resampled is the images.
    """
    weights = resample_weights(len(targets), n_boot, seed)
    objects = _per_class([one.class_id[~one.data["iscrowd"].astype(bool)] for one in targets], len(class_names))
    models = []
    for predictions, operated in zip((first, second), operating, strict=True):
        right = _per_class(
            [p.class_id[o.kept & o.right] for p, o in zip(predictions, operated, strict=True)], len(class_names)
        )
        kept = _per_class(
            [p.class_id[o.kept] for p, o in zip(predictions, operated, strict=True)], len(class_names)
        )
        matched = match_by_class(predictions, targets, max_detections=MAX_DETECTIONS)
        models.append(_Model(matched, right, kept))
    everything = np.ones(len(targets), dtype=bool)
    rows = _rows(models, weights, objects, everything, "all", "all", class_names)
    for size in list(SIZES)[1:]:
        rows += _size_rows(models, weights, size)
    for kind, values in slices.items():
        for value, mask in values.items():
            if mask.any():
                rows += _rows(models, weights, objects, mask, kind, value, ())
    return _judged(rows, margin, min_objects)


def _per_class(ids: Sequence[np.ndarray], classes: int) -> np.ndarray:
    return np.stack([np.bincount(one, minlength=classes) for one in ids])


def _rows(
    models: Sequence[_Model],
    weights: np.ndarray,
    objects: np.ndarray,
    mask: np.ndarray,
    kind: str,
    value: str,
    class_names: Sequence[str],
) -> list[_Row]:
    """The metrics of some images; of each class too, where classes are named."""
    some, wanted = weights[:, mask], objects[mask]
    found: list[dict[tuple[str, str, str], np.ndarray]] = []
    for model in models:
        by_class = {
            number: weighted_precision(part_of(sizes["all"], mask), some)
            for number, sizes in model.matches.items()
        }
        own = _at_threshold(some @ model.right[mask], some @ model.kept[mask], some @ wanted)
        mean = mean_precision(list(by_class.values()))
        values = {(kind, value, "mAP50-95"): _mean(mean), (kind, value, "mAP50"): mean[:, 0]}
        values |= {(kind, value, metric): _mean(columns) for metric, columns in own.items()}
        for number, name in enumerate(class_names):
            if wanted[:, number].any() and number in by_class:
                values |= {("class", name, "mAP50-95"): by_class[number].mean(axis=1)}
                values |= {("class", name, "mAP50"): by_class[number][:, 0]}
                values |= {("class", name, metric): columns[:, number] for metric, columns in own.items()}
        found.append(values)
    rows = []
    for key in found[0].keys() & found[1].keys():
        of_class = key[0] == "class" and bool(class_names)
        column = wanted[:, list(class_names).index(key[1])] if of_class else wanted.sum(axis=1)
        images = int((column > 0).sum()) if of_class else int(mask.sum())
        rows.append(_Row(*key, found[0][key], found[1][key], int(column.sum()), images))
    order = list(found[0])
    return sorted(rows, key=lambda row: order.index((row.kind, row.slice, row.metric)))


def _at_threshold(right: np.ndarray, kept: np.ndarray, wanted: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1, ``(b, classes)``; NaN where a class has no objects (or predictions, for precision)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        known = np.where(wanted > 0, 1.0, np.nan)
        return {
            "precision": right / kept * known,
            "recall": right / wanted,
            "F1": 2 * right / (kept + wanted) * known,
        }


def _size_rows(models: Sequence[_Model], weights: np.ndarray, size: str) -> list[_Row]:
    found = []
    for model in models:
        mean = mean_precision([weighted_precision(sizes[size], weights) for sizes in model.matches.values()])
        found.append((_mean(mean), mean[:, 0]))
    targets = sum(sizes[size].targets for sizes in models[0].matches.values())
    counts = (int(np.sum(targets)), int(np.sum(targets > 0)))
    if not counts[0]:
        return []
    pairs = zip(("mAP50-95", "mAP50"), *found, strict=True)
    return [_Row("size", size, metric, a, b, *counts) for metric, a, b in pairs]


def _mean(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0).sum(axis=1)
    return np.asarray(np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0))


def _judged(rows: Sequence[_Row], margin: float, least: int) -> tuple[Difference, ...]:
    """Rows of one metric are judged together."""
    found: dict[int, Difference] = {}
    for metric in dict.fromkeys(row.metric for row in rows):
        numbers = [number for number, row in enumerate(rows) if row.metric == metric]
        values = np.stack([rows[number].b - rows[number].a for number in numbers], axis=1)
        judged = np.array([rows[number].objects >= least for number in numbers])
        known = estimates(values, together=judged)
        falls = one_sided_adjusted(values, margin, judged)
        for column, number in enumerate(numbers):
            row = rows[number]
            found[number] = Difference(
                kind=row.kind,
                slice=row.slice,
                metric=metric,
                a=float(row.a[0]),
                b=float(row.b[0]),
                difference=float(known.value[column]),
                low=float(known.low[column]),
                high=float(known.high[column]),
                p=float(known.p[column]),
                p_adjusted=float(known.p_adjusted[column]),
                p_fall=float(falls[column]),
                objects=row.objects,
                images=row.images,
            )
    return tuple(found[number] for number in range(len(rows)))
