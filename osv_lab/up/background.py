"""The server in the background: started from the App or a script, and still there when that has ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osv_lab.core.errors import UnavailableError, UsageError
from osv_lab.core.report import Report
from osv_lab.core.settings import load_settings
from osv_lab.up import _state
from osv_lab.up.supervisor import START_TIMEOUT_S, STOP_TIMEOUT_S

_PATIENCE_S = START_TIMEOUT_S + STOP_TIMEOUT_S + 15
"""Longer than it waits itself: it knows better why it did not start."""


@dataclass(frozen=True)
class Serving(Report):
    """A server that was started.

    Attributes:
        url: Where it answers.
        model: What it serves.
        capture: Which images it keeps; ``None`` for none.
    """

    url: str
    model: str
    capture: str | None = None

    def rows(self) -> list[Mapping[str, Any]]:
        return [
            {"": "address", "value": self.url},
            {"": "model", "value": self.model},
            {"": "keeps images", "value": self.capture or "none"},
            {"": "stop it", "value": "osv down"},
        ]

    def summary(self) -> str:
        return f"{self.model} is served at {self.url}"


def serve_in_background(model: str, port: int = 8000, capture: str | None = None) -> Serving:
    """Start ``osv up api`` in a session of its own and wait until it answers; ``osv down`` or :func:`down` stops it.

    Args:
        model: A path or ``models:/name@alias``.
        port: Where it listens, on loopback.
        capture: Which images it keeps, as for ``osv serve --capture``.

    Raises:
        UsageError: no such port.
        UnavailableError: it does not start; says what it said last.
    """
    if not 1 <= port <= 65535:
        raise UsageError("no such port", port, "use 1 to 65535")
    folder = load_settings().home / "up"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [sys.executable, "-m", "osv_lab", "up", "api", "--model", model, "--port", f"api={port}"]
    command += ["--capture", capture] if capture else []
    # A file of its own until it is up: one that is up already goes on writing to background.log.
    handle, name = tempfile.mkstemp(dir=folder, prefix="background-", suffix=".log")
    draft = Path(name)
    with open(handle, "wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
    # Whoever stops it, it does not stay behind as a zombie of this process.
    threading.Thread(target=process.wait, name="serve-in-background", daemon=True).start()
    deadline = time.monotonic() + _PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        if _state(folder).get("pid") == process.pid:
            draft.replace(folder / "background.log")
            return Serving(f"http://127.0.0.1:{port}", model, capture)
        time.sleep(0.1)
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()
    said = " ".join(draft.read_text("utf-8", "replace").split("\n")[-4:]).strip()
    draft.unlink()
    raise UnavailableError(
        "the server did not start", said or f"it ended with code {process.returncode}", f"see the logs in {folder}"
    )
