"""Image files to BGR uint8 arrays, upright, with the size checked before anything is decoded.

Pixels are what a detector trained by Ultralytics saw: EXIF orientation is applied, alpha is dropped, grey is
repeated, 16-bit values keep their high byte. 32-bit and floating-point images, which have no such convention, are
stretched from their own minimum to maximum.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import InvalidDataError, NotFoundError

if TYPE_CHECKING:
    from PIL import Image as PillowImage

MAX_PIXELS = 1 << 27
"""Images with more pixels than this (134 million, 400 MB decoded) are refused unless the caller raises it."""

# Formats that are read, by Pillow's names, and how their files begin: (format, offset, bytes). Nothing that would start
# another program is among them.
_SIGNATURES = (
    ("JPEG", 0, b"\xff\xd8\xff"),
    ("PNG", 0, b"\x89PNG\r\n\x1a\n"),
    ("WEBP", 8, b"WEBP"),
    ("BMP", 0, b"BM"),
    ("TIFF", 0, b"II*\x00"),
    ("TIFF", 0, b"MM\x00*"),
    ("TIFF", 0, b"II+\x00"),
    ("GIF", 0, b"GIF8"),
    ("AVIF", 4, b"ftypavi"),
    ("JPEG2000", 0, b"\x00\x00\x00\x0cjP  "),
    ("JPEG2000", 0, b"\xff\x4f\xff\x51"),
    ("PPM", 0, b"P4"),
    ("PPM", 0, b"P5"),
    ("PPM", 0, b"P6"),
)

FORMATS = tuple(dict.fromkeys(name for name, _, _ in _SIGNATURES))
"""Image formats that are read, by Pillow's names."""

# Where Pillow reads each of them; importing one takes a fraction of what all of them take.
_READERS = {
    "JPEG": "Jpeg",
    "PNG": "Png",
    "WEBP": "WebP",
    "BMP": "Bmp",
    "TIFF": "Tiff",
    "GIF": "Gif",
    "AVIF": "Avif",
    "JPEG2000": "Jpeg2K",
    "PPM": "Ppm",
}

_ORIENTATION_TAG = 0x0112


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an image file says about itself.

    Attributes:
        width: Pixels across, as stored (before EXIF orientation).
        height: Pixels down, as stored.
        format: Pillow's name of the format (``"JPEG"``).
        mode: Pillow's name of the pixel type (``"RGB"``, ``"CMYK"``, ``"I;16"``).
        orientation: The EXIF orientation, 1 to 8; 1 where there is none.
    """

    width: int
    height: int
    format: str
    mode: str
    orientation: int

    @property
    def upright_size(self) -> tuple[int, int]:
        """``(width, height)`` as displayed."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read an image file.

    Args:
        path: Any of :data:`FORMATS`; the contents decide, not the suffix.
        max_pixels: The most pixels (width times height) that are decoded.

    Returns:
        BGR uint8 ``(h, w, 3)``, upright.

    Raises:
        NotFoundError: there is no such file.
        InvalidDataError: not an image, damaged, or too large.

    Example:
        >>> read_image("photo.jpg").shape
        (480, 640, 3)
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise NotFoundError("no such image", _shown(path)) from None
    except OSError as error:
        raise InvalidDataError("the image cannot be read", f"{_shown(path)} ({error.strerror})") from None
    return decode_image(data, max_pixels=max_pixels, name=_shown(path))


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS, name: str = "") -> np.ndarray:
    """Decode an image file's bytes.

    Args:
        data: The whole file.
        max_pixels: The most pixels (width times height) that are decoded.
        name: What to call it in an error.

    Returns:
        BGR uint8 ``(h, w, 3)``, upright.

    Raises:
        InvalidDataError: not an image, damaged, or too large.
    """
    image, header = _open(data, max_pixels, name)
    pixels, orientation = (_decode_fast(data, header) if _is_whole(data, header) else None), header.orientation
    if pixels is None:
        pixels, orientation = _decode_careful(image, name)
    return np.ascontiguousarray(_upright(pixels, orientation))


