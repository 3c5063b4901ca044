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
    session = open_app(demo_run.report["dataset"], port=port, view="confident")
    yield f"http://127.0.0.1:{port}"
    session.close()


def open_page(page: Page, url: str) -> None:
    page.goto(f"{url}/datasets/demo?view=confident", timeout=120_000)
    page.locator("[data-cy='looker']").first.wait_for(timeout=120_000)


def test_the_app_shows_samples_with_truth_and_predictions(
    page: Page, app_url: str, demo_run: DemoRun, output_dir: Path
) -> None:
    open_page(page, app_url)
    # The grid fades its images in; a picture taken earlier shows grey squares.
    page.wait_for_timeout(8000)
    page.screenshot(path=output_dir / "app-samples.png")
    tested = demo_run.report["ingested"]["splits"]["test"]
    assert page.locator("[data-cy='entry-counts']").inner_text() == f"{tested} samples"
    sidebar = page.locator("[data-cy='sidebar']").inner_text()
    assert "ground_truth" in sidebar and "predictions" in sidebar


def test_the_model_evaluation_panel_shows_the_demo(
    page: Page, app_url: str, demo_run: DemoRun, output_dir: Path
) -> None:
    open_page(page, app_url)
    page.locator("[data-cy='new-panel-btn']").first.click()
    page.get_by_text("Model Evaluation", exact=True).first.click()
    page.get_by_text("eval", exact=True).first.click(timeout=60_000)
    page.get_by_text("False Negatives").first.wait_for(timeout=60_000)
    score = round(demo_run.report["metrics"]["trained"]["map50_95"], 3)
    assert f"{score:g}" in page.get_by_role("row", name="mAP").first.inner_text()
    page.wait_for_timeout(5000)
    page.screenshot(path=output_dir / "app-evaluation.png")
