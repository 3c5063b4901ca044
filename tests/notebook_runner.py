"""The lab's notebooks, run top to bottom as a person would with *Restart and run all*."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from app_driver import AppServer
from nbclient import NotebookClient
from support import ROOT, DemoRun

from osv_lab.presets import load_preset

DATASETS = ("parts", "crossing", "cells-on", "shelves-on", "traffic-on")
"""How the names of the datasets begin that the notebooks make of the example."""

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@dataclass(frozen=True)
class NotebookLab:
    """A lab for notebooks.

    Attributes:
        folder: Where notebooks work.
        weights: A detector of the example's parts that has seen none of its images.
        environment: What a kernel's environment has beyond this one's.
    """

    folder: Path
    weights: Path
    environment: Mapping[str, str]

    def short(self, preset: str) -> dict[str, str]:
        """Let a notebook train one epoch on finished weights, whatever its preset says; all else is as it is there."""
        found = {name: value for name, value in vars(load_preset(preset)).items() if name != "name" and value}
        found["train"] = {"model": str(self.weights), "epochs": 1, "imgsz": 160, "batch": 8, "mosaic": 0.0}
        found["train"] |= {"optimizer": "AdamW", "lr0": 0.0005, "warmup_epochs": 0}
        found["first_look"] = {}
        path = self.folder / f"{preset}.yaml"
        path.write_text(yaml.safe_dump(found))
        return {"OSV_PRESET": str(path)}


@pytest.fixture(scope="session")
def notebook_lab(
    demo_run: DemoRun, app_server: AppServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NotebookLab]:
    """One lab for all tests of notebooks; their datasets are deleted afterwards."""
    from osv_lab.store.database import connect

    folder = tmp_path_factory.mktemp("notebooks")
    train = next(step for step in demo_run.report["steps"] if step["stage"] == "train")
    environment = {
        "OSV_HOME": str(folder / "home"),
        "FIFTYONE_DEFAULT_APP_PORT": app_server.url.rpartition(":")[2],
    }
    lab = NotebookLab(folder, Path(train["where"]) / "weights" / "best.pt", environment)
    environment |= lab.short("parts")
    yield lab
    fo = connect()
    for name in fo.list_datasets():
        if name.startswith(DATASETS):
            fo.delete_dataset(name)


class Runner:
    """One kernel for many notebooks, emptied between them: the heavy packages are loaded once."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        from jupyter_client.manager import KernelManager

        own = {"IPYTHONDIR": str(folder / ".ipython"), "JUPYTER_RUNTIME_DIR": str(folder / ".runtime")}
        self.folder = folder
        self.kernel = KernelManager(kernel_name="python3")
        self.kernel.start_kernel(env={**os.environ, **own, **environment}, cwd=str(folder))

    def run(self, path: Path, environment: Mapping[str, str] | None = None, timeout_s: int = 600) -> Any:
        """Run a notebook and give it with its outputs; a cell that raises fails, with its traceback.

        Args:
            path: The notebook; the file stays as it is.
            environment: What the kernel's environment has beyond that of the runner, from now on.
            timeout_s: Of a cell.
        """
        notebook = nbformat.read(path, as_version=4)
        empty = f"%reset -f\nimport os as _os\n_os.environ.update({dict(environment or {})!r})"
        notebook.cells.insert(0, nbformat.v4.new_code_cell(empty))
        NotebookClient(notebook, km=self.kernel, timeout=timeout_s, store_widget_state=False).execute()
        del notebook.cells[0]
        return notebook

    def close(self) -> None:
        """End the kernel, and with it the App and the database that it started."""
        self.kernel.shutdown_kernel()
