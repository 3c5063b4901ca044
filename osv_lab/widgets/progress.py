"""How far long work is, below the cell that does it: ``Lab("cells", progress=cell_progress)``."""

from __future__ import annotations

import time
from html import escape
from typing import Any

EVERY_S = 0.2
"""Seconds between two updates."""


class CellProgress:
    """A :class:`~osv_lab.core.progress.Progress` for notebooks: a bar below the running cell, gone when done.

    Outside of a notebook it shows nothing.
    """

    def __init__(self) -> None:
        self._cell: tuple[int, int] | None = None
        self._line: Any = None
        self._shown = 0.0

    def __call__(self, label: str, done: int, total: int | None, /) -> None:
        from IPython import get_ipython

        shell = get_ipython()
        kernel = getattr(shell, "kernel", None)
        now = time.monotonic()
        over = total is not None and done >= total
        if kernel is None or (not over and now - self._shown < EVERY_S):
            return
        cell = (id(kernel), shell.execution_count)
        if over and cell != self._cell:
            return  # it was over before anybody could see it
        self._shown = now
        page = {"text/html": "" if over else self._html(label, done, total), "text/plain": ""}
        if cell == self._cell:
            self._line.update(page, raw=True)
        else:
            from IPython.display import display

            self._cell, self._line = cell, display(page, raw=True, display_id=True)

    def _html(self, label: str, done: int, total: int | None) -> str:
        bar = f"<progress value='{done}' max='{total}'></progress>" if total else "<progress></progress>"
        counted = f"{done:,} of {total:,}" if total else f"{done:,}"
        return f"<div style='font-size:.9em;opacity:.8'>{bar} {escape(label)} {counted}</div>"


cell_progress = CellProgress()
"""One for all labs of a notebook."""
