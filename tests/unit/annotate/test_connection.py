"""What goes wrong between us and a CVAT server, each in one clear line: over real HTTP on loopback."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from osv_lab.annotate.connection import Connection
from osv_lab.annotate.settings import CvatSettings
from osv_lab.core.errors import OsvError, UnavailableError, UsageError

Answer = tuple[int, Any]


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[str, str, dict[str, str]], Answer]], str]]:
    """Starts a server whose answers a function gives, by method, path and headers."""
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Callable[[str, str, dict[str, str]], Answer]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def reply(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, body = answer(self.command, self.path, dict(self.headers))
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = reply  # noqa: N815

            def log_message(self, *_: Any) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def cvat(method: str, path: str, headers: dict[str, str]) -> Answer:
    """The least that a CVAT server says, to the token ``good``."""
    if path.startswith("/api/server/about"):
        assert "Authorization" not in headers
        return 200, {"version": "2.54.0"}
    if headers.get("Authorization") != "Bearer good":
        return 401, {"detail": "Invalid token."}
    if method != "GET":
        return 403, {"detail": "You do not have permission to perform this action."}
    if path.startswith("/api/users/self"):
        return 200, {"username": "ann", "organization": headers.get("X-Organization")}
    if path.startswith("/api/organizations"):
        return 200, {"results": [{"slug": "lab"}], "next": None}
    if path.startswith("/api/jobs"):
        page = int(path.rpartition("page=")[2])
        return 200, {"results": [{"id": page}], "next": "more" if page < 3 else None}
    return 404, {"detail": "Not found."}


def test_a_session_reads_every_page_in_the_stated_organisation(serve: Any, caplog: Any) -> None:
    with Connection(CvatSettings(serve(cvat), token="good", organization="lab")) as connection:
        assert connection.user == {"username": "ann", "organization": "lab"}
        assert [job["id"] for job in connection.pages("/api/jobs")] == [1, 2, 3]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "2.54.0" in warnings[0]


def test_an_organisation_that_is_not_there_is_refused(serve: Any) -> None:
    with pytest.raises(UsageError, match="use one of: lab"):
        Connection(CvatSettings(serve(cvat), token="good", organization="other"))


def test_a_wrong_token_is_noticed_at_once_and_not_repeated(serve: Any) -> None:
    with pytest.raises(UsageError, match="does not accept the credentials") as caught:
        Connection(CvatSettings(serve(cvat), token="verysecret"))
    assert "verysecret" not in str(caught.value)


def test_a_read_only_token_is_told_what_it_lacks(serve: Any) -> None:
    with (
        Connection(CvatSettings(serve(cvat), token="good")) as connection,
        pytest.raises(UsageError, match="write access"),
    ):
        connection.call("POST", "/api/tasks", body={"name": "x"})


def test_a_server_that_is_down(serve: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UnavailableError, match="does not answer"):
        Connection(CvatSettings(f"http://127.0.0.1:{port}", token="good"))


def test_a_frozen_server_does_not_hold_us() -> None:
    with socket.socket() as frozen:
        frozen.bind(("127.0.0.1", 0))
        frozen.listen()
        url = f"http://127.0.0.1:{frozen.getsockname()[1]}"
        with pytest.raises(OsvError, match=r"silent|does not answer"):
            Connection(CvatSettings(url, token="good"), deadline_s=0.3)


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[]", b'{"a": 1}', b""])
def test_a_server_of_something_else(serve: Any, body: bytes) -> None:
    with pytest.raises(UnavailableError, match="no CVAT server"):
        Connection(CvatSettings(serve(lambda *_: (200, body)), token="good"))


def test_a_refused_write_is_not_repeated(serve: Any) -> None:
    asked = []

    def failing(method: str, path: str, headers: dict[str, str]) -> Answer:
        if method == "POST":
            asked.append(path)
            return 503, b"<html>busy</html>"
        return cvat(method, path, headers)

    with (
        Connection(CvatSettings(serve(failing), token="good")) as connection,
        pytest.raises(UnavailableError, match="status 503"),
    ):
        connection.call("POST", "/api/tasks", body={"name": "x"})
    assert asked == ["/api/tasks"]
