"""What a person sees in the FiftyOne App after the demo."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import DemoRun

from osv_lab.app import open_app

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(1300)]


@pytest.fixture(scope="module")
def app_url(demo_run: DemoRun) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    session = open_app(demo_run.report["dataset"], port=port)
    yield f"http://127.0.0.1:{port}"
    session.close()


def test_the_app_shows_samples_with_truth_and_predictions(page: Page, app_url: str, output_dir: Path) -> None:
    page.goto(f"{app_url}/datasets/demo", timeout=120_000)
    page.locator("[data-cy='looker']").first.wait_for(timeout=120_000)
    page.wait_for_timeout(3000)
    page.screenshot(path=output_dir / "app-samples.png")
    assert "540" in page.locator("[data-cy='entry-counts']").inner_text()
    sidebar = page.locator("[data-cy='sidebar']").inner_text()
    assert "ground_truth" in sidebar and "predictions" in sidebar


def test_the_model_evaluation_panel_shows_the_demo(page: Page, app_url: str, output_dir: Path) -> None:
    page.goto(f"{app_url}/datasets/demo", timeout=120_000)
    page.locator("[data-cy='looker']").first.wait_for(timeout=120_000)
    page.locator("[data-cy='new-panel-btn']").first.click()
    page.get_by_text("Model Evaluation", exact=True).first.click()
    page.get_by_text("eval", exact=True).first.wait_for(timeout=60_000)
    page.get_by_text("eval", exact=True).first.click()
    page.get_by_text("mAP", exact=False).first.wait_for(timeout=60_000)
    page.wait_for_timeout(3000)
    page.screenshot(path=output_dir / "app-evaluation.png")
