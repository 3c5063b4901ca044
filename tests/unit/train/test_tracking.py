"""MLflow's store: made whole by whoever comes first, told everything once."""

from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from osv_lab.core.errors import UsageError
from osv_lab.core.settings import Settings
from osv_lab.train import tracking


def _first_use(home: str, start: Any, answers: Any) -> None:
    settings = Settings(home=Path(home), tracking_uri=f"sqlite:///{home}/mlflow.db")
    start.wait()
    try:
        answers.put(tracking.experiment_id("together", settings))
    except Exception as error:  # noqa: BLE001  (told to the test, which fails on it)
        answers.put(repr(error))


def test_two_processes_at_first_use(tmp_path: Path) -> None:
    import mlflow  # noqa: F401  (imported once, before the fork)

    context = multiprocessing.get_context("fork")
    start, answers = context.Barrier(2), context.Queue()
    both = [context.Process(target=_first_use, args=(str(tmp_path), start, answers)) for _ in range(2)]
    for process in both:
        process.start()
    found = [answers.get(timeout=120) for _ in both]
    for process in both:
        process.join(30)
    assert found[0] == found[1] and found[0].isdigit(), found
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", ".mlflow.db.lock"}
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)


def test_telling_it_again_changes_nothing() -> None:
    run_id = tracking.start_run("job-1", "twice", "telling", {"who": "test"})
    assert tracking.start_run("job-1", "twice", "telling", {}) == run_id
    rows = [{"epoch": 1, "mAP50": 0.5}, {"epoch": 2, "mAP50": float("nan")}]
    for _ in range(2):
        tracking.log_parameters(run_id, {"epochs": 2})
        tracking.log_dataset(run_id, "data", "0" * 64, "{}", "{}")
        tracking.log_history(run_id, rows[:1], 1)
        tracking.log_history(run_id, rows, 2)
        tracking.end_run(run_id, "FINISHED")
    store = tracking.client()
    assert [metric.step for metric in store.get_metric_history(run_id, "mAP50")] == [1, 2]
    found = store.get_run(run_id)
    assert len(found.inputs.dataset_inputs) == 1 and found.data.tags["osv.dataset_digest"] == "0" * 64


def test_a_deleted_experiment_is_named() -> None:
    store = tracking.client()
    store.delete_experiment(tracking.experiment_id("gone"))
    with pytest.raises(UsageError, match="was deleted"):
        tracking.experiment_id("gone")
