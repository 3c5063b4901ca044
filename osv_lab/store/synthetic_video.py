"""A short video of parts sliding past each other under a beam, with the truth about every track.

Parts cross the bench in both directions on lanes so close that they cover each other when they meet, and all of
them vanish for a moment under a beam: what a tracker has to get right, with the answer written beside the video.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from osv_lab.core.errors import UnavailableError, UsageError
from osv_lab.core.files import atomic_path, write_atomic
from osv_lab.core.progress import Progress, silent, tracked
from osv_lab.core.report import Report, plain
from osv_lab.core.settings import SEED
from osv_lab.store.scenes import CLASSES, Part, background, develop, draw, random_part
from osv_lab.track.writer import encoders


@dataclass(frozen=True, slots=True)
class TrackPoint:
    """One part in one frame.

    Attributes:
        frame: Frame number, from 1.
        box: ``(x1, y1, x2, y2)`` in pixels: the whole part, covered or not, clipped to the image.
        visibility: Share of the whole part that can be seen, 0 to 1.
    """

    frame: int
    box: tuple[float, float, float, float]
    visibility: float


@dataclass(frozen=True, slots=True)
class Track:
    """One part from its first frame to its last; ``track_id`` counts from 1."""

    track_id: int
    label: str
    points: tuple[TrackPoint, ...]


@dataclass(frozen=True, slots=True)
class Meeting:
    """Frames ``first`` to ``last`` in which the boxes of two tracks overlap (IoU above 0.1)."""

    tracks: tuple[int, int]
    first: int
    last: int


@dataclass(frozen=True)
class SyntheticVideo(Report):
    """A rendered video and its truth.

    Attributes:
        path: The video.
        mot: Truth in MOTChallenge's format: ``frame,id,x,y,w,h,1,class,visibility``, all counted from 1.
        truth: The same and the meetings as JSON.
        codec: What it was really encoded with: ``h264`` where it can be; browsers play ``vp9``, too, but neither
            ``mpeg4`` nor ``MJPG``.
        fps: Frames per second.
        size: ``(width, height)`` in pixels.
        n_frames: Number of frames.
        tracks: Every part's track.
        meetings: Which tracks cross each other, and when.
    """

    path: Path
    mot: Path
    truth: Path
    codec: str
    fps: float
    size: tuple[int, int]
    n_frames: int
    tracks: tuple[Track, ...]
    meetings: tuple[Meeting, ...]

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per track."""
        return [
            {
                "track": track.track_id,
                "class": track.label,
                "first": track.points[0].frame,
                "last": track.points[-1].frame,
                "hidden frames": sum(point.visibility < 0.2 for point in track.points),
            }
            for track in self.tracks
        ]

    def summary(self) -> str:
        """Length, tracks, meetings and codec."""
        return (
            f"{self.n_frames} frames ({self.codec}) with {len(self.tracks)} tracks and "
            f"{len(self.meetings)} meetings in {self.path}"
        )


def render_video(
    path: str | Path,
    n_frames: int = 150,
    seed: int = SEED,
    *,
    size: tuple[int, int] = (480, 320),
    fps: float = 25.0,
    n_parts: int = 6,
    progress: Progress = silent,
) -> SyntheticVideo:
    """Render a video with known tracks; ``<name>.gt.txt`` and ``<name>.json`` beside it say what is in it.

    Args:
        path: The video to write; ``.mp4`` is H.264 where an ffmpeg with libx264 is installed, else MPEG-4 part 2.
            ``.avi`` is Motion JPEG.
        n_frames: Number of frames, at least 2.
        seed: Same seed, same frames.
        size: ``(width, height)``, even numbers of at least 64 pixels.
        fps: Frames per second.
        n_parts: Number of parts, and so of tracks; at least 2.

    Raises:
        UsageError: a value that cannot be.
        UnavailableError: neither ffmpeg nor OpenCV can encode here.
    """
    path = Path(path)
    if n_frames < 2 or n_parts < 2 or fps <= 0 or min(size) < 64 or size[0] % 2 or size[1] % 2:
        raise UsageError(
            "no video can be made of these values",
            f"n_frames={n_frames}, n_parts={n_parts}, fps={fps}, size={size}",
            "use at least 2 frames, 2 parts, a positive rate and an even size of at least 64 x 64",
        )
    if path.suffix.lower() not in {".mp4", ".avi"}:
        raise UsageError("unknown kind of video", repr(path.suffix), "use .mp4 or .avi")
    points: dict[int, list[TrackPoint]] = {}
    movers = _movers(np.random.default_rng([seed, 0]), n_parts, size)

    def frames() -> Iterator[np.ndarray]:
        points.clear()
        return _film(movers, n_frames, size, seed, points)

    codec = _encode(path, tracked(frames(), "rendering video", progress, n_frames), size, fps)
    tracks = tuple(
        Track(number, movers[number - 1].part.label, tuple(points[number])) for number in sorted(points)
    )
    meetings = tuple(_meetings(tracks))
    mot, truth = path.with_suffix(".gt.txt"), path.with_suffix(".json")
    video = SyntheticVideo(path, mot, truth, codec, fps, size, n_frames, tracks, meetings)
    write_atomic(mot, _mot(tracks))
    write_atomic(truth, json.dumps({**plain(video), "classes": CLASSES, "path": path.name, "mot": mot.name}))
    return video


