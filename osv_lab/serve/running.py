"""What :mod:`osv_lab.serve.run` does when the first worker process has been started."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from osv_lab.core.errors import UnavailableError, UsageError, require_extra
from osv_lab.serve.limits import Limits
from osv_lab.serve.spawn import Spawned

if TYPE_CHECKING:
    import uvicorn

    from osv_lab.detect.detector import Detector
    from osv_lab.serve.capture import Capture
    from osv_lab.serve.crew import Crew
    from osv_lab.serve.drift import Reference
    from osv_lab.serve.keys import KeySource
    from osv_lab.serve.slot import ModelSlot

_log = logging.getLogger("osv_lab.serve")

STOP_TIMEOUT_S = 10
"""How long requests in progress may take after the server was told to stop."""


class Wanted(NamedTuple):
    """What is to be served, and how: the arguments of :func:`osv_lab.serve.run.run_server`.

    Attributes:
        ref: The model.
        listening: ``host``, ``port``, ``key`` and ``allow_anonymous``.
        allow_urls: Whether ``image_url`` may be an http(s) URL.
        limits: Sizes of requests.
        serving: What :func:`osv_lab.serve.app.create_app` takes, but ``processes``, ``capture_to``, and rules in place
            of what captures by them.
        log_level: Uvicorn's.
        how: What :class:`osv_lab.serve.slot.ModelSlot` takes.
    """

    ref: str | Path | Detector
    listening: Mapping[str, Any]
    allow_urls: bool | Sequence[str] | None
    limits: Limits | None
    serving: Mapping[str, Any]
    log_level: str
    how: Mapping[str, Any]


def run(first: Spawned | None, wanted: Wanted) -> None:
    """Serve until told to stop.

    Args:
        first: A worker process that was started already; it ends where this fails.
        wanted: What is to be served.

    Raises:
        OsvError: as :func:`osv_lab.serve.run.run_server` says.
    """
    with _ended_on_error(first), contextlib.closing(_listen(**wanted.listening)) as listener:
        server = _server(first, wanted, listener)
        with _stopped_by_signals(server):
            server.run(sockets=[listener])


def start(first: Spawned | None, wanted: Wanted) -> ServerHandle:
    """As :func:`run`, in a thread; returns when it answers."""
    with _ended_on_error(first), contextlib.ExitStack() as failing:
        listener = failing.enter_context(contextlib.closing(_listen(**wanted.listening)))
        server = _server(first, wanted, listener)
        failing.pop_all()
        return ServerHandle(server, listener)


class ServerHandle:
    """A server running in the background.

    Attributes:
        url: Where it answers, without a slash at the end.
        port: Its TCP port.
    """

    def __init__(self, server: uvicorn.Server, listener: socket.socket) -> None:
        host, self.port = listener.getsockname()[:2]
        self.url = f"http://{_shown_host(host)}:{self.port}"
        self._server = server
        self._listener = listener
        self._thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name=f"serve-{self.port}", daemon=True
        )
        self._thread.start()
        while not server.started:
            if not self._thread.is_alive():
                listener.close()
                raise UnavailableError("the server did not start", self.url, "see the log above")
            time.sleep(0.01)

    def __repr__(self) -> str:
        return f"ServerHandle({self.url!r}, {'running' if self.running else 'stopped'})"

    @property
    def running(self) -> bool:
        """Whether the server still runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Answer what is in progress, then stop; a second call does nothing."""
        self._server.should_exit = True
        self._thread.join(STOP_TIMEOUT_S + 5)
        self._listener.close()

    def __enter__(self) -> ServerHandle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def capture_of(rules: str | Path | Mapping[str, Any] | None, folder: str | Path | None) -> Capture | None:
    """What captures by these rules; ``None`` where there are none.

    Raises:
        UsageError: rules or a folder that cannot be used.
    """
    if rules is None:
        if folder is not None:
            raise UsageError(
                "a folder for captured images, and no rules", folder, "say what is captured: random=0.01"
            )
        return None
    from osv_lab.core.settings import load_settings
    from osv_lab.serve.capture import Capture

    return Capture(rules, folder or load_settings().captures_dir)


def _reference_of(drift: bool | str | Path) -> bool | Reference:
    if isinstance(drift, bool):
        return drift
    from osv_lab.serve.drift import Reference

    return Reference.read(drift)


def _server(first: Spawned | None, wanted: Wanted, listener: socket.socket) -> uvicorn.Server:
    """A server whose model is loaded: what cannot be loaded fails here, in the caller's thread."""
    ref, log_level, serving = wanted.ref, wanted.log_level, dict(wanted.serving)
    host, key = wanted.listening["host"], wanted.listening["key"]
    limits = _limits(wanted.limits, host, wanted.allow_urls)
    if serving["manage"] is None:
        serving["manage"] = key is not None or _is_loopback(host)
    serving["capture"] = capture_of(serving["capture"], serving.pop("capture_to"))
    serving["drift"] = _reference_of(serving["drift"])
    crew = _crew_for(first, serving.pop("processes"), limits, serving["workers"])
    try:
        slot = _slot_for(Path(ref) if isinstance(ref, os.PathLike) else ref, crew, wanted.how)
        with ThreadPoolExecutor(1) as loader, _ended_on_error(first):
            # Another process loads it, while this one imports.
            loading = None if crew is None else loader.submit(slot.load)
            try:
                import uvicorn

                from osv_lab.serve.app import create_app
                from osv_lab.serve.drain import DrainingServer
                from osv_lab.serve.patience import patient_protocol, patient_sockets
            except ModuleNotFoundError as error:
                raise require_extra(str(error.name), "server") from None
            app = create_app(slot, key=key, limits=limits, crew=crew, **serving)
            config = uvicorn.Config(
                app,
                log_level=log_level,
                access_log=log_level in ("info", "debug", "trace"),
                server_header=False,
                timeout_graceful_shutdown=STOP_TIMEOUT_S,
                h11_max_incomplete_event_size=64 * 1024,
                ws=cast("Any", patient_sockets() or "none"),
                ws_max_size=limits.max_image_bytes,
                # Images are compressed already, and what is not sent cannot be a bomb.
                ws_per_message_deflate=False,
                http=patient_protocol(limits.body_timeout_s),
            )
            config.load()
            if loading is not None:
                loading.result()
        slot.load()
    except BaseException:
        if crew is not None:
            crew.close()
        raise
    _log.info("serving %s on http://%s:%d", slot.describe()["ref"], _shown_host(host), listener.getsockname()[1])
    return DrainingServer(config, app.state.house)


