"""Running the server: until told to stop, or in the background of a notebook, a test or the demo."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from osv_lab.core.errors import OsvError, UnavailableError, UsageError, require_extra
from osv_lab.serve.limits import Limits
from osv_lab.serve.process import POSSIBLE, WorkerProcess

# Everything else is imported when the first worker process has been started, which then does the same at its side.
if TYPE_CHECKING:
    import uvicorn

    from osv_lab.detect.detector import Detector
    from osv_lab.serve.capture import Capture
    from osv_lab.serve.crew import Crew
    from osv_lab.serve.drift import Reference
    from osv_lab.serve.identities import Track
    from osv_lab.serve.keys import KeySource
    from osv_lab.serve.scheduler import Scheduling
    from osv_lab.serve.slot import ModelSlot

_log = logging.getLogger("osv_lab.serve")

STOP_TIMEOUT_S = 10
"""How long requests in progress may take after the server was told to stop."""


def run_server(
    ref: str | Path | Detector,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    key: KeySource | None = None,
    allow_urls: bool | Sequence[str] | None = None,
    allow_anonymous: bool = False,
    limits: Limits | None = None,
    processes: int | Literal["auto"] = "auto",
    workers: int | None = None,
    scheduling: Scheduling = "auto",
    max_batch: int | None = None,
    max_waiting: int = 16,
    deadline_s: float = 10.0,
    also: Sequence[str | Path] = (),
    manage: bool | None = None,
    sources: Mapping[str, str | int | Path] | None = None,
    track: Track = True,
    capture: str | Path | Mapping[str, Any] | None = None,
    capture_to: str | Path | None = None,
    drift: bool | str | Path = True,
    log_level: str = "info",
    **model_options: Any,
) -> None:
    """Serve a model until Ctrl-C or SIGTERM; requests in progress are answered first.

    Args:
        ref: A path, ``models:/name@alias``, an Ultralytics name, or a loaded detector.
        host: Address to listen on. Other machines reach the server only on an address that is not loopback.
        port: TCP port; 0 takes a free one.
        key: The bearer key clients must send, or a file of them: ``KeyFile(path)``.
        allow_urls: Whether ``image_url`` may be an http(s) URL: ``True`` for public addresses, ``False`` for none,
            or a list of hosts. By default ``True`` on loopback, where whoever asks is on this machine, and
            ``False`` elsewhere.
        allow_anonymous: Listen beyond loopback without a key all the same.
        limits: Sizes of requests; its ``fetch`` is replaced where ``allow_urls`` is given.
        processes: Worker processes that decode and compute, so that none of them can take the server down; 0 for
            threads of this process. ``"auto"``: one per core, or one alone for a model that runs in batches, and
            threads where there can be no others: for a detector that is in memory, and on Windows.
        workers: Threads that decode and compute, of a process; by default as many as the scheduling asks.
        scheduling: ``"parallel"``: single images side by side, one core each; ``"batch"``: what waits goes through the
            network together; ``"auto"`` measures when the model is loaded and takes what is faster.
        max_batch: Most images that go through the network together, 1 to 64; measured when ``None``.
        max_waiting: Requests in the house at once; further ones get 503 with ``Retry-After``.
        deadline_s: A request that has waited longer for a thread gets 503 and is not computed.
        also: What else may be loaded over HTTP: files, references, folders of ``.onnx`` files, ``models:/name`` for
            all its versions.
        manage: Whether models are loaded, swapped and unloaded over HTTP; by default on loopback or where there is a
            key.
        sources: What the server may watch by itself, by name: an address (``rtsp://…``), a camera's index, a video
            file, a folder of videos. Requests start and follow them by these names and can name nothing else; cameras
            and streams are watched from the start.
        track: Which tracker streams and sources have where a request does not say: ``True`` or ``"bytetrack"``,
            ``"botsort"``, a mapping with settings, or ``False``.
        capture: Rules of what is kept, see :mod:`osv_lab.serve.rules`: ``"random=0.01,near=0.1"``, or a file. Nothing
            is kept without.
        capture_to: The folder it is kept in; ``captures`` in the lab's folder by default.
        drift: Whether answers are compared with the reference in the model's sidecar; or a file with one.
        log_level: Uvicorn's log level; ``info`` has a line per request.
        model_options: As for :func:`osv_lab.detect.load_detector`.

    Raises:
        UsageError: a host or key that cannot be used.
        UnavailableError: the port is taken.
        OsvError: the model cannot be loaded.

    Example:
        >>> run_server("nowhere.onnx")
        Traceback (most recent call last):
        osv_lab.core.errors.NotFoundError: no such model: nowhere.onnx; give a path, ...
        >>> run_server("best.onnx", port=8000)                    # doctest: +SKIP
    """
    serving = {
        "processes": processes,
        "workers": workers,
        "max_waiting": max_waiting,
        "deadline_s": deadline_s,
        "also": also,
        "manage": manage,
        "sources": sources,
        "track": track,
        "capture": capture_of(capture, capture_to),
        "drift": _reference_of(drift),
    }
    model_options |= {"scheduling": scheduling, "max_batch": max_batch}
    with contextlib.closing(_listen(host, port, key, allow_anonymous)) as listener:
        server = _server(listener, ref, host, key, allow_urls, limits, serving, log_level, model_options)
        with _stopped_by_signals(server):
            server.run(sockets=[listener])


def start_server(
    ref: str | Path | Detector,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    key: KeySource | None = None,
    allow_urls: bool | Sequence[str] | None = None,
    allow_anonymous: bool = False,
    limits: Limits | None = None,
    processes: int | Literal["auto"] = "auto",
    workers: int | None = None,
    scheduling: Scheduling = "auto",
    max_batch: int | None = None,
    max_waiting: int = 16,
    deadline_s: float = 10.0,
    also: Sequence[str | Path] = (),
    manage: bool | None = None,
    sources: Mapping[str, str | int | Path] | None = None,
    track: Track = True,
    capture: str | Path | Mapping[str, Any] | None = None,
    capture_to: str | Path | None = None,
    drift: bool | str | Path = True,
    log_level: str = "warning",
    **model_options: Any,
) -> ServerHandle:
    """Serve a model in a thread of this process; returns when it answers.

    Arguments and errors are those of :func:`run_server`, except that by default a free port is taken.

    Example:
        >>> with start_server("best.onnx") as server:
        ...     print(server.url)
        http://127.0.0.1:...
    """
    serving = {
        "processes": processes,
        "workers": workers,
        "max_waiting": max_waiting,
        "deadline_s": deadline_s,
        "also": also,
        "manage": manage,
        "sources": sources,
        "track": track,
        "capture": capture_of(capture, capture_to),
        "drift": _reference_of(drift),
    }
    model_options |= {"scheduling": scheduling, "max_batch": max_batch}
    listener = _listen(host, port, key, allow_anonymous)
    try:
        server = _server(listener, ref, host, key, allow_urls, limits, serving, log_level, model_options)
    except OsvError:
        listener.close()
        raise
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


def _server(
    listener: socket.socket,
    ref: str | Path | Detector,
    host: str,
    key: KeySource | None,
    allow_urls: bool | Sequence[str] | None,
    limits: Limits | None,
    serving: dict[str, Any],
    log_level: str,
    model_options: dict[str, Any],
) -> uvicorn.Server:
    """A server whose model is loaded: what cannot be loaded fails here, in the caller's thread."""
    from dataclasses import replace

    limits = limits or Limits()
    if allow_urls is None and not _is_loopback(host):
        allow_urls = False
    if isinstance(allow_urls, str):
        allow_urls = [allow_urls]
    if allow_urls is not None:
        limits = replace(limits, fetch=replace(limits.fetch, allow=allow_urls))
    if serving["manage"] is None:
        serving["manage"] = key is not None or _is_loopback(host)
    crew = _crew_for(serving.pop("processes"), ref, limits, serving["workers"])
    try:
        try:
            import uvicorn

            from osv_lab.serve.app import create_app
            from osv_lab.serve.drain import DrainingServer
            from osv_lab.serve.patience import patient_protocol, patient_sockets
        except ModuleNotFoundError as error:
            raise require_extra(str(error.name), "server") from None
        slot = _slot_for(ref, crew, model_options)
        app = create_app(slot, key=key, limits=limits, crew=crew, **serving)
        config = uvicorn.Config(
            app,
            log_level=log_level,
            access_log=log_level in ("info", "debug", "trace"),
            server_header=False,
            timeout_graceful_shutdown=STOP_TIMEOUT_S,
            h11_max_incomplete_event_size=64 * 1024,
            ws=patient_sockets() or "none",
            ws_max_size=limits.max_image_bytes,
            # Images are compressed already, and what is not sent cannot be a bomb.
            ws_per_message_deflate=False,
            http=patient_protocol(limits.body_timeout_s),
        )
        config.load()
        slot.load()
    except BaseException:
        if crew is not None:
            crew.close()
        raise
    _log.info("serving %s on http://%s:%d", slot.describe()["ref"], _shown_host(host), listener.getsockname()[1])
    return DrainingServer(config, app.state.house)


def _crew_for(
    processes: int | Literal["auto"], ref: object, limits: Limits, lanes: int | None = None
) -> Crew | None:
    """The worker processes of a server, the first of them started; ``None`` where threads do the work."""
    if processes == 0 or (processes == "auto" and not (POSSIBLE and isinstance(ref, (str, Path)))):
        return None
    # Before anything is imported: it imports, and later loads, while this process does its own.
    first = WorkerProcess(limits) if POSSIBLE else None
    from osv_lab.serve.crew import Crew

    try:
        return Crew(None if processes == "auto" else processes, limits, lanes, first=first)
    except BaseException:
        if first is not None:
            first.kill()
            first.end()
        raise


def _slot_for(ref: str | Path | Detector, crew: Crew | None, options: dict[str, Any]) -> ModelSlot:
    """A place for a model that is loaded into the worker processes where there are any."""
    from osv_lab.serve.slot import ModelSlot

    if isinstance(ref, ModelSlot):
        return ref
    return ModelSlot(ref, **options) if crew is None else ModelSlot(ref, loader=crew.load, **options)


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
