"""The bar below a cell: once per cell, gone when the work is done."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from osv_lab.widgets import cell_progress
from osv_lab.widgets.progress import CellProgress


class Line:
    def __init__(self) -> None:
        self.pages: list[str] = []

    def update(self, page: dict[str, str], raw: bool) -> None:
        self.pages.append(page["text/html"])


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A cell of a notebook; ``lines`` are what was shown below it and its followers."""
    import IPython
    import IPython.display

    shell = SimpleNamespace(kernel=object(), lines=[], over=[])
    shell.events = SimpleNamespace(register=lambda name, call: shell.over.append(call))

    def display(page: dict[str, str], raw: bool, display_id: bool) -> Line:
        shell.lines.append(Line())
        shell.lines[-1].update(page, raw)
        return shell.lines[-1]  # type: ignore[no-any-return]

    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setattr("osv_lab.widgets.progress.EVERY_S", 0)
    return shell


def test_a_cell_has_one_bar_that_goes_when_it_is_over(cell: Any) -> None:
    progress = CellProgress()
    for done in range(4):
        progress("ingest <b>", done, 3)
    progress("train", 1, None)
    [line] = cell.lines
    assert "max='3'" in line.pages[1] and "ingest &lt;b&gt; 1 of 3" in line.pages[1]
    assert "train 1" in line.pages[4]
    [over] = cell.over
    over(None)
    assert line.pages[5] == ""
    over(None)  # a cell without any work
    assert len(line.pages) == 6
    progress("ingest", 1, 3)
    assert len(cell.lines) == 2 and len(cell.over) == 1


def test_outside_of_a_notebook_it_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    cell_progress("ingest", 1, 3)
    assert capsys.readouterr().out == ""
