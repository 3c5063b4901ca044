"""The data of the benchmark: small JPEGs with YOLO labels, and detections as a detector gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

CLASSES = ("car", "bus", "person")
SIZE = (320, 240)


def boxes(index: int, count: int) -> np.ndarray:
    """Relative centre x, centre y, width, height ``(count, 4)`` of one image, the same in every process."""
    random = np.random.default_rng(index)
    sizes = random.uniform(0.05, 0.3, (count, 2))
    centres = random.uniform(sizes / 2, 1 - sizes / 2)
    return np.concatenate([centres, sizes], axis=1)


def write_yolo(folder: Path, images: int, per_image: int) -> None:
    """A YOLO data set of images that differ from each other."""
    import cv2

    for name in ("images/train", "labels/train"):
        (folder / name).mkdir(parents=True)
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(CLASSES))
    (folder / "dataset.yaml").write_text(
        f"path: {folder}\ntrain: images/train\nval: images/train\nnames:\n{names}"
    )
    canvas = np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    canvas = cv2.GaussianBlur(canvas, (9, 9), 0)
    for index in range(images):
        picture = np.roll(canvas, index % SIZE[0], axis=1)
        picture[:4, :32] = np.frombuffer(index.to_bytes(4, "big"), np.uint8).repeat(96).reshape(4, 32, 3)
        cv2.imwrite(str(folder / f"images/train/{index:06d}.jpg"), picture)
        rows = [
            f"{k % len(CLASSES)} " + " ".join(f"{v:.6f}" for v in box)
            for k, box in enumerate(boxes(index, per_image))
        ]
        (folder / f"labels/train/{index:06d}.txt").write_text("\n".join(rows) + "\n")


def detections(index: int, count: int) -> Any:
    """Detections of one image as a detector gives them: absolute pixels, float32."""
    import supervision as sv

    relative = boxes(index, count)
    corners = np.concatenate(
        [relative[:, :2] - relative[:, 2:] / 2, relative[:, :2] + relative[:, 2:] / 2], axis=1
    )
    ids = np.arange(count) % len(CLASSES)
    return sv.Detections(
        xyxy=(corners * [*SIZE, *SIZE]).astype(np.float32),
        confidence=np.linspace(0.9, 0.1, count, dtype=np.float32),
        class_id=ids,
        data={"class_name": np.array(CLASSES)[ids]},
    )
