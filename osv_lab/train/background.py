"""Training in a process of its own, for faces that must not wait: ``osv train`` with a log, one per experiment.

What it does is in its run's folder, as ever; whoever wants to know reads that. A process that is told to stop, or whose
starter ends, leaves a run that can be resumed.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from osv_lab.core.errors import UsageError
from osv_lab.core.files import write_atomic
from osv_lab.core.settings import load_settings
from osv_lab.train.recipe import Recipe

STOP_TIMEOUT_S = 20.0

_lock = threading.Lock()
_of_experiment: dict[str, TrainingProcess] = {}


class TrainingProcess:
    """One training process; see :func:`start`."""

    def __init__(self, experiment: str, command: list[str], log: Path) -> None:
        self.experiment = experiment
        self.log = log
        with open(log, "wb") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                # Interrupting a notebook's cell signals the kernel's whole group; this is not part of the cell.
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self._process.poll() is None

    @property
    def code(self) -> int | None:
        """Its exit code; ``None`` while it runs."""
        return self._process.poll()

    def said(self) -> str:
        """The last line of its log: what went wrong, if something did."""
        try:
            lines = self.log.read_text("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1].strip() if lines else ""

    def stop(self, *, wait: bool = False) -> None:
        """Tell it to stop at the next safe point: its run can be resumed."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)
        if wait:
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def start(
    dataset: str, recipe: Recipe | None, *, experiment: str | None = None, resume: str | None = None
) -> TrainingProcess:
    """Train in the background.

    Args:
        dataset: A dataset's name, or a version (``blood@v1``).
        recipe: How; ``None`` where a run is resumed.
        experiment: MLflow's experiment; by default the dataset's name.
        resume: The run to go on with.

    Raises:
        UsageError: one of this experiment is running in this process already, or neither recipe nor run is given.
    """
    name = experiment or dataset.partition("@")[0]
    if recipe is None and resume is None:
        raise UsageError("nothing to train", "neither a recipe nor a run to resume")
    folder = load_settings().runs_dir / ".background"
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "osv_lab", "train", dataset, "--experiment", name, "--quiet"]
    if resume is not None:
        command += ["--resume", resume]
    elif recipe is not None:
        file = folder / f"{recipe.digest()[:16]}.yaml"
        write_atomic(file, _yaml(recipe))
        command += ["--recipe", str(file)]
    with _lock:
        before = _of_experiment.get(name)
        if before is not None and before.running:
            raise UsageError("this experiment is training already", repr(name), "wait for it, or stop it")
        process = _of_experiment[name] = TrainingProcess(
            name, command, folder / f"{os.getpid()}-{_safe(name)}.log"
        )
    return process


def current(experiment: str) -> TrainingProcess | None:
    """The process that was started last for an experiment by this one."""
    return _of_experiment.get(experiment)


@atexit.register
def _stop_all() -> None:
    for process in _of_experiment.values():
        if process.running:
            process.stop(wait=True)


def _yaml(recipe: Recipe) -> str:
    import yaml

    return str(yaml.safe_dump({name: value for name, value in recipe.to_dict().items() if value is not None}))


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)[:60]
