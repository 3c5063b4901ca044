"""The worker: takes what waits, first in, first out, and runs each job in a process of its own."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from osv_lab.core.processes import end_with_parent
from osv_lab.jobs import queue
from osv_lab.store.database import connect

POLL_S = 0.4
READY_AFTER_S = 20.0
"""Idle for this long, the worker gets a process ready for the next job, which then begins at once."""

GRACE_S = 30.0
"""How long a job that was interrupted may take to put things in order before it is killed."""

_log = logging.getLogger("osv_lab.jobs")


def work(stop: threading.Event, *, poll_s: float = POLL_S, grace_s: float = GRACE_S, idle: bool = True) -> int:
    """Run jobs until told to stop, one at a time; how many were run.

    There is one worker for a database at a time: a second one stands by and takes over when the first ends. A job that
    runs when the worker is stopped is interrupted, and fails with that reason.

    Args:
        stop: Stops it.
        poll_s: Seconds between looks.
        grace_s: Seconds that an interrupted job may take to end.
        idle: Wait for more when no job waits; otherwise return.
    """
    connect()
    worker = _Worker(stop, poll_s, grace_s)
    try:
        return worker.work(idle)
    finally:
        worker.close()


class _Worker:
    def __init__(self, stop: threading.Event, poll_s: float, grace_s: float) -> None:
        self._stop, self._poll_s, self._grace_s = stop, poll_s, grace_s
        self._me = queue.this_process()
        self._ready: subprocess.Popen[bytes] | None = None

    def work(self, idle: bool) -> int:
        done, since = 0, time.monotonic()
        while not self._stop.is_set():
            if not queue.become_worker(self._me):
                self._stop.wait(max(self._poll_s, 1.0))
                continue
            queue.recover()
            document = queue.take_next(self._me)
            if document is not None:
                self._run(document)
                done, since = done + 1, time.monotonic()
            elif not idle:
                break
            else:
                if self._ready is None and time.monotonic() - since > READY_AFTER_S:
                    self._ready = _spawn()
                self._stop.wait(self._poll_s)
        return done

    def close(self) -> None:
        """End the process that waits for a job, and free the worker's place."""
        if self._ready is not None:
            _kill_group(self._ready.pid)
            self._ready.wait()
        queue.leave_place(self._me)

    def _run(self, document: Mapping[str, Any]) -> None:
        id, collection = document["_id"], queue.operations()
        log = queue.log_path(str(id))
        log.parent.mkdir(parents=True, exist_ok=True)
        process = self._ready if self._ready is not None and self._ready.poll() is None else _spawn()
        self._ready = None
        change = {"metadata.osv.job": queue.this_process(process.pid), "log_path": str(log)}
        collection.update_one({"_id": id}, {"$set": change})
        _log.info("%s begins; log: %s", document.get("label"), log)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as line:
            line.write(f"{id}\t{log}\n".encode())
        reason, deadline = "", 0.0
        while process.poll() is None:
            time.sleep(self._poll_s)
            queue.become_worker(self._me)
            if not reason and (reason := _why_stop(collection, id, self._stop)):
                deadline = time.monotonic() + self._grace_s
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGINT)
            if reason and time.monotonic() > deadline:
                _kill_group(process.pid)
        _kill_group(process.pid)
        ended = reason or _how_it_ended(process.returncode, str(id))
        collection.update_one({"_id": id, "run_state": "running"}, {"$set": queue.failed(ended)})
        _log.info("%s ended", document.get("label"))


def _spawn() -> subprocess.Popen[bytes]:
    """A process that gets ready and waits for a job. What it says before it has one goes where the worker's does."""
    return subprocess.Popen(
        [sys.executable, "-m", "osv_lab.jobs.child"],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
        preexec_fn=end_with_parent if sys.platform == "linux" else None,
    )


def _why_stop(collection: Any, id: Any, stop: threading.Event) -> str:
    """Why a running job is to end, or nothing."""
    if stop.is_set():
        return "the worker was stopped while it ran; retry runs it again"
    document = collection.find_one({"_id": id}, {"run_state": 1, "metadata.osv.cancel": 1})
    if document is None:
        return "it was deleted"
    if document["metadata"]["osv"].get("cancel"):
        return "cancelled"
    # Someone else (FiftyOne's own tools) has called it over.
    return "" if document["run_state"] in ("running", "completed") else "marked as failed elsewhere"


def _how_it_ended(code: int, id: str) -> str:
    lines = [line for line in queue.job_log(id, queue.TAIL_BYTES).splitlines() if line.strip()]
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return f"its process {how}" + (f"; its log ends with: {lines[-1].strip()[:200]}" if lines else "")


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
