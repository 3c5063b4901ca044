"""A worker process, as the front process has it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import UnavailableError
from osv_lab.serve import pipe
from osv_lab.serve.spawn import Spawned

if TYPE_CHECKING:
    from osv_lab.serve.limits import Limits


class WorkerProcess:
    """What the front says to a worker process, and what it hears of it.

    Args:
        limits: How much a request may ask.
        spawned: The process, where it was started already.

    Attributes:
        jobs: The socket over which work goes.
        pid: The process' number.
        lost: Set by whoever finds its socket closed.
    """

    def __init__(self, limits: Limits, spawned: Spawned | None = None) -> None:
        self._spawned = spawned or Spawned()
        self._control = self._spawned.control
        self.jobs = self._spawned.jobs
        self.pid = self._spawned.process.pid
        self.lost = False
        said = {one.name: getattr(limits, one.name) for one in dataclasses.fields(limits) if one.name != "fetch"}
        with contextlib.suppress(OSError):  # that it died is seen when it is asked for something
            pipe.send(self._control, {"limits": said})

    @property
    def alive(self) -> bool:
        """Whether it runs, and its sockets are open: those of a dying process close before it can be reaped."""
        return not self.lost and self._spawned.process.poll() is None

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
        self._spawned.kill()

    def end(self) -> None:
        """Let it end, which it does when nobody talks to it, and forget it."""
        self._spawned.end()
