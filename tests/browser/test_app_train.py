"""The Train plugin as a person meets it: a form that knows the data, a job that learns, its curves, its predictions."""

from __future__ import annotations

from typing import Any

import pytest
from app_driver import Driver, run_jobs
from app_scenes import cells

from osv_lab.core.settings import load_settings
from osv_lab.train.run import list_runs

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def trained(fo: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Forty photos; the first test trains on them."""
    return cells("test-app-train", tmp_path_factory.mktemp("cells"), predicted=False)


def test_the_form_knows_the_data_and_judges_at_the_field(app: Driver, trained: Any) -> None:
    app.open(trained.name)
    app.operator("Train a model")
    app.told(r"detect: 3 classes; images: train 24, val 8, test 8")
    app.told("only 8 images validate")
    app.fill("Image size", "100")
    app.told("imgsz' must be a multiple of 32")
    assert app.form.get_by_role("button", name="Schedule").is_disabled()
    app.fill("Image size", "64")
    app.fill("Further settings", "mosaic: 2")
    app.told("mosaic.*0 to 1")
    app.fill("Further settings", "workers: 0")
    app.picture("app-train-form")


def test_a_training_is_scheduled_learns_and_shows_its_curves(app: Driver, trained: Any) -> None:
    app.open(trained.name)
    app.operator("Train a model")
    app.fill("Start from", "yolo11n.yaml")
    app.fill("Epochs", "2")
    app.fill("Image size", "64")
    app.send("Schedule")
    app.told("scheduled|Scheduled|queued")
    run_jobs()
    (run,) = list_runs(trained.name)
    assert (run.status, run.epochs) == ("finished", 2)

    app.open(trained.name)
    panel = app.panel("Training")
    app.told(f"{run.name}")
    app.told("finished, 2 epochs")
    panel.locator(".js-plotly-plot").first.wait_for()
    app.picture("app-training")


def test_a_run_predicts_into_a_field_and_is_exported(app: Driver, trained: Any) -> None:
    (run,) = list_runs(trained.name)
    app.open(trained.name)
    app.operator("Predict")
    app.fill("Model", str(run.weights))
    app.fill("Field to write", "guess")
    app.fill("Least confidence", "0.001")
    app.send()
    app.told(r"40 images predicted into 'guess'")
    app.picture("app-predict")
    trained.reload()
    assert trained.exists("guess").count() == 40
    app.done()
    app.operator("Export a model")
    app.fill("Model", str(run.weights))
    app.fill("Input size in pixels", "64")
    app.send()
    app.told("parity passed")
    app.picture("app-exported")
    assert (load_settings().models_dir / f"{run.name}.onnx").is_file()
    # A form reads nothing outside the lab's and the dataset's folders.
    app.done()
    app.operator("Predict")
    app.fill("Model", "/etc/passwd")
    app.told("outside the folders that forms may read")
    assert app.form.get_by_role("button", name="Execute").is_disabled()
