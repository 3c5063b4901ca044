"""A real Chromium, the system's own, that talks to nobody but this machine."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from app_driver import AppServer, Driver
from support import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser of ``OSV_CHROMIUM``, or the first of the usual names on the path."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("OSV_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.fail("the browser tests need Chromium: python tools/ensure_chromium.py")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page from which only this machine can be reached."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    local = ("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:")
    context.route(
        "**/*", lambda route: route.continue_() if route.request.url.startswith(local) else route.abort()
    )
    page = context.new_page()
    page.add_init_script("localStorage.setItem('fiftyone-enterprise-tooltip-seen', 'true')")
    yield page
    context.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a person would have seen when a test failed: a screenshot, and the page's words in the report."""
    from playwright.sync_api import Error

    report = yield
    page = getattr(item, "funcargs", {}).get("page")
    if report.when == "call" and report.failed and page is not None:
        try:
            page.screenshot(path=ROOT / "test-output" / f"failed-{item.name}.png", timeout=10_000)
            words = page.locator("body").inner_text(timeout=10_000)
        except Error as error:
            words = f"no longer to be seen: {error}"
        report.sections.append(("the page", words[-3000:]))
    return report


@pytest.fixture
def dataset_name() -> str:
    """A dataset name that no other test uses. It stays while the App's server may still be at work on it, and goes with
    the session's database."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def app(page: Page, app_server: AppServer, output_dir: Path, dataset_name: str) -> Iterator[Driver]:
    """A person at the App. A traceback in the server's log fails the test."""
    before = app_server.log.stat().st_size
    yield Driver(page, app_server.url, output_dir)
    page.goto("about:blank")
    said = app_server.log.read_bytes()[before:].decode("utf-8", "replace")
    assert "Traceback" not in said, said[-4000:]
