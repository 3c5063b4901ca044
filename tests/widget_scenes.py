"""Small datasets for the widgets: images whose predictions are known to be right or wrong, and a video with tracks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from osv_lab.store.ingest import ingest
from osv_lab.store.synthetic_video import SyntheticVideo, render_video
from osv_lab.store.tracks import write_tracks
from osv_lab.track.mot import read_tracks
from osv_lab.track.tracks import Tracks

IMAGES = 12
SWITCH = 50


def images(fo: Any, name: str, folder: Path) -> Any:
    """Twelve images with two cats and a dog each.

    Of each image the predictions (``predictions``) find both cats, one unsurely, and take the dog for a cat in every
    third image; in every fourth there is a false dog. ``second`` finds the dogs, too.
    """
    import cv2

    rng = np.random.default_rng(0)
    dataset = fo.Dataset(name, persistent=True)
    samples = []
    for number in range(IMAGES):
        image = np.full((120, 160, 3), 70 + 10 * number, np.uint8)
        boxes = [("cat", 10, 10, 30, 30), ("cat", 60, 20, 40, 30), ("dog", 20, 70, 36, 36)]
        for _, x, y, w, h in boxes:
            image[y : y + h, x : x + w] = rng.integers(0, 255, 3)
        path = folder / f"{number:02d}.png"
        cv2.imwrite(str(path), image)
        detections = [_box(fo, label, x, y, w, h) for label, x, y, w, h in boxes]
        found = [
            _box(fo, "cat", 11, 10, 30, 30, 0.95),
            _box(fo, "cat", 61, 21, 40, 30, 0.20 + 0.04 * number),
            _box(fo, "cat" if number % 3 == 0 else "dog", 20, 71, 36, 36, 0.8),
        ]
        if number % 4 == 0:
            found.append(_box(fo, "dog", 120, 80, 30, 30, 0.6))
        better = [_box(fo, label, x, y, w, h, 0.9) for label, x, y, w, h in boxes]
        samples.append(
            fo.Sample(
                filepath=str(path),
                tags=["test" if number < 8 else "train"],
                metadata=fo.ImageMetadata(width=160, height=120),
                ground_truth=fo.Detections(detections=detections),
                predictions=fo.Detections(detections=found),
                second=fo.Detections(detections=better),
            )
        )
    dataset.add_samples(samples)
    return dataset


def _box(fo: Any, label: str, x: int, y: int, w: int, h: int, confidence: float | None = None) -> Any:
    box = [x / 160, y / 120, w / 160, h / 120]
    return fo.Detection(label=label, bounding_box=box, confidence=confidence)


def render(folder: Path, frames: int = 80) -> SyntheticVideo:
    """A video of parts."""
    return render_video(folder / "parts.mp4", frames, size=(360, 240))


def video(fo: Any, name: str, rendered: SyntheticVideo) -> Any:
    """A dataset of the video; from frame 51 on tracks 1 and 2 have changed places and 3 goes on as 30."""
    ingest(rendered.path, name)
    dataset = fo.load_dataset(name)
    truth = read_tracks(rendered.mot)
    labels = {number: f"part{number}" for number in range(1, 9)}
    write_tracks(dataset.first(), truth, "ground_truth", class_names=labels)
    late, ids = truth.frame > SWITCH, truth.track_id.copy()
    ids[late] = np.select([ids[late] == 1, ids[late] == 2, ids[late] == 3], [2, 1, 30], ids[late])
    write_tracks(dataset.first(), Tracks(truth.frame, ids, truth.xyxy, None, truth.class_id), class_names=labels)
    return dataset
