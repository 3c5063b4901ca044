"""A synthetic data set and a synthetic video with known truth, for the demo, for tests and for machines offline.

The pictures are of machine parts on a bench (:mod:`osv_lab.store.scenes`): textured backgrounds, overlap, defocus,
noise, a range of sizes, some empty benches. Every image depends on the seed and its own number alone, so an
interrupted run continues where it stopped and two machines make the same pixels.

Example:
    >>> parts = render_dataset("parts", n={"train": 3, "val": 1}, size=(96, 96))
    >>> parts.summary()
    '4 synthetic images with 5 boxes of 5 classes in parts'
    >>> parts.data_yaml.as_posix()
    'parts/data.yaml'
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from osv_lab.core.errors import OsvError, UsageError, nearest
from osv_lab.core.files import write_atomic
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report
from osv_lab.core.settings import SEED, SPLITS
from osv_lab.store.scenes import CLASSES, KEYPOINTS, Instance, Part, background, develop, draw, random_part
from osv_lab.store.synthetic_video import SyntheticVideo as SyntheticVideo
from osv_lab.store.synthetic_video import render_video as render_video

LabelKind: TypeAlias = Literal["boxes", "polygons", "oriented", "keypoints"]
"""Which YOLO label format is written: detect, segment, obb or pose."""

MIN_VISIBILITY = 0.5
"""No part of a still image is covered or cut off more than to this share of its pixels."""

_MANIFEST = ".synthetic.json"
_VERSION = 1
"""Raised whenever the same parameters would give other pixels or labels."""


@dataclass(frozen=True, slots=True)
class DemoRecipe:
    """What the demo renders and how it trains on it.

    Attributes:
        n_train: Training images; ``n_val`` and ``n_test`` alike.
        size: Image size ``(width, height)`` in pixels.
        model: Ultralytics architecture, trained from random weights.
        imgsz: Training image size in pixels.
        train_args: Further training arguments, by Ultralytics' names.
    """

    n_train: int
    n_val: int
    n_test: int
    size: tuple[int, int]
    model: str
    imgsz: int
    epochs: int
    batch: int
    train_args: Mapping[str, Any]


DEMO = DemoRecipe(
    n_train=400,
    n_val=60,
    n_test=100,
    size=(320, 320),
    model="yolo11n.yaml",
    imgsz=160,
    epochs=10,
    batch=8,
    train_args={
        # A small batch with a step after each, no mosaic, a short warm-up: there are only 500 steps to learn in.
        "optimizer": "AdamW",
        "lr0": 0.003,
        "nbs": 8,
        "warmup_epochs": 1,
        "mosaic": 0.0,
        "flipud": 0.5,
    },
)
"""What a detector learns from random weights in some 145 CPU seconds: mAP50 0.69 and 0.73 (two seeds, test split)."""


@dataclass(frozen=True)
class SyntheticDataset(Report):
    """A rendered data set in Ultralytics' YOLO layout.

    Attributes:
        folder: Holds ``images/<split>``, ``labels/<split>`` and ``data.yaml``.
        data_yaml: The file to give to a reader or a trainer.
        classes: Class names by class id.
        labels: Which kind of label was written.
        images: Images by split.
        backgrounds: Images with nothing on them, by split.
        objects: Objects by class name.
        rendered: Images drawn by this call; the others were there from an earlier one.
    """

    folder: Path
    data_yaml: Path
    classes: tuple[str, ...]
    labels: LabelKind
    images: Mapping[str, int]
    backgrounds: Mapping[str, int]
    objects: Mapping[str, int]
    rendered: int

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per split."""
        return [
            {"split": split, "images": count, "backgrounds": self.backgrounds[split]}
            for split, count in self.images.items()
        ]

    def summary(self) -> str:
        """How many images and objects, and where."""
        total, objects = sum(self.images.values()), sum(self.objects.values())
        kinds = f"{objects} {self.labels} of {len(self.classes)} classes"
        return f"{total} synthetic images with {kinds} in {self.folder}"


