"""Starting and stopping a server, in this process and as one of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from server_requests import IMAGE, model
from serving import until
from support import ROOT

from osv_lab.core.errors import NotFoundError, UnavailableError, UsageError
from osv_lab.serve.client import Client
from osv_lab.serve.run import start_server

__all__ = ["model"]


def test_start_up_problems(model: Path, tmp_path: Path) -> None:
    with start_server(model) as first, pytest.raises(UnavailableError, match=f"{first.port}"):
        start_server(model, port=first.port)
    assert not first.running
    first.stop()
    with pytest.raises(UsageError, match="no key"):
        start_server(model, host="0.0.0.0")
    with pytest.raises(UsageError, match="no such host"):
        start_server(model, host="no.such.host.invalid", key="k")
    with pytest.raises(UsageError, match="cannot be sent"):
        start_server(model, key="")
    with pytest.raises(UsageError, match="no such port"):
        start_server(model, port=70_000)
    with pytest.raises(NotFoundError):
        start_server(tmp_path / "none.onnx")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_process_of_its_own_stops_gracefully(model: Path, stop: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {**os.environ, "OSV_MODEL": str(model), "OSV_PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "server" / "main.py")], env=environment, stderr=subprocess.PIPE, text=True
    )
    with Client(f"http://127.0.0.1:{port}") as client:
        until_ready(client, process)
        # A request that is being sent when the signal comes is still answered.
        with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
            head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(IMAGE)}"
            raw.sendall(f"{head}\r\n\r\n".encode() + IMAGE[:50])
            metrics = f"http://127.0.0.1:{port}/metrics"
            until(lambda: "osv_in_flight 1" in httpx.get(metrics, trust_env=False, timeout=60).text)
            process.send_signal(stop)
            time.sleep(0.3)
            raw.sendall(IMAGE[50:])
            assert b" 200 " in raw.recv(100)
    assert process.wait(timeout=30) == 0
    assert process.stderr is not None
    log = process.stderr.read()
    process.stderr.close()
    assert "Traceback" not in log


def until_ready(client: Client, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not client.health():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("changes", "code", "line"),
    [
        ({}, 2, "OSV_MODEL is not set"),
        ({"OSV_MODEL": "/no/such.onnx"}, 3, "such.onnx"),
        ({"OSV_MODEL": "x.onnx", "OSV_PORT": "web"}, 2, "OSV_PORT"),
        ({"OSV_MODEL": "x.onnx", "OSV_KEY_FILE": "/no/such/key"}, 2, "OSV_KEY_FILE"),
        ({"OSV_MODEL": "x.onnx", "OSV_HOST": "0.0.0.0"}, 2, "no key"),
    ],
)
def test_settings_that_cannot_be_are_one_line(changes: dict[str, str], code: int, line: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OSV_MODEL")} | changes
    done = subprocess.run(
        [sys.executable, str(ROOT / "server" / "main.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert line in done.stderr
    assert done.stderr.count("\n") == 1
