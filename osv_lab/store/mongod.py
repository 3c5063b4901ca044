"""Find, start and share the MongoDB server of one database folder.

FiftyOne runs its server under a small supervisor (``fiftyone/service/main.py``) that lives as long as any process
registered with it. Two things are added here. FiftyOne attaches to whichever supervisor it finds, whatever folder that
one serves: here a process shares only the server of its own folder. And two processes that start at the same
moment would each start a server, of which one dies on the folder's lock: here a file lock lets one start it and
the other find it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from osv_lab.core.errors import UnavailableError

if TYPE_CHECKING:
    import psutil

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
_SUPERVISOR = ["--51-service", "db", "--multi"]
_INSTALL = (
    "install one with `make install` (tools/ensure_mongod.py), or start a MongoDB 6 or newer yourself and set "
    "FIFTYONE_DATABASE_URI=mongodb://127.0.0.1:27017"
)

# FiftyOne's supervisor needs one small module of FiftyOne, but importing it would import all of FiftyOne: ten seconds
# in which nothing can connect. A bare package around the same folder gives it that module alone.
_SUPERVISE = """
import runpy, sys, types
folder = {folder!r}
for name, path in (("fiftyone", folder), ("fiftyone.service", folder + "/service")):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [path]
runpy.run_path(folder + "/service/main.py", run_name="__main__")
"""

# The supervisor stops the server when the pipe to its standard input closes, so the pipe lives as long as we do.
_supervisors: list[psutil.Popen] = []


def find_mongod(bin_dir: Path) -> Path:
    """The server program: FiftyOne's own (which the fallback wheel replaces in place), else one on ``PATH``.

    Raises:
        UnavailableError: there is none, or it may not be executed.
    """
    name = "mongod.exe" if os.name == "nt" else "mongod"
    own = bin_dir / name
    if own.is_file() and os.access(own, os.X_OK):
        return own
    on_path = shutil.which(name)
    if on_path:
        return Path(on_path)
    if own.is_file():
        raise UnavailableError("the database server may not be executed", own, f"chmod +x {own}, or {_INSTALL}")
    raise UnavailableError("no database server is installed", f"no {own} and no {name} on PATH", _INSTALL)


def version_of(mongod: Path) -> tuple[int, ...]:
    """The server program's version, for example ``(6, 0, 5)``.

    Raises:
        UnavailableError: it does not run on this system.
    """
    try:
        answer = subprocess.run([mongod, "--version"], capture_output=True, text=True, timeout=60, check=True)
        line = answer.stdout.splitlines()[0]
        return tuple(int(part) for part in line.split("v")[-1].split("-")[0].split("."))
    except subprocess.CalledProcessError as error:
        reason = (error.stderr or error.stdout or f"exit code {error.returncode}").strip().splitlines()[-1]
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    raise UnavailableError("the database server does not run on this system", f"{mongod}: {reason}", _INSTALL)


def share_or_start(folder: Path, mongod: Path) -> int:
    """The port of the server of ``folder``, which stays up at least as long as this process.

    Raises:
        UnavailableError: the folder cannot be used, or the server does not start; says why.
    """
    _check_folder(folder)
    with _starting_alone(folder):
        port = _share(folder)
        return port if port is not None else _start(folder, mongod)


def _check_folder(folder: Path) -> None:
    fix = "mend its permissions, or choose another folder with FIFTYONE_DATABASE_DIR"
    try:
        (folder / "log").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnavailableError("the database folder cannot be made", f"{folder}: {error.strerror}", fix) from error
    for path in (folder, folder / "log", folder / "log" / "mongo.log", folder / "mongod.lock"):
        if path.exists() and not os.access(path, os.W_OK):
            raise UnavailableError("the database folder cannot be written to", path, fix)


@contextlib.contextmanager
def _starting_alone(folder: Path) -> Iterator[None]:
    """Hold the folder's start lock. The system drops it when its holder dies, so it is never left behind."""
    with open(folder / "log" / "osv-start.lock", "a") as file:
        if os.name == "nt":
            yield
            return
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def _share(folder: Path) -> int | None:
    """Register with the running server of ``folder``; ``None`` when there is none."""
    import psutil
    from fiftyone.service.util import get_listening_tcp_ports

    for supervisor, server in _servers_of(folder):
        if supervisor is not None and not _register(supervisor):
            # Its last client has just left. The folder stays locked until the server is gone.
            with contextlib.suppress(psutil.Error):
                server.wait(STOP_TIMEOUT_S)
            continue
        with contextlib.suppress(psutil.Error):
            return _wait_for_port(server, get_listening_tcp_ports)
    return None