def _limits(limits: Limits | None, host: str, allow_urls: bool | Sequence[str] | None) -> Limits:
    limits = limits or Limits()
    if allow_urls is None and not _is_loopback(host):
        allow_urls = False
    if isinstance(allow_urls, str):
        allow_urls = [allow_urls]
    return limits if allow_urls is None else replace(limits, fetch=replace(limits.fetch, allow=allow_urls))


def _crew_for(
    first: Spawned | None, processes: int | Literal["auto"], limits: Limits, lanes: int | None
) -> Crew | None:
    """The worker processes of a server; ``None`` where threads do the work."""
    if processes == 0 or (processes == "auto" and first is None):
        return None
    from osv_lab.serve.crew import Crew
    from osv_lab.serve.process import WorkerProcess

    worker = None if first is None else WorkerProcess(limits, first)
    return Crew(None if processes == "auto" else processes, limits, lanes, first=worker)


@contextlib.contextmanager
def _ended_on_error(first: Spawned | None) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if first is not None:
            first.kill()
            first.end()
        raise


def _slot_for(ref: str | Path | Detector, crew: Crew | None, how: Mapping[str, Any]) -> ModelSlot:
    """A place for a model that is loaded into the worker processes where there are any."""
    from osv_lab.serve.slot import ModelSlot

    if isinstance(ref, ModelSlot):
        return ref
    return ModelSlot(ref, **how) if crew is None else ModelSlot(ref, loader=crew.load, **how)


def _listen(host: str, port: int, key: KeySource | None, allow_anonymous: bool) -> socket.socket:
    """A listening socket; taken before the model is loaded, so that a taken port costs no waiting."""
    if isinstance(key, str):
        from osv_lab.serve.keys import Keys

        Keys.single(key)
    if not 0 <= port <= 65535:
        raise UsageError("no such port", port, "use 1 to 65535, or 0 for a free one")
    if not _is_loopback(host) and key is None and not allow_anonymous:
        raise UsageError(
            "the server would be open to everyone who reaches this machine",
            f"host {host} and no key",
            "set a key (--key-file), listen on 127.0.0.1, or say allow_anonymous",
        )
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UsageError("no such host to listen on", f"{host} ({error})", "use 127.0.0.1 or 0.0.0.0") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(256)
    except OSError as error:
        listener.close()
        raise UnavailableError(
            f"port {port} on {host} cannot be used",
            error.strerror or error,
            f"try port {port + 1}, or 0 for a free one",
        ) from None
    return listener


def _is_loopback(host: str) -> bool:
    if host in ("localhost", "127.0.0.1"):
        return True
    import ipaddress

    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _shown_host(host: str) -> str:
    """A host as a person can open it in a browser."""
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


@contextlib.contextmanager
def _stopped_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the server and nothing else: uvicorn would raise them again afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    @contextlib.contextmanager
    def no_capture() -> Iterator[None]:
        yield

    server.capture_signals = no_capture  # type: ignore[method-assign]
    before = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
