"""Processes that are started together, started again when they die, and stopped together."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from osv_lab.core.errors import UnavailableError
from osv_lab.core.processes import end_with_parent
from osv_lab.up.services import Service

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 20.0
MAX_RESTARTS, RESTART_WINDOW_S = 5, 60.0
"""A service that dies this often in this time is left alone."""
LOG_BYTES = 32 * 2**20
"""A log that has grown beyond this is begun anew."""

_log = logging.getLogger("osv_lab.up")


@dataclass(eq=False)
class _Member:
    service: Service
    process: subprocess.Popen[bytes] | None = None
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_RESTARTS))
    due: float = 0.0
    given_up: bool = False


class Supervisor:
    """Runs services; each has a log of its own in ``folder``.

    Args:
        services: In the order in which they are started.
        folder: Where the logs are; the one before is kept as ``<name>.log.1``.
    """

    def __init__(self, services: Sequence[Service], folder: Path) -> None:
        self._members = [_Member(service) for service in services]
        self._folder = folder

    def start(self, stop: threading.Event) -> None:
        """Start all of them and wait until each answers, or until ``stop`` is set.

        Raises:
            UnavailableError: a port is taken, or a service ended or did not answer; says what its log ends with.
        """
        for member in self._members:
            _require_free(member.service)
        for member in self._members:
            log = self._log(member)
            if log.exists():
                log.replace(log.with_name(f"{log.name}.1"))
            self._begin(member)
        deadline = time.monotonic() + START_TIMEOUT_S
        waiting = list(self._members)
        while waiting and not stop.wait(0.1):
            for member in list(waiting):
                if member.process is not None and member.process.poll() is not None:
                    raise self._failure(member, f"it ended with code {member.process.returncode}")
                if _answers(member.service):
                    waiting.remove(member)
            if waiting and time.monotonic() > deadline:
                raise self._failure(
                    waiting[0], f"no answer from {waiting[0].service.address} in {START_TIMEOUT_S:g} s"
                )

    def watch(self, stop: threading.Event) -> None:
        """Start again what dies, and keep logs from growing without end, until ``stop`` is set."""
        while not stop.wait(0.25):
            for member in self._members:
                if member.given_up or member.process is None:
                    if member.due and time.monotonic() >= member.due:
                        self._begin(member)
                elif member.process.poll() is not None:
                    self._bury(member)
                self._trim(member)

    def stop(self) -> None:
        """End all of them, the last started first; what does not end when asked is killed."""
        living = [member.process for member in reversed(self._members) if member.process is not None]
        for process in living:
            process.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for process in living:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            _kill_group(process)
            process.wait()

    def _begin(self, member: _Member) -> None:
        service, member.due = member.service, 0.0
        with open(self._log(member), "ab") as log:
            member.process = subprocess.Popen(
                service.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **service.environment},
                start_new_session=True,
                preexec_fn=end_with_parent if sys.platform == "linux" else None,
            )

    def _trim(self, member: _Member) -> None:
        """Begin a long log anew: the service keeps it open, and appends."""
        log = self._log(member)
        if log.exists() and log.stat().st_size > LOG_BYTES:
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)

    def _bury(self, member: _Member) -> None:
        """Note a death, and when the service is to be started again."""
        assert member.process is not None
        code, now = member.process.returncode, time.monotonic()
        _kill_group(member.process)
        member.process = None
        member.deaths.append(now)
        if len(member.deaths) == MAX_RESTARTS and now - member.deaths[0] < RESTART_WINDOW_S:
            member.given_up = True
            _log.error("%s keeps ending and is left alone; see %s", member.service.title, self._log(member))
            return
        wait = min(0.5 * 2 ** (len(member.deaths) - 1), 8.0)
        member.due = now + wait
        _log.warning("%s ended with code %s and is started again in %g s", member.service.title, code, wait)

    def _failure(self, member: _Member, found: str) -> UnavailableError:
        log = self._log(member)
        lines = log.read_text("utf-8", "replace").strip().splitlines() if log.exists() else []
        said = f"; its log ends with: {lines[-1].strip()}" if lines else ""
        return UnavailableError(f"{member.service.title} does not start", f"{found}{said}", f"see {log}")

    def _log(self, member: _Member) -> Path:
        return self._folder / f"{member.service.name}.log"


def _answers(service: Service) -> bool:
    # A server on this machine is asked directly, whatever proxy the environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{service.address}{service.health}", timeout=2) as answer:
            return bool(answer.status < 400)
    except (urllib.error.URLError, OSError):
        return False


def _require_free(service: Service) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", service.port))
        except OSError as error:
            raise UnavailableError(
                f"the port of {service.title} is taken",
                f"{service.port} ({error.strerror})",
                f"--port {service.name}=<another>",
            ) from None


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End what a process has left behind; not the database server, which others may share: it has its own group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
