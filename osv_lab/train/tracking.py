"""What MLflow is told about a run, in a way that can be repeated: nothing is ever logged twice.

Every write either replaces itself (tags, parameters, artifacts) or is checked against what is there (metrics), so
that a run that was killed anywhere can tell MLflow its whole story again.
"""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.core.digests import bytes_digest
from osv_lab.core.errors import UnavailableError, UsageError, require_extra
from osv_lab.core.privacy import silence
from osv_lab.core.settings import Settings, load_settings
from osv_lab.train.locks import exclusive

if TYPE_CHECKING:
    from mlflow import MlflowClient

JOB_TAG = "osv.job"
"""The tag that ties an MLflow run to the job on disk; a job has one run, however often it is resumed."""

_PACKAGES = (
    "osv-lab", "ultralytics", "torch", "torchvision", "numpy", "opencv-python-headless", "pillow", "fiftyone",
    "mlflow", "onnx", "onnxruntime", "onnxruntime-gpu", "supervision",
)  # fmt: skip


@functools.cache
def _client(tracking_uri: str) -> MlflowClient:
    silence()
    # Alembic tells every migration of a new database to the terminal.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db").setLevel(logging.WARNING)
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise require_extra("mlflow", "train") from error
    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


def client(settings: Settings | None = None) -> MlflowClient:
    """The MLflow client of the lab's tracking store, the store made ready.

    Raises:
        UnavailableError: MLflow is not installed, or its store cannot be used.
    """
    settings = settings or load_settings()
    _make_database(settings)
    return _client(settings.tracking_uri)


def _make_database(settings: Settings) -> None:
    """Make the SQLite file whole or not at all: MLflow's own migrations survive neither a race nor a kill."""
    prefix = "sqlite:///"
    if not settings.tracking_uri.startswith(prefix):
        return
    database = Path(settings.tracking_uri.removeprefix(prefix))
    if database.exists():
        return
    with exclusive(database.with_name(f".{database.name}.lock")):
        if database.exists():
            return
        draft = database.with_name(f".{database.name}.{os.getpid()}.draft")
        draft.unlink(missing_ok=True)
        _client.__wrapped__(f"{prefix}{draft}").search_experiments(max_results=1)
        # A copy, since MLflow keeps a connection to the file that it made.
        ready = draft.with_suffix(".ready")
        shutil.copyfile(draft, ready)
        ready.replace(database)
        draft.unlink()


def experiment_id(name: str, settings: Settings | None = None) -> str:
    """The id of an experiment, made if missing, also when another process makes it at the same moment.

    Raises:
        UsageError: an experiment of that name was deleted in MLflow.
    """
    from mlflow.exceptions import MlflowException

    settings = settings or load_settings()
    store = client(settings)
    found = store.get_experiment_by_name(name)
    if found is None:
        own = settings.tracking_uri.startswith("sqlite:///")
        folder = settings.artifacts_dir / _folder_name(name)
        try:
            return str(store.create_experiment(name, artifact_location=folder.as_uri() if own else None))
        except MlflowException as error:
            found = store.get_experiment_by_name(name)
            if found is None:
                raise UnavailableError("MLflow cannot make an experiment", f"'{name}': {error}") from error
    if found.lifecycle_stage != "active":
        raise UsageError(
            "the MLflow experiment of that name was deleted",
            f"'{name}' (id {found.experiment_id})",
            f"restore it (mlflow experiments restore -x {found.experiment_id}) or take another experiment name",
        )
    return str(found.experiment_id)


def _folder_name(name: str) -> str:
    plain = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name).strip(".")
    return plain if plain == name else f"{plain[:60]}-{bytes_digest(name.encode())[:8]}"


def start_run(job: str, name: str, experiment: str, tags: Mapping[str, str]) -> str:
    """The MLflow run of a job: the one it already has, else a new one. Returns its id and sets it running."""
    store = client()
    experiment_key = experiment_id(experiment)
    found = store.search_runs([experiment_key], filter_string=f"tags.`{JOB_TAG}` = '{job}'", max_results=1)
    if found:
        run_id = str(found[0].info.run_id)
        store.update_run(run_id, status="RUNNING")
        return run_id
    created = store.create_run(experiment_key, run_name=name, tags={**tags, JOB_TAG: job})
    return str(created.info.run_id)


def log_parameters(run_id: str, values: Mapping[str, Any]) -> None:
    """Log parameters; again with the same values is no change."""
    from mlflow.entities import Param

    params = [Param(key, str(value)) for key, value in values.items()]
    for start in range(0, len(params), 100):
        client().log_batch(run_id, params=params[start : start + 100])


def log_dataset(run_id: str, name: str, digest: str, source: str, profile: str) -> None:
    """Tell MLflow which data a run saw; its own digest column holds 36 characters, the tag the whole one."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    store = client()
    if not store.get_run(run_id).inputs.dataset_inputs:
        dataset = Dataset(name=name, digest=digest[:36], source_type="fiftyone", source=source, profile=profile)
        store.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    store.set_tag(run_id, "osv.dataset_digest", digest)


def log_history(run_id: str, rows: Sequence[Mapping[str, float]], time_ms: int) -> None:
    """Log per-epoch metrics that MLflow does not have yet.

    Args:
        run_id: The run.
        rows: One mapping per epoch: ``epoch`` (from 1) and the metrics.
        time_ms: When they were seen, in milliseconds since 1970.
    """
    from mlflow.entities import Metric

    store = client()
    names = sorted({name for row in rows for name in row} - {"epoch"})
    known = {name: {metric.step for metric in store.get_metric_history(run_id, name)} for name in names}
    for row in rows:
        epoch = int(row["epoch"])
        missing = [
            Metric(name, float(value), time_ms, epoch)
            for name, value in row.items()
            if name in known and epoch not in known[name]
        ]
        if missing:
            store.log_batch(run_id, metrics=missing)


def log_files(run_id: str, files: Mapping[Path, str]) -> None:
    """Store files as artifacts: path to artifact folder. Files that are there are replaced."""
    store = client()
    for file, folder in files.items():
        store.log_artifact(run_id, str(file), folder or None)


def log_text(run_id: str, text: str, file: str) -> None:
    """Store a text as an artifact."""
    client().log_text(run_id, text, file)


def set_tags(run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags of a run."""
    store = client()
    for key, value in tags.items():
        store.set_tag(run_id, key, value)


def end_run(run_id: str, status: str) -> None:
    """Set a run's last status: ``FINISHED``, ``KILLED`` or ``FAILED``."""
    client().set_terminated(run_id, status)


def environment() -> dict[str, str]:
    """What a run ran on: Python, platform, package versions, and the git commit of the working directory if any."""
    found = {"python": platform.python_version(), "platform": platform.platform(), "processor": platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    if commit := _git("rev-parse", "HEAD"):
        found["git_commit"] = commit + ("-dirty" if _git("status", "--porcelain", "--untracked-files=no") else "")
    return found


def _git(*arguments: str) -> str:
    try:
        answer = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
