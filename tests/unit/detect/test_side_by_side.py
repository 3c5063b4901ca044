"""On a CPU batches run side by side: the same results, in order, and nothing else of the process changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from osv_lab.detect import load_detector
from osv_lab.detect.engine import usable_cores


@pytest.mark.parametrize("kind", ["pt", "onnx"])
def test_many_images_at_once_are_as_one_by_one(
    kind: str, images: list[np.ndarray], weights: Callable[[str], Path], exported: Callable[..., Path]
) -> None:
    path = weights("yolo11n") if kind == "pt" else exported("yolo11n")
    detector = load_detector(path, imgsz=160, threads=3)
    # Heads remember the grid of the last input size: neighbours of other shapes must not disturb each other.
    many = [images[i % 3] for i in range(24)]
    alone = [detector.predict([image], confidence=0.5)[0] for image in images]
    for _ in range(3):
        together = detector.predict(many, confidence=0.5)
        for index, found in enumerate(together):
            np.testing.assert_allclose(found.xyxy, alone[index % 3].xyxy, atol=0.2)
            np.testing.assert_array_equal(found.class_id, alone[index % 3].class_id)
    assert sum(len(one) for one in alone) > 20


def test_torch_keeps_its_threads_elsewhere(images: list[np.ndarray], weights: Callable[[str], Path]) -> None:
    import torch

    detector = load_detector(weights("yolo11n"), imgsz=160)
    torch.set_num_threads(3)
    found: list[int] = []
    try:
        detector.predict([*images, *images])
        found.append(torch.get_num_threads())
        new = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        new.start()
        new.join()
    finally:
        torch.set_num_threads(usable_cores())
    assert found == [3, 3]
