"""Videos with tracks for the annotation loop, and what they hold before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tracks_store_scenes import SIZE, film

from osv_lab.store.tracks import write_tracks
from osv_lab.track.tracks import Tracks

FRAMES = 40
WIDTH, HEIGHT = 160, 120


def tracked_film(fo: Any, name: str, folder: Path, frames: int = FRAMES) -> Any:
    """A video of straight tracks: one all along, one with a gap, one that hides; and a detection without a number."""
    path = film(folder / "film.avi", frames)
    dataset = fo.Dataset(name)
    sample = fo.Sample(filepath=str(path))
    sample.metadata = fo.VideoMetadata(
        frame_width=WIDTH, frame_height=HEIGHT, frame_rate=25.0, total_frame_count=frames
    )
    random = np.random.default_rng(3)
    instances = [fo.Instance() for _ in range(3)]
    for number in range(1, frames + 1):
        boxes = []
        for index in range(3):
            if index == 1 and 12 <= number <= 15:
                continue
            place = [0.05 + number * 0.01, 0.1 + 0.3 * index, 0.12, 0.2]
            noisy = [value + float(random.uniform(-1e-4, 1e-4)) for value in place]
            boxes.append(
                fo.Detection(
                    label="car" if index < 2 else "bus",
                    bounding_box=noisy,
                    index=index + 1,
                    instance=instances[index],
                    confidence=float(random.uniform(0.5, 1)),
                    plate=f"p{index}",
                    braking=index == 2 and 20 <= number < 30,
                )
            )
        if number == 5:
            boxes.append(fo.Detection(label="bus", bounding_box=[0.7, 0.7, 0.1, 0.1], confidence=0.3, plate="x"))
        sample.frames[number] = fo.Frame(pred=fo.Detections(detections=boxes))
    dataset.add_samples([sample], progress=False)
    dataset.add_dynamic_frame_fields()
    return dataset


def frame_labels(dataset: Any, field: str = "pred") -> dict[int, list[dict[str, Any]]]:
    """The labels of the first video by frame number, as documents."""
    dataset.reload()
    sample = dataset.first()
    return {
        number: [one.to_dict() for one in frame[field].detections] if frame[field] else []
        for number, frame in sample.frames.items()
    }


def of_track(labels: dict[int, list[dict[str, Any]]], index: int) -> dict[int, dict[str, Any]]:
    return {number: one for number, some in labels.items() for one in some if one.get("index") == index}


def busy_film(fo: Any, name: str, folder: Path, tracks: int, frames: int) -> tuple[Any, Tracks]:
    """A dark video and so many tracks in straight motion that a detector jitters by a fifth of a pixel."""
    path = folder / "busy.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, SIZE)
    for _ in range(frames):
        writer.write(np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    writer.release()
    random = np.random.default_rng(11)
    numbers, ids, boxes = [], [], []
    for track in range(1, tracks + 1):
        first, last = int(random.integers(1, frames // 3)), int(random.integers(2 * frames // 3, frames + 1))
        seen = np.arange(first, last + 1)
        x, y = random.uniform(300, 600), random.uniform(200, 300)
        size = random.uniform(20, 80, 2)
        start = np.array([x, y, x + size[0], y + size[1]])
        speed = random.uniform(-1.5, 1.5, 2)
        growth = random.uniform(0, 0.2, 2)
        steps = np.outer(seen - first, [*speed, *(speed + growth)])
        boxes.append(start + steps + random.uniform(-0.2, 0.2, (len(seen), 4)))
        numbers.append(seen)
        ids.append(np.full(len(seen), track))
    found = Tracks(np.concatenate(numbers), np.concatenate(ids), np.concatenate(boxes))
    dataset = fo.Dataset(name)
    metadata = fo.VideoMetadata(
        frame_width=SIZE[0], frame_height=SIZE[1], frame_rate=25.0, total_frame_count=frames
    )
    dataset.add_samples([fo.Sample(filepath=str(path), metadata=metadata)], progress=False)
    write_tracks(dataset, found, "pred")
    return dataset, found
