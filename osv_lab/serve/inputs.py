"""From what a client sends to image bytes and pixels, every limit checked before the work it limits."""

from __future__ import annotations

import base64
import binascii
import functools
import re
from typing import TYPE_CHECKING

from osv_lab.core.errors import OsvError
from osv_lab.serve.errors import RequestError, as_request_error, shortened
from osv_lab.serve.limits import Limits as Limits

if TYPE_CHECKING:
    import numpy as np
    from pydantic_core import SchemaValidator
    from python_multipart.multipart import MultipartCallbacks

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_SMALLEST_IMAGE = 24
# Ten thousand classes, the images of a batch, and room. Base64 has no commas.
_MOST_COMMAS = 20_000
_SPACES = str.maketrans("", "", " \t\r\n")
_URL_SAFE = str.maketrans("-_", "+/")

_ONE_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

MAX_FIELDS = 128
"""Most parts of a form that are no files."""

MAX_REPEATED = 64
"""Most of them of one name."""


def prepare_decoders() -> None:
    """Import what decodes JPEG and PNG files, for which the first of them would otherwise wait."""
    import PIL.JpegImagePlugin  # noqa: F401

    from osv_lab.detect.images import decode_image

    decode_image(_ONE_PIXEL)


def image_bytes(image_url: str, limits: Limits) -> bytes:
    """The encoded image that ``image_url`` stands for: an http(s) URL, a data URI, or bare base64.

    Raises:
        RequestError: with the status, the reason and the way out.

    Example:
        >>> image_bytes("data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAACAkQBADs=", Limits())[:6]
        b'GIF89a'
    """
    text = image_url.strip()
    if not text:
        raise RequestError(422, "image_url is empty", "", "give an http(s) URL, a data URI, or base64")
    scheme = _SCHEME.match(text[:32])
    if scheme is None:
        return _from_base64(text, limits)
    if scheme[0].lower() in ("http:", "https:"):
        from osv_lab.serve.fetch import fetch_image

        return _within(fetch_image(text, limits.fetch), limits)
    if scheme[0].lower() == "data:":
        return _from_data_uri(text, limits)
    raise RequestError(
        400, "image_url has a scheme the server does not read", scheme[0], "use http(s), a data URI, or base64"
    )


def check_json(body: bytes) -> None:
    """Refuse a JSON body of more values than any request has, before a parser makes an object of each.

    Raises:
        RequestError: 413.
    """
    commas = body.count(b",")
    if commas > _MOST_COMMAS:
        raise RequestError(413, "the JSON has too many values", f"more than {_MOST_COMMAS:,}", "send one request")


def decode(data: bytes, limits: Limits) -> np.ndarray:
    """Pixels of an encoded image: BGR uint8 ``(h, w, 3)``, upright.

    Raises:
        RequestError: 413 for too many bytes or pixels, 422 for what is not an image or is damaged.
    """
    from osv_lab.detect.images import decode_image

    try:
        return decode_image(_within(data, limits), max_pixels=limits.max_pixels)
    except OsvError as error:
        raise as_request_error(error) from None


def form_parts(body: bytes, content_type: str, limits: Limits) -> tuple[list[bytes], dict[str, list[str]]]:
    """The files and the other fields of a ``multipart/form-data`` body.

    Raises:
        RequestError: 400 when it is not one, 422 when it has too many parts.
    """
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not 1 <= len(boundary) <= 256:
        raise RequestError(400, "the form has no boundary", content_type, "let your HTTP library set Content-Type")
    form = _Form(limits.max_batch + MAX_FIELDS)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise RequestError(400, "the form cannot be read", error, "let your HTTP library build it") from None
    if not form.ended:
        raise RequestError(400, "the form ends in the middle", f"{len(body):,} bytes", "send all of it")
    return form.files, form.fields


