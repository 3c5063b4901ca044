"""The worker that runs what the App schedules: started with the App, ended with it, started again if it dies."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

from osv_lab.app.plugins import use_plugins
from osv_lab.core.processes import end_with_parent

AGAIN_S = 2.0
STOP_TIMEOUT_S = 40.0

_log = logging.getLogger("osv_lab.app")


def run_worker(*, idle: bool = True) -> None:
    """Run jobs in this process, its main thread, until SIGINT or SIGTERM; without ``idle`` until none waits."""
    from osv_lab.console import log_to_terminal
    from osv_lab.jobs.worker import work

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    log_to_terminal()
    use_plugins()
    work(stop, idle=idle)


@contextlib.contextmanager
def worker_beside() -> Iterator[None]:
    """A worker as a process of its own while the block runs."""
    stop = threading.Event()
    watch = threading.Thread(target=_keep, args=(stop,), name="osv-worker", daemon=True)
    watch.start()
    try:
        yield
    finally:
        stop.set()
        watch.join(STOP_TIMEOUT_S + 10)


def _keep(stop: threading.Event) -> None:
    # Linux ends a child with the thread that started it, so this thread stays until the worker has ended.
    process = _start()
    while not stop.wait(0.3):
        if process.poll() is not None:
            _log.warning("the worker ended with code %s and is started again", process.returncode)
            if stop.wait(AGAIN_S):
                break
            process = _start()
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _start() -> subprocess.Popen[Any]:
    return subprocess.Popen(
        [sys.executable, "-m", "osv_lab", "jobs", "work"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
        preexec_fn=end_with_parent if sys.platform == "linux" else None,
    )
