"""Picking a model as a person does it: deployed, judged against another, its thresholds and its errors kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from app_driver import Driver
from app_scenes import lamps
from tiny_model import write_shifted, write_tiny_model

from osv_lab.core.settings import load_settings
from osv_lab.core.sidecars import read_sidecar
from osv_lab.detect import load_detector
from osv_lab.evaluate.detection import evaluate
from osv_lab.store.predict import predict
from osv_lab.train.registry import get_version, register

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

SHIFT_PX = 12
"""Of a box of 20 pixels: it overlaps its lamp with an IoU of 0.25."""


@pytest.fixture
def picked(dataset_name: str, tmp_path: Path) -> Any:
    """Lamps, evaluated as one model sees them (``good``) and as one does that looks beside them (``worse``)."""
    dataset = lamps(dataset_name, tmp_path)
    models = load_settings().models_dir
    models.mkdir(parents=True, exist_ok=True)
    for key, file in (
        ("good", write_tiny_model(models / "pick-good.onnx")),
        ("worse", write_shifted(models / "pick-worse.onnx", SHIFT_PX)),
    ):
        predict(dataset, load_detector(file), key)
        evaluate(dataset, key, key=key)
    return dataset


def test_a_model_is_deployed_and_a_worse_one_promoted_only_by_force(app: Driver, picked: Any) -> None:
    models = load_settings().models_dir
    app.open(picked.name)
    app.operator("Deploy a model")
    app.fill("Model", str(models / "pick-good.onnx"))
    app.told("Serve it with: osv serve")
    app.send()
    app.told(f"deployed models:/{picked.name}@champion")
    app.picture("app-deployed")
    app.done()
    assert get_version(picked.name, "champion").version == 1

    assert register(models / "pick-worse.onnx", picked.name).version == 2
    app.operator("Promote a model")
    app.fill("Candidate", f"models:/{picked.name}/7")
    app.told("has no version like that")
    app.fill("Candidate", f"models:/{picked.name}/2")
    app.send()
    assert "class lamp fell" in app.told("is refused as 'champion'")
    app.picture("app-refused")
    app.done()
    assert get_version(picked.name, "champion").version == 1

    app.operator("Promote a model")
    app.fill("Candidate", f"models:/{picked.name}/2")
    app.field("Promote whatever is found").click()
    app.fill("Why", "a demonstration")
    app.send()
    app.told("is 'champion' now over .*forced .a demonstration. although")
    app.picture("app-promoted")
    app.done()
    assert get_version(picked.name, "champion").version == 2


def test_thresholds_of_the_evaluation_that_is_looked_at_are_kept_with_a_model(app: Driver, picked: Any) -> None:
    file = load_settings().models_dir / "pick-good.onnx"
    app.open(picked.name)
    panel = app.panel("Thresholds")
    panel.get_by_role("combobox").first.click()
    app.page.get_by_role("option", name="good").click()
    panel.get_by_text("32 found, 0 false, 0 missed").wait_for()
    panel.get_by_role("button", name="Save with a model").click()
    app.fill("Model", str(file))
    app.send()
    app.told("good: ")
    app.picture("app-thresholds-saved")
    app.done()
    kept = read_sidecar(file)["thresholds"]
    assert kept["chosen_on"] == f"{picked.name}/good" and "lamp" in kept["confidence"]


def test_a_view_per_type_of_error_is_saved(app: Driver, picked: Any) -> None:
    app.open(picked.name)
    panel = app.panel("Error budget")
    panel.get_by_role("button", name="Save a view per type").click()
    app.send()
    app.told("saved the views .*worse_localisation")
    app.picture("app-error-views")
    app.done()
    picked.reload()
    assert len(picked.load_saved_view("worse_localisation")) == 32
