"""Every notebook of the lab runs top to bottom, and says what it says it does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from cvat_double.server import CvatDouble
from notebook_runner import NOTEBOOKS, NotebookLab, Runner

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1300)]

STAGES = [path for path in NOTEBOOKS if path.name[0].isdigit()]
TRADES = {path.stem.removeprefix("preset_"): path for path in NOTEBOOKS if path not in STAGES}


@pytest.fixture(scope="module")
def runner(notebook_lab: NotebookLab) -> Iterator[Runner]:
    """A kernel without a CVAT."""
    made = Runner(notebook_lab.folder, notebook_lab.environment)
    yield made
    made.close()


def said(notebook: Any) -> str:
    """All that cells have printed or shown as text."""
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", ())]
    return "\n".join(one.get("text") or one.get("data", {}).get("text/plain", "") for one in outputs)


def states(notebook: Any) -> list[str]:
    """The states of the widgets that cells have shown: one that cannot be loaded says so, and does not raise."""
    pages = [
        one.get("data", {}).get("text/html", "") for cell in notebook.cells for one in cell.get("outputs", ())
    ]
    return re.findall(r"data-osv-state='(\w+)'", "".join(pages))


def test_there_is_one_per_stage_and_one_per_trade() -> None:
    assert [path.name[:2] for path in STAGES] == [f"{number:02d}" for number in range(1, 10)]
    assert sorted(TRADES) == ["blood_cells", "retail_shelves", "traffic"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_kept_is_as_nobody_has_run_it(path: Path) -> None:
    notebook = json.loads(path.read_text("utf-8"))
    assert "widgets" not in notebook["metadata"]
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert notebook["cells"][0]["cell_type"] == "markdown"
    ending = "".join(notebook["cells"][-1]["source"])
    assert "**What to look at.**" in ending and "**Next.**" in ending


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_a_stage_runs(runner: Runner, path: Path, output_dir: Path) -> None:
    notebook = runner.run(path)
    nbformat.write(notebook, output_dir / path.name)
    text, found = said(notebook), states(notebook)
    if path.name[:2] == "03":
        assert found == ["empty"], "nothing was sent"
    else:
        assert set(found) <= {"ready"}
    if path.name.startswith("01"):
        assert "284 files" in text and "0 added, 283 skipped, 1 broken" in text
    if path.name.startswith("03"):
        assert "No CVAT here" in text


@pytest.mark.parametrize("trade", sorted(TRADES))
def test_a_trade_runs(runner: Runner, notebook_lab: NotebookLab, trade: str, output_dir: Path) -> None:
    environment = {**notebook_lab.short(trade), "OSV_MODEL": str(notebook_lab.weights)}
    notebook = runner.run(TRADES[trade], environment)
    nbformat.write(notebook, output_dir / TRADES[trade].name)
    assert set(states(notebook)) == {"ready"}
    text = said(notebook)
    if trade == "traffic":
        assert (runner.folder / "counted.mp4").stat().st_size
        assert "gate: " in text


def test_annotating_with_a_server(notebook_lab: NotebookLab, cvat: CvatDouble) -> None:
    """With a CVAT, 03 sends what the model is unsure of and asks how far people are."""
    server = {"OSV_CVAT_URL": cvat.url, "OSV_CVAT_USER": cvat.user, "OSV_CVAT_PASSWORD": cvat.password}
    kernel = Runner(notebook_lab.folder, {**notebook_lab.environment, **server})
    try:
        text = said(kernel.run(STAGES[2]))
    finally:
        kernel.close()
    assert f"connected to {cvat.url}" in text
    assert "No CVAT here" not in text
    [task] = cvat.world.tasks.values()
    assert "to_check" in task.name
