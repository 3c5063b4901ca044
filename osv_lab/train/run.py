"""A training run on disk: one folder, one state file, one process at a time."""

from __future__ import annotations

import contextlib
import csv
import datetime
import json
import math
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias

from osv_lab.core.errors import NotFoundError, UsageError, nearest
from osv_lab.core.files import write_atomic
from osv_lab.core.report import Report
from osv_lab.core.settings import load_settings
from osv_lab.train.locks import exclusive

Status: TypeAlias = Literal["preparing", "training", "trained", "finished", "interrupted", "failed"]
Origin: TypeAlias = Literal["published weights", "given weights", "scratch"]


@dataclass(frozen=True)
class TrainingRun(Report):
    """A training run and what came out of it.

    Attributes:
        run_id: MLflow's id of the run.
        name: The run's name, and its folder's.
        folder: Where everything of the run is.
        weights: The best epoch's weights (``best.pt``).
        last: The last epoch's weights (``last.pt``).
        metrics: The best weights' metrics on the validation split (``mAP50``, ``mAP50-95``, ``precision``, ``recall``).
        epochs: Epochs trained.
        dataset: The dataset's name, with its version where it was given one.
        dataset_digest: Digest of the exact data that the run saw.
        classes: Class names by class id.
        started_from: ``published weights``, ``given weights`` or ``scratch``.
        duration_s: Seconds spent, over all sittings.
        status: ``finished``, or how far the run is.
        notes: What the user should know: why training started from scratch, samples left out, a split that was made.
        history: Metrics per epoch: ``epoch`` from 1, losses, learning rates and validation metrics.
    """

    run_id: str
    name: str
    folder: Path
    weights: Path
    last: Path
    metrics: Mapping[str, float]
    epochs: int
    dataset: str
    dataset_digest: str
    classes: tuple[str, ...]
    started_from: Origin
    duration_s: float
    status: Status
    notes: tuple[str, ...] = ()
    history: tuple[Mapping[str, float], ...] = field(default=(), repr=False)

    def rows(self) -> list[Mapping[str, Any]]:
        shown = {
            "status": self.status,
            "started from": self.started_from,
            "epochs": self.epochs,
            **self.metrics,
            "weights": str(self.weights),
            "dataset": f"{self.dataset} ({self.dataset_digest[:12]})",
            "MLflow run": self.run_id,
            "seconds": round(self.duration_s, 1),
        }
        notes = [{"": "note", "value": note} for note in self.notes]
        return [*({"": key, "value": value} for key, value in shown.items()), *notes]

    def summary(self) -> str:
        score = self.metrics.get("mAP50")
        text = f"run {self.name}: {self.status}, {self.epochs} epochs"
        return text if score is None else f"{text}, mAP50 {score:.3f}"

    def plot(self) -> Any:
        """Losses and validation metrics by epoch, as a plotly figure."""
        from osv_lab.train.curves import learning_curves

        return learning_curves(self.history)


@dataclass
class RunState:
    """What the state file holds: enough to go on after a kill, with no database."""

    name: str
    job: str
    dataset: str
    experiment: str
    recipe: dict[str, Any]
    digest: str
    data: dict[str, Any]
    gt_field: str
    classes: list[str]
    created: str
    version: str | None = None
    status: Status = "preparing"
    exported: bool = False
    model: str = ""
    started_from: Origin = "scratch"
    run_id: str = ""
    epochs: int = 0
    seconds: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    error: str = ""


