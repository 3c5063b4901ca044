"""The database: started once, shared, found again, and clear about why not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from osv_lab.core.errors import UnavailableError
from osv_lab.store import mongod
from osv_lab.store.database import connect

# Children of one process that has imported FiftyOne, so that ten seconds are spent once.
SCRIPT = """
import os, signal, sys, time
os.environ.pop("FIFTYONE_PRIVATE_DATABASE_PORT", None)
from pathlib import Path
import psutil, fiftyone as fo, fiftyone.core.odm
from osv_lab.store import database, mongod

folder = Path(sys.argv[1])
fo.config.database_uri = None
fo.config.database_dir = str(folder)

def child(work):
    ready, tell = os.pipe()
    go, release = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(release)
        try:
            os.write(tell, f"{work(go)}\\n".encode())
        except Exception as error:
            os.write(tell, f"{type(error).__name__}: {error}\\n".encode())
        os._exit(0)
    os.close(go)
    os.close(tell)
    return pid, os.fdopen(ready), release

def use(go):
    fo = database.connect()
    name = f"d{os.getpid()}"
    fo.Dataset(name, persistent=True)
    return os.environ["FIFTYONE_PRIVATE_DATABASE_PORT"]

def work_after_the_first_has_gone(go):
    fo = database.connect()
    os.read(go, 1)
    time.sleep(1)
    fo.Dataset("late", persistent=True)
    return len(fo.list_datasets())

def servers():
    return [p for p in psutil.process_iter(["cmdline"]) if str(folder) in (p.info["cmdline"] or [])
            and p.info["cmdline"][0].endswith("mongod")]

# 1. Two at the same moment on a fresh folder get one server, and both work.
a, b = child(use), child(use)
print("together", a[1].readline().strip() == b[1].readline().strip() != "", len(servers()), flush=True)
for pid, _, _ in (a, b):
    os.waitpid(pid, 0)

# 2. The server goes when its last client has gone.
for _ in range(200):
    if not servers(): break
    time.sleep(0.05)
print("gone", len(servers()), flush=True)

# 3. The first, which started it, is killed; the second works on.
def first(go):
    database.connect()
    os.write(started, b".")
    time.sleep(60)
wait, started = os.pipe()
a = child(first)
os.read(wait, 1)
b = child(work_after_the_first_has_gone)
time.sleep(1.5)
os.kill(a[0], signal.SIGKILL); os.waitpid(a[0], 0)
os.write(b[2], b".")
print("survives", b[1].readline().strip(), flush=True)
os.waitpid(b[0], 0)

# 4. A server whose supervisor was killed is used; a lock file that a dead server left is no obstacle.
for _ in range(200):
    if not servers(): break
    time.sleep(0.05)
(folder / "mongod.lock").write_text("99999")
wait, started = os.pipe()
a = child(first)
os.read(wait, 1)
[server] = servers()
os.kill(server.ppid(), signal.SIGKILL)
b = child(use)
port = b[1].readline().strip()
print("orphan", port.isdigit(), len(servers()), flush=True)
server.kill()
server.wait()
os.kill(a[0], signal.SIGKILL)

# 5. An address where nothing answers, and one that is none.
for uri in ("mongodb://user:secret@127.0.0.1:9", "nonsense"):
    fo.config.database_uri = uri
    database.SELECTION_TIMEOUT_MS = 300
    print("uri", child(use)[1].readline().strip(), flush=True)
"""


def test_processes_share_one_server_and_survive_each_other(fo: Any, tmp_path: Path) -> None:
    environment = {**os.environ, "FIFTYONE_DATABASE_DIR": str(tmp_path / "db")}
    environment.pop("FIFTYONE_PRIVATE_DATABASE_PORT", None)
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "db")],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    found = dict(line.split(" ", 1) for line in answer.stdout.splitlines() if not line.startswith("uri"))
    uris = [line for line in answer.stdout.splitlines() if line.startswith("uri")]

    assert found["together"] == "True 1"
    assert found["gone"] == "0"
    assert found["survives"] == "3"
    assert found["orphan"] == "True 1"
    assert "mongodb://***@127.0.0.1:9" in uris[0] and "secret" not in uris[0]
    assert uris[0].startswith("uri UnavailableError: the configured database does not answer")
    assert "unset FIFTYONE_DATABASE_URI" in uris[0]
    assert uris[1].startswith("uri UnavailableError")


def test_connecting_again_gives_the_same_module(fo: Any) -> None:
    assert connect() is connect() is fo
    assert fo.list_datasets() is not None


def program(path: Path, text: str) -> Path:
    """A program in mongod's place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def failing_server(tmp_path: Path, log: str) -> Path:
    """A server that writes a line to its log and gives up."""
    (tmp_path / "line").write_text(log + "\n")
    return program(tmp_path / "mongod", f'cat {tmp_path}/line >> "$4"; exit 14')


@pytest.mark.parametrize(
    ("log", "says"),
    [
        (
            '{"s":"E","msg":"DBException in initAndListen, terminating","attr":{"error":"DBPathInUse: ..."}}',
            "in use",
        ),
        (
            '{"s":"E","msg":"WiredTiger error","attr":{"error":28,"message":"No space left on device"}}',
            "disk is full",
        ),
        ('{"s":"F","msg":"Wrong mongod version","attr":{"error":"UPGRADE PROBLEM: ..."}}', "another version"),
        ('{"s":"E","msg":"Permission denied opening files"}', "belong to someone else"),
        ('{"s":"F","msg":"Something new","attr":{"error":"Oh dear"}}', "Something new Oh dear"),
        ("", "nothing in"),
    ],
)
def test_why_a_server_gave_up_is_said(fo: Any, tmp_path: Path, log: str, says: str) -> None:
    with pytest.raises(UnavailableError, match="does not start") as caught:
        mongod.share_or_start(tmp_path / "db", failing_server(tmp_path, log))

    assert says in str(caught.value)
    assert "FIFTYONE_DATABASE_DIR" in caught.value.fix


def test_a_folder_that_cannot_be_made_is_said(fo: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(UnavailableError, match="the database folder cannot be made"):
        mongod.share_or_start(tmp_path / "file" / "db", tmp_path / "mongod")


def test_a_server_that_is_missing_or_does_not_run_is_said(
    fo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(UnavailableError, match=r"no database server is installed.*make install"):
        mongod.find_mongod(tmp_path / "own")

    on_path = program(tmp_path / "bin" / "mongod", "echo db version v7.0.1")
    assert mongod.find_mongod(tmp_path / "own") == on_path
    assert mongod.version_of(program(tmp_path / "good", "echo db version v6.0.5-rc1")) == (6, 0, 5)
    with pytest.raises(UnavailableError, match=r"does not run on this system.*libcrypto"):
        mongod.version_of(program(tmp_path / "bad", "echo libcrypto.so.1.1 is missing >&2; exit 127"))
    own = tmp_path / "own" / "mongod"
    own.parent.mkdir()
    own.write_text("not a program")
    on_path.unlink()
    with pytest.raises(UnavailableError, match="may not be executed"):
        mongod.find_mongod(own.parent)
