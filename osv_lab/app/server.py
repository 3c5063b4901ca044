"""Open the FiftyOne App, the lab's plugins in it, from a script or the command line."""

from __future__ import annotations

import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from osv_lab.app.plugins import use_plugins
from osv_lab.app.worker import worker_beside
from osv_lab.core.errors import NotFoundError, UnavailableError
from osv_lab.store.catalogue import open_dataset, open_view
from osv_lab.store.database import connect


def open_app(
    dataset: str | None = None,
    host: str = "127.0.0.1",
    port: int = 5151,
    *,
    view: str | None = None,
    timeout_s: float = 60,
) -> Any:
    """Start the App and return its ``fiftyone.Session`` once it answers.

    Args:
        dataset: Name of the dataset to open; ``None`` opens the list of datasets.
        view: Name of a saved view of the dataset to open.
        host: Address to listen on.
        port: TCP port.
        timeout_s: How long to wait for the App's server.

    Raises:
        NotFoundError: no such dataset or view.
        UnavailableError: the port is taken, or the App's server did not come up.
    """
    opened = open_view(dataset, view) if dataset and view else open_dataset(dataset) if dataset else None
    _require_free(host, port)
    use_plugins()
    # FiftyOne opens a browser itself where there is a screen; elsewhere that attempt only prints a warning.
    has_screen = sys.platform in {"darwin", "win32"} or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    session = connect().launch_app(opened, address=host, port=port, remote=not has_screen)
    deadline = time.monotonic() + timeout_s
    url = f"http://{host}:{port}/fiftyone"
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return session
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                session.close()
                raise UnavailableError(
                    "the App's server did not come up", f"{url} ({error})", "run osv doctor, or try another --port"
                ) from error
            time.sleep(0.3)


def run_app(
    dataset: str | None = None,
    host: str = "127.0.0.1",
    port: int = 5151,
    *,
    view: str | None = None,
    import_roots: Sequence[str | Path] = (),
) -> None:
    """Start the App, and a worker for what it schedules, and keep both running until interrupted.

    Args:
        dataset: As for :func:`open_app`, as the next three.
        host: See there.
        port: See there.
        view: See there.
        import_roots: Folders that forms may read from, besides the lab's, the dataset's and ``OSV_IMPORT_ROOTS``.

    Raises:
        NotFoundError: there is no such folder.
    """
    _allow(import_roots)
    session = open_app(dataset, host, port, view=view)
    sys.stdout.write(f"FiftyOne App: http://{host}:{port}  (Ctrl-C stops it)\n")
    sys.stdout.flush()
    try:
        with worker_beside():
            session.wait(-1)
    except KeyboardInterrupt:
        session.close()


def _allow(import_roots: Sequence[str | Path]) -> None:
    """Tell the App's server, a process of its own, which folders forms may read."""
    roots = [Path(root).expanduser().resolve() for root in import_roots]
    for root in roots:
        if not root.is_dir():
            raise NotFoundError("no such folder to import from", root)
    if roots:
        before = filter(None, [os.environ.get("OSV_IMPORT_ROOTS")])
        os.environ["OSV_IMPORT_ROOTS"] = os.pathsep.join([*before, *map(str, roots)])


def _require_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UnavailableError(
                "cannot listen there", f"{host}:{port} ({error.strerror})", "choose another --port"
            ) from error
