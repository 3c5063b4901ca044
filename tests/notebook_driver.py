"""One JupyterLab for a test session, and notebooks in it as a person would use them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.up.services import jupyter_service

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

START_TIMEOUT_S = 120


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class JupyterLab:
    """The server of ``osv lab``, with a folder of its own."""

    def __init__(self, folder: Path, port: int, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        service = jupyter_service(folder, port, ("--LabApp.expose_app_in_browser=True",))
        self.address, self.token = service.address, service.environment["JUPYTER_TOKEN"]
        own = {
            "JUPYTER_CONFIG_DIR": str(folder / ".config"),
            "JUPYTER_DATA_DIR": str(folder / ".data"),
            "JUPYTER_RUNTIME_DIR": str(folder / ".runtime"),
            "IPYTHONDIR": str(folder / ".ipython"),
            "JUPYTERLAB_SETTINGS_DIR": str(folder / ".settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(folder / ".workspaces"),
        }
        self._log = open(folder / "jupyter.log", "wb")  # noqa: SIM115 - closed in close()
        self.process = subprocess.Popen(
            service.command,
            env={**os.environ, **service.environment, **own, **(environment or {})},
            stdout=self._log,
            stderr=self._log,
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < deadline, (
                folder / "jupyter.log"
            ).read_text()
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/api", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def write(self, name: str, cells: Sequence[str]) -> str:
        """A notebook with these cells; gives its name."""
        made = [
            {"cell_type": "code", "id": f"cell-{k}", "metadata": {}, "source": text, "outputs": [],
             "execution_count": None}
            for k, text in enumerate(cells)
        ]  # fmt: skip
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
        (self.folder / name).write_text(json.dumps(notebook), "utf-8")
        return name

    def open(self, page: Page, name: str, theme: str = "JupyterLab Light") -> Notebook:
        """Open a notebook in a page, its kernel started."""
        page.goto(f"{self.address}/doc/tree/{name}?token={self.token}", timeout=120_000)
        page.wait_for_function("window.jupyterapp?.commands.hasCommand('apputils:change-theme')", timeout=120_000)
        notebook = Notebook(page)
        notebook.command("apputils:change-theme", {"theme": theme})
        page.wait_for_function(
            "window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel", timeout=120_000
        )
        # Before the kernel has said what it is, a cell that is run is lost.
        page.evaluate(
            """async () => {
                const context = window.jupyterapp.shell.currentWidget.sessionContext;
                await context.ready;
                await context.session.kernel.info;
            }"""
        )
        return notebook

    def close(self) -> None:
        """Stop the server and its kernels."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()


class Notebook:
    """An open notebook."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def command(self, name: str, arguments: dict[str, Any] | None = None) -> None:
        """Run one of JupyterLab's commands."""
        self.page.evaluate(
            "([name, values]) => { window.jupyterapp.commands.execute(name, values); }",
            [name, arguments or {}],
        )

    def cell(self, number: int) -> Locator:
        """A cell with its outputs."""
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(number)

    def run(self, number: int, *, wait: bool = True, timeout_s: float = 120) -> str:
        """Run a cell; gives the text it printed, and fails where it raised."""
        before = self._prompt(number)
        self.cell(number).locator(".jp-InputArea .cm-content").click()
        self.page.locator(".jp-CodeCell.jp-mod-active").and_(self.cell(number)).wait_for()
        self.command("notebook:run-cell")
        if not wait:
            return ""
        printed = self.done(number, before, timeout_s)
        wrong = self.cell(number).locator("[data-mime-type='application/vnd.jupyter.error']")
        assert not wrong.count(), wrong.first.inner_text()
        return printed

    def done(self, number: int, before: str = "", timeout_s: float = 120) -> str:
        """Wait until a cell has run (again, where its prompt was ``before``); gives what it printed."""
        self.page.wait_for_function(
            """([number, before]) => {
                const cell = document.querySelectorAll('.jp-Notebook .jp-CodeCell')[number];
                const prompt = cell.querySelector('.jp-InputPrompt').textContent;
                return /\\[\\d+\\]/.test(prompt) && prompt !== before;
            }""",
            arg=[number, before],
            timeout=timeout_s * 1000,
        )
        return self.printed(number)

    def run_all(self, timeout_s: float = 600) -> None:
        """Run all cells, as the menu does; fails where one raised."""
        self.command("notebook:run-all-cells")
        self.page.wait_for_function(
            r"""() => [...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')].every(
                (prompt) => /\[\d+\]/.test(prompt.textContent)
            )""",
            timeout=timeout_s * 1000,
        )
        wrong = self.page.locator(".jp-Notebook [data-mime-type='application/vnd.jupyter.error']")
        assert not wrong.count(), wrong.first.inner_text()

    def _prompt(self, number: int) -> str:
        return self.cell(number).locator(".jp-InputPrompt").inner_text()

    def printed(self, number: int) -> str:
        """What a cell has printed."""
        texts = self.cell(number).locator(".jp-OutputArea-output[data-mime-type*='stdout']").all_inner_texts()
        return "".join(texts)

    def widget(self, kind: str = "") -> Locator:
        """The widgets of a kind on the page."""
        return self.page.locator(f"section.osv{f'.osv-{kind}' if kind else ''}")

    def write(self, number: int, source: str) -> None:
        """Put this into a cell."""
        self.page.evaluate(
            """([number, source]) => {
                window.jupyterapp.shell.currentWidget.content.widgets[number].model.sharedModel.setSource(source);
            }""",
            [number, source],
        )

    def save(self) -> None:
        """Save the notebook, and wait until it is."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.save()")

    def settle(self) -> None:
        """Wait until the kernel has nothing to do."""
        self.page.wait_for_function(
            "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'"
        )
