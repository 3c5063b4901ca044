"""Any frame of a video by its number, small, without decoding what lies before.

A file's packets say when each frame is shown. Read once, without decoding, these times give every frame its number, the
one it has when the file is read from the start, whatever its frame rate does.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from osv_lab.core.errors import InvalidDataError
from osv_lab.detect.images import MAX_PIXELS
from osv_lab.track.decode import check_pixels, open_container, quarter_turns, video_stream
from osv_lab.track.source import Image

if TYPE_CHECKING:
    import av

NEAR = 30
"""Frames that are decoded and thrown away rather than seeking for a keyframe that may lie further back."""


class FrameReader:
    """Reads frames by number.

    Args:
        path: A video file.
        width: Frames are scaled down to this width, in pixels; wider ones only.

    Attributes:
        frames: How many frames the file has.
        keys: The numbers of its keyframes, in order: what is decoded first to get at a frame.

    Raises:
        InvalidDataError: not a video that can be read, or frames that are too large.

    Example:
        >>> reader = FrameReader("cars.mp4", width=80)
        >>> [frame.shape for frame in reader.read([1, 20])]
        [(60, 80, 3), (60, 80, 3)]
    """

    def __init__(self, path: Path | str, *, width: int | None = None) -> None:
        from av.video.reformatter import VideoReformatter

        self._container = open_container(path)
        try:
            self._stream = video_stream(self._container, str(path))
            self._stream.thread_type = "AUTO"
            context = self._stream.codec_context
            check_pixels((context.width, context.height), MAX_PIXELS, str(path))
            self._width = width
            times, keys = self._index()
            if not times:
                raise InvalidDataError("no frame of the video can be found", str(path))
        except InvalidDataError:
            self._container.close()
            raise
        self._times, self.keys = times, keys
        self._number = {time: number for number, time in enumerate(times, start=1)}
        self.frames = len(times)
        self._decoded: Iterator[av.VideoFrame] = iter(())
        self._wanted = 0  # the time from which on every frame is decoded
        # One for all frames: what it takes to scale is set up once.
        self._reformatter = VideoReformatter()
        self._next = len(times) + 2  # so that the first read seeks

    def _index(self) -> tuple[list[int], list[int]]:
        """The time of every frame, and the numbers of keyframes, in order."""
        import av

        times, keys = [], []
        try:
            for packet in self._container.demux(self._stream):
                if packet.pts is not None and packet.size and not packet.is_discard:
                    times.append(packet.pts)
                    if packet.is_keyframe:
                        keys.append(packet.pts)
        except av.error.FFmpegError:
            pass  # it breaks off here; what is before can be seen
        times = sorted(set(times))
        numbers = {time: number for number, time in enumerate(times, start=1)}
        return times, sorted({numbers[time] for time in keys} | ({1} if times else set()))

    def read(self, numbers: Sequence[int]) -> list[Image | None]:
        """Frames by number, counted from 1.

        Returns:
            For each number its picture, ``(h, w, 3)`` BGR uint8, upright; ``None`` where there is no such frame or it
            cannot be decoded.
        """
        found: dict[int, Image] = {}
        for number in sorted({number for number in numbers if 1 <= number <= self.frames}):
            image = self._one(number)
            if image is not None:
                found[number] = image
        return [found.get(number) for number in numbers]

    def close(self) -> None:
        """Close the file."""
        self._decoded = iter(())
        self._container.close()

    def _one(self, number: int) -> Image | None:
        self._wanted = self._times[number - 1]
        key = self.keys[bisect.bisect_right(self.keys, number) - 1]
        if not self._next <= number < self._next + NEAR or key > self._next:
            self._seek(key)
        for frame in self._decoded:
            at = self._number.get(frame.pts if frame.pts is not None else -1)
            if at is None:
                continue
            self._next = at + 1
            if at == number:
                return self._picture(frame)
            if at > number:
                break  # the frame itself is damaged
        return None

    def _seek(self, key: int) -> None:
        self._container.seek(self._times[key - 1], stream=self._stream, backward=True)
        self._decoded = self._frames()
        self._next = key

    def _frames(self) -> Iterator[av.VideoFrame]:
        import av

        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                return
            if packet is None:
                return
            # What lies before is decoded only where others refer to it.
            before = packet.pts is not None and packet.pts < self._wanted
            self._stream.codec_context.skip_frame = "NONREF" if before else "DEFAULT"
            try:
                yield from packet.decode()
            except av.error.InvalidDataError:
                continue

    def _picture(self, frame: av.VideoFrame) -> Image:
        turns = quarter_turns(frame.rotation)
        across = frame.height if turns % 2 else frame.width
        scale = min(1.0, self._width / across) if self._width else 1.0
        width, height = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
        # Scaled while it is converted: a large frame is never held as BGR.
        pixels = self._reformatter.reformat(frame, width, height, "bgr24").to_ndarray()
        return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else np.asarray(pixels, dtype=np.uint8)
