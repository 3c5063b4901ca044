"""The Serve plugin as a person meets it: serve, ask, see how it does, bring home what it kept, stop."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from app_driver import Driver
from app_scenes import cells
from support import shared_data
from tiny_model import write_tiny_model

from osv_lab.core.errors import NotFoundError
from osv_lab.core.settings import load_settings
from osv_lab.train.registry import register
from osv_lab.up import down, pages

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture
def registered(tmp_path: Path) -> Iterator[str]:
    """BCCD's detector, or without real data the tiny one, as a champion; nothing is served before or after."""
    data = shared_data()
    file = data / "models" / "bccd_yolo11n.onnx" if data else write_tiny_model(tmp_path / "tiny.onnx")
    register(file, "test-app-serve", alias="champion")
    yield "models:/test-app-serve@champion"
    try:
        down()
    except NotFoundError:
        assert pages() == {}
    shutil.rmtree(load_settings().captures_dir, ignore_errors=True)


def test_a_model_is_served_asked_watched_and_stopped(
    app: Driver, registered: str, dataset_name: str, tmp_path: Path
) -> None:
    dataset = cells(dataset_name, tmp_path, predicted=False)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    app.open(dataset.name)
    app.panel("Serving")
    app.told("Nothing is served")
    app.page.get_by_role("button", name="Serve a model").first.click()
    app.fill("Model", registered)
    app.fill("Port", str(port))
    app.fill("Keep images for the dataset", "randm=1")
    app.told("random")
    assert app.form.get_by_role("button", name="Execute").is_disabled()
    app.fill("Keep images for the dataset", "random=1")
    app.send()
    app.told(f"is served at http://127.0.0.1:{port}")
    app.done()

    app.operator("Ask the server")
    app.send()
    app.told(r"answered 40 images with \d+ objects into 'served'")
    app.done()
    app.told(r"40 images answered, p50 \d+ ms, p95 \d+ ms")
    app.told("40 captured images")
    app.picture("app-serving")

    app.page.get_by_role("button", name="Import them").click()
    app.form.wait_for()
    app.send()
    app.told("40 captured images into .* .0 new, 40 it had")
    app.done()
    dataset.reload()
    assert dataset.count_sample_tags()["captured"] == 40

    app.page.get_by_role("button", name="Stop serving").click()
    app.told("Nothing is served")
    assert pages() == {}
    assert load_settings().captures_dir.is_dir()


def test_a_form_sends_images_to_this_machine_only(app: Driver, dataset_name: str, tmp_path: Path) -> None:
    dataset: Any = cells(dataset_name, tmp_path, predicted=False)
    app.open(dataset.name)
    app.operator("Ask the server")
    app.fill("Server", "http://example.org:8000")
    app.told("not a server of this machine")
    assert app.form.get_by_role("button", name="Execute").is_disabled()