def decode_small(
    data: bytes, least_side: int, *, max_pixels: int = MAX_PIXELS, name: str = ""
) -> tuple[np.ndarray, ImageHeader]:
    """Decode an image file's bytes at the smallest of full, half, quarter and eighth size that is large enough.

    A JPEG is decoded at that size, which takes a fraction of the time; other formats are decoded whole and shrunk.

    Args:
        data: The whole file.
        least_side: The least length of the result's shorter side, in pixels; a smaller image stays as it is.
        max_pixels: The most pixels (width times height) of the file's image.
        name: What to call it in an error.

    Returns:
        BGR uint8 ``(h, w, 3)``, upright, and what the file says about itself.

    Raises:
        InvalidDataError: not an image, damaged, or too large.
    """
    import cv2

    image, header = _open(data, max_pixels, name)
    shorter = min(header.width, header.height)
    reduction = next((by for by in (8, 4, 2) if shorter >= by * least_side), 1)
    pixels, orientation = None, header.orientation
    if _is_whole(data, header):
        pixels = _decode_fast(data, header, reduction if header.format == "JPEG" else 1)
    if pixels is None:
        pixels, orientation = _decode_careful(image, name)
    height, width = -(-header.height // reduction), -(-header.width // reduction)
    if pixels.shape[0] > height:
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(_upright(pixels, orientation)), header


def read_header(data: bytes, *, max_pixels: int = MAX_PIXELS, name: str = "") -> ImageHeader:
    """What an image file says about itself, without decoding it.

    Raises:
        InvalidDataError: not an image, or too large.
    """
    return _open(data, max_pixels, name)[1]


def _open(data: bytes, max_pixels: int, name: str) -> tuple[PillowImage.Image, ImageHeader]:
    from PIL import Image

    if not data:
        raise InvalidDataError("not an image", _of(name, "the file is empty"))
    kind = next((kind for kind, offset, start in _SIGNATURES if data.startswith(start, offset)), None)
    if kind is None:
        raise InvalidDataError("not an image", _of(name, f"the first bytes are {data[:8]!r}"))
    try:
        image = _reader(kind)(io.BytesIO(data), "")
        # Not the PNG reader's own getexif: it decodes the image, in case the tag comes after the pixels.
        orientation = Image.Image.getexif(image).get(_ORIENTATION_TAG, 1)
    except (
        Image.DecompressionBombError
    ) as error:  # some readers check while they open, against a limit of Pillow's
        raise InvalidDataError("the image is too large", _of(name, _said(error)), "make it smaller") from None
    except _PILLOW_ERRORS as error:
        raise InvalidDataError("not an image", _of(name, f"its header is damaged ({_said(error)})")) from None
    if not (isinstance(orientation, int) and 1 <= orientation <= 8):
        orientation = 1
    width, height = image.size
    if kind == "TIFF" and orientation >= 5:
        width, height = height, width  # Pillow gives TIFF files' sizes as displayed.
    if width * height > max_pixels:
        raise InvalidDataError(
            "the image is too large",
            _of(name, f"{width} x {height} = {width * height:,} pixels, the limit is {max_pixels:,}"),
            "make it smaller, or raise max_pixels",
        )
    return image, ImageHeader(width, height, str(image.format), image.mode, orientation)


def _reader(kind: str) -> Callable[[io.BytesIO, str], PillowImage.Image]:
    """Pillow's reader of one format.

    Not ``Image.open``: that has a limit of its own for the whole process, and Ultralytics replaces it by one that looks
    for packages to install.
    """
    from PIL import Image

    if kind not in Image.OPEN:
        with contextlib.suppress(ImportError):
            importlib.import_module(f"PIL.{_READERS[kind]}ImagePlugin")
    if kind not in Image.OPEN:
        raise InvalidDataError("this kind of image cannot be read here", kind, "install a Pillow that can")
    return Image.OPEN[kind][0]


# What Pillow's decoders raise for damaged files.
_PILLOW_ERRORS: tuple[type[Exception], ...] = (OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError)
_PILLOW_ERRORS += (TypeError, OverflowError, MemoryError, ArithmeticError, AttributeError, RuntimeError)
_PILLOW_ERRORS += (struct.error, zlib.error)


def _is_whole(data: bytes, header: ImageHeader) -> bool:
    """Whether the file ends as its format says it must; OpenCV fills the rest of a truncated one with grey."""
    if header.format == "JPEG":
        return data.endswith(b"\xff\xd9") and header.mode in ("RGB", "L")
    if header.format == "PNG":
        return (
            data[-8:-4] == b"IEND"
            and (header.orientation != 1 or b"eXIf" not in data)
            and header.mode in ("RGB", "RGBA", "L", "P", "1")
        )
    if header.format == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 == len(data)
    return False


def _decode_fast(data: bytes, header: ImageHeader, reduction: int = 1) -> np.ndarray | None:
    import cv2

    sizes = {1: 0, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION | sizes[reduction]
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    if pixels is None or pixels.shape[:2] != (-(-header.height // reduction), -(-header.width // reduction)):
        return None
    return np.asarray(pixels)


def _decode_careful(image: PillowImage.Image, name: str) -> tuple[np.ndarray, int]:
    """Pixels by Pillow, and the orientation that is still to be applied: of some formats Pillow applies it itself."""
    try:
        image.load()
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
        if image.mode in ("I", "F", "I;16", "I;16B", "I;16L", "I;16N"):
            grey = _to_8_bit(np.asarray(image))
            return np.repeat(grey[:, :, None], 3, axis=2), orientation
        return np.asarray(image.convert("RGB"))[:, :, ::-1], orientation
    except _PILLOW_ERRORS as error:
        raise InvalidDataError("the image is damaged", _of(name, _said(error))) from None


def _to_8_bit(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize == 2:
        return (pixels >> 8).astype(np.uint8)
    values = pixels.astype(np.float64)
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(values.shape, np.uint8)
    low, high = values[finite].min(), values[finite].max()
    scaled = (values - low) * (255.0 / (high - low) if high > low else 0.0)
    return np.where(finite, scaled, 0.0).round().astype(np.uint8)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation (Exif 2.3, tag 0x0112): odd rows of the table mirror, 5 to 8 swap the axes."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _of(name: str, what: str) -> str:
    return f"{name}: {what}" if name else what


def _shown(path: Any) -> str:
    return str(path).encode("utf-8", "backslashreplace").decode()
