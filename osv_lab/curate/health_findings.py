"""What stands out in a dataset's labels: about images, classes, labels and boxes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from osv_lab.core.settings import SPLITS
from osv_lab.core.words import counted
from osv_lab.curate.findings import Finding

RARE = 30
"""With fewer objects a class can hardly be learned, nor its scores trusted."""


@dataclass(frozen=True)
class Objects:
    """All objects of a view as columns of one row each.

    Attributes:
        sample: The samples' ids, ``(k,)``.
        label: The labels' ids.
        name: Their classes; ``None`` where there is none.
        xywh: Their boxes, relative, ``(k, 4)``; NaN where there is none, or not of four finite numbers.
    """

    sample: np.ndarray
    label: np.ndarray
    name: np.ndarray
    xywh: np.ndarray

    @property
    def named(self) -> np.ndarray:
        """Which have a class, ``(k,)``."""
        return np.array([bool(name) for name in self.name.tolist()], bool)

    @property
    def placed(self) -> np.ndarray:
        """Which have a box, ``(k,)``."""
        return np.asarray(np.isfinite(self.xywh).all(axis=1))

    def only(self, where: np.ndarray) -> Objects:
        """Some of them."""
        return (
            self
            if where.all()
            else Objects(*(one[where] for one in (self.sample, self.label, self.name, self.xywh)))
        )


def objects_of(documents: Sequence[Mapping[str, Any]]) -> Objects:
    """The objects of documents that :func:`osv_lab.store.bulk_documents.read_columns` gave."""

    def column(name: str) -> list[Any]:
        return list(itertools.chain.from_iterable(one[name] for one in documents))

    ids = np.array([one["_id"] for one in documents], object)
    names = column("label")
    return Objects(
        np.repeat(ids, [len(one["label"]) for one in documents]),
        np.array(column("id"), object),
        np.array([*names, ()], object)[:-1],
        _numbers(column("bounding_box")),
    )


def _numbers(boxes: Sequence[Any]) -> np.ndarray:
    """``(k, 4)``, NaN for what is not four numbers."""
    try:
        return np.array(boxes, float).reshape(-1, 4) if boxes else np.zeros((0, 4))
    except (TypeError, ValueError):
        rows = np.full((len(boxes), 4), np.nan)
        for place, box in enumerate(boxes):
            if isinstance(box, list) and len(box) == 4 and all(isinstance(one, (int, float)) for one in box):
                rows[place] = box
        return rows


def about_labels(objects: Objects, field_name: str) -> list[Finding]:
    """Labels without a class, and labels without a box."""
    findings = []
    for kind, where, text in (
        ("no_class", ~objects.named, "no class"),
        ("no_box", ~objects.placed, "no box of four numbers"),
    ):
        if where.any():
            samples = tuple(dict.fromkeys(objects.sample[where].tolist()))
            count = int(where.sum())
            told = f"{counted(count, 'label')} {'has' if count == 1 else 'have'} {text}"
            findings.append(Finding(kind, told, 0.9, samples, tuple(map(str, objects.label[where])), field_name))
    return findings


def about_images(
    documents: Sequence[Mapping[str, Any]],
    labelled: Sequence[Mapping[str, Any]],
    per_image: Mapping[str, int],
    split_of: Mapping[str, str],
) -> list[Finding]:
    """Images that nobody labelled, that are empty or crowded, and splits that are missing."""
    findings = []
    known = {one["_id"] for one in labelled}
    unlabelled = tuple(one["_id"] for one in documents if one["_id"] not in known)
    if unlabelled:
        share = len(unlabelled) / len(documents)
        text = f"{counted(len(unlabelled), 'image')} ({share:.1%}) were never labelled; training leaves them out"
        findings.append(Finding("unlabelled", text, 0.3 + 0.5 * share, unlabelled))
    empty = tuple(one["_id"] for one in labelled if not per_image.get(one["_id"]))
    if empty:
        share = len(empty) / len(labelled)
        text = f"{counted(len(empty), 'image')} ({share:.1%}) are labelled as showing nothing: is that so?"
        findings.append(Finding("background", text, 0.1 + 0.6 * share, empty))
    counts = np.array([per_image.get(one["_id"], 0) for one in labelled], float)
    if len(counts) >= 20:
        middle = np.median(counts)
        spread = max(1.4826 * float(np.median(np.abs(counts - middle))), 1.0)
        crowded = np.flatnonzero(counts > middle + 6 * spread)
        if len(crowded):
            ids = tuple(labelled[place]["_id"] for place in crowded[np.argsort(-counts[crowded])])
            text = f"{counted(len(ids), 'image')} hold far more objects than the usual {middle:.0f}"
            findings.append(Finding("crowded", text, 0.2, ids))
    splits = Counter(split_of.values())
    if any(splits.get(split) for split in SPLITS):
        if nowhere := tuple(sample for sample, split in split_of.items() if not split):
            findings.append(Finding("no_split", f"{counted(len(nowhere), 'image')} are in no split", 0.4, nowhere))
        if not splits.get("val"):
            findings.append(Finding("no_val", "no image is in the split val, which training is steered by", 0.5))
    return findings


def about_classes(
    counts: Counter[str], by_split: Mapping[str, Counter[str]], pairs: set[tuple[str, str]]
) -> list[Finding]:
    """Classes that are rare, unbalanced, in some splits only, or spelled twice."""
    findings = []
    most = counts.most_common(1)[0] if counts else ("", 0)

    def showing(names: set[str]) -> tuple[str, ...]:
        return tuple(sorted({sample for sample, name in pairs if name in names}))

    rare = {name: count for name, count in counts.items() if count < RARE}
    if rare:
        told = ", ".join(f"{name} ({count})" for name, count in sorted(rare.items(), key=lambda one: one[1]))
        text = f"too few objects to learn or to score: {told}"
        findings.append(Finding("rare_classes", text, 0.7, showing(set(rare))))
    few = {name for name, count in counts.items() if name not in rare and count * 10 <= most[1]}
    if few:
        text = f"{most[0]} has ten times as many objects or more than {', '.join(sorted(few))}"
        findings.append(Finding("imbalance", text, 0.4, showing(few)))
    if len([split for split in by_split if split]) > 1:
        trained = by_split.get("train", Counter())
        for split, some in by_split.items():
            if split and split != "train" and (unseen := {name for name in some if not trained.get(name)}):
                text = f"{split} asks for classes that train never shows: {', '.join(sorted(unseen))}"
                findings.append(Finding(f"unseen_in_{split}", text, 0.9, showing(unseen)))
        lacking = {
            name
            for name in trained
            for split in ("val", "test")
            if split in by_split and not by_split[split][name]
        }
        if lacking:
            text = f"never in val or test, so never scored there: {', '.join(sorted(lacking))}"
            findings.append(Finding("unscored_classes", text, 0.6, showing(lacking)))
    folded: dict[str, set[str]] = {}
    for name in counts:
        folded.setdefault("".join(filter(str.isalnum, name.lower())), set()).add(name)
    if twins := [names for names in folded.values() if len(names) > 1]:
        told = "; ".join(" = ".join(sorted(names)) for names in twins)
        findings.append(
            Finding(
                "similar_names", f"classes that differ in spelling only: {told}", 0.8, showing(set().union(*twins))
            )
        )
    return findings


def about_boxes(objects: Objects, field_name: str) -> list[Finding]:
    """Boxes that are empty, outside, double, tiny, or the whole image."""
    x, y, w, h = objects.xywh.T
    slack = 1e-3
    outside = (x < -slack) | (y < -slack) | (x + w > 1 + slack) | (y + h > 1 + slack)
    empty = (w <= 0) | (h <= 0)
    tiny = ~empty & (w * h < 1e-5)
    whole = w * h > 0.95
    rows = list(
        zip(objects.sample.tolist(), objects.name.tolist(), *np.round(objects.xywh, 4).T.tolist(), strict=True)
    )
    times = Counter(rows)
    double = np.array([times[row] > 1 for row in rows], bool)
    kinds = (
        ("empty_boxes", empty, 0.8, "{} no area"),
        ("outside", outside, 0.6, "{} beyond the image"),
        ("double_boxes", double, 0.6, "{} there more than once"),
        ("tiny_boxes", tiny, 0.3, "{} smaller than a hundred-thousandth of the image"),
        ("whole_image", whole, 0.2, "{} the whole image"),
    )
    verbs = {
        "empty_boxes": "have",
        "outside": "reach",
        "double_boxes": "are",
        "tiny_boxes": "are",
        "whole_image": "cover",
    }
    findings = []
    for kind, where, severity, text in kinds:
        if where.any():
            samples = tuple(dict.fromkeys(objects.sample[where].tolist()))
            text = f"{counted(int(where.sum()), 'box', 'boxes')} {text.format(verbs[kind])}"
            labels = tuple(map(str, objects.label[where].tolist()))
            findings.append(Finding(kind, text, severity, samples, labels, field_name))
    return findings