@dataclass(frozen=True, slots=True)
class _Mover:
    """A part and how it moves: across the bench once, on a wavy lane, turning as it goes."""

    part: Part
    direction: int
    delay: float
    wave: float
    spin: float

    def at(self, time: float, width: int) -> Part:
        """The part at ``time``, 0 to 1 over the video."""
        run = np.clip((time - self.delay) / 0.72, -0.2, 1.2)
        margin = self.part.radius * 1.1
        x = -margin + run * (width + 2 * margin)
        x = x if self.direction > 0 else width - x
        y = self.part.centre[1] + self.wave * math.sin(2 * math.pi * (run + self.delay))
        angle = self.part.angle + self.spin * float(run)
        return Part(self.part.label, (float(x), float(y)), self.part.radius, angle, self.part.colour)


def _movers(rng: np.random.Generator, count: int, size: tuple[int, int]) -> list[_Mover]:
    """Pairs that start at opposite ends of nearly the same lane."""
    width, height = size
    pairs = math.ceil(count / 2)
    movers = []
    for number in range(count):
        lane = (number // 2 + 0.5) / pairs * height * 0.84 + height * 0.08
        radius = min(height / pairs * 0.36, width * 0.12) * rng.uniform(0.8, 1.1)
        part = random_part(
            rng, CLASSES[number % len(CLASSES)], (0.0, lane + rng.uniform(-0.3, 0.3) * radius), radius
        )
        movers.append(
            _Mover(
                part,
                direction=1 if number % 2 else -1,
                delay=float(rng.uniform(0.0, 0.25)),
                wave=radius * float(rng.uniform(0.1, 0.45)),
                spin=float(rng.uniform(-3, 3)),
            )
        )
    return movers


def _film(
    movers: Sequence[_Mover],
    n_frames: int,
    size: tuple[int, int],
    seed: int,
    points: dict[int, list[TrackPoint]],
) -> Iterator[np.ndarray]:
    """Yield every frame, uint8 BGR, and note in ``points`` where each part is."""
    width, height = size
    bench = background(np.random.default_rng([seed, 1]), width, height)
    beam = np.zeros((height, width), bool)
    beam[:, int(width * 0.60) : int(width * 0.67)] = True
    paint = np.random.default_rng([seed, 2]).normal(62, 4, (height, 1, 3)).astype(np.float32)
    for frame in range(1, n_frames + 1):
        time = (frame - 1) / (n_frames - 1)
        parts = [mover.at(time, width) for mover in movers]
        image, instances = draw(bench, parts, cover=beam)
        image[beam] = np.broadcast_to(paint, image.shape)[beam]
        for number, instance in enumerate(instances, start=1):
            x1, y1, x2, y2 = instance.full_box
            inside = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
            area = max(inside[2] - inside[0], 0) * max(inside[3] - inside[1], 0)
            if area >= 0.15 * (x2 - x1) * (y2 - y1):
                points.setdefault(number, []).append(TrackPoint(frame, inside, instance.visibility))
        yield develop(np.random.default_rng([seed, 3, frame]), image, blur=0.5, noise=3)


def _meetings(tracks: Sequence[Track]) -> Iterator[Meeting]:
    for one, other in combinations(tracks, 2):
        boxes = {point.frame: point.box for point in other.points}
        together = [
            point.frame
            for point in one.points
            if point.frame in boxes and _iou(point.box, boxes[point.frame]) > 0.1
        ]
        for frames in np.split(together, np.flatnonzero(np.diff(together) > 1) + 1):
            if len(frames):
                yield Meeting((one.track_id, other.track_id), int(frames[0]), int(frames[-1]))


def _iou(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (one, other))
    return width * height / (areas - width * height)


def _mot(tracks: Sequence[Track]) -> str:
    rows = sorted(
        (point.frame, track.track_id, point, CLASSES.index(track.label) + 1)
        for track in tracks
        for point in track.points
    )
    lines = []
    for frame, track_id, point, class_number in rows:
        x1, y1, x2, y2 = point.box
        lines.append(
            f"{frame},{track_id},{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},1,"
            f"{class_number},{point.visibility:.3f}\n"
        )
    return "".join(lines)


def _encode(path: Path, frames: Iterator[np.ndarray], size: tuple[int, int], fps: float) -> str:
    """Encode frames with the best encoder there is; returns what it made."""
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".avi":
            _encode_opencv(temporary, frames, size, fps, "MJPG")
            return "MJPG"
        encoder, codec, options = encoders(size)[0]
        _encode_av(temporary, frames, size, fps, encoder, options)
        return codec


def _encode_av(
    path: Path,
    frames: Iterator[np.ndarray],
    size: tuple[int, int],
    fps: float,
    encoder: str,
    options: dict[str, str],
) -> None:
    import av

    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream: Any = container.add_stream(encoder, rate=Fraction(fps).limit_denominator(60_000), options=options)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        # More threads would make the file depend on the machine.
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        container.mux(stream.encode(None))


def _encode_opencv(
    path: Path, frames: Iterator[np.ndarray], size: tuple[int, int], fps: float, codec: str
) -> None:
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, size)
    if not writer.isOpened():
        raise UnavailableError("no encoder for this video", f"{path.suffix} as {codec}", "install ffmpeg")
    try:
        for frame in frames:
            writer.write(frame)
    finally:
        writer.release()
