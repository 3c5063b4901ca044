"""What a person sees who opens the server in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import httpx
import numpy as np
import pytest
from support import shared_data
from tiny_model import write_tiny_model

from osv_lab.serve.run import ServerHandle, start_server

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerHandle]:
    folder, data = tmp_path_factory.mktemp("model"), shared_data()
    model = data / "models" / "bccd_yolo11n.onnx" if data else write_tiny_model(folder / "tiny.onnx")
    with start_server(model) as handle:
        yield handle


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    data = shared_data()
    if data is not None:
        return data / "bccd" / "BCCD" / "JPEGImages" / "BloodImage_00001.jpg"
    cv2.imwrite(str(tmp_path / "bright.png"), np.full((64, 64, 3), 230, np.uint8))
    return tmp_path / "bright.png"


def test_try_it(server: ServerHandle, photo: Path, page: Page, output_dir: Path) -> None:
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server.url)
    page.wait_for_selector("text=ready")
    assert page.locator("#keyrow").is_hidden()
    page.set_input_files("#file", photo)
    page.wait_for_selector(r"text=/^\d+ detections?$/")
    many = page.locator("#found tr").count()
    assert many >= 1
    page.screenshot(path=output_dir / "server-page.png", full_page=True)

    page.locator("#conf").fill("0.75")
    page.wait_for_function(
        "before => document.querySelectorAll('#found tr').length < before || before === 1", arg=many
    )
    assert "confidence_threshold=0.75" in page.locator("#curl").inner_text()
    page.set_input_files(
        "#file", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"this is no picture at all"}
    )
    page.wait_for_selector("#error:visible")
    assert "not an image" in page.locator("#error").inner_text()
    assert not errors
    assert all(url.startswith((server.url, "data:", "blob:")) for url in asked)


def test_documentation(server: ServerHandle, page: Page, output_dir: Path) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{server.url}/docs")
    page.wait_for_selector(".opblock-post")
    document = httpx.get(f"{server.url}/openapi.json").json()
    assert page.locator(".opblock").count() == sum(map(len, document["paths"].values())) >= 5
    page.click("#operations-predict-predict_predict_post .opblock-summary")
    page.wait_for_selector("text=image_url")
    page.screenshot(path=output_dir / "server-docs.png")
    assert all(url.startswith((server.url, "data:", "blob:")) for url in asked)
