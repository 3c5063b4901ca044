"""Frames between the front process and its workers: a JSON header and raw bytes, over a socket pair. No pickle.

A frame is the length of the header (4 bytes, big end first), the header (JSON, its ``parts`` the lengths of what
follows), and the parts. Both ends run the same code of the same version, so the format promises nothing to others.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from osv_lab.core import errors
from osv_lab.core.errors import OsvError
from osv_lab.serve.errors import RequestError

Frame = tuple[dict[str, Any], list[bytes]]
"""A header and its parts."""

_LENGTH = 4


def pack(header: Mapping[str, Any], *parts: bytes) -> list[bytes]:
    """A frame as pieces of bytes, in order.

    Example:
        >>> pack({"id": 1}, b"ab")
        [b'\\x00\\x00\\x00\\x17{"id": 1, "parts": [2]}', b'ab']
    """
    text = json.dumps({**header, "parts": [len(part) for part in parts]}).encode()
    return [len(text).to_bytes(_LENGTH, "big") + text, *parts]


def send(connection: socket.socket, header: Mapping[str, Any], *parts: bytes) -> None:
    """Send a frame; blocks.

    Raises:
        OSError: the other end has gone.
    """
    # In one piece: each wakes the other end.
    connection.sendall(b"".join(pack(header, *parts)))


def receive(connection: socket.socket) -> Frame | None:
    """The next frame; blocks. ``None`` when the other end has gone.

    Raises:
        OSError: the other end broke off.
    """
    length = _exactly(connection, _LENGTH)
    if length is None:
        return None
    text = _exactly(connection, int.from_bytes(length, "big"))
    if text is None:
        return None
    header = json.loads(text)
    parts = [_exactly(connection, size) for size in header.pop("parts")]
    return None if None in parts else (header, [bytes(part) for part in parts if part is not None])


def _exactly(connection: socket.socket, size: int) -> bytearray | None:
    data = bytearray(size)
    view, got = memoryview(data), 0
    while got < size:
        count = connection.recv_into(view[got:], 0, socket.MSG_WAITALL)
        if count == 0:
            return None
        got += count
    return data


class Frames:
    """Frames out of a stream that arrives in pieces of any size."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete with this piece."""
        self._data += data
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> Frame | None:
        start = _LENGTH + int.from_bytes(self._data[:_LENGTH], "big")
        if len(self._data) < max(start, _LENGTH + 1):
            return None
        header = json.loads(self._data[_LENGTH:start])
        sizes = header.pop("parts")
        if len(self._data) < start + sum(sizes):
            return None
        parts = []
        for size in sizes:
            parts.append(bytes(self._data[start : start + size]))
            start += size
        del self._data[:start]
        return header, parts


def error_json(error: OsvError) -> dict[str, Any]:
    """An error as a header can carry it."""
    said: dict[str, Any] = {
        "kind": type(error).__name__,
        "what": error.what,
        "found": error.found,
        "fix": error.fix,
    }
    if isinstance(error, RequestError):
        said |= {"status": error.status, "retry_after_s": error.retry_after_s}
    return said


def error_of(said: Mapping[str, Any]) -> OsvError:
    """The error that :func:`error_json` wrote, of the same class.

    Example:
        >>> error_of(error_json(OsvError("no such model", "a.onnx")))
        OsvError('no such model', 'a.onnx', '')
    """
    what, found, fix = said["what"], said["found"], said["fix"]
    if said["kind"] == RequestError.__name__:
        return RequestError(said["status"], what, found, fix, retry_after_s=said["retry_after_s"])
    kind = getattr(errors, said["kind"], OsvError)
    error: OsvError = kind(what, found, fix)
    return error
