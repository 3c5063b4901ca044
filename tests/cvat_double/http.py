"""HTTP by hand: a request, a refusal, a table of routes, pages of ten, multipart bodies."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from cvat_double.state import Organization, User


class RefusedError(Exception):
    """An answer that is no success: ``status`` and what the body says."""

    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status, body)
        self.status, self.body = status, body


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # lower-case names
    body: bytes
    base: str
    user: User | None = None
    read_only: bool = False
    organization: Organization | None = None
    personal: bool = False  # an empty organization was asked for: only what belongs to none

    def json(self) -> Any:
        try:
            return json.loads(self.body or b"null")
        except ValueError as error:
            raise RefusedError(400, {"detail": f"JSON parse error - {error}"}) from error

    def form(self) -> tuple[dict[str, list[str]], list[tuple[str, bytes]]]:
        """Fields and files (name, content) of a multipart body; the folders of a file's name are dropped."""
        fields: dict[str, list[str]] = {}
        files: list[tuple[str, bytes]] = []
        boundary = re.search(r'boundary="?([^";]+)', self.headers.get("content-type", ""))
        if boundary is None:
            return fields, files
        for part in self.body.split(b"--" + boundary[1].encode())[1:-1]:
            head, _, content = part[2:-2].partition(b"\r\n\r\n")
            disposition = head.decode("utf-8", "replace")
            name = re.search(r'name="([^"]*)"', disposition)
            filename = re.search(r'filename="([^"]*)"', disposition)
            if filename is not None:
                files.append((filename[1].replace("\\", "/").rsplit("/", 1)[-1], content))
            elif name is not None:
                fields.setdefault(name[1], []).append(content.decode())
        return fields, files


@dataclass
class Response:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> tuple[bytes, str]:
        if isinstance(self.body, bytes):
            return self.body, "application/octet-stream"
        if self.body is None:
            return b"", "application/json"
        return json.dumps(self.body).encode(), "application/vnd.cvat+json"


Handler = Callable[..., Response]


class Routes:
    """Which handler answers ``METHOD /path/{id}``."""

    def __init__(self) -> None:
        self._table: list[tuple[str, re.Pattern[str], Handler]] = []

    def on(self, method: str, pattern: str) -> Callable[[Handler], Handler]:
        names = re.sub(r"\{(\w+)\}", lambda match: rf"(?P<{match[1]}>[^/]+)", pattern)
        expression = re.compile(f"^/api{names}/?$")

        def register(handler: Handler) -> Handler:
            self._table.append((method, expression, handler))
            return handler

        return register

    def find(self, request: Request) -> tuple[Handler, dict[str, str]]:
        allowed = []
        for method, expression, handler in self._table:
            match = expression.match(request.path)
            if match and method == request.method:
                return handler, match.groupdict()
            if match:
                allowed.append(method)
        if allowed:
            raise RefusedError(405, {"detail": f'Method "{request.method}" not allowed.'})
        raise RefusedError(404, {"detail": "Not found."})


def page(request: Request, rows: Sequence[Any]) -> Response:
    """One page of a list, ten rows unless ``page_size`` says otherwise."""
    number, size = int(request.query.get("page", 1)), int(request.query.get("page_size", 10))
    if number > 1 and (number - 1) * size >= len(rows):
        raise RefusedError(404, {"detail": "Invalid page."})

    def link(to: int) -> str:
        return f"{request.base}{request.path}?{urlencode({**request.query, 'page': to})}"

    return Response(
        body={
            "count": len(rows),
            "next": link(number + 1) if number * size < len(rows) else None,
            "previous": link(number - 1) if number > 1 else None,
            "results": list(rows[(number - 1) * size : number * size]),
        }
    )
