"""The last step of a capture: seen in the App, selected, and tagged for annotation."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from serving import NEAR, observed, png, until
from support import shared_data
from tiny_model import write_tiny_model

from osv_lab.app import open_app
from osv_lab.serve.run import start_server
from osv_lab.store.captures import import_captures

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture
def captured(fo: Any, dataset_name: str, tmp_path: Path) -> Any:
    """A dataset of what a real server captured: of blood cells where those are here."""
    data, margin = shared_data(), 0.02
    model = tmp_path / "cells.onnx"
    if data is not None:
        shutil.copyfile(data / "models" / "bccd_yolo11n.onnx", model)
        photos = sorted((data / "bccd" / "BCCD" / "JPEGImages").glob("*.jpg"))[:24]
        images = [photo.read_bytes() for photo in photos]
    else:
        write_tiny_model(model)
        margin = 0.1
        images = [png(NEAR, number) for number in range(24)]
    rules = {"rules": [{"near": margin}, {"many": 20, "per_hour": 6}]}
    with start_server(model, capture=rules, capture_to=tmp_path / "spool") as server:
        for image in images:
            headers = {"Content-Type": "application/octet-stream"}
            httpx.post(f"{server.url}/predict", content=image, headers=headers, trust_env=False, timeout=60)
        until(lambda: observed(server) == len(images))
    report = import_captures(tmp_path / "spool", dataset_name)
    assert report.added >= 3
    return fo.load_dataset(dataset_name)


@pytest.fixture
def app_url(captured: Any) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    session = open_app(captured.name, port=port, view="captured")
    yield f"http://127.0.0.1:{port}"
    session.close()


def test_captures_are_seen_selected_and_tagged_for_annotation(
    page: Page, app_url: str, captured: Any, output_dir: Path
) -> None:
    page.goto(f"{app_url}/datasets/{captured.name}?view=captured", timeout=120_000)
    page.locator("[data-cy='looker']").first.wait_for(timeout=120_000)
    assert page.locator("[data-cy='entry-counts']").inner_text() == f"{len(captured)} samples"
    # Why each was captured, on the pictures.
    page.locator("[data-cy='sidebar-group-capture-field'] svg").last.click()
    page.locator("[data-cy='checkbox-capture.rules']").last.click()
    page.locator("[data-cy='looker']").first.get_by_text("near").wait_for(timeout=60_000)
    # The grid fades its images in; a picture taken earlier shows grey squares.
    page.wait_for_timeout(6000)
    for index in range(2):
        looker = page.locator("[data-cy='looker']").nth(index)
        looker.hover()
        looker.locator("input[type=checkbox]").first.dispatch_event("click")
    page.locator("[data-cy='action-tag-sample-labels']").click()
    tag = page.locator("[data-cy='sample-tag-input']")
    tag.fill("annotate")
    page.screenshot(path=output_dir / "app-captures.png")
    assert tag.get_attribute("placeholder") == "+ tag 2 selected samples"
    tag.press("Enter")
    page.get_by_text("Apply", exact=True).click()
    until(lambda: captured.count_sample_tags().get("annotate"))
    ready = captured.match_tags("annotate")
    assert len(ready) == 2
    assert set(ready.values("id")) <= set(captured.load_saved_view("captured").values("id"))
    assert captured.count_sample_tags()["captured"] == len(captured)