class RunFolder:
    """The folder of one run: paths in it, its state, its lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path / "data"
        self.data_yaml = path / "data.yaml"
        self.checkpoints = path / "weights"
        self.best = self.checkpoints / "best.pt"
        self.last = self.checkpoints / "last.pt"
        self.previous = self.checkpoints / "previous.pt"
        self.results = path / "results.csv"
        self.validation = path / "validation"
        self._state_file = path / "run.json"

    @classmethod
    def create(cls, name: str, state: RunState) -> RunFolder:
        """A new folder for a run, its first state in it; a number is added when a run of that name exists.

        Raises:
            UsageError: the name is not fit for a folder.
        """
        if not re.fullmatch(r"[\w-][\w .-]*", name):
            raise UsageError("not a name for a run", repr(name), "use letters, digits, '-', '_' and '.'")
        parent = load_settings().runs_dir
        for number in range(1, 10_000):
            folder = cls(parent / (name if number == 1 else f"{name}-{number}"))
            folder.path.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(UsageError), folder.lock():
                if not folder._state_file.exists():
                    state.name = folder.path.name
                    folder.write(state)
                    return folder
        raise UsageError("too many runs of one name", repr(name), "choose another run_name")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run: nobody else trains it meanwhile.

        Raises:
            UsageError: another process does.
        """
        busy = UsageError(
            "this run is being trained by another process", self.path.name, "wait for it, or stop it"
        )
        with exclusive(self.path / ".lock", otherwise=busy):
            yield

    def read(self) -> RunState:
        """The state.

        Raises:
            NotFoundError: the folder holds no state (a run that was killed while it was being made).
        """
        try:
            saved = json.loads(self._state_file.read_text("utf-8"))
            known = {one.name for one in fields(RunState)}
            return RunState(**{key: value for key, value in saved.items() if key in known})
        except (OSError, ValueError, TypeError) as error:
            raise NotFoundError("no training run in this folder", f"{self.path}: {error}") from error

    def write(self, state: RunState) -> None:
        """Save the state, whole or not at all."""
        write_atomic(self._state_file, json.dumps(asdict(state), indent=2, ensure_ascii=False))

    def report(self) -> TrainingRun:
        """The run as a result."""
        state = self.read()
        return TrainingRun(
            run_id=state.run_id,
            name=self.path.name,
            folder=self.path,
            weights=self.best,
            last=self.last,
            metrics=state.metrics,
            epochs=state.epochs,
            dataset=f"{state.dataset}@{state.version}" if state.version else state.dataset,
            dataset_digest=state.digest,
            classes=tuple(state.classes),
            started_from=state.started_from,
            duration_s=state.seconds,
            status=state.status,
            notes=tuple(state.notes),
            history=tuple(self.history()),
        )

    def keep_results(self, epochs: int) -> None:
        """Forget rows of ``results.csv`` after an epoch, so that epochs trained again are not in it twice."""
        if not epochs:
            self.results.unlink(missing_ok=True)
        elif self.results.exists():
            header, *lines = self.results.read_text("utf-8").splitlines()
            columns = header.count(",")
            kept = {_epoch_of(line): line for line in lines if line.count(",") == columns}
            rows = [line for epoch, line in sorted(kept.items()) if epoch <= epochs]
            write_atomic(self.results, "\n".join([header, *rows, ""]))

    def history(self) -> list[dict[str, float]]:
        """Metrics per epoch from ``results.csv``, each epoch once, incomplete lines left out."""
        try:
            with open(self.results, encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file, skipinitialspace=True))
        except FileNotFoundError:
            return []
        found: dict[int, dict[str, float]] = {}
        for row in rows:
            if None in row or None in row.values():
                continue
            values = {metric_name(key.strip()): _number(value) for key, value in row.items()}
            epoch = values.pop("epoch", math.nan)
            values.pop("time", None)  # Seconds since this sitting began: not comparable after a resume.
            if math.isfinite(epoch):
                found[int(epoch)] = {"epoch": int(epoch), **values}
        return [found[epoch] for epoch in sorted(found)]


def _epoch_of(line: str) -> int:
    """The epoch of a line of ``results.csv``; a large number for one that has none."""
    try:
        return int(float(line.split(",", 1)[0]))
    except ValueError:
        return 2**31


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def metric_name(key: str) -> str:
    """Ultralytics' name of a metric in this lab's words.

    Example:
        >>> metric_name("metrics/mAP50-95(B)"), metric_name("metrics/mAP50(M)"), metric_name("train/box_loss")
        ('mAP50-95', 'mask/mAP50', 'train/box_loss')
    """
    found = re.fullmatch(r"metrics/(.+?)\((\w)\)", key)
    if found is None:
        return key.removeprefix("metrics/").replace("accuracy_", "")
    return {"M": "mask/", "P": "pose/"}.get(found[2], "") + found[1]


def new_state(**values: Any) -> RunState:
    """A state for a run that starts now."""
    now = datetime.datetime.now(datetime.UTC)
    return RunState(job=uuid.uuid4().hex, created=now.isoformat(), **values)


def run_folders() -> list[tuple[RunFolder, RunState]]:
    """All runs of the lab, oldest first."""
    found = []
    parent = load_settings().runs_dir
    for path in parent.iterdir() if parent.is_dir() else ():
        with contextlib.suppress(NotFoundError):
            folder = RunFolder(path)
            found.append((folder, folder.read()))
    return sorted(found, key=lambda pair: pair[1].created)


def find_run(name: str) -> tuple[RunFolder, RunState]:
    """A run by its name or its MLflow id.

    Raises:
        NotFoundError: there is none; the nearest name is given.
    """
    runs = run_folders()
    for folder, state in runs:
        if name in {folder.path.name, state.run_id}:
            return folder, state
    names = [folder.path.name for folder, _ in runs]
    raise NotFoundError(
        "no such training run", repr(name), nearest(name, names) if names else "no run was started yet"
    )


def list_runs(experiment: str | None = None) -> list[TrainingRun]:
    """All runs, oldest first, or those of one experiment."""
    return [folder.report() for folder, state in run_folders() if experiment in {None, state.experiment}]


def latest_run(experiment: str | None = None) -> TrainingRun | None:
    """The newest finished run, or ``None``."""
    return next((run for run in reversed(list_runs(experiment)) if run.status == "finished"), None)
