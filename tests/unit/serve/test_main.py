"""Settings of the server process: what an environment becomes, and what none can be."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from support import ROOT
from tiny_model import write_tiny_model

from osv_lab.core.errors import UsageError
from osv_lab.serve.client import Client


@pytest.fixture(scope="module")
def main() -> ModuleType:
    spec = importlib.util.spec_from_file_location("server_main", ROOT / "server" / "main.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_limits(main: ModuleType) -> None:
    given = main.options(
        {
            "OSV_MODEL": "a.onnx",
            "OSV_MAX_IMAGE_BYTES": "1000",
            "OSV_MAX_PIXELS": "2000",
            "OSV_MAX_BATCH": "3",
            "OSV_BODY_TIMEOUT_S": "2.5",
            "OSV_FETCH_TIMEOUT_S": "1.5",
            "OSV_ALLOW_URLS": "store.lan, minio:9000",
            "OSV_ALLOW_NETWORKS": "10.0.0.0/8, fd00::/8",
        }
    )
    limits = given["limits"]
    assert (limits.max_image_bytes, limits.max_pixels, limits.max_batch, limits.body_timeout_s) == (
        1000,
        2000,
        3,
        2.5,
    )
    assert (limits.fetch.max_bytes, limits.fetch.timeout_s) == (1000, 1.5)
    assert limits.fetch.networks == ("10.0.0.0/8", "fd00::/8")
    assert given["allow_urls"] == ["store.lan", "minio:9000"]


def test_sources(main: ModuleType) -> None:
    given = main.options({"OSV_MODEL": "a.onnx", "OSV_SOURCES": " gate=rtsp://u:p@10.0.0.7/a?b=c  yard=/videos "})
    assert given["sources"] == {"gate": "rtsp://u:p@10.0.0.7/a?b=c", "yard": "/videos"}
    assert given["track"] == "bytetrack"
    assert main.options({"OSV_MODEL": "a.onnx", "OSV_TRACK": "none"})["track"] is False
    for wrong in ("rtsp://u:secret@10.0.0.7/", "a=rtsp://u:secret@b a=c"):
        with pytest.raises(UsageError, match="OSV_SOURCES") as refused:
            main.options({"OSV_MODEL": "a.onnx", "OSV_SOURCES": wrong})
        assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OSV_TRACK", "deepsort"),
        ("OSV_MAX_STREAMS", "0"),
        ("OSV_MAX_PIXELS", "0"),
        ("OSV_MAX_PIXELS", "many"),
        ("OSV_MAX_IMAGE_BYTES", "1.5"),
        ("OSV_BODY_TIMEOUT_S", "-1"),
        ("OSV_BODY_TIMEOUT_S", "nan"),
        ("OSV_FETCH_TIMEOUT_S", "inf"),
        ("OSV_ALLOW_NETWORKS", "10.0.0.1/8"),
        ("OSV_ALLOW_NETWORKS", "lan"),
        ("OSV_PROCESSES", "-1"),
        ("OSV_PROCESSES", "many"),
    ],
)
def test_what_cannot_be(main: ModuleType, name: str, value: str) -> None:
    with pytest.raises(UsageError, match=name):
        main.options({"OSV_MODEL": "a.onnx", name: value})


WITHOUT = """
import runpy, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "fiftyone", "ultralytics", "mlflow", "pandas"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_process_needs_no_torch_fiftyone_or_ultralytics(tmp_path: Path) -> None:
    """Answers with them absent, as they are from an installation of the server extra."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    model = write_tiny_model(tmp_path / "tiny.onnx")
    environment = {**os.environ, "OSV_MODEL": str(model), "OSV_PORT": str(port), "OSV_LOG_LEVEL": "warning"}
    command = [sys.executable, "-c", WITHOUT, str(ROOT / "server" / "main.py")]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        with Client(f"http://127.0.0.1:{port}") as client:
            deadline = time.monotonic() + 60
            while not client.health():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert len(client.predict(np.full((64, 64, 3), 255, np.uint8))) == 1
            assert len(client.predict_batch([np.full((64, 64, 3), 255, np.uint8)] * 3)) == 3
    finally:
        process.terminate()
        _, log = process.communicate(timeout=30)
    assert process.returncode == 0, log