class _Form:
    """Collects the parts of a form from the parser's callbacks."""

    def __init__(self, max_parts: int) -> None:
        self.files: list[bytes] = []
        self.fields: dict[str, list[str]] = {}
        self.ended = False
        self._left = max_parts
        self._header = [bytearray(), bytearray()]
        self._disposition = b""
        self._data = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._header_over,
            "on_part_data": lambda data, start, end: self._data.extend(memoryview(data)[start:end]),
            "on_part_end": self._part_over,
            "on_end": self._over,
        }

    def _begin(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise RequestError(422, "the form has too many parts", "", "send fewer images or classes at once")
        self._data, self._disposition = bytearray(), b""

    def _header_over(self) -> None:
        name, value = (bytes(part) for part in self._header)
        if name.lower() == b"content-disposition":
            self._disposition = value
        self._header = [bytearray(), bytearray()]

    def _part_over(self) -> None:
        from python_multipart.multipart import parse_options_header

        options = parse_options_header(self._disposition)[1]
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" in options or b"filename*" in options or name in ("file", "image"):
            self.files.append(bytes(self._data))
            return
        field = self.fields.setdefault(name, [])
        if len(field) == MAX_REPEATED:
            fix = "separate classes by commas"
            raise RequestError(
                422, "the form has a field too often", f"{shortened(name, 40)}, over {MAX_REPEATED} times", fix
            )
        field.append(self._data.decode("utf-8", "replace"))

    def _over(self) -> None:
        self.ended = True


def _from_data_uri(text: str, limits: Limits) -> bytes:
    head, comma, payload = text.partition(",")
    if not comma:
        raise RequestError(400, "image_url is no data URI", head, "write data:image/jpeg;base64,<data>")
    kind, *options = head[len("data:") :].lower().split(";")
    if kind and not kind.startswith("image/") and kind != "application/octet-stream":
        raise RequestError(415, "the data URI holds no image", kind, "use data:image/jpeg;base64,<data>")
    if "base64" not in (option.strip() for option in options):
        raise RequestError(400, "the data URI is not base64", head, "write data:image/jpeg;base64,<data>")
    return _from_base64(payload, limits)


def _from_base64(text: str, limits: Limits) -> bytes:
    if len(text) > limits.max_image_bytes * 3 // 2:  # a third for base64, the rest for line ends
        raise _too_many_bytes(f"{len(text):,} characters of base64", limits)
    if (data := _from_plain_base64(text)) is not None and len(data) >= _SMALLEST_IMAGE:
        return _within(data, limits)
    if "%" in text[-12:]:
        text = re.sub(r"%([0-9A-Fa-f]{2})", lambda code: chr(int(code[1], 16)), text)
    clean = text.translate(_SPACES).translate(_URL_SAFE).rstrip("=")
    try:
        data = base64.b64decode(clean + "=" * (-len(clean) % 4), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    # A path such as /etc/passwd is base64 too, of fewer bytes than any image has.
    if len(data) < _SMALLEST_IMAGE:
        raise RequestError(
            400,
            "image_url is neither an http(s) URL, nor a data URI, nor base64",
            shortened(text, 60),
            "the server reads no files of its own: upload the file or encode it",
        )
    return _within(data, limits)


def _from_plain_base64(text: str) -> bytes | None:
    """Base64 without anything in between, as most clients send it, by pydantic's decoder: a sixth of the time of
    Python's own, which is as much as all other parsing takes together. ``None`` for what is none."""
    from pydantic_core import ValidationError

    if "\\" in text:  # means something to JSON
        return None
    try:
        data: bytes = _base64_in_json().validate_json(f'"{text}"')
    except ValidationError:
        return None
    return data


@functools.cache
def _base64_in_json() -> SchemaValidator:
    from pydantic_core import SchemaValidator, core_schema

    return SchemaValidator(core_schema.bytes_schema(), config={"val_json_bytes": "base64"})


def _within(data: bytes, limits: Limits) -> bytes:
    if len(data) > limits.max_image_bytes:
        raise _too_many_bytes(f"{len(data):,} bytes", limits)
    return data


def _too_many_bytes(found: str, limits: Limits) -> RequestError:
    return RequestError(413, "the image is too large", found, f"send at most {limits.max_image_bytes:,} bytes")
