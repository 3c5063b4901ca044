"""Image files of every kind come out upright, 8-bit and BGR; damaged and oversized ones with a clear line."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from osv_lab.core.errors import InvalidDataError, NotFoundError
from osv_lab.detect.images import decode_image, read_header, read_image


def scene() -> np.ndarray:
    """An RGB image whose four corners differ: red, green, blue, white; 60 wide, 40 high."""
    pixels = np.full((40, 60, 3), 128, np.uint8)
    pixels[:20, :30], pixels[:20, 30:], pixels[20:, :30], pixels[20:, 30:] = (
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (255, 255, 255),
    )
    return pixels


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def corners(pixels: np.ndarray) -> list[tuple[int, ...]]:
    """Top-left, top-right, bottom-left and bottom-right, as RGB rounded to 0 or 255."""
    height, width = pixels.shape[:2]
    places = ((5, 5), (5, width - 6), (height - 6, 5), (height - 6, width - 6))
    return [tuple(int(value > 127) * 255 for value in pixels[place][::-1]) for place in places]


UPRIGHT = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM"])
def test_formats(kind: str) -> None:
    pixels = decode_image(encoded(Image.fromarray(scene()), kind))
    assert (pixels.dtype, pixels.shape) == (np.uint8, (40, 60, 3))
    assert pixels.flags.c_contiguous
    assert corners(pixels) == UPRIGHT


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "YCbCr", "HSV", "LAB"])
def test_modes(mode: str) -> None:
    kind = {"CMYK": "JPEG", "YCbCr": "JPEG", "HSV": "TIFF", "LAB": "TIFF"}.get(mode, "PNG")
    image = Image.fromarray(scene())
    if mode == "LAB":
        from PIL import ImageCms

        transform = ImageCms.buildTransform(
            ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
        )
        image = ImageCms.applyTransform(image, transform)
    else:
        image = image.convert(mode) if mode != "HSV" else image
    pixels = decode_image(encoded(image, kind))
    assert (pixels.dtype, pixels.shape) == (np.uint8, (40, 60, 3))
    if mode in ("RGBA", "P", "CMYK", "YCbCr", "HSV"):
        assert corners(pixels) == UPRIGHT


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(kind: str, orientation: int) -> None:
    # How a camera that was held that way stores the upright scene: the inverse of the tag's transposition.
    stored = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    image = Image.fromarray(scene())
    image = image.transpose(stored) if stored is not None else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image, kind, exif=exif)
    assert corners(decode_image(data)) == UPRIGHT
    assert read_header(data).upright_size == (60, 40)


def test_16_bit_keeps_the_high_byte() -> None:
    values = np.linspace(0, 65535, 60 * 40).reshape(40, 60).astype(np.uint16)
    for suffix in (".png", ".tiff"):
        grey = cv2.imencode(suffix, values)[1].tobytes()
        np.testing.assert_allclose(decode_image(grey)[:, :, 0], values >> 8, atol=1)
        colour = cv2.imencode(suffix, np.dstack([values, values[::-1], values]))[1].tobytes()
        np.testing.assert_allclose(decode_image(colour)[:, :, 1], values[::-1] >> 8, atol=1)


def test_floating_point_is_stretched() -> None:
    values = np.linspace(-2.0, 3.0, 200, dtype=np.float32).reshape(10, 20)
    pixels = decode_image(encoded(Image.fromarray(values), "TIFF"))
    assert (pixels.min(), pixels.max()) == (0, 255)
    broken = np.full((4, 4), np.nan, np.float32)
    assert decode_image(encoded(Image.fromarray(broken), "TIFF")).max() == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("keep", [0.02, 0.3, 0.6, 0.95])
def test_truncated_files_are_refused(kind: str, keep: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(InvalidDataError, match=r"damaged|not an image"):
        decode_image(data[: int(len(data) * keep)], name="cut.img")


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00", b"<html></html>", b"\xff\xd8\xff\xe0" + b"\x00" * 64, b"\x89PNG\r\n\x1a\n" + b"\x07" * 99],
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidDataError, match=r"photo\.jpg"):
        decode_image(data, name="photo.jpg")


def test_damage_after_the_header_is_refused_or_decoded_but_never_crashes() -> None:
    rng = np.random.default_rng(3)
    noise = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000"):
        whole = encoded(Image.fromarray(noise), kind)
        for _ in range(25):
            data = bytearray(whole)
            for place in rng.integers(0, len(data), 12):
                data[place] = rng.integers(0, 256)
            try:
                pixels = decode_image(bytes(data), max_pixels=1 << 20)
            except InvalidDataError:
                continue
            assert pixels.dtype == np.uint8


def test_a_decompression_bomb_is_refused_before_decoding() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    def png(width: int, height: int) -> bytes:
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
        return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")

    bomb, huge = png(20_000, 15_000), png(60_000, 60_000)
    with pytest.raises(InvalidDataError, match=r"20000 x 15000 = 300,000,000 pixels, the limit is 134,217,728"):
        decode_image(bomb)
    with pytest.raises(InvalidDataError, match="60 x 40 = 2,400 pixels, the limit is 100"):
        decode_image(encoded(Image.fromarray(scene()), "PNG"), max_pixels=100)
    with pytest.raises(InvalidDataError, match="60000 x 60000"):
        read_header(huge)
    assert read_header(huge, max_pixels=1 << 40).upright_size == (60_000, 60_000)


def test_reading_a_path(tmp_path: Path) -> None:
    path = tmp_path / "wrong suffix.jpg"
    path.write_bytes(encoded(Image.fromarray(scene()), "PNG"))
    assert corners(read_image(path)) == UPRIGHT
    with pytest.raises(NotFoundError, match="no such image"):
        read_image(tmp_path / "nothing.jpg")
    with pytest.raises(InvalidDataError, match="cannot be read"):
        read_image(tmp_path)


def test_equals_opencv_on_ordinary_jpegs() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), "JPEG")
    np.testing.assert_array_equal(
        decode_image(data), cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    )
