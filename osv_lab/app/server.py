"""Open the FiftyOne App, the lab's plugins in it, from a script or the command line."""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from osv_lab.app.plugins import use_plugins
from osv_lab.app.worker import worker_beside
from osv_lab.core.errors import NotFoundError, UnavailableError
from osv_lab.store.catalogue import open_dataset, open_view
from osv_lab.store.database import connect

_sessions: weakref.WeakValueDictionary[tuple[str, int], Any] = weakref.WeakValueDictionary()
"""This process's Apps, by address."""


def _is_news(record: logging.LogRecord) -> bool:
    """Not what FiftyOne says of options that nobody has set, each time a session reads its own state."""
    return "App config option has been removed" not in str(record.msg)


def open_app(
    dataset: str | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    *,
    view: str | None = None,
    join: bool = False,
    show: bool = True,
    timeout_s: float = 120,
) -> Any:
    """Start the App and return its ``fiftyone.Session`` once it answers.

    Called again with the same address, as a cell that is run again does, it shows the dataset in the App that is there.

    Args:
        dataset: Name of the dataset to open; ``None`` opens the list of datasets.
        view: Name of a saved view of the dataset to open.
        host: Address to listen on.
        port: TCP port; by default FiftyOne's: that of ``FIFTYONE_DEFAULT_APP_PORT``, else 5151.
        join: Use an App that another process has started at this address (``osv up``, ``osv app``), if there is one.
        show: In a notebook, show the App under the cell.
        timeout_s: How long to wait for the App's server.

    Raises:
        NotFoundError: no such dataset or view.
        UnavailableError: the port is taken, or the App's server did not come up.
    """
    opened = open_view(dataset, view) if dataset and view else open_dataset(dataset) if dataset else None
    port = int(connect().config.default_app_port) if port is None else port
    logging.getLogger("fiftyone.core.config").addFilter(_is_news)
    session = _sessions.get((host, port))
    if session is None or not session._client.is_open:
        session = _connected_session(opened, host, port, join=join, timeout_s=timeout_s)
        _sessions[host, port] = session
    else:
        with session.no_show():
            if dataset and view:
                session.view = opened
            else:
                session.dataset = opened
    if show and _in_notebook():
        session.show()
    return session


def _connected_session(opened: Any, host: str, port: int, *, join: bool, timeout_s: float) -> Any:
    """A new session, once its server answers and it has found it."""
    fo = connect()
    from fiftyone.core.service import ServiceListenTimeout

    url = f"http://{host}:{port}/fiftyone"
    if not (join and _answers(url)):
        _require_free(host, port)
    use_plugins()
    # FiftyOne opens a browser itself where there is a screen; elsewhere that attempt only prints a warning.
    has_screen = sys.platform in {"darwin", "win32"} or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    slow = UnavailableError("the App's server did not come up", url, "run osv doctor, or try another --port")
    deadline = time.monotonic() + timeout_s
    session = None
    while session is None:
        try:
            # A notebook's session is never "remote"; and by itself it would show the App under every cell that
            # changes it.
            session = fo.launch_app(
                opened,
                address=host,
                port=port,
                remote=not has_screen and not _in_notebook(),
                auto=not _in_notebook(),
            )
        except ServiceListenTimeout as error:
            # FiftyOne itself waits for a minute, which a busy machine may need more than once.
            if time.monotonic() > deadline:
                raise slow from error
    while not (_answers(url) and session._client._connected):
        # A session that found no server when it first looked looks again every ten seconds.
        if time.monotonic() > deadline:
            session.close()
            raise slow
        time.sleep(0.3)
    return session


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _in_notebook() -> bool:
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return shell is not None and hasattr(shell, "kernel")


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
