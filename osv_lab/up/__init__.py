"""The whole lab on one machine without Docker: the server, MLflow, the FiftyOne App and JupyterLab, started together.

Each is a process of its own on loopback, with its log under ``<home>/up``. One that dies is started again. When the one
that started them ends, however it ends, they end too.

Example:
    >>> up(only=["mlflow"])                                     # doctest: +SKIP
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osv_lab.core.errors import NotFoundError, OsvError, UnavailableError, UsageError
from osv_lab.core.files import write_atomic
from osv_lab.core.report import Report
from osv_lab.core.settings import Settings, load_settings
from osv_lab.train.locks import exclusive
from osv_lab.up.services import Service, planned
from osv_lab.up.supervisor import Supervisor

DOWN_TIMEOUT_S = 60.0
_LOOKS = 10


@dataclass(frozen=True)
class Running(Report):
    """What ``osv up`` has started.

    Attributes:
        services: In the order they were started.
        left_out: Services that were not started, with the reason.
        logs: The folder with one log per service.
    """

    services: tuple[Service, ...]
    left_out: Mapping[str, str]
    logs: Path

    def rows(self) -> list[Mapping[str, Any]]:
        up = [
            {"service": one.title, "where": one.page, "log": self.logs / f"{one.name}.log"}
            for one in self.services
        ]
        return [*up, *({"service": name, "where": f"not started: {why}"} for name, why in self.left_out.items())]

    def to_dict(self) -> dict[str, Any]:
        up = [
            {"name": one.name, "page": one.page, "log": str(self.logs / f"{one.name}.log")}
            for one in self.services
        ]
        return {"services": up, "left_out": dict(self.left_out)}

    def summary(self) -> str:
        return f"{len(self.services)} services are up; Ctrl-C or osv down stops them"


def up(
    model: str | None = None,
    *,
    only: Sequence[str] = (),
    ports: Mapping[str, int] | None = None,
    notebooks: str | Path = ".",
    capture: str | None = None,
    ready: Callable[[Running], None] = lambda running: None,
    stop: threading.Event | None = None,
) -> None:
    """Start the lab's services, keep them running until told to stop, then stop them all.

    Call it from the main thread; SIGINT and SIGTERM stop it, and so does ``stop``.

    Args:
        model: What the server serves: a path or ``models:/name@alias``. By default the champion that was registered
            last; without any there is no server.
        only: Names of the services to start: ``api``, ``mlflow``, ``app``, ``jupyter``; by default all.
        ports: Ports other than 8000, 5000, 5151 and 8888, by name.
        notebooks: The folder JupyterLab opens.
        capture: Which images the server keeps, as for ``osv serve --capture``; by default none.
        ready: Told once all of them answer.
        stop: Set it to stop them.

    Raises:
        UsageError: no such service, or a port out of range; not the main thread.
        UnavailableError: the lab is up already, a port is taken, or a service does not start; those that did are
            stopped.
    """
    settings = load_settings()
    folder = settings.home / "up"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    stop = stop or threading.Event()
    taken = UnavailableError("the lab is up already", _where(folder), "look at it, or stop it: osv down")
    with _alone(folder / "lock", taken), _stopped_by_signals(stop):
        # Of one that was killed: its process number is another's by now.
        (folder / "state.json").unlink(missing_ok=True)
        services, left_out = planned(settings, model, only, ports or {}, Path(notebooks), capture)
        running = Running(tuple(services), left_out, folder)
        supervisor = Supervisor(services, folder)
        try:
            supervisor.start(stop)
            state = {"pid": os.getpid(), "pages": {one.name: one.address for one in services}}
            write_atomic(folder / "state.json", json.dumps(state))
            if not stop.is_set():
                ready(running)
            supervisor.watch(stop)
        finally:
            supervisor.stop()
            (folder / "state.json").unlink(missing_ok=True)


def down(settings: Settings | None = None) -> str:
    """Stop what ``osv up`` started on this machine, and wait until it has stopped.

    Returns:
        What was stopped, in one line.

    Raises:
        NotFoundError: nothing is up.
        UnavailableError: it does not stop.
    """
    folder = (settings or load_settings()).home / "up"
    with suppress(_StillUpError):
        if folder.is_dir():
            with exclusive(folder / "lock", _StillUpError("still up")):
                pass
        raise NotFoundError("nothing is up", folder, "start it: osv up")
    state = _state(folder)
    if "pid" not in state:
        raise UnavailableError("the lab is still starting", folder, "try again in a moment")
    with suppress(ProcessLookupError):
        os.kill(int(state["pid"]), signal.SIGTERM)
    deadline = time.monotonic() + DOWN_TIMEOUT_S
    while time.monotonic() < deadline:
        with suppress(_StillUpError), exclusive(folder / "lock", _StillUpError("still up")):
            return f"stopped {', '.join(state['pages'])}"
        time.sleep(0.1)
    raise UnavailableError("the lab does not stop", f"process {state['pid']}", f"see the logs in {folder}")


def pages(settings: Settings | None = None) -> Mapping[str, str]:
    """Where each service of ``osv up`` is, by name; empty where nothing is up, or not yet."""
    folder = (settings or load_settings()).home / "up"
    if not folder.is_dir():
        return {}
    with suppress(_StillUpError), exclusive(folder / "lock", _StillUpError("still up")):
        return {}
    return dict(_state(folder).get("pages") or {})


@contextmanager
def _alone(lock: Path, taken: OsvError) -> Iterator[None]:
    """Hold the lock; whoever only looks whether it is held (:func:`pages`, :func:`down`) has it for a moment."""
    with ExitStack() as held:
        for left in reversed(range(_LOOKS)):
            try:
                held.enter_context(exclusive(lock, taken))
                break
            except UnavailableError:
                if not left:
                    raise
                time.sleep(0.05)
        yield


class _StillUpError(OsvError):
    pass


def _state(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "state.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _where(folder: Path) -> str:
    pages = _state(folder).get("pages") or {}
    return ", ".join(f"{name} at {page}" for name, page in pages.items()) or "it is starting"


@contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        # On Linux services end with the thread that started them, and only the main one lives as long as the process.
        raise UsageError("the lab is started from the main thread", threading.current_thread().name, "use osv up")

    def handle(*_: object) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
