"""The socket, the faults that can be asked for, and the record of what was called."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from cvat_double import access, annotations, jobs, projects, tasks, upload, webhooks
from cvat_double.http import SERVER_ERROR, RefusedError, Request, Response, Routes
from cvat_double.reach import Reachable
from cvat_double.state import Task, World

VERSION = "2.54.1"


@dataclass(frozen=True)
class Call:
    """One request that reached the server; ``status`` is None where it got no answer."""

    method: str
    path: str
    status: int | None


@dataclass
class Fault:
    status: int | None
    method: str | None
    path: str
    times: int
    applied: bool


class HangUpError(Exception):
    """The connection is to be cut without an answer."""


class CvatDouble(Reachable):
    """A CVAT server on a free port of the loopback, up from the start.

    Its state outlives :meth:`down` and :meth:`restart`, as a real server's database does.
    """

    def __init__(self) -> None:
        super().__init__("", "admin", "admin-password")
        self.world = World()
        self.world.add_user(self.user, self.password, is_admin=True)
        self.worker = upload.Worker(self.world)
        self.requests: list[Call] = []
        self.unexpected: list[Exception] = []  # what went wrong inside the double itself
        self._table = Routes()
        self._faults: list[Fault] = []
        self._upload_left: int | None = None
        self._running = threading.Event()
        self._running.set()
        self._server: _Server | None = None
        for module in (access, projects, tasks, jobs, annotations, webhooks):
            module.routes(self.world, self._table)
        upload.routes(self.world, self._table, self.worker)
        self._table.on("GET", "/server/about")(_about)
        self.up()

    @property
    def tasks(self) -> list[Task]:
        """The tasks there are, whoever owns them: after a failed send there should be none."""
        return list(self.world.tasks.values())

    def up(self) -> None:
        """Listen, on the same port as before."""
        if self._server is None:
            port = urlsplit(self.url).port or 0
            self._server = _Server(self, port)
            self.url = f"http://127.0.0.1:{self._server.server_port}"
            threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def down(self) -> None:
        """Stop listening and cut every open connection."""
        if self._server is not None:
            server, self._server = self._server, None
            server.shutdown()
            server.server_close()
            server.cut_all()

    def restart(self) -> None:
        self.down()
        self.thaw()
        self.up()

    def freeze(self) -> None:
        """Accept connections and requests, answer none."""
        self._running.clear()

    def thaw(self) -> None:
        """Answer again, first of all what was asked in the meantime."""
        self._running.set()

    def cut_upload_after(self, size: int) -> None:
        """Cut the connection once, when the bodies of uploads have brought ``size`` more bytes."""
        self._upload_left = size

    def fail_next(
        self,
        status: int | None = 500,
        *,
        method: str | None = None,
        path: str = "",
        times: int = 1,
        applied: bool = False,
    ) -> None:
        """Fail the next calls of ``method`` whose path contains ``path``; no status cuts the connection instead.

        With ``applied`` the call does its work first: the answer is lost, what it changed is not.
        """
        self._faults.append(Fault(status, method, path, times, applied))

    def stall(self) -> None:
        """Let the workers sleep: uploads are taken, and the tasks they are to become stay empty."""
        self.worker.awake.clear()

    def resume(self) -> None:
        self.worker.awake.set()

    def forget_requests(self) -> None:
        """Do at once what a server does minutes after success: answer 404 for finished requests."""
        with self.world.lock:
            for key in [key for key, one in self.world.requests.items() if one["status"] == "finished"]:
                del self.world.requests[key]

    def close(self) -> None:
        super().close()
        self.resume()
        self.down()
        self.thaw()

    def answer(self, request: Request) -> Response:
        self._running.wait()
        if self._server is None:
            raise HangUpError
        fault = self._fault(request)
        if fault is not None and not fault.applied:
            return _failed(fault)
        with self.world.lock:
            response = self._dispatch(request)
        return response if fault is None else _failed(fault)

    def _dispatch(self, request: Request) -> Response:
        try:
            access.identify(self.world, request)
            handler, names = self._table.find(request)
            return handler(request, **names)
        except RefusedError as refusal:
            return Response(refusal.status, refusal.body)

    def _fault(self, request: Request) -> Fault | None:
        with self.world.lock:
            for fault in self._faults:
                if fault.method in (None, request.method) and fault.path in request.path:
                    fault.times -= 1
                    if not fault.times:
                        self._faults.remove(fault)
                    return fault
        return None

    def upload_arrived(self, method: str, path: str, size: int) -> None:
        """Count the bytes of an upload and cut it at the limit.

        A body of many files that was cut leaves its task unusable. (A real server forgives that if nothing at all had
        arrived whole before.) A chunk that was cut is as if never sent: the client may ask how far it got and go on.
        """
        with self.world.lock:
            if self._upload_left is None:
                return
            self._upload_left -= size
            if self._upload_left > 0:
                return
            self._upload_left = None
            task = self.world.tasks.get(int(path.split("/")[3]))
            if task is not None and method == "POST":
                task.broken = task.has_data = True
        raise HangUpError


def _failed(fault: Fault) -> Response:
    if fault.status is None:
        raise HangUpError
    return Response(fault.status, SERVER_ERROR if fault.status >= 500 else {"detail": "Asked for by the test."})


def _about(request: Request) -> Response:
    body: dict[str, Any] = {"name": "Computer Vision Annotation Tool", "description": "", "version": VERSION}
    return Response(body={**body, "logo_url": f"{request.base}/logo.svg", "subtitle": ""})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, double: CvatDouble, port: int) -> None:
        self.double = double
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""

    def cut_all(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _any(self) -> None:
        double, parts = self.server.double, urlsplit(self.path)
        path = unquote(parts.path)
        try:
            response = self._response(double, path, dict(parse_qsl(parts.query, keep_blank_values=True)))
        except HangUpError:
            double.requests.append(Call(self.command, path, None))
            self._cut()
            return
        double.requests.append(Call(self.command, path, response.status))  # before anybody can know of it
        self._send(response)

    def _response(self, double: CvatDouble, path: str, query: dict[str, str]) -> Response:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, path, query, headers, self._body(path), double.url)
        try:
            return double.answer(request)
        except HangUpError:
            raise
        except Exception as error:  # noqa: BLE001 - as a web framework: any error is a 500
            double.unexpected.append(error)
            return Response(500, SERVER_ERROR)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _any  # noqa: N815 - names http.server looks for

    def _body(self, path: str) -> bytes:
        left, pieces = int(self.headers.get("Content-Length") or 0), []
        is_upload = self.command in ("POST", "PATCH") and "/data" in path and not path.endswith("/meta")
        while left:
            piece = self.rfile.read1(min(left, 1 << 16))
            if not piece:
                raise HangUpError
            left -= len(piece)
            pieces.append(piece)
            if is_upload:
                self.server.double.upload_arrived(self.command, path, len(piece))
        return b"".join(pieces)

    def _send(self, response: Response) -> None:
        body, kind = response.encoded()
        head = [f"HTTP/1.1 {response.status} {self.responses.get(response.status, ('',))[0]}"]
        head += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
        for name, value in response.headers.items():
            head += [f"{name}: {line}" for line in value.split("\n")]
        if self.command == "HEAD":
            body = b""
        with contextlib.suppress(OSError):
            self.wfile.write("\r\n".join([*head, "", ""]).encode() + body)

    def _cut(self) -> None:
        """Close so that the other side sees a reset, as when a server's process is killed."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def log_message(self, format: str, *args: Any) -> None:
        """Tests read ``requests`` instead."""
