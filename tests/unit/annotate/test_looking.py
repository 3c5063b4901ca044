"""Whether an image can be decoded to its end: what decoding says, found out in less time."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from osv_lab.annotate.looking import Looking
from osv_lab.store.annotation_store import Labelled

PIXELS = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)


def says(path: Path) -> tuple[str | None, tuple[int, int] | None]:
    with Looking([Labelled("a", str(path), None, None)]) as looking:
        return looking.problem("a"), looking.size("a")


def jpeg(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def decodes(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except Exception:  # noqa: BLE001 - decoders raise what they like
        return False
    return True


def damaged(data: bytes, chance: random.Random) -> bytes:
    at, count = chance.randrange(2, len(data)), chance.randrange(1, 300)
    scan = data.find(b"\xff\xda")
    return chance.choice(
        (
            data[:at],
            data[:at] + b"\xff\xd9",
            data[:at] + data[at + count :],
            data[:at] + bytes(min(count, len(data) - at)) + data[at + count :],
            data[:at] + bytes((255, chance.randrange(256))) + data[at:],
            data[: (head := chance.randrange(2, scan))] + bytes((chance.randrange(256),)) + data[head + 1 :],
            data + chance.randbytes(8),
        )
    )


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {}),
        ("L", {}),
        ("CMYK", {}),
        ("RGB", {"progressive": True}),
        ("RGB", {"restart_marker_blocks": 2}),
    ],
)
def test_a_damaged_jpeg_is_refused_where_decoding_refuses_it(
    tmp_path: Path, mode: str, options: dict[str, Any]
) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    data = jpeg(image, quality=70, **options)
    path = tmp_path / "image.jpg"
    path.write_bytes(data)
    assert says(path) == (None, (64, 48))
    chance = random.Random(1)
    refused = 0
    for _ in range(150):
        path.write_bytes(part := damaged(data, chance))
        problem, size = says(path)
        assert (problem is None) == (size is not None) == decodes(part)
        refused += problem is not None
    assert 20 < refused < 140


def test_an_image_that_lies_on_its_side_has_its_size_as_displayed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "image.jpg"
    path.write_bytes(jpeg(Image.fromarray(PIXELS), exif=exif))
    assert says(path) == (None, (48, 64))


def test_other_formats_are_decoded(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(PIXELS).save(path)
    assert says(path) == (None, (64, 48))
    path.write_bytes(path.read_bytes()[:2000])
    assert says(path)[0] == "image.png: it cannot be read (OSError)"
    assert says(tmp_path / "none.jpg") == ("none.jpg: there is no such file", None)