def render_dataset(
    folder: str | Path,
    n: int | Mapping[str, int] = 100,
    size: tuple[int, int] = (320, 320),
    seed: int = SEED,
    *,
    labels: LabelKind = "boxes",
    classes: Sequence[str] | None = None,
    max_parts: int = 4,
    progress: Progress = silent,
) -> SyntheticDataset:
    """Render images with known truth as a YOLO data set.

    Args:
        folder: Where to write; made when missing. A folder with an unfinished run of the same parameters is
            completed, a finished one is left as it is.
        n: Images in all (split 70/15/15), or a count per split.
        size: ``(width, height)`` in pixels, at least 64 each.
        seed: Same seed, same pixels.
        labels: ``boxes`` of visible pixels, ``polygons`` around the largest visible piece, ``oriented`` boxes of
            whole parts, or ``keypoints`` (three per part).
        classes: Which parts, of :data:`osv_lab.store.scenes.CLASSES`; by default all that have such labels.
        max_parts: Most parts in one image.
        progress: Told after every image.

    Raises:
        UsageError: a value that cannot be, or a folder that holds something else.
    """
    folder = Path(folder)
    names = _checked_classes(labels, classes)
    counts = _checked_counts(n)
    if min(size) < 64:
        raise UsageError("images are too small to draw on", f"size={size}", "use at least 64 x 64 pixels")
    if max_parts < 1:
        raise UsageError("no parts to draw", f"max_parts={max_parts}", "use at least 1")
    parameters = {
        "version": _VERSION,
        "images": counts,
        "size": list(size),
        "seed": seed,
        "labels": labels,
        "classes": list(names),
        "max_parts": max_parts,
    }
    _claim(folder, parameters)
    if not (folder / "data.yaml").exists():
        for leftover in folder.glob("*/*/.*"):  # half-written files of a run that was killed
            leftover.unlink()

    rendered, done, total = 0, 0, sum(counts.values())
    objects: Counter[str] = Counter(dict.fromkeys(names, 0))
    backgrounds = dict.fromkeys(counts, 0)
    progress("rendering", 0, total)
    for split_number, (split, count) in enumerate(counts.items()):
        for number in range(count):
            image_path = folder / "images" / split / f"{split}_{number:05d}.jpg"
            label_path = folder / "labels" / split / f"{split}_{number:05d}.txt"
            if not image_path.exists() or not label_path.exists():
                rng = np.random.default_rng([seed, split_number, number])
                image, instances = _render(rng, size, names, max_parts)
                # The image comes last: where it is, its labels are too.
                write_atomic(label_path, _label_file(instances, names, labels, size))
                write_atomic(image_path, _jpeg(image))
                rendered += 1
            lines = label_path.read_text().splitlines()
            objects.update(names[int(line.split(maxsplit=1)[0])] for line in lines)
            backgrounds[split] += not lines
            done += 1
            progress("rendering", done, total)
    data_yaml = folder / "data.yaml"
    write_atomic(data_yaml, _data_yaml(names, counts, labels))
    return SyntheticDataset(folder, data_yaml, names, labels, counts, backgrounds, dict(objects), rendered)


def _checked_classes(labels: str, classes: Sequence[str] | None) -> tuple[str, ...]:
    if labels not in get_args(LabelKind):
        raise UsageError("no such kind of label", repr(labels), nearest(labels, get_args(LabelKind)))
    possible = tuple(KEYPOINTS) if labels == "keypoints" else CLASSES
    for name in classes or ():
        if name not in possible:
            raise UsageError(f"no such part with {labels}", repr(name), nearest(name, possible))
    if classes is not None and (not classes or len(set(classes)) < len(classes)):
        raise UsageError("classes must be different and at least one", repr(list(classes)), "name each part once")
    return tuple(classes) if classes is not None else possible


def _checked_counts(n: int | Mapping[str, int]) -> dict[str, int]:
    if isinstance(n, int):
        held_out = max(1, round(n * 0.15))
        n = {"train": n - 2 * held_out, "val": held_out, "test": held_out}
    for split, count in n.items():
        if split not in SPLITS:
            raise UsageError("no such split", repr(split), nearest(split, SPLITS))
        if count < 1:
            raise UsageError(f"no images for split {split}", f"{count}", "ask for three images or more")
    return {split: n[split] for split in SPLITS if split in n}


