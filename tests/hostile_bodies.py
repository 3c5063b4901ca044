"""Bodies that are not what they say: bombs, truncated and malformed images, endless and deep documents."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
from PIL import Image

MEGABYTE = 2**20


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def png_of(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def png_header(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A small file that says it is as large as asked."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return png_of(chunk(b"IHDR", header), chunk(b"IDAT", pixels or zlib.compress(bytes(50_000))))


@functools.cache
def png_bomb(size: int) -> bytes:
    """All the pixels are really there, a thousand to the byte."""
    packer, row = zlib.compressobj(1), bytes(1 + 3 * size)
    packed = b"".join(packer.compress(row) for _ in range(size)) + packer.flush()
    return png_header(size, size, packed)


@functools.cache
def png_more_than_said() -> bytes:
    """10 x 10 by its header, 60 MB of pixels in its data, all of it cut from the end."""
    return png_header(10, 10, zlib.compress(bytes(60 * MEGABYTE), 1))[:-20]


@functools.cache
def png_text_bomb() -> bytes:
    text = b"Comment\x00\x00" + zlib.compress(bytes(100 * MEGABYTE), 1)
    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    return png_of(chunk(b"IHDR", header), chunk(b"zTXt", text), chunk(b"IDAT", b"not zlib"))


def tiff_bomb(width: int, height: int) -> bytes:
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 10)]
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(entries)) + packed + bytes(4)


def tiff_endless() -> bytes:
    """A directory of tags that says it has 65,535 of them."""
    return struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", 65535) + b"\x01\x01\x04\x00" * 100


def webp_bomb() -> bytes:
    vp8x = b"VP8X" + struct.pack("<I", 10) + b"\x00" * 4 + (16382).to_bytes(3, "little") * 2
    return b"RIFF" + struct.pack("<I", 4 + len(vp8x)) + b"WEBP" + vp8x


def webp_lossless_bomb() -> bytes:
    bits = (16383 | 16383 << 14).to_bytes(4, "little")
    data = b"\x2f" + bits + bytes(20)
    payload = b"VP8L" + struct.pack("<I", len(data)) + data + b"\x00" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(payload)) + b"WEBP" + payload


def jpeg2000_bomb() -> bytes:
    siz = struct.pack(">HIIIIIIIIH", 0, 50_000, 50_000, 0, 0, 50_000, 50_000, 0, 0, 3) + b"\x07\x01\x01" * 3
    return b"\xff\x4f\xff\x51" + struct.pack(">H", len(siz) + 2) + siz + bytes(50)


def jpeg_header(width: int, height: int) -> bytes:
    data = bytearray(cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def picture(kind: str, mode: str = "RGB", size: tuple[int, int] = (32, 24), **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind, **options)
    return buffer.getvalue()


def gif_bomb() -> bytes:
    return (
        b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\x00\x00" + bytes(6) + b"," + bytes(4) + b"\xff" * 5
    )


def bmp_bomb() -> bytes:
    return b"BM" + struct.pack("<IIIIiiHH", 54, 0, 54, 40, 100_000, 100_000, 1, 24) + bytes(24)


def deep(levels: int) -> bytes:
    return b'{"image_url": ' + b"[" * levels + b"]" * levels + b"}"


def form(*parts: bytes, end: bytes = b"--xyz--\r\n") -> bytes:
    return b"".join(b"--xyz\r\n" + part + b"\r\n" for part in parts) + end


def part(name: str, data: bytes, extra: str = "") -> bytes:
    return f'Content-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + data
