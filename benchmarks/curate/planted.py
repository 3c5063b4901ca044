"""Faults planted in real data: how many come among the first suggestions, here and with FiftyOne Brain.

BCCD has errors of its own: more than a thousand cells without a box. They take the first places of every list that
puts true errors first. So faults are looked for twice: in BCCD as it is, and after what a review found missing was
drawn (:mod:`benchmarks.curate.reviewed`). For BCCD as it is, recall is also told among the first suggestions that are
no errors of BCCD itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from osv_lab.curate.evidence import iou

SHOWN = (200, 500, 1000)
"""The first so many suggested missing labels of which is told how many are right."""
EACH = 50
COPIES = 20
SPOILED = 20
FIRST = 200
MENDED = "mended"
"""The tag of labels that the review drew: they are not spoiled."""
KIND_OF = {"dropped": "missing", "added": "spurious", "relabelled": "wrong_class", "shifted": "badly_placed"}


@dataclass
class Planted:
    """What was done, by label id or sample id."""

    relabelled: set[str] = field(default_factory=set)
    shifted: set[str] = field(default_factory=set)
    added: set[str] = field(default_factory=set)
    dropped: list[tuple[str, np.ndarray]] = field(default_factory=list)
    copies: set[str] = field(default_factory=set)
    spoiled: set[str] = field(default_factory=set)


def plant_labels(fo: Any, dataset: Any, seed: int, each: int = EACH) -> Planted:
    """Drop, relabel, shift and add as many boxes each; shifts are 30% to 60% of the box in a random direction."""
    random, planted = np.random.default_rng(seed), Planted()
    samples = list(dataset.match(fo.ViewField("ground_truth") != None))  # noqa: E711
    every = [
        (sample, label)
        for sample in samples
        for label in sample.ground_truth.detections
        if MENDED not in label.tags
    ]
    names = sorted({label.label for _, label in every})
    picked = [every[place] for place in random.permutation(len(every))]
    # Some cells have two boxes: without one of them nothing is missing.
    dropped = [one for one in picked if not _covered(*one)][:each]
    gone = {label.id for _, label in dropped}
    picked = [one for one in picked if one[1].id not in gone]
    for sample, label in dropped:
        planted.dropped.append((sample.id, np.array(label.bounding_box)))
    for _, label in picked[:each]:
        label.label = str(random.choice([name for name in names if name != label.label]))
        planted.relabelled.add(label.id)
    for _, label in picked[each : 2 * each]:
        x, y, w, h = label.bounding_box
        angle, far = random.uniform(0, 2 * np.pi), random.uniform(0.3, 0.6)
        left, top = x + far * w * np.cos(angle), y + far * h * np.sin(angle)
        right, bottom = min(left + w, 1), min(top + h, 1)
        left, top = max(left, 0), max(top, 0)
        label.bounding_box = [left, top, right - left, bottom - top]
        planted.shifted.add(label.id)
    for sample in samples:
        sample.ground_truth.detections = [one for one in sample.ground_truth.detections if one.id not in gone]
    while len(planted.added) < each:
        sample = samples[int(random.integers(len(samples)))]
        like = every[int(random.integers(len(every)))][1]
        w, h = like.bounding_box[2:]
        box = np.array([random.uniform(0, 1 - w), random.uniform(0, 1 - h), w, h])
        others = np.array([one.bounding_box for one in sample.ground_truth.detections]).reshape(-1, 4)
        if len(others) and iou(corners(box[None]), corners(others)).max() > 0.3:
            continue
        label = fo.Detection(label=like.label, bounding_box=box.tolist())
        sample.ground_truth.detections.append(label)
        planted.added.add(label.id)
    for sample in samples:
        sample.save()
    return planted


def _covered(sample: Any, label: Any) -> bool:
    """Whether another label covers the same object."""
    others = [one.bounding_box for one in sample.ground_truth.detections if one.id != label.id]
    if not others:
        return False
    return bool(iou(corners(np.array([label.bounding_box])), corners(np.array(others))).max() >= 0.5)


def plant_images(fo: Any, dataset: Any, folder: Path, seed: int, planted: Planted) -> None:
    """Twenty near copies in another split, and twenty images made dark or blurred."""
    random = np.random.default_rng(seed + 1000)
    folder.mkdir(parents=True, exist_ok=True)
    samples = [sample for sample in dataset if sample.tags]
    picked = [samples[place] for place in random.permutation(len(samples))]
    for number, sample in enumerate(picked[:COPIES]):
        image = cv2.imread(sample.filepath)
        margin = int(random.integers(0, 16))
        image = image[margin : image.shape[0] - margin, margin : image.shape[1] - margin]
        image = cv2.resize(image, None, fx=(by := random.uniform(0.8, 1.1)), fy=by)
        image = cv2.convertScaleAbs(image, alpha=random.uniform(0.9, 1.1), beta=random.uniform(-10, 10))
        path = folder / f"copy{number}.jpg"
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(60, 95))])
        split = "val" if "train" in sample.tags else "train"
        copy = fo.Sample(str(path), tags=[split])
        dataset.add_sample(copy)
        planted.copies.add(copy.id)
    for number, sample in enumerate(picked[COPIES : COPIES + SPOILED]):
        image = cv2.imread(sample.filepath)
        if number % 2:
            image = cv2.GaussianBlur(image, (0, 0), random.uniform(2.5, 5))
        else:
            image = (image * random.uniform(0.15, 0.45)).astype(np.uint8)
        path = folder / f"spoiled{number}.jpg"
        cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
        sample.filepath = str(path)
        sample.save()
        planted.spoiled.add(sample.id)


def corners(xywh: np.ndarray) -> np.ndarray:
    """``xyxy`` of ``xywh``."""
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def recall_of_labels(
    planted: Planted, report: Any, verdicts: dict[str, dict[str, list[np.ndarray]]], first: int = FIRST
) -> dict[str, float]:
    """The share of each kind's planted faults that is found.

    - ``FAULT``: among the first suggestions by the chance of the kind that it is.
    - ``FAULT, called so``: among the first that are likelier of that kind than of any other. A box that was moved far
      off its cell and one that was added beside a cell look alike.
    - ``dropped, BCCD's own set aside``: among the first that are not at places where a review found a label missing in
      BCCD itself.
    - ``dropped, doubtful too``: nor at places that are doubtful.
    """
    found = {fault: _share(planted, fault, report.likeliest(kind, first)) for fault, kind in KIND_OF.items()}
    dropped = _dropped(planted)
    left = report.likeliest("missing", len(report.suggestions))
    for verdict, told in (("missing", "BCCD's own set aside"), ("doubtful", "doubtful too")):
        left = tuple(one for one in left if _hit(one, dropped) or not _hit(one, verdicts[verdict]))
        found[f"dropped, {told}"] = _share(planted, "dropped", left[:first])
    for fault in ("added", "relabelled", "shifted"):
        called = [one for one in report.suggestions if one.kind == KIND_OF[fault]]
        found[f"{fault}, called so"] = _share(planted, fault, called[:first])
    return found


def first_missing(
    planted: Planted, report: Any, verdicts: dict[str, dict[str, list[np.ndarray]]], first: int = FIRST
) -> dict[str, float]:
    """What the first suggested missing labels are: shares of those that were dropped, and by a review's verdicts.

    Then the share that is right, dropped or found missing by the review, among the first of each of :data:`SHOWN`.
    """
    kinds = {"dropped": _dropped(planted), **verdicts}
    found = [
        next((kind for kind, boxes in kinds.items() if _hit(one, boxes)), "not reviewed")
        for one in report.likeliest("missing", max(SHOWN))
    ]
    shares = {
        f"of the missing: {kind}": found[:first].count(kind) / max(len(found[:first]), 1)
        for kind in (*kinds, "not reviewed")
    }
    right = [kind in ("dropped", "missing") for kind in found]
    return shares | {f"right of the first {n}": float(np.mean(right[:n] or [0])) for n in SHOWN}


def _dropped(planted: Planted) -> dict[str, list[np.ndarray]]:
    boxes: dict[str, list[np.ndarray]] = {}
    for sample, box in planted.dropped:
        boxes.setdefault(sample, []).append(box)
    return boxes


def _hit(one: Any, boxes: dict[str, list[np.ndarray]]) -> bool:
    some = boxes.get(one.sample)
    return bool(some and iou(corners(np.array([one.box])), corners(np.array(some))).max() >= 0.5)


def _share(planted: Planted, fault: str, suggestions: Sequence[Any]) -> float:
    if fault != "dropped":
        truth = getattr(planted, fault)
        return len(truth & {one.label for one in suggestions}) / len(truth)
    boxes: dict[str, list[Any]] = {}
    for one in suggestions:
        if one.kind == "missing":
            boxes.setdefault(one.sample, []).append(one.box)
    return _near(planted, boxes)


def _near(planted: Planted, boxes: dict[str, list[Any]]) -> float:
    """The share of dropped boxes that one of some boxes overlaps by half."""
    hits = [
        sample in boxes and iou(corners(box[None]), corners(np.array(boxes[sample]))).max() >= 0.5
        for sample, box in planted.dropped
    ]
    return float(np.mean(hits))


def brain_labels(fo: Any, dataset: Any, planted: Planted, first: int = FIRST) -> dict[str, float]:
    """FiftyOne Brain: labels by mistakenness, possibly missing ones by confidence, possibly spurious ones as listed."""
    import fiftyone.brain as fob

    fob.compute_mistakenness(dataset, "predictions", label_field="ground_truth", copy_missing=True, progress=False)
    wrong: list[tuple[float, str]] = []
    place: list[tuple[float, str]] = []
    spurious: list[str] = []
    missing: list[tuple[float, str, Any]] = []
    for sample in dataset.iter_samples():
        for label in sample.ground_truth.detections if sample.ground_truth else []:
            if label.get_attribute_value("possible_missing", False):
                missing.append((label.confidence or 0.0, sample.id, label.bounding_box))
                continue
            if label.get_attribute_value("possible_spurious", False):
                spurious.append(label.id)
            if (value := label.get_attribute_value("mistakenness", None)) is not None:
                wrong.append((value, label.id))
            if (value := label.get_attribute_value("mistakenness_loc", None)) is not None:
                place.append((value, label.id))

    def share(truth: set[str], ranked: list[str]) -> float:
        return len(truth & set(ranked[:first])) / len(truth)

    boxes: dict[str, list[Any]] = {}
    for _, sample_id, box in sorted(missing, key=lambda one: -one[0])[:first]:
        boxes.setdefault(sample_id, []).append(box)
    return {
        "dropped": _near(planted, boxes),
        "added": share(planted.added, spurious),
        "relabelled": share(planted.relabelled, [one for _, one in sorted(wrong, reverse=True)]),
        "shifted": share(planted.shifted, [one for _, one in sorted(place, reverse=True)]),
    }


def recall_of_images(planted: Planted, report: Any, first: int = FIRST) -> dict[str, float]:
    """The share of planted copies among the first leaks, and of spoiled images among the first dark or blurred."""
    leaks = [sample for one in report.findings if one.kind == "leak" for sample in one.samples][:first]
    bad = [sample for one in report.findings if one.kind in ("dark", "blurry") for sample in one.samples][:first]
    return {
        "copies across splits": len(planted.copies & set(leaks)) / len(planted.copies),
        "blurred or dark": len(planted.spoiled & set(bad)) / len(planted.spoiled),
        "leaks listed": float(len(leaks)),
        "blurred or dark listed": float(len(bad)),
    }


def brain_copies(dataset: Any, planted: Planted, first: int = FIRST) -> dict[str, float]:
    """FiftyOne Brain's near duplicates, given embeddings of the same kind of picture: 32 x 32 grey thumbnails."""
    import fiftyone.brain as fob

    pictures = [cv2.imread(path, cv2.IMREAD_GRAYSCALE) for path in dataset.values("filepath")]
    small = np.array([cv2.resize(one, (32, 32), interpolation=cv2.INTER_AREA).ravel() for one in pictures], float)
    embeddings = (small - small.mean(axis=1, keepdims=True)) / (small.std(axis=1, keepdims=True) + 1e-9)
    index = fob.compute_near_duplicates(dataset, embeddings=embeddings, threshold=0.2, progress=False)
    near = sorted(
        (
            (distance, one)
            for kept, others in index.neighbors_map.items()
            for other, distance in others
            for one in (kept, other)
        )
    )
    ranked = list(dict.fromkeys(one for _, one in near))[:first]
    return {"copies across splits": len(planted.copies & set(ranked)) / len(planted.copies)}


def fresh_folder(path: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path
