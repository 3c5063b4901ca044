"""Scenes for tracker tests: seeded walks of boxes, what a detector might see of them, and MOT17 where it is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from support import shared_data

from osv_lab.track.mot import SequenceInfo, read_detections, read_info, read_motion, read_tracks
from osv_lab.track.tracks import Tracks

Floats = npt.NDArray[np.float64]


def walk(objects: int = 12, frames: int = 120, seed: int = 0, size: tuple[int, int] = (960, 540)) -> Tracks:
    """True tracks: boxes on straight paths that enter, leave and pass each other."""
    rng = np.random.default_rng(seed)
    parts = []
    for k in range(objects):
        first, length = int(rng.integers(1, frames // 2)), int(rng.integers(frames // 4, frames))
        number = np.arange(first, min(first + length, frames + 1))
        centre = rng.uniform((60, 100), (size[0] - 60, size[1] - 100))
        path = centre + (number - first)[:, None] * rng.uniform(-2.5, 2.5, 2)
        width, height = rng.uniform(30, 60), rng.uniform(80, 140)
        half = np.array([width, height]) / 2
        parts.append(Tracks(number, np.full(len(number), k + 1), np.hstack((path - half, path + half))))
    return Tracks.concatenate(parts)


def disturb(truth: Tracks, seed: int = 1) -> Tracks:
    """Predicted tracks with every kind of mistake: jitter, gaps, switches, swaps, false boxes, empty frames."""
    rng = np.random.default_rng(seed)
    last = truth.last_frame
    identity = truth.track_id.copy()
    for k in np.unique(identity):
        cut = int(rng.integers(1, last))
        if k % 3 == 0:
            identity[(truth.track_id == k) & (truth.frame >= cut)] += 1000
        if k % 4 == 0:
            identity[(truth.track_id == k) & (truth.frame >= cut)] = 2000 + k // 8
    boxes = truth.xyxy + rng.normal(0, 4, truth.xyxy.shape)
    keep = (rng.random(len(truth)) > 0.15) & (truth.frame % 37 != 0)
    _, first = np.unique(np.column_stack((truth.frame, identity)), axis=0, return_index=True)
    keep &= np.isin(np.arange(len(truth)), first)
    found = Tracks(truth.frame[keep], identity[keep], boxes[keep])
    corner = rng.uniform(0, 500, (last // 3, 2))
    frames = rng.choice(np.arange(1, last + 1), last // 3, replace=False)
    false = Tracks(frames, np.full(len(frames), 9000), np.hstack((corner, corner + 60)))
    return Tracks.concatenate((found, false))


def detector_view(
    truth: Tracks,
    seed: int = 2,
    confidence: tuple[float, float] = (0.5, 0.95),
    miss: float = 0.05,
    false: float = 0.3,
) -> list[tuple[Floats, Floats]]:
    """Per frame what a detector might say: (n, 4) boxes and (n,) confidences, shuffled."""
    rng = np.random.default_rng(seed)
    seen = []
    for _, frame in truth.frames():
        kept = frame.xyxy[rng.random(len(frame)) > miss]
        boxes = kept + rng.normal(0, 1.5, kept.shape)
        corner = rng.uniform(0, 500, (int(rng.poisson(false)), 2))
        boxes = np.vstack((boxes, np.hstack((corner, corner + 50))))
        scores = rng.uniform(*confidence, len(boxes))
        scores[len(kept) :] = rng.uniform(0.05, confidence[0], len(corner))
        order = rng.permutation(len(boxes))
        seen.append((boxes[order], scores[order]))
    return seen


@dataclass(frozen=True, eq=False)
class Sequence:
    """One MOT17 sequence's second half ("val half"), frames numbered from 1."""

    info: SequenceInfo
    frames: int
    truth: Tracks
    detections: Tracks
    motion: Floats


def mot17() -> dict[str, Sequence]:
    """The val halves of the MOT17 sequences that are there, by name."""
    root = shared_data()
    found = {}
    for folder in sorted(Path(root or ".").glob("mot17/MOT17-*")):
        info = read_info(folder)
        first, last = info.length // 2 + 2, info.length
        detections = read_detections(folder / "det" / "yolox_x_ablation.txt").between(first, last)
        found[info.name] = Sequence(
            info,
            last - first + 1,
            read_tracks(folder / "gt" / "gt.txt").between(first, last),
            detections[detections.confidence > 0.1],
            read_motion(folder / "gmc.txt")[first - 1 : last],
        )
    return found
