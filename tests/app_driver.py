"""The real App server with the lab's plugins, and what a person does in it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

SLOW_MS = 60_000


class AppServer:
    """FiftyOne's own server, as a process whose log can be read, on this test session's database.

    Args:
        log: Where its output goes.
    """

    def __init__(self, log: Path) -> None:
        import fiftyone.constants as constants

        from osv_lab.app.plugins import use_plugins
        from osv_lab.store.database import connect

        connect()
        use_plugins()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        self.log = log
        command = [sys.executable, str(Path(constants.SERVER_DIR) / "main.py"), "--address", "127.0.0.1"]
        command += ["--port", self.url.rpartition(":")[2]]
        self.process = subprocess.Popen(
            command,
            stdout=open(log, "wb"),  # noqa: SIM115 (the process keeps it)
            stderr=subprocess.STDOUT,
            env={**os.environ, "FIFTYONE_DISABLE_SERVICES": "1"},
            cwd=constants.SERVER_DIR,
        )
        deadline = time.monotonic() + 300
        try:
            while not self._answers():
                assert self.process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.2)
        except BaseException:
            self.close()
            raise

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/fiftyone", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Driver:
    """One person at the App.

    Args:
        page: A fresh page.
        url: The server's address.
        output: Where screenshots go.
    """

    def __init__(self, page: Page, url: str, output: Path) -> None:
        self.page, self.url, self.output = page, url, output

    def open(self, dataset: str, *, samples: bool = True) -> None:
        """Open a dataset and wait for its grid."""
        self.page.goto(f"{self.url}/datasets/{dataset}", timeout=2 * SLOW_MS)
        shown = self.page.locator("[data-cy='operator-browser-btn'], [data-cy='entry-counts']")
        # An empty dataset has a page of its own.
        shown.or_(self.page.get_by_text("browse operations")).first.wait_for(timeout=2 * SLOW_MS)
        if samples:
            self.page.locator("[data-cy='looker']").first.wait_for(timeout=2 * SLOW_MS)

    @property
    def counts(self) -> str:
        """What the App says of how many samples are shown."""
        return self.page.locator("[data-cy='entry-counts']").first.inner_text()

    def wait_for_count(self, text: str) -> None:
        self.page.locator("[data-cy='entry-counts']").filter(has_text=text).first.wait_for(timeout=SLOW_MS)

    def operator(self, label: str) -> Locator:
        """Open an operator's form through the operator browser; gives the form."""
        from playwright.sync_api import TimeoutError

        entry = self.page.get_by_placeholder("Search operations by name...")
        for left in reversed(range(6)):
            self.page.keyboard.press("Escape")
            self.page.keyboard.press("Backquote")
            try:
                entry.wait_for(timeout=SLOW_MS / 4)
                break
            except TimeoutError:
                # A key that comes while the page is made anew is lost: a person presses it again.
                if not left:
                    raise
        entry.fill(label)
        self.page.get_by_text(label, exact=True).first.click(timeout=SLOW_MS)
        return self.form

    @property
    def form(self) -> Locator:
        """The form that is open."""
        return self.page.locator("[data-cy='operators-prompt-modal']")

    def field(self, label: str) -> Locator:
        """What is typed into in a field of the open form, by the field's label."""
        item = self.form.locator(".MuiGrid-item").filter(has=self.page.get_by_text(label, exact=True)).last
        return item.locator("input, textarea, [role='combobox'], [role='switch']").first

    def fill(self, label: str, value: str) -> None:
        """Type into a field of the open form, and let the form think about it."""
        self.field(label).fill(value, timeout=SLOW_MS)
        self.page.keyboard.press("Tab")

    def choose(self, label: str, value: str) -> None:
        """Choose from a dropdown of the open form."""
        self.field(label).click(timeout=SLOW_MS)
        self.page.get_by_role("option", name=value).first.click(timeout=SLOW_MS)

    def send(self, button: str = "Execute") -> None:
        """Press the form's button."""
        self.form.get_by_role("button", name=button, exact=True).first.click(timeout=SLOW_MS)

    def schedule(self) -> None:
        """Hand the form to the worker instead of running it now."""
        self.form.locator("button:has(svg)").last.click(timeout=SLOW_MS)
        self.page.get_by_role("menuitem").filter(has_text="Schedule").click(timeout=SLOW_MS)
        button = self.form.get_by_role("button", name="Schedule", exact=True)
        button.click(timeout=SLOW_MS)
        self.told("scheduled|Scheduled|queued")

    def done(self) -> None:
        """Close what the form has become."""
        button = self.page.get_by_role("button", name="Done")
        button.click(timeout=SLOW_MS)
        button.wait_for(state="detached", timeout=SLOW_MS)

    def told(self, pattern: str, timeout_ms: float = 2 * SLOW_MS) -> str:
        """Wait until the App says something like this (a regular expression), and give all of it."""
        found = self.page.get_by_text(re.compile(pattern)).first
        found.wait_for(timeout=timeout_ms)
        return found.inner_text()

    def panel(self, label: str) -> Locator:
        """Open a panel, beside the samples; gives its content."""
        self.page.locator("[data-cy='new-panel-btn']").last.click(timeout=SLOW_MS)
        self.page.get_by_text(label, exact=True).first.click(timeout=SLOW_MS)
        return self.page.locator("[data-cy^='panel-content']").last

    def close_modal(self) -> None:
        """Close the sample that is open, by a click beside it."""
        self.page.mouse.click(8, 450)
        self.page.locator("[data-cy='modal']").wait_for(state="hidden", timeout=SLOW_MS)

    def picture(self, name: str, wait_ms: float = 1200) -> None:
        """Leave a screenshot in ``test-output/``, after the App has faded in what it shows."""
        self.page.wait_for_timeout(wait_ms)
        self.page.screenshot(path=self.output / f"{name}.png")


def run_jobs() -> None:
    """Run what was scheduled, as the worker of ``osv app`` does."""
    done = subprocess.run(
        [sys.executable, "-m", "osv_lab", "jobs", "work", "--once"], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
