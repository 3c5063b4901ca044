"""How far long work is, below the cell that does it: ``Lab("cells", progress=cell_progress)``."""

from __future__ import annotations

import time
from html import escape
from typing import Any

EVERY_S = 0.2
"""Seconds between two updates."""


class CellProgress:
    """A :class:`~osv_lab.core.progress.Progress` for notebooks: a bar below the running cell, and gone after it.

    Outside of a notebook it shows nothing.
    """

    def __init__(self) -> None:
        self._shell: Any = None
        self._line: Any = None
        self._shown = 0.0

    def __call__(self, label: str, done: int, total: int | None, /) -> None:
        from IPython import get_ipython

        shell, now = get_ipython(), time.monotonic()
        if not hasattr(shell, "kernel") or now - self._shown < EVERY_S:
            return
        self._shown = now
        if shell is not self._shell:
            self._shell = shell
            shell.events.register("post_run_cell", self._end)
        page = {"text/html": self._html(label, done, total), "text/plain": ""}
        if self._line is not None:
            self._line.update(page, raw=True)
        else:
            from IPython.display import display

            self._line = display(page, raw=True, display_id=True)

    def _end(self, _: Any) -> None:
        """The cell is over: so is its bar."""
        if self._line is not None:
            self._line.update({"text/html": "", "text/plain": ""}, raw=True)
            self._line = None

    def _html(self, label: str, done: int, total: int | None) -> str:
        bar = f"<progress value='{done}' max='{total}'></progress>" if total else "<progress></progress>"
        counted = f"{done:,} of {total:,}" if total else f"{done:,}"
        return f"<div style='font-size:.9em;opacity:.8'>{bar} {escape(label)} {counted}</div>"


cell_progress = CellProgress()
"""One for all labs of a notebook."""