def _claim(folder: Path, parameters: Mapping[str, Any]) -> None:
    """Write what the folder is to hold, or check that it says the same already."""
    manifest = folder / _MANIFEST
    if manifest.exists():
        try:
            found = json.loads(manifest.read_text())
        except ValueError:
            found = None
        if found != parameters:
            raise UsageError(
                "the folder holds a data set rendered with other parameters", folder, "give another folder"
            )
    elif folder.is_dir() and any(entry.name[0] != "." for entry in folder.iterdir()):
        raise UsageError("the folder is not empty and holds no synthetic data set", folder, "give another folder")
    else:
        write_atomic(manifest, json.dumps(parameters, indent=1))


def _render(
    rng: np.random.Generator, size: tuple[int, int], names: Sequence[str], max_parts: int
) -> tuple[np.ndarray, list[Instance]]:
    """One image, uint8 BGR, and what is on it."""
    width, height = size
    bench = background(rng, width, height)
    light = float(rng.uniform(0, 2 * np.pi))
    wanted = 0 if rng.random() < 0.06 else int(rng.integers(1, max_parts + 1))
    parts: list[Part] = []
    for _ in range(wanted):
        for _attempt in range(8):
            candidate = [*parts, _random_placed(rng, size, names, parts)]
            _, instances = draw(bench, candidate, light=light)
            if all(instance.visibility >= MIN_VISIBILITY for instance in instances):
                parts = candidate
                break
    image, instances = draw(bench, parts, light=light)
    blur = float(rng.choice([0.0, rng.uniform(0.4, 1.0), rng.uniform(1.0, 1.8)], p=[0.4, 0.4, 0.2]))
    return develop(rng, image, blur=blur * min(size) / 320, noise=float(rng.uniform(1, 9))), instances


def _random_placed(
    rng: np.random.Generator, size: tuple[int, int], names: Sequence[str], others: Sequence[Part]
) -> Part:
    """A part anywhere on the bench; one in three leans on a part that is there already."""
    width, height = size
    radius = min(size) * float(np.exp(rng.uniform(np.log(0.1), np.log(0.24))))
    x, y = rng.uniform(0.04, 0.96) * width, rng.uniform(0.04, 0.96) * height
    if others and rng.random() < 0.35:
        other = others[int(rng.integers(len(others)))]
        turn, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.1) * (radius + other.radius)
        x, y = other.centre[0] + np.cos(turn) * distance, other.centre[1] + np.sin(turn) * distance
    return random_part(rng, names[int(rng.integers(len(names)))], (float(x), float(y)), radius)


def _jpeg(image: np.ndarray) -> bytes:
    import cv2

    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])
    if not done:
        raise OsvError("OpenCV cannot write JPEG", f"{image.shape}", "reinstall opencv-python-headless")
    return data.tobytes()


def _label_file(
    instances: Sequence[Instance], names: Sequence[str], labels: LabelKind, size: tuple[int, int]
) -> str:
    """The lines of a YOLO label file, one per part."""
    lines = []
    for instance in instances:
        values = " ".join(f"{value:.6g}" for value in _yolo_values(instance, labels, size))
        lines.append(f"{names.index(instance.part.label)} {values}\n")
    return "".join(lines)


def _yolo_values(instance: Instance, labels: LabelKind, size: tuple[int, int]) -> list[float]:
    scale = np.array(size, float)
    if labels == "polygons":
        return list((instance.polygon / scale).clip(0, 1).ravel())
    if labels == "oriented":
        # Ultralytics reads corners between 0 and 1 only; a part that leaves the image is clipped to it.
        return list((instance.oriented_box / scale).clip(0, 1).ravel())
    x1, y1, x2, y2 = instance.box
    width, height = size
    box = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
    if labels == "boxes":
        return box
    return box + [v for x, y, flag in instance.keypoints for v in (x / width, y / height, flag)]


def _data_yaml(names: Sequence[str], counts: Mapping[str, int], labels: LabelKind) -> str:
    import yaml

    content: dict[str, Any] = {split: f"images/{split}" for split in counts}
    content["names"] = dict(enumerate(names))
    if labels == "keypoints":
        content["kpt_shape"] = [len(KEYPOINTS[names[0]]), 3]
        content["kpt_names"] = {number: list(KEYPOINTS[name]) for number, name in enumerate(names)}
    return yaml.safe_dump(content, sort_keys=False)
