"""What the tests of a server as its users meet it share: a real uvicorn on a loopback port, a real ONNX model."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from stream_support import png
from tiny_model import write_tiny_model

from osv_lab.serve.limits import Limits
from osv_lab.serve.run import ServerHandle, start_server

IMAGE = png()
TEXT = base64.b64encode(IMAGE).decode()
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=xyz"}
RAW = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[ServerHandle]:
    limits = Limits(max_image_bytes=2**20, max_pixels=4_000_000, max_batch=10, max_batch_bytes=3 * 2**20)
    with start_server(model, limits=limits) as handle:
        yield handle


def post(server: ServerHandle, path: str = "/predict", **request: Any) -> httpx.Response:
    return httpx.post(server.url + path, timeout=60, trust_env=False, **request)
