"""Hearing from CVAT that something changed, instead of asking again and again.

CVAT's webhooks say that a job changed, and not how. So a notice is only a reason to ask: whoever sends one, it can
cause nothing that :meth:`status` or :meth:`pull` of that run would not do anyway. Notices without the right signature
are refused before they are read.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import logging
import secrets
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from osv_lab.core.errors import OsvError, UnavailableError, UsageError

logger = logging.getLogger(__name__)

MAX_BYTES = 1 << 20
SILENT_S = 10.0
"""How long a sender may be silent."""
WHOLE_S = 30.0
"""How long a notice may take in all: who sends it byte by byte holds none of the few places for longer."""
AT_ONCE = 16
QUIET_S = 1.0
"""Notices of one run within this time are answered once."""
SIGNATURE = "X-Signature-256"


def signature(secret: str, body: bytes) -> str:
    """CVAT's signature of a body: HMAC with SHA-256, in hexadecimal digits after ``sha256=``."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


class Listener:
    """A small HTTP server for CVAT's webhooks.

    Args:
        changed: Called with the key of a run that something changed in, one call at a time.
        key_of: The key of the run that a task on the server belongs to, ``None`` for others.
        secret: What CVAT signs with; without it nothing is taken. By default a random one.
        host: Where to listen; loopback by default.
        port: 0 takes a free one.
        max_bytes: Larger bodies are refused.
        quiet_s: How long to wait for further notices before ``changed`` is called.

    Raises:
        UsageError: an empty secret.
        UnavailableError: the address cannot be had.

    Example:
        >>> with Listener(print, {7: "first_batch"}.get, "secret") as listener:
        ...     listener.address
        'http://127.0.0.1:...'
    """

    def __init__(
        self,
        changed: Callable[[str], Any],
        key_of: Callable[[int], str | None],
        secret: str | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        max_bytes: int = MAX_BYTES,
        quiet_s: float = QUIET_S,
    ) -> None:
        self.secret = secrets.token_urlsafe(32) if secret is None else secret
        if not self.secret:
            raise UsageError("webhooks need a secret", "an empty one", "leave it out for a random one")
        self.max_bytes = max_bytes
        self._changed, self._key_of, self._quiet_s = changed, key_of, quiet_s
        self._waiting: set[str] = set()
        self._news = threading.Condition()
        self._ending = False
        try:
            self._server = _Server((host, port), self)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise UnavailableError(
                "the address cannot be listened on", f"{host}:{port} ({why})", "choose another"
            ) from None
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{self._server.server_port}"
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True, name="osv-webhooks"),
            threading.Thread(target=self._work, daemon=True, name="osv-webhooks-work"),
        ]
        for thread in self._threads:
            thread.start()

    def take(self, body: bytes, signed: str) -> int:
        """The HTTP status for a notice; a run that it is about will be asked for."""
        if not hmac.compare_digest(signed.encode(), signature(self.secret, body).encode()):
            return 401
        try:
            notice = json.loads(body)
            task = _task_of(notice)
        except (ValueError, TypeError, AttributeError, RecursionError):
            return 400
        key = self._key_of(task) if task is not None else None
        if key is None:
            # A ping, or a task that is none of ours.
            return 204
        self.hear(key)
        return 202

    def hear(self, key: str) -> None:
        """As if the server had said that something changed in a run."""
        with self._news:
            self._waiting.add(key)
            self._news.notify()

    def close(self) -> None:
        """Stop listening; what was heard is still worked off."""
        if self._ending:
            return
        self._server.shutdown()
        self._server.server_close()
        with self._news:
            self._ending = True
            self._news.notify()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _work(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting or self._ending)
                if not self._ending:
                    # One press of "save" in CVAT changes job and task.
                    self._news.wait_for(lambda: self._ending, self._quiet_s)
                keys, self._waiting = sorted(self._waiting), set()
                if self._ending and not keys:
                    return
            for key in keys:
                try:
                    self._changed(key)
                except OsvError as error:
                    logger.warning("%s: %s", key, error)
                except Exception:
                    logger.exception("%s: what was to happen on a notice failed", key)


def _task_of(notice: Mapping[str, Any]) -> int | None:
    """The task that a notice is about."""
    if not isinstance(notice, Mapping):
        raise TypeError("a notice is an object")
    if "job" in notice:
        return int(notice["job"]["task_id"])
    return int(notice["task"]["id"]) if "task" in notice else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], listener: Listener) -> None:
        self.listener = listener
        self._room = threading.BoundedSemaphore(AT_ONCE)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        end = threading.Timer(WHOLE_S, _hang_up, (request,))
        end.daemon = True
        end.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            end.cancel()
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sender that went away is no news; all else is, since nothing will be asked for."""
        if not isinstance(sys.exception(), OSError):
            logger.exception("a notice could not be taken")


def _hang_up(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = SILENT_S
    server_version, sys_version = "osv", ""

    def do_POST(self) -> None:
        listener = self.server.listener
        length = self.headers.get("Content-Length", "")
        if self.path != "/":
            self._answer(404)
        elif not length.isdecimal():
            self._answer(411)
        elif len(length) > 18 or int(length) > listener.max_bytes:
            self._answer(413)
        else:
            body = self.rfile.read(int(length))
            whole = len(body) == int(length)
            self._answer(listener.take(body, self.headers.get(SIGNATURE, "")) if whole else 400)

    def _answer(self, status: int) -> None:
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)
