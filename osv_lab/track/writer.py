"""Playable video: H.264 where there is an encoder, written in segments that are joined without encoding again."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import UnavailableError
from osv_lab.core.files import atomic_path
from osv_lab.track.source import Image

if TYPE_CHECKING:
    from av.container import OutputContainer

SUFFIXES = (".mp4", ".mov", ".mkv")
"""Containers that are written."""

# In order of preference: encoder, what it makes, options. H.264 plays everywhere, VP9 in browsers, MPEG-4 in players.
# No frames are decoded out of order (bf=0), so that segments join by copying.
_ENCODERS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("libx264", "h264", {"preset": "veryfast", "crf": "23", "bf": "0"}),
    ("libopenh264", "h264", {}),
    ("h264_videotoolbox", "h264", {}),
    ("libvpx-vp9", "vp9", {"deadline": "realtime", "cpu-used": "8", "crf": "32", "b": "0", "auto-alt-ref": "0"}),
    ("mpeg4", "mpeg4", {"b": "4M", "bf": "0"}),
)
# Exact for the usual rates, 30000/1001 among them, and the finest that MPEG-4 takes.
_TICKS = Fraction(1, 60_000)


def encoders(size: tuple[int, int] = (640, 480)) -> list[tuple[str, str, dict[str, str]]]:
    """The encoders that can be opened for frames of (width, height), best first: (encoder, codec, options)."""
    import av

    found = []
    for name, codec, options in _ENCODERS:
        try:
            context: Any = av.CodecContext.create(name, "w")
            context.width, context.height = (side + side % 2 for side in size)
            context.pix_fmt, context.time_base, context.options = "yuv420p", _TICKS, dict(options)
            context.open()
        except (av.error.FFmpegError, ValueError):
            continue  # not built in, or its hardware is not there
        found.append((name, codec, options))
    return found


class SegmentWriter:
    """Writes BGR frames as numbered segments into a folder.

    Args:
        folder: Where segments go.
        size: (width, height) of the frames; an odd side is widened by its last row or column.
        frame_rate: Nominal frames per second; the frames' own times decide.
        done: How many segments are there already.

    Attributes:
        codec: ``h264``, ``vp9`` or ``mpeg4``.
    """

    def __init__(self, folder: Path, size: tuple[int, int], frame_rate: float, done: int = 0) -> None:
        available = encoders(size)
        if not available:
            raise UnavailableError("no video encoder", "PyAV has none of ours", "reinstall av from its wheel")
        self._folder = folder
        self._size = size
        self._rate = Fraction(frame_rate).limit_denominator(1001)
        self._encoder, self.codec, self._options = available[0]
        self.done = done
        self._container: OutputContainer | None = None
        self._stream: Any = None
        self._first = 0.0

    def write(self, image: Image, timestamp_s: float) -> None:
        """Append a frame to the open segment, or open one."""
        import av

        if self._container is None:
            self._open(timestamp_s)
        assert self._container is not None
        height, width = image.shape[:2]
        if width % 2 or height % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(image, format="bgr24")
        frame.pts = round((timestamp_s - self._first) / _TICKS)
        frame.time_base = _TICKS
        self._container.mux(self._stream.encode(frame))

    def _open(self, timestamp_s: float) -> None:
        import av

        self._container = av.open(str(segment(self._folder, self.done)), "w", format="mp4")
        self._stream = self._container.add_stream(self._encoder, rate=self._rate, options=self._options)
        self._stream.width, self._stream.height = (side + side % 2 for side in self._size)
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = _TICKS
        # A player shall find a picture within two seconds of anywhere.
        self._stream.codec_context.gop_size = max(1, round(2 * self._rate))
        self._first = timestamp_s

    def cut(self) -> float | None:
        """Finish the open segment. Returns when it begins, ``None`` where there was none."""
        if self._container is None:
            return None
        self._container.mux(self._stream.encode(None))
        self._container.close()
        self._container = None
        self.done += 1
        return self._first

    def abandon(self) -> None:
        """Close what :meth:`cut` has not finished: it is written anew when the run goes on."""
        import av

        container, self._container = self._container, None
        if container is not None:
            # Why the run ended is what matters; that the rest of this file cannot be written follows from it.
            with contextlib.suppress(av.error.FFmpegError, OSError):
                container.close()


def segment(folder: Path, number: int) -> Path:
    """Where a segment is, from 0."""
    return folder / f"segment-{number:06d}.mp4"


def join(folder: Path, starts: list[float], output: Path) -> None:
    """Join segments into one file, packets copied as they are; whole or not at all.

    Args:
        folder: Where they are.
        starts: When each begins, in seconds.
        output: Its suffix says the container.
    """
    import av

    with atomic_path(output) as temporary:
        kind = {".mkv": "matroska", ".mov": "mov"}.get(output.suffix.lower(), "mp4")
        # The index goes to the front, so that a browser can begin before it has all.
        options = {} if kind == "matroska" else {"movflags": "+faststart"}
        with av.open(str(temporary), "w", format=kind, options=options) as target:
            stream: Any = None
            for number, start in enumerate(starts):
                with av.open(str(segment(folder, number))) as part:
                    source = part.streams.video[0]
                    if stream is None:
                        stream = target.add_stream_from_template(source)
                    for packet in part.demux(source):
                        if packet.dts is None or packet.pts is None:
                            continue
                        shift = round((start - starts[0]) / float(packet.time_base or _TICKS))
                        packet.pts += shift
                        packet.dts += shift
                        packet.stream = stream
                        target.mux(packet)
