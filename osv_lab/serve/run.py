"""Running the server: until told to stop, or in the background of a notebook, a test or the demo.

Next to nothing is imported here: the first worker process is started before that, and imports what it needs while this
process does, in :mod:`osv_lab.serve.running`.
"""

from __future__ import annotations

import os

from osv_lab.serve.spawn import POSSIBLE, Spawned

TYPE_CHECKING = False  # typing's own takes as long to import as everything else here
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any, Literal

    from osv_lab.detect.detector import Detector
    from osv_lab.serve.identities import Track
    from osv_lab.serve.keys import KeySource
    from osv_lab.serve.limits import Limits
    from osv_lab.serve.running import ServerHandle as ServerHandle
    from osv_lab.serve.scheduler import Scheduling


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
    lone_threads: int | None = None,
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
        lone_threads: Cores for an image while there is no other, on a CPU; ``None``: all of them where ``"auto"``
            measured that to be faster. The model is then in memory once more, in one process.
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
    first = _first_worker(ref, processes)
    from osv_lab.serve import running

    serving = {
        "processes": processes,
        "workers": workers,
        "max_waiting": max_waiting,
        "deadline_s": deadline_s,
        "also": also,
        "manage": manage,
        "sources": sources,
        "track": track,
        "capture": capture,
        "capture_to": capture_to,
        "drift": drift,
    }
    listening = {"host": host, "port": port, "key": key, "allow_anonymous": allow_anonymous}
    how = {"scheduling": scheduling, "max_batch": max_batch, "lone_threads": lone_threads, **model_options}
    running.run(first, running.Wanted(ref, listening, allow_urls, limits, serving, log_level, how))


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
    lone_threads: int | None = None,
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
    first = _first_worker(ref, processes)
    from osv_lab.serve import running

    serving = {
        "processes": processes,
        "workers": workers,
        "max_waiting": max_waiting,
        "deadline_s": deadline_s,
        "also": also,
        "manage": manage,
        "sources": sources,
        "track": track,
        "capture": capture,
        "capture_to": capture_to,
        "drift": drift,
    }
    listening = {"host": host, "port": port, "key": key, "allow_anonymous": allow_anonymous}
    how = {"scheduling": scheduling, "max_batch": max_batch, "lone_threads": lone_threads, **model_options}
    return running.start(first, running.Wanted(ref, listening, allow_urls, limits, serving, log_level, how))


def _first_worker(ref: object, processes: int | str) -> Spawned | None:
    """A worker process that begins to import; ``None`` where threads do the work."""
    if processes == 0 or not POSSIBLE or not isinstance(ref, (str, os.PathLike)):
        return None
    return Spawned()


def __getattr__(name: str) -> Any:
    if name == "ServerHandle":
        from osv_lab.serve.running import ServerHandle

        return ServerHandle
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
