"""What came from a client and what goes back to it, without a framework."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from osv_lab.serve.errors import RequestError, error_body

if TYPE_CHECKING:
    from starlette.types import Send

    from osv_lab.serve.observe import Observation
    from osv_lab.serve.served import Thresholds


@dataclass(frozen=True, slots=True)
class Sent:
    """What a client sent.

    Attributes:
        content_type: The header as it came.
        query: Query parameters, each with all its values.
        body: The whole body.
        accept: The header as it came: which kind of answer is wanted.
        options: Options that were read already, as JSON-able values; then the body is the image alone.
    """

    content_type: str
    query: Mapping[str, list[str]]
    body: bytes
    accept: str = ""
    options: Mapping[str, Any] | None = None

    @property
    def kind(self) -> str:
        """The media type alone, in lower case."""
        return media_type(self.content_type)

    @property
    def is_image(self) -> bool:
        """Whether the body is the image itself."""
        return self.kind.startswith("image/") or self.kind == "application/octet-stream"

    @property
    def bare(self) -> bool:
        """Whether it is an image and nothing else: there are no options to read."""
        return self.is_image and not self.query and self.options is None


class NothingAsked:
    """What :class:`osv_lab.serve.schemas.OneImageOptions` without any field says, and needs no parser for."""

    model: str | None = None
    format: str = "json"
    model_fields_set: Set[str] = frozenset()

    def thresholds(self, defaults: Thresholds) -> Thresholds:
        """The model's own."""
        return defaults


NOTHING_ASKED = NothingAsked()


def media_type(content_type: str) -> str:
    """The media type of a ``Content-Type`` header, without its parameters.

    Example:
        >>> media_type("Application/JSON; charset=utf-8")
        'application/json'
    """
    return content_type.partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class Fetch:
    """An image that must be fetched first: that waits for another host, so it is done elsewhere."""

    url: str


@dataclass(slots=True)
class Answer:
    """What goes back to a client.

    Attributes:
        body: All of it.
        headers: By name; the length is added.
        status: The HTTP status.
        observation: What was found, for those who observe; ``None`` where nobody does.
        then: Called when the client has it.
    """

    body: bytes
    headers: Sequence[tuple[str, str]] = ()
    status: int = 200
    observation: Observation | None = None
    then: Callable[[], None] | None = field(default=None, repr=False)

    async def send(self, send: Send) -> None:
        """Send it."""
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self.headers]
        headers.append((b"content-length", b"%d" % len(self.body)))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})
        if self.then is not None:
            self.then()


def json_answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """JSON-able values as an answer."""
    body = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return Answer(body, [("Content-Type", "application/json"), *(headers or {}).items()], status)


def error_answer(error: RequestError) -> Answer:
    """The answer that says what was wrong."""
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return json_answer(error_body(error), error.status, headers)


def is_url(image: str | bytes) -> bool:
    """Whether an image is named by an http(s) address.

    Example:
        >>> is_url(" HTTPS://example.org/a.jpg"), is_url("data:image/png;base64,iVBORw0K")
        (True, False)
    """
    return isinstance(image, str) and image[:64].strip()[:6].lower().startswith(("http:", "https:"))
