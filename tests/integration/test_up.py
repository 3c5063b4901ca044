"""``osv up``: the real services as processes, one killed, all stopped; and what cannot be started."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from notebook_runner import NOTEBOOKS
from tiny_model import write_tiny_model

from osv_lab.core.errors import UsageError
from osv_lab.core.settings import load_settings
from osv_lab.train.locks import exclusive
from osv_lab.up import up
from osv_lab.up.services import PORTS, Service, notebooks_folder, planned
from osv_lab.up.supervisor import Supervisor

OSV = (sys.executable, "-m", "osv_lab")
TIMEOUT_S = 180


def free_ports() -> dict[str, int]:
    probes = {name: socket.create_server(("127.0.0.1", 0)) for name in PORTS}
    ports = {name: probe.getsockname()[1] for name, probe in probes.items()}
    for probe in probes.values():
        probe.close()
    return ports


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + TIMEOUT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.1)
    return found


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=5, follow_redirects=True).is_success
    except httpx.TransportError:
        return False


class Lab:
    """``osv up`` in a lab of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "OSV_HOME": str(folder / "home"),
            "FIFTYONE_DATABASE_DIR": str(folder / "db"),
        }
        self.environment.pop("MLFLOW_TRACKING_URI", None)
        self.process: subprocess.Popen[str] | None = None
        self.ports = free_ports()

    def up(self, *arguments: str) -> dict[str, str]:
        """Start; gives where each service is, once all answer."""
        ports = [f"--port={name}={port}" for name, port in self.ports.items()]
        return self.start("up", *arguments, *ports, "--notebooks", str(self.folder))

    def start(self, *arguments: str) -> dict[str, str]:
        """The same of any such command, in the lab's folder."""
        with open(self.folder / "up.log", "w") as log:
            self.process = subprocess.Popen(
                [*OSV, *arguments, "--json"],
                env=self.environment,
                cwd=self.folder,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        text = ""
        while not text.endswith("\n}\n"):
            line = self.process.stdout.readline()
            assert line, text + (self.folder / "up.log").read_text()
            text += line
        return {one["name"]: one["page"] for one in json.loads(text)["services"]}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*OSV, *arguments], env=self.environment, capture_output=True, text=True, timeout=TIMEOUT_S
        )

    def members(self) -> list[psutil.Process]:
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.terminate()
        made.process.wait(60)


def test_everything_together(lab: Lab) -> None:
    """All four answer; the killed one comes back; ``osv down`` leaves no process and no open port."""
    model = write_tiny_model(lab.folder / "tiny.onnx")
    where = lab.up("--model", str(model))
    assert list(where) == list(PORTS)
    assert answers(f"{where['api']}/models")
    assert answers(where["jupyter"]), "the token lets a browser in"
    assert not answers(where["jupyter"].partition("/lab")[0] + "/api/contents"), "nobody gets in without"
    assert answers(where["app"])
    token = where["jupyter"].partition("token=")[2]
    logs = lab.folder / "home" / "up"
    assert not [path.name for path in logs.iterdir() if token in path.read_text()]
    assert all(token not in word for one in lab.members() for word in one.cmdline())
    for one in lab.members():
        for connection in one.net_connections("tcp"):
            assert connection.status != psutil.CONN_LISTEN or connection.laddr.ip == "127.0.0.1"

    second = lab.run("up", "mlflow", "--json")
    assert second.returncode == 5
    assert json.loads(second.stdout)["what"] == "the lab is up already"

    [server] = [one for one in lab.members() if "serve" in one.cmdline()]
    server.kill()
    server.wait()
    until(lambda: answers(f"{where['api']}/ready"), "the server is started again")
    assert "is started again" in (lab.folder / "up.log").read_text()

    everything = lab.members()
    stopped = lab.run("down")
    assert stopped.returncode == 0, stopped.stderr
    assert all(name in stopped.stdout for name in PORTS)
    assert lab.process is not None
    assert lab.process.wait(30) == 0
    until(lambda: not [one for one in everything if one.is_running()], "nothing is left")
    for port in lab.ports.values():
        socket.create_server(("127.0.0.1", port)).close()
    assert lab.run("down").returncode == 3


def test_they_end_with_the_one_that_started_them(lab: Lab) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells a process that its parent has died")
    where = lab.up("api", "--model", str(write_tiny_model(lab.folder / "tiny.onnx")))
    assert list(where) == ["api"]
    members = lab.members()
    assert lab.process is not None
    lab.process.send_signal(signal.SIGKILL)
    lab.process.wait()
    until(lambda: not [one for one in members if one.is_running()], "the server ends too")
    assert lab.run("down").returncode == 3, "what was killed is not up"


