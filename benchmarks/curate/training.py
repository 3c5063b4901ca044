"""Short trainings on BCCD that a benchmark can afford: small pictures, a start from rendered ones, kept when done.

Every run starts from the same YOLO11n, which saw only the lab's rendered machine parts, and sees the same number of
pictures, so that runs differ in their data and in nothing else. What is finished is not done again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIZE = 160
"""The longer side of pictures, in training and validation."""

CLASSES = ("Platelets", "RBC", "WBC")
_OPTIONS: Mapping[str, Any] = {
    "imgsz": SIZE,
    "batch": 8,
    "nbs": 8,
    "optimizer": "AdamW",
    "lr0": 0.002,
    "warmup_epochs": 1,
    "mosaic": 0.0,
    "flipud": 0.5,
    "device": "cpu",
    "workers": 0,
    "amp": False,
    "cache": "ram",
    "plots": False,
    "val": False,
    "verbose": False,
    "exist_ok": True,
}


@dataclass(frozen=True)
class Photo:
    """A labelled photo: relative ``[x, y, w, h]`` boxes ``(n, 4)`` and class numbers ``(n,)``."""

    path: str
    split: str
    boxes: np.ndarray
    classes: np.ndarray

    def labelled(self, boxes: Sequence[Any], classes: Sequence[int]) -> Photo:
        """The same photo with other labels."""
        return replace(self, boxes=np.array(boxes, float).reshape(-1, 4), classes=np.array(classes, int))


def photos_of(view: Any, field: str = "ground_truth") -> list[Photo]:
    """The labelled photos of a FiftyOne view."""
    found = []
    for path, tags, names, boxes in zip(
        *view.values(["filepath", "tags", f"{field}.detections.label", f"{field}.detections.bounding_box"]),
        strict=True,
    ):
        split = next((tag for tag in ("train", "val", "test") if tag in tags), "")
        numbers = np.array([CLASSES.index(name) for name in names or ()], int)
        found.append(Photo(path, split, np.array(boxes or (), float).reshape(-1, 4), numbers))
    return found


def start(out: Path) -> Path:
    """The weights that every run starts from, trained on rendered parts if they are not there."""
    weights = out / "start.pt"
    if not weights.exists():
        from osv_lab.store.synthetic import render_dataset

        render_dataset(out / "rendered", {"train": 400, "val": 20, "test": 1})
        _train("yolo11n.yaml", out / "rendered" / "data.yaml", out / "start", epochs=12, seed=51, target=weights)
        shutil.rmtree(out / "rendered", ignore_errors=True)
    return weights


def fit(out: Path, name: str, photos: Sequence[Photo], seen: int, seed: int) -> Path:
    """Weights of a run of this name over ``seen`` pictures, shuffled and augmented with ``seed``."""
    weights = out / "weights" / f"{name}.pt"
    if not weights.exists():
        data = write(out / "data" / name, photos, photos[:1])
        epochs = max(1, round(seen / len(photos)))
        _train(str(start(out)), data, out / "runs" / name, epochs=epochs, seed=seed, target=weights)
        shutil.rmtree(out / "data" / name)
    return weights


def score(out: Path, name: str, weights: Path, photos: Sequence[Photo]) -> dict[str, float]:
    """mAP at IoU 0.5 to 0.95 and at 0.5, and the former per class."""
    path = out / "scores" / f"{name}.json"
    if not path.exists():
        import torch
        from ultralytics import YOLO

        from osv_lab.train.engine import quiet

        torch.set_num_threads(threads())
        folder = out / "held"
        data = folder / "data.yaml" if (folder / "data.yaml").exists() else write(folder, photos[:1], photos)
        with quiet():
            measured = YOLO(str(weights)).val(
                data=str(data), imgsz=SIZE, device="cpu", workers=0, plots=False, verbose=False, batch=8,
                project=str(out / "val"), name=name, exist_ok=True,
            )  # fmt: skip
        box = measured.box
        per_class = {CLASSES[number]: float(box.maps[number]) for number in box.ap_class_index}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"map": float(box.map), "map50": float(box.map50), **per_class}))
    return dict(json.loads(path.read_text()))


def threads() -> int:
    """Threads of a run; one by default, so that several can share a machine."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


def write(folder: Path, train: Sequence[Photo], val: Sequence[Photo]) -> Path:
    """A YOLO data set of small copies of photos; its ``data.yaml``."""
    shutil.rmtree(folder, ignore_errors=True)
    for split, photos in (("train", train), ("val", val)):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        for number, photo in enumerate(photos):
            image = cv2.imread(photo.path)
            by = SIZE / max(image.shape[:2])
            small = cv2.resize(image, None, fx=by, fy=by, interpolation=cv2.INTER_AREA)
            stem = f"{number:04d}-{Path(photo.path).stem}"
            cv2.imwrite(str(folder / "images" / split / f"{stem}.png"), small)
            rows = [
                f"{kind} {x + w / 2:.6f} {y + h / 2:.6f} {w:.6f} {h:.6f}\n"
                for kind, (x, y, w, h) in zip(photo.classes, photo.boxes.tolist(), strict=True)
            ]
            (folder / "labels" / split / f"{stem}.txt").write_text("".join(rows))
    data = {"path": str(folder), "train": "images/train", "val": "images/val", "names": dict(enumerate(CLASSES))}
    (folder / "data.yaml").write_text(json.dumps(data))
    return folder / "data.yaml"


def _train(model: str, data: Path, folder: Path, *, epochs: int, seed: int, target: Path) -> None:
    import torch
    from ultralytics import YOLO

    from osv_lab.train.engine import quiet

    torch.set_num_threads(threads())
    with quiet():
        YOLO(model).train(
            data=str(data), epochs=epochs, seed=seed, project=str(folder.parent), name=folder.name, **_OPTIONS
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    (folder / "weights" / "last.pt").replace(target)
    shutil.rmtree(folder)
