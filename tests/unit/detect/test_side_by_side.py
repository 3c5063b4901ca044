"""On a CPU batches run side by side: the same results, in order, and nothing else of the process changes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import supervision as sv

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
    assert sum(len(one) for one in alone) > 20
    for _ in range(3):
        together = detector.predict(many, confidence=0.5)
        same = [share_found_again(found, alone[index % 3]) for index, found in enumerate(together)]
        # One thread and three round differently, which the random weights blow up: not every last box is the same.
        assert min(same) > 0.95


def share_found_again(found: sv.Detections, expected: sv.Detections) -> float:
    overlap = sv.box_iou_batch(expected.xyxy, found.xyxy) * (expected.class_id[:, None] == found.class_id)
    return float((overlap.max(axis=1) > 0.98).mean())


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
