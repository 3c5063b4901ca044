"""Clips: what becomes one task with a time axis, and the one place that converts frame numbers.

Three counts meet here. The dataset counts a video's frames from 1. CVAT's ``start_frame`` and ``stop_frame`` count them
from 0. And in CVAT's API an object's frame is the place in the task, from 0, of which every ``step``-th frame of the
video is one. A frame of a sequence of images is an image; its number is 0, as that of every image is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

Place: TypeAlias = tuple[str, int]
"""A sample and a frame of it: from 1 for a video, 0 for an image."""


@dataclass(frozen=True, slots=True)
class Part:
    """One job of a clip.

    Attributes:
        job: CVAT's id.
        start: The job's first frame within the task, from 0.
        stop: Its last.
    """

    job: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Clip:
    """A video, a window of it, or a sequence of images.

    Attributes:
        name: What to call it: the video's sample id, or the sequence.
        samples: The sample of each frame; of a video the only one.
        first: The video's frame that is the task's first, from 1; 0 for a sequence.
        length: Frames of the task.
        step: Of a video every so many frames are sent.
        task: CVAT's id of the task, ``None`` until it is known.
        parts: Its jobs.

    Example:
        >>> window = Clip("video", ("video",), first=101, length=10, step=5)
        >>> window.place(3), window.frames()["video", 116]
        (('video', 116), 3)
        >>> window.start_frame, window.stop_frame
        (100, 145)
    """

    name: str
    samples: tuple[str, ...]
    first: int
    length: int
    step: int = 1
    task: int | None = None
    parts: tuple[Part, ...] = ()

    @property
    def is_video(self) -> bool:
        """Whether it is a video, or a window of one."""
        return self.first > 0

    @property
    def start_frame(self) -> int:
        """The video's first frame in the task, as CVAT counts: from 0."""
        return self.first - 1

    @property
    def stop_frame(self) -> int:
        """The video's last frame in the task, as CVAT counts: from 0."""
        return self.first - 1 + (self.length - 1) * self.step

    def place(self, frame: int) -> Place:
        """The place of a frame of the task."""
        if self.is_video:
            return self.samples[0], self.first + frame * self.step
        return self.samples[frame], 0

    def places(self, start: int = 0, stop: int | None = None) -> list[Place]:
        """The places of a range of frames, both ends included; by default of all."""
        return [self.place(frame) for frame in range(start, self.length if stop is None else stop + 1)]

    def frames(self) -> dict[Place, int]:
        """The frame of the task at each place."""
        return {self.place(frame): frame for frame in range(self.length)}

    def with_parts(self, parts: Iterable[Part]) -> Clip:
        """The clip with its jobs, as far as they are within its frames."""
        cut = (replace(part, stop=min(part.stop, self.length - 1)) for part in parts)
        return replace(self, parts=tuple(part for part in cut if part.start <= part.stop))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Clip:
        """The inverse of :meth:`to_dict`."""
        parts = tuple(Part(**part) for part in values["parts"])
        return replace(cls(**{**values, "samples": tuple(values["samples"])}), parts=parts)


def parts_of(clips: Iterable[Clip]) -> Iterator[tuple[Clip, Part]]:
    """All jobs of all clips."""
    for clip in clips:
        for part in clip.parts:
            yield clip, part


def ranges_of(places: Iterable[Place]) -> dict[str, list[tuple[int, int]]]:
    """First and last frame of each run of neighbours, by sample.

    Example:
        >>> ranges_of([("a", 1), ("a", 2), ("a", 5), ("b", 0)])
        {'a': [(1, 2), (5, 5)], 'b': [(0, 0)]}
    """
    found: dict[str, list[tuple[int, int]]] = {}
    for sample, frame in sorted(places):
        ranges = found.setdefault(sample, [])
        if ranges and ranges[-1][1] >= frame - 1:
            ranges[-1] = (ranges[-1][0], frame)
        else:
            ranges.append((frame, frame))
    return found


def united(windows: Sequence[tuple[int, int]], frames: int) -> list[tuple[int, int]]:
    """Windows in order, cut to the video, those that overlap or touch united.

    Args:
        windows: First and last frame, from 1, both included.
        frames: How many frames the video has.

    Example:
        >>> united([(40, 60), (-3, 10), (8, 20), (61, 70), (95, 300)], 100)
        [(1, 20), (40, 70), (95, 100)]
    """
    found: list[tuple[int, int]] = []
    for first, last in sorted((max(first, 1), min(last, frames)) for first, last in windows):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        elif first <= last:
            found.append((first, last))
    return found