def _servers_of(folder: Path) -> Iterator[tuple[psutil.Process | None, psutil.Process]]:
    """Running servers of ``folder``, each with its supervisor, or ``None`` for a server that has lost it."""
    import psutil

    me = psutil.Process().username()
    for process in psutil.process_iter(["name", "username", "cmdline"]):
        cmdline = process.info["cmdline"] or []
        if process.info["username"] != me or "--dbpath" not in cmdline or cmdline[-1] == "--dbpath":
            continue
        if any(cmdline[i : i + 3] == _SUPERVISOR for i in range(len(cmdline))):
            continue
        try:
            if not Path(cmdline[cmdline.index("--dbpath") + 1]).samefile(folder):
                continue
            parent = process.parent()
            supervised = parent is not None and "--51-service" in parent.cmdline()
        except (OSError, psutil.Error):
            continue
        yield (parent if supervised else None), process


def _register(supervisor: psutil.Process) -> bool:
    import psutil
    from fiftyone.service.util import send_ipc_message

    try:
        return send_ipc_message(supervisor, ("register", os.getpid())) is True
    except (OSError, EOFError, psutil.Error):
        return False


def _start(folder: Path, mongod: Path) -> int:
    import fiftyone
    import psutil
    from fiftyone.service.util import get_listening_tcp_ports

    log = folder / "log" / "mongo.log"
    log_start = log.stat().st_size if log.exists() else 0
    supervise = _SUPERVISE.format(folder=str(Path(fiftyone.__file__).parent))
    command = [sys.executable, "-P", "-c", supervise, *_SUPERVISOR, str(mongod)]
    command += ["--dbpath", str(folder), "--logpath", str(log), "--logappend", "--port", "0"]
    command += [] if os.name == "nt" else ["--nounixsocket"]
    supervisor = psutil.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "FIFTYONE_DISABLE_SERVICES": "1"},
    )
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if supervisor.poll() is not None:
            raise _start_error(folder, log, log_start)
        for server in supervisor.children():
            with contextlib.suppress(psutil.Error):
                port = next(get_listening_tcp_ports(server), None)
                if port is not None:
                    _supervisors.append(supervisor)
                    return int(port)
        time.sleep(0.05)
    supervisor.stdin.close()
    raise UnavailableError(
        "the database server did not start", f"no answer within {START_TIMEOUT_S:.0f} s", f"see {log}"
    )


def _wait_for_port(server: psutil.Process, ports_of: object) -> int | None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.is_running():
        port = next(ports_of(server), None)  # type: ignore[operator]
        if port is not None:
            return int(port)
        time.sleep(0.05)
    return None


_CAUSES = (
    ("DBPathInUse", "the folder is in use by another database server", "stop that one, or use it"),
    ("No space left on device", "the disk is full", "free some space"),
    ("Permission denied", "files in the folder belong to someone else", "mend their permissions"),
    ("read-only", "the folder is read-only", "mend its permissions"),
    ("UPGRADE PROBLEM", "the folder was written by another version of MongoDB", "use that version"),
    ("IncompatibleServerVersion", "the folder was written by another version of MongoDB", "use that version"),
    ("unsupported file format", "the folder was written by another version of MongoDB", "use that version"),
    ("WiredTiger error", "the folder's files are damaged", "restore a backup"),
)


def _start_error(folder: Path, log: Path, log_start: int) -> UnavailableError:
    """Why the server gave up, from what it wrote to its log since ``log_start`` bytes."""
    text = ""
    with contextlib.suppress(OSError), open(log, "rb") as file:
        file.seek(log_start)
        text = file.read()[-200_000:].decode("utf-8", "replace")
    other = "or choose another folder with FIFTYONE_DATABASE_DIR"
    for sign, cause, fix in _CAUSES:
        if sign.lower() in text.lower():
            free = f" ({shutil.disk_usage(folder).free // 2**20} MiB free)" if "disk" in cause else ""
            return UnavailableError(
                "the database server does not start", f"{folder}: {cause}{free}", f"{fix}, {other}"
            )
    return UnavailableError(
        "the database server does not start", _last_error(text) or f"nothing in {log}", f"see {log}, {other}"
    )


def _last_error(text: str) -> str:
    for line in reversed(text.splitlines()):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("s") in ("E", "F"):
            return f"{entry.get('msg')} {entry.get('attr', {}).get('error', '')}".strip()
    return ""