def test_a_taken_port_and_a_model_that_is_none(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = lab.run("up", "mlflow", f"--port=mlflow={port}", "--json")
    assert answer.returncode == 5
    assert "port of MLflow is taken" in json.loads(answer.stdout)["what"]

    api = free_ports()["api"]
    answer = lab.run("up", "api", "--model", str(lab.folder / "none.onnx"), f"--port=api={api}", "--json")
    assert answer.returncode == 5
    error = json.loads(answer.stdout)
    assert error["what"] == "server does not start"
    assert "none.onnx" in error["found"], "the reason is in the message, not only in a log"


def test_osv_lab_opens_a_copy_of_the_notebooks(lab: Lab) -> None:
    """All of them are in the folder that JupyterLab opens; what a user has changed there stays."""
    copies = lab.folder / "home" / "notebooks"
    copies.mkdir(parents=True)
    (copies / NOTEBOOKS[0].name).write_text("mine")
    where = lab.start("lab", "--port", str(lab.ports["jupyter"]))
    assert list(where) == ["jupyter"]
    address, _, token = where["jupyter"].partition("/lab?token=")
    answer = httpx.get(f"{address}/api/contents", params={"token": token}, trust_env=False, timeout=30).json()
    names = [path.name for path in NOTEBOOKS]
    assert sorted(one["name"] for one in answer["content"]) == names
    assert (copies / names[0]).read_text() == "mine"
    assert all((copies / path.name).read_bytes() == path.read_bytes() for path in NOTEBOOKS[1:])
    assert lab.process is not None
    lab.process.send_signal(signal.SIGINT)
    assert lab.process.wait(60) == 0


def test_notebooks_of_ones_own_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OSV_HOME", str(tmp_path / "home"))
    (tmp_path / "notebooks").mkdir()
    assert notebooks_folder() == Path("notebooks")
    assert notebooks_folder("other") == Path("other")
    (tmp_path / "notebooks").rmdir()
    assert notebooks_folder() == tmp_path / "home" / "notebooks"


def test_a_log_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("osv_lab.up.supervisor.LOG_BYTES", 2000)
    port, log = free_ports()["api"], tmp_path / "site.log"
    command = (sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "-d", str(tmp_path), str(port))
    site = Service("site", "site", command, port, "/")
    stop, supervisor = threading.Event(), Supervisor([site], tmp_path)
    supervisor.start(stop)
    watching = threading.Thread(target=supervisor.watch, args=(stop,))
    watching.start()
    try:
        until(lambda: answers(site.address) and log.with_name("site.log.1").exists(), "the log is begun anew")
        until(lambda: log.stat().st_size < 2000, "it is short again")
        assert answers(f"{site.address}/?again")
        until(lambda: "?again" in log.read_text(), "the service goes on writing")
        assert "\0" not in log.read_text()
    finally:
        stop.set()
        watching.join()
        supervisor.stop()


def test_who_only_looks_is_in_nobodys_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSV_HOME", str(tmp_path))
    lock = tmp_path / "up" / "lock"
    done = threading.Event()

    def look() -> None:
        with exclusive(lock):
            done.set()
            time.sleep(0.2)

    looking = threading.Thread(target=look)
    looking.start()
    assert done.wait(10)
    # What a killed one has left says nothing about the one that starts now.
    (tmp_path / "up" / "state.json").write_text('{"pid": 1, "pages": {"api": "http://127.0.0.1:1"}}')
    with pytest.raises(UsageError, match="no such folder"):
        up(only=["jupyter"], notebooks=tmp_path / "none")
    looking.join()
    assert not (tmp_path / "up" / "state.json").exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"only": ["mlfow"]}, "did you mean 'mlflow'"),
        ({"ports": {"app": 0}}, "1 to 65535"),
        ({"only": ["app"], "model": "a.onnx"}, "add api"),
        ({"only": ["jupyter"], "notebooks": Path("no/such/folder")}, "no such folder"),
    ],
)
def test_what_cannot_be(wrong: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"model": None, "only": (), "ports": {}, "notebooks": Path(), **wrong}
    with pytest.raises(UsageError, match=said):
        planned(load_settings(), **given)


def test_without_a_champion_there_is_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSV_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    services, left_out = planned(load_settings(), None, ["api", "mlflow"], {}, Path())
    assert services == []
    assert "osv register" in left_out["api"]
    assert "http://127.0.0.1:9" in left_out["mlflow"]
