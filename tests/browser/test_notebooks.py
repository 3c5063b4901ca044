"""Two of the lab's notebooks in real JupyterLab: run as they are, their widgets driven beside the App."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from app_driver import AppServer
from notebook_driver import JupyterLab, Notebook, free_port
from notebook_runner import NOTEBOOKS, NotebookLab

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(1300)]


@pytest.fixture(scope="module")
def jupyter(notebook_lab: NotebookLab) -> Iterator[JupyterLab]:
    """JupyterLab on copies of the notebooks."""
    folder = notebook_lab.folder / "opened"
    folder.mkdir()
    for path in NOTEBOOKS:
        shutil.copy(path, folder)
    made = JupyterLab(folder, free_port(), notebook_lab.environment)
    yield made
    made.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": 1280, "height": 1100})
    made.set_default_timeout(60_000)
    made.add_init_script("localStorage.setItem('fiftyone-enterprise-tooltip-seen', 'true')")
    yield made
    made.close()


def opened(jupyter: JupyterLab, page: Page, start: str) -> Notebook:
    [name] = [path.name for path in NOTEBOOKS if path.name.startswith(start)]
    notebook = jupyter.open(page, name)
    notebook.run_all()
    return notebook


def test_evaluate_and_compare(
    jupyter: JupyterLab, app_server: AppServer, context: BrowserContext, output_dir: Path
) -> None:
    """The slider moves by key and by hand, and a cell of the matrix opens its objects here and in the App."""
    notebook = opened(jupyter, context.new_page(), "06")
    page = notebook.page
    app = context.new_page()
    app.goto(f"{app_server.url}/datasets/parts")
    entries = app.locator("[data-cy='entry-counts']")
    entries.wait_for()
    before = entries.inner_text()
    matrix = notebook.widget("confusion")
    matrix.locator("button.osv-cell:enabled").first.click()
    matrix.locator(".osv-gallery img").first.wait_for()
    matrix.locator(".osv-note", has_text="in the App").wait_for()
    app.wait_for_function(
        "before => document.querySelector('[data-cy=entry-counts]')?.textContent !== before", arg=before
    )
    app.screenshot(path=output_dir / "notebook-06-app.png")
    matrix.screenshot(path=output_dir / "notebook-06-confusion.png")

    explorer = notebook.widget("thresholds")
    slider, number = explorer.locator("input[type=range]"), explorer.locator(".osv-number")
    slider.scroll_into_view_if_needed()
    slider.focus()
    at = float(number.inner_text())
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert float(number.inner_text()) == pytest.approx(at + 0.02), (
        "four steps of 0.005, and the cell keeps the focus"
    )
    box = slider.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 0.6, box["y"] + box["height"] / 2)
    assert float(number.inner_text()) == pytest.approx(0.6, abs=0.05)
    explorer.locator(".osv-gallery img").first.wait_for()
    explorer.screenshot(path=output_dir / "notebook-06-thresholds.png")

    compared = notebook.widget("comparison")
    compared.locator("[data-outcome]").first.click()
    compared.locator(".osv-note", has_text="in the App").wait_for()
    compared.screenshot(path=output_dir / "notebook-06-comparison.png")
    notebook.widget("slices").screenshot(path=output_dir / "notebook-06-slices.png")


def test_track_and_inspect(jupyter: JupyterLab, context: BrowserContext, output_dir: Path) -> None:
    """The timeline is scrubbed, events are walked by key, and an edit is taken back."""
    notebook = opened(jupyter, context.new_page(), "07")
    page, widget = notebook.page, notebook.widget("tracks")
    line = widget.locator(".osv-timeline")
    line.scroll_into_view_if_needed()
    box = line.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 150, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 60, steps=20)
    page.mouse.up()
    frame = widget.get_attribute("data-frame")
    assert frame is not None and 60 < int(frame) < 120
    arrived = "frame => document.querySelector('.osv-tracks').dataset.picture === frame"
    page.wait_for_function(arrived, arg=frame)
    widget.screenshot(path=output_dir / "notebook-07-tracks.png")
    widget.get_by_label("the frame and its tracks").focus()
    page.keyboard.press("Home")
    page.wait_for_function(arrived, arg="1")
    page.keyboard.press("n")
    page.wait_for_function("() => Number(document.querySelector('.osv-tracks').dataset.frame) > 1")
