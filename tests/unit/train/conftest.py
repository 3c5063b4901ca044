"""A data set of discs and squares, and a network small enough to train in a second."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

MODEL = """
backbone: [[-1, 1, Conv, [8, 3, 2]], [-1, 1, Conv, [16, 3, 2]], [-1, 1, Conv, [16, 3, 2]], [-1, 1, Conv, [16, 3, 2]],
  [-1, 1, Conv, [16, 3, 2]]]
head: [[[2, 3, 4], 1, Detect, [nc]]]
nc: 2
"""


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.yaml"
    path.write_text(MODEL)
    return path


@pytest.fixture(scope="session")
def recipe(tiny_model: Path) -> Any:
    from osv_lab.train.recipe import Recipe

    return Recipe(str(tiny_model), epochs=2, imgsz=64, batch=8, device="cpu", patience=0)


@pytest.fixture(scope="module")
def shapes(fo: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Makes datasets: ``shapes(train=8, val=4)``; a split named ``""`` is none."""
    import cv2

    names = []

    def make(**splits: int) -> Any:
        folder = tmp_path_factory.mktemp("images")
        rng = np.random.default_rng(51)
        dataset = fo.Dataset(f"test-shapes-{uuid.uuid4().hex[:8]}")
        names.append(dataset.name)
        dataset.default_classes = ["square", "disc"]
        samples = []
        for split, count in splits.items():
            for number in range(count):
                image = rng.integers(0, 90, (64, 64, 3), dtype=np.uint8)
                found = []
                for label in ("disc", "square"):
                    x, y = (int(v) for v in rng.integers(4, 44, 2))
                    if label == "disc":
                        cv2.circle(image, (x + 8, y + 8), 8, (40, 200, 240), -1)
                    else:
                        cv2.rectangle(image, (x, y), (x + 16, y + 16), (240, 80, 40), -1)
                    found.append(fo.Detection(label=label, bounding_box=[x / 64, y / 64, 0.25, 0.25]))
                path = folder / f"{split}{number:02}.png"
                cv2.imwrite(str(path), image)
                tags = [] if split == "none" else [split]
                samples.append(fo.Sample(str(path), tags=tags, ground_truth=fo.Detections(detections=found)))
        dataset.add_samples(samples)
        dataset.save()
        return dataset

    yield make
    for name in names:
        fo.delete_dataset(name)
