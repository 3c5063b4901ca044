"""One worker process, as the front process sees it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import osv_lab
from osv_lab.core.errors import UnavailableError
from osv_lab.serve import pipe

if TYPE_CHECKING:
    from osv_lab.serve.limits import Limits

POSSIBLE = sys.platform != "win32"
"""Whether sockets can be handed to a process that is started."""


class WorkerProcess:
    """Starts :mod:`osv_lab.serve.worker`; returns before that has imported anything.

    It ends when this process does, however that happens: it then finds its sockets closed.

    Args:
        limits: How much a request may ask.

    Attributes:
        jobs: The socket over which work goes.
        pid: The process' number.
        lost: Set by whoever finds its socket closed.
    """

    def __init__(self, limits: Limits) -> None:
        self.jobs, jobs = socket.socketpair()
        self._control, control = socket.socketpair()
        for one in (self.jobs, jobs):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, pipe.BUFFER)
        # -P: what lies in the working directory is not imported.
        # Not -m, which first imports what finds and runs a module.
        run = "from osv_lab.serve.worker import main; main()"
        command = [sys.executable, "-P", "-c", run, str(jobs.fileno()), str(control.fileno())]
        with jobs, control:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, env=_environment(), pass_fds=(jobs.fileno(), control.fileno())
            )
        self.pid = self._process.pid
        self.lost = False
        said = {one.name: getattr(limits, one.name) for one in dataclasses.fields(limits) if one.name != "fetch"}
        with contextlib.suppress(OSError):  # that it died is seen when it is asked for something
            pipe.send(self._control, {"limits": said})

    @property
    def alive(self) -> bool:
        """Whether it runs, and its sockets are open: those of a dying process close before it can be reaped."""
        return not self.lost and self._process.poll() is None

    def wait_until_up(self) -> None:
        """Until it has imported what it needs.

        Raises:
            UnavailableError: it died.
        """
        with contextlib.suppress(OSError):
            pipe.send(self._control, {"do": "import"})
        self._answer()

    def begin_loading(self, key: int, asked: Mapping[str, Any]) -> None:
        """Have it load a model; :meth:`loaded` waits for that."""
        with contextlib.suppress(OSError):
            pipe.send(self._control, {"do": "load", "key": key, **asked})

    def loaded(self) -> dict[str, Any]:
        """What :meth:`osv_lab.serve.worker.Worker.load` says, when it does.

        Raises:
            OsvError: the model cannot be loaded; :class:`UnavailableError` when the process died of it.
        """
        said: dict[str, Any] = self._answer()["loaded"]
        return said

    def forget(self, key: int) -> None:
        """Nobody will ask it for this model again."""
        with contextlib.suppress(OSError):
            pipe.send(self._control, {"do": "forget", "key": key})

    def _answer(self) -> dict[str, Any]:
        try:
            frame = pipe.receive(self._control)
        except OSError:
            frame = None
        if frame is None:
            raise UnavailableError(
                "a worker process died before a model was loaded", f"process {self.pid}", "see the log"
            )
        if "error" in frame[0]:
            raise pipe.error_of(frame[0]["error"])
        return frame[0]

    def kill(self) -> None:
        """End it at once; to be followed by :meth:`end` when nobody uses its sockets any more."""
        self._process.kill()

    def end(self, timeout_s: float = 2.0) -> None:
        """Let it end, which it does when nobody talks to it, and forget it."""
        self._control.close()
        self.jobs.close()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


# An image, its tensor and the network's outputs are megabytes that come and go with every job. By default glibc gives
# them back to the kernel each time and gets them as new pages, which costs a millisecond; and large pages cost less.
# https://sourceware.org/glibc/manual/latest/html_node/Memory-Allocation-Tunables.html
_KEEP_MEMORY = f"glibc.malloc.mmap_threshold={2**25}:glibc.malloc.trim_threshold={2**27}:glibc.malloc.hugetlb=1"


def _environment() -> dict[str, str]:
    """This process' environment, with this very package to be found, and memory that is kept between jobs."""
    home = str(Path(osv_lab.__file__).resolve().parents[1])
    given = {"PYTHONPATH": home, "GLIBC_TUNABLES": _KEEP_MEMORY}
    joined = {"PYTHONPATH": os.pathsep, "GLIBC_TUNABLES": ":"}
    before = {name: os.environ.get(name, "") for name in given}
    # Of a tunable that is named twice the last counts: what the user says.
    return {**os.environ, **{name: joined[name].join(filter(None, [given[name], before[name]])) for name in given}}
