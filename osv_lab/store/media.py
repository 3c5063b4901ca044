"""What a media file is: its digest, its size as displayed, whether it can be used, and what to know about it.

Nothing is decoded before its pixel count is known, special files (pipes, devices) are never read, and a file is read
once: the digest and the header come from the same bytes.
"""

from __future__ import annotations

import os
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.core.digests import bytes_digest
from osv_lab.core.errors import InvalidDataError
from osv_lab.store.formats.files import VIDEO_SUFFIXES

if TYPE_CHECKING:
    from osv_lab.detect.images import ImageHeader

MAX_IMAGE_BYTES = 1 << 30
"""A larger image file is refused: it would have to be in memory whole."""

_MIME = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "GIF": "image/gif",
    "AVIF": "image/avif",
    "JPEG2000": "image/jp2",
    "PPM": "image/x-portable-anymap",
}
_SUFFIXES = {
    "JPEG": ".jpg .jpeg .jpe .jfif .mpo",
    "MPO": ".jpg .jpeg .jpe .jfif .mpo",
    "PNG": ".png",
    "WEBP": ".webp",
    "BMP": ".bmp .dib",
    "TIFF": ".tif .tiff .dng",
    "GIF": ".gif",
    "AVIF": ".avif",
    "JPEG2000": ".jp2 .j2k",
    "PPM": ".ppm .pgm .pbm .pnm .pfm",
}
_BANDS = {
    "1": 1,
    "L": 1,
    "P": 1,
    "I": 1,
    "F": 1,
    "LA": 2,
    "RGB": 3,
    "YCbCr": 3,
    "LAB": 3,
    "HSV": 3,
    "RGBA": 4,
    "CMYK": 4,
}

