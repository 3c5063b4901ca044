"""What image_url may be, and every way it may not."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest

from osv_lab.serve.errors import RequestError, shortened
from osv_lab.serve.fetch import FetchPolicy
from osv_lab.serve.inputs import Limits, decode, form_parts, image_bytes

PNG = cv2.imencode(".png", np.full((4, 6, 3), 9, np.uint8))[1].tobytes()
TEXT = base64.b64encode(PNG).decode()
CLOSED = Limits(max_image_bytes=10_000, max_pixels=10_000, fetch=FetchPolicy(allow=False))


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"data:image/png;base64,{TEXT}",
        f"DATA:image/png;charset=utf-8;Base64,{TEXT}",
        f"data:;base64,{TEXT}",
        TEXT.rstrip("="),
        TEXT.replace("+", "-").replace("/", "_"),
        "\r\n".join(TEXT[start : start + 20] for start in range(0, len(TEXT), 20)),
        f"  {TEXT}\n",
        f"data:image/png;base64,{TEXT.replace('=', '%3D')}",
    ],
)
def test_ways_to_say_the_same_image(text: str) -> None:
    assert image_bytes(text, CLOSED) == PNG
    assert decode(image_bytes(text, CLOSED), CLOSED).shape == (4, 6, 3)


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ("", 422, "empty"),
        ("   ", 422, "empty"),
        ("/etc/passwd", 400, "reads no files of its own"),
        ("photo.jpg", 400, "upload the file"),
        ("../../secret.png", 400, "upload the file"),
        ("file:///etc/passwd", 400, "file:"),
        ("ftp://example.com/a.png", 400, "ftp:"),
        ("gopher://example.com", 400, "gopher:"),
        ("javascript:alert(1)", 400, "javascript:"),
        ("data:image/png;base64", 400, "no data URI"),
        ("data:image/png,%89PNG", 400, "not base64"),
        ("data:text/html;base64,PGI+", 415, "text/html"),
        ("data:image/png;base64,@@@@", 400, "base64"),
        ("héllo wörld", 400, "base64"),
        ("A" * 50_000, 413, "at most 10,000 bytes"),
        ("http://example.com/a.png", 400, "does not fetch URLs"),
    ],
)
def test_ways_to_say_no_image(text: str, status: int, reason: str) -> None:
    with pytest.raises(RequestError) as caught:
        image_bytes(text, CLOSED)
    assert caught.value.status == status
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"", 422), (b"hello", 422), (PNG[:30], 422), (PNG[:-40], 422), (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, 422)],
)
def test_bytes_that_are_no_image(data: bytes, status: int) -> None:
    with pytest.raises(RequestError) as caught:
        decode(data, CLOSED)
    assert caught.value.status == status


def test_pixels_are_counted_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("the image was decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    monkeypatch.setattr("cv2.imdecode", decoded)
    bomb = cv2.imencode(".png", np.zeros((2000, 2000, 3), np.uint8))[1].tobytes()
    with pytest.raises(RequestError) as caught:
        decode(bomb, Limits(max_pixels=1_000_000))
    assert caught.value.status == 413
    assert "4,000,000" in str(caught.value)


def form(*parts: tuple[str, bytes], boundary: str = "xyz", end: bool = True) -> bytes:
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {name}\r\n\r\n".encode() + data + b"\r\n"
        for name, data in parts
    )
    return body + f"--{boundary}--\r\n".encode() if end else body


def test_a_form() -> None:
    body = form(('name="file"; filename="a.png"', PNG), ('name="classes"', b"cat"), ('name="classes"', b"dog"))
    files, fields = form_parts(body, "multipart/form-data; boundary=xyz", CLOSED)
    assert files == [PNG]
    assert fields == {"classes": ["cat", "dog"]}


def test_a_file_needs_no_file_name_when_it_is_called_one() -> None:
    files, _ = form_parts(form(('name="image"', PNG)), 'multipart/form-data; boundary="xyz"', CLOSED)
    assert files == [PNG]


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (form(("name=file", PNG)), "multipart/form-data", 400),
        (form(("name=file", PNG)), "multipart/form-data; boundary=", 400),
        (form(("name=file", PNG)), "multipart/form-data; boundary=" + "x" * 300, 400),
        (form(("name=file", PNG)), "multipart/form-data; boundary=other", 400),
        (form(("name=file", PNG), end=False), "multipart/form-data; boundary=xyz", 400),
        (form(*[("name=file", b"")] * 200), "multipart/form-data; boundary=xyz", 422),
        (b"--xyz\r\n" + b"A: b\r\n" * 100_000, "multipart/form-data; boundary=xyz", 400),
        (b"", "multipart/form-data; boundary=xyz", 400),
    ],
)
def test_forms_that_cannot_be_read(body: bytes, content_type: str, status: int) -> None:
    with pytest.raises(RequestError) as caught:
        form_parts(body, content_type, CLOSED)
    assert caught.value.status == status


def test_errors_repeat_little_of_what_was_sent() -> None:
    assert len(str(RequestError(400, "what", "x" * 10_000_000))) < 300
    assert shortened("a\nb\x00c") == "a\\nb\\x00c"