# What a browser shows without being asked to: the rest has to be converted to be seen in the App.
_SHOWN_IMAGES = frozenset({"JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "AVIF"})

# Containers by their first bytes. OpenCV's reader would also open playlists, which name other files and addresses.
_CONTAINERS = (
    (4, b"ftyp"),
    (4, b"moov"),
    (4, b"mdat"),
    (4, b"wide"),
    (4, b"free"),
    (0, b"\x1a\x45\xdf\xa3"),
    (8, b"AVI "),
    (0, b"G"),
    (4, b"G"),
    (0, b"\x00\x00\x01\xba"),
    (0, b"\x00\x00\x01\xb3"),
    (0, b"FLV\x01"),
    (0, b"\x30\x26\xb2\x75"),
    (0, b"OggS"),
)
_SHOWN_CODECS = frozenset({"avc1", "h264", "vp80", "vp09", "vp90", "av01"})


@dataclass(frozen=True, slots=True)
class Media:
    """A usable media file.

    Attributes:
        digest: SHA-256 of the file's bytes.
        width: Pixels across, as displayed (EXIF orientation or rotation applied).
        height: Pixels down, as displayed.
        metadata: FiftyOne's metadata document of it.
        notes: What a person may want to know, in one clause each.
    """

    digest: str
    width: int
    height: int
    metadata: dict[str, Any]
    notes: tuple[str, ...] = ()


def is_video(path: Path) -> bool:
    """Whether a file is taken for a video, by its suffix."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def probe(path: Path, *, video: bool) -> Media:
    """Look at a media file.

    Args:
        path: The file.
        video: Whether it is to be read as a video.

    Raises:
        InvalidDataError: it cannot be used. ``what`` says why, in one clause without the file's name.
    """
    return probe_video(path) if video else probe_image(path)


def probe_image(path: Path) -> Media:
    """Look at an image: read it once, check that it is whole, decode it only if that is in doubt.

    Raises:
        InvalidDataError: see :func:`probe`.
    """
    from osv_lab.detect.images import decode_image, read_header

    data = _read_whole(path)
    if not data:
        raise InvalidDataError("the file is empty")
    try:
        header = read_header(data)
        if not _is_whole(data, header.format):
            decode_image(data)
    except InvalidDataError as error:
        raise InvalidDataError(_clause(error)) from None
    width, height = header.upright_size
    metadata = {
        "_cls": "ImageMetadata",
        "size_bytes": len(data),
        "mime_type": _MIME.get(header.format, f"image/{header.format.lower()}"),
        "width": width,
        "height": height,
        "num_channels": _BANDS.get(header.mode, 1),
    }
    return Media(bytes_digest(data), width, height, metadata, tuple(_image_notes(path, data, header)))


def _read_whole(path: Path) -> bytes:
    descriptor = _opened(path)
    try:
        size = os.fstat(descriptor).st_size
        if size > MAX_IMAGE_BYTES:
            raise InvalidDataError(f"the file has {size >> 20} MiB, the limit is {MAX_IMAGE_BYTES >> 20} MiB")
        # One call reads a file of up to 2 GiB, save on file systems over a network.
        data = os.read(descriptor, size + 1)
        while len(data) < size and (more := os.read(descriptor, size - len(data))):
            data += more
        return data
    except OSError as error:
        raise InvalidDataError(f"it cannot be read ({error.strerror})") from None
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int:
    """The descriptor of a regular file, opened for reading. Opening a pipe must not wait for its other end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        if path.is_symlink():
            raise InvalidDataError(f"a link to {str(path.readlink())!r}, which is not there") from None
        raise InvalidDataError("there is no such file") from None
    except OSError as error:
        raise InvalidDataError(f"it cannot be opened ({error.strerror})") from None
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    raise InvalidDataError("a folder, not a file" if stat.S_ISDIR(mode) else "a pipe or device, not a file")


def _is_whole(data: bytes, format: str) -> bool:
    """Whether the file ends as its format says a complete one does. ``False`` means: decode it to be sure."""
    if format == "JPEG":
        return data.endswith(b"\xff\xd9")
    if format == "PNG":
        return _png_is_whole(data)
    if format == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 == len(data)
    return False


def _png_is_whole(data: bytes) -> bool:
    """Walk the chunks: each has its length, type, content and CRC-32; the last is IEND (PNG, W3C, section 5)."""
    view = memoryview(data)
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(view[at : at + 4], "big")
        end = at + 12 + length
        if end > len(data) or zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            return False
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at = end
    return False


def _image_notes(path: Path, data: bytes, header: ImageHeader) -> list[str]:
    notes = []
    if path.suffix.lower() not in _SUFFIXES.get(header.format, path.suffix.lower()).split():
        notes.append(f"its content is {header.format}, whatever its suffix says")
    if header.orientation != 1:
        notes.append(f"turned upright by its EXIF orientation {header.orientation}")
    if header.mode == "CMYK":
        notes.append("CMYK colours, converted to RGB when read")
    if header.mode.startswith("I;16") or (header.format == "PNG" and len(data) > 24 and data[24] == 16):
        notes.append("16 bits per channel, of which detectors see the high 8")
    elif header.mode in ("I", "F"):
        notes.append("32 bits per channel, stretched from minimum to maximum when read")
    if header.format in ("GIF", "WEBP", "PNG") and _is_animated(data, header.format):
        notes.append("animated; its first frame is used")
    if min(header.width, header.height) < 8:
        notes.append(f"only {header.width} x {header.height} pixels")
    if header.format not in _SHOWN_IMAGES:
        notes.append(f"browsers do not show {header.format}: convert it to PNG to see it in the App")
    return notes


def _is_animated(data: bytes, format: str) -> bool:
    if format == "GIF":
        # Every animated frame has a graphic control extension of its own (GIF89a, section 23).
        return data.count(b"\x21\xf9\x04") > 1
    return b"ANMF" in data[:4096] if format == "WEBP" else b"acTL" in data[:4096]


def probe_video(path: Path) -> Media:
    """Look at a video: its size, rate, length and codec, and whether its first and last frames can be read.

    Raises:
        InvalidDataError: see :func:`probe`.
    """
    import hashlib

    with os.fdopen(_opened(path), "rb") as file:
        head = file.read(16)
        if not head:
            raise InvalidDataError("the file is empty")
        if not any(head[at : at + len(sign)] == sign for at, sign in _CONTAINERS):
            raise InvalidDataError(f"not a video: the first bytes are {head[:8]!r}")
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size_bytes = os.fstat(file.fileno()).st_size
    width, height, rate, stated, readable, codec = _open_video(path)
    if width * height <= 0 or readable == 0:
        raise InvalidDataError("no frame of the video can be read")
    notes = []
    if readable < stated:
        notes.append(f"truncated: {readable} of {stated} frames can be read")
    if codec.lower() not in _SHOWN_CODECS or head[8:12] == b"qt  " or head[8:12] == b"AVI ":
        notes.append(
            f"browsers do not play it ({codec or 'unknown codec'}): re-encode with ffmpeg -i IN -c:v libx264 OUT.mp4"
        )
    metadata = {
        "_cls": "VideoMetadata",
        "size_bytes": size_bytes,
        "mime_type": _video_mime(head, path),
        "frame_width": width,
        "frame_height": height,
        "frame_rate": rate,
        "total_frame_count": readable,
        "duration": readable / rate if rate > 0 else None,
        "encoding_str": codec,
    }
    metadata = {key: value for key, value in metadata.items() if value is not None}
    return Media(digest, width, height, metadata, tuple(notes))


def _open_video(path: Path) -> tuple[int, int, float, int, int, str]:
    """Width, height, frames per second, frames stated, frames that can be read, codec."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    import cv2

    from osv_lab.detect.images import MAX_PIXELS

    capture = cv2.VideoCapture(os.fsencode(path).decode("utf-8", "surrogateescape"), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise InvalidDataError("the video cannot be opened: it is damaged, truncated or in an unknown codec")
        width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > MAX_PIXELS:
            raise InvalidDataError(f"frames of {width} x {height} pixels, the limit is {MAX_PIXELS:,} pixels")
        rate = float(capture.get(cv2.CAP_PROP_FPS))
        stated = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        code = int(capture.get(cv2.CAP_PROP_FOURCC))
        codec = code.to_bytes(4, "little", signed=code < 0).decode("latin-1").strip("\0 ")
        readable = stated if stated and _has_frame(capture, stated - 1) else _count_frames(capture)
        return width, height, rate, max(stated, readable), readable, codec
    finally:
        capture.release()


def _has_frame(capture: Any, index: int) -> bool:
    import cv2

    first = capture.grab()
    capture.set(cv2.CAP_PROP_POS_FRAMES, index)
    return bool(first and capture.grab())


def _count_frames(capture: Any) -> int:
    import cv2

    capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
    count = 0
    while capture.grab():
        count += 1
    return count


def _video_mime(head: bytes, path: Path) -> str:
    if head[8:12] == b"qt  ":
        return "video/quicktime"
    if head[4:8] == b"ftyp":
        return "video/mp4"
    if head[8:12] == b"AVI ":
        return "video/x-msvideo"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "video/webm" if path.suffix.lower() == ".webm" else "video/x-matroska"
    return "video/mpeg"


def _clause(error: InvalidDataError) -> str:
    return f"{error.what}: {error.found}" if error.found else error.what
