"""The Evaluate plugin as a person meets it: every number opens its objects, models are compared and cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_driver import Driver
from app_scenes import cells

from osv_lab.evaluate.comparison import compare
from osv_lab.evaluate.detection import evaluate
from osv_lab.evaluate.error_budget import error_budget

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


@pytest.fixture
def dataset(fo: Any, dataset_name: str, tmp_path: Path) -> Any:
    """Forty photos with ``predictions``, and ``worse`` that has every third of them no more."""
    dataset = cells(dataset_name, tmp_path)
    chance = np.random.default_rng(7)
    for sample in dataset.iter_samples(autosave=True):
        kept = [one.copy() for one in sample.predictions.detections if chance.random() > 0.33]
        sample["worse"] = fo.Detections(detections=kept)
    return dataset


def test_an_evaluation_and_its_error_budget_open_the_objects(app: Driver, dataset: Any) -> None:
    app.open(dataset.name)
    panel = app.panel("Error budget")
    panel.get_by_text("Nothing is evaluated yet").wait_for()
    panel.get_by_role("button", name="Evaluate detections").click()
    app.send()
    app.told("eval: mAP50")
    app.picture("app-evaluated")
    app.done()
    panel.get_by_text("mending brings").wait_for()
    dataset.reload()
    budget = error_budget(dataset, "eval")
    missed = budget.share("missed")
    panel.locator(".xtick").first.wait_for()
    app.picture("app-error-budget")
    panel.get_by_role("row").filter(has_text="missed").get_by_text(str(missed.count), exact=True).click()
    images = len(budget.view("missed"))
    app.wait_for_count(f"{images} sample")
    app.picture("app-error-budget-missed")


def test_two_models_are_compared_object_by_object(app: Driver, dataset: Any) -> None:
    for field, key in (("predictions", "before"), ("worse", "after")):
        evaluate(dataset, field, key=key)
    app.open(dataset.name)
    panel = app.panel("Compare models")
    panel.get_by_role("button", name="Compare after with before").click()
    panel.get_by_text("after against before").wait_for(timeout=120_000)
    panel.locator(".ytick").first.wait_for()
    app.picture("app-compare")
    report = compare(dataset, "before", "after")
    assert report.objects["broken"] > 20
    row = panel.get_by_role("row").filter(has_text="found before, missed now")
    row.get_by_text(str(report.objects["broken"]), exact=True).click()
    app.wait_for_count(f"{len(report.view('broken'))} sample")


def test_thresholds_are_read_under_the_cursor(app: Driver, dataset: Any) -> None:
    evaluate(dataset, "predictions")
    app.open(dataset.name)
    panel = app.panel("Thresholds")
    panel.get_by_text("at the best threshold").wait_for()
    panel.locator(".xtick").first.wait_for()
    plot = panel.locator(".js-plotly-plot .nsewdrag").first
    size = plot.bounding_box()
    assert size is not None
    plot.hover(position={"x": 0.7 * size["width"], "y": 0.5 * size["height"]}, force=True)
    panel.locator(".hoverlayer .legendtext, .hoverlayer text").first.wait_for()
    assert "precision" in " ".join(panel.locator(".hoverlayer text").all_text_contents())
    app.picture("app-thresholds")
    plot.click(position={"x": 0.7 * size["width"], "y": 0.5 * size["height"]}, force=True)
    panel.get_by_text("at your threshold").wait_for()
    panel.get_by_role("button", name="Show what passes").click()
    app.wait_for_count("40 sample")
    app.picture("app-thresholds-passing")


def test_slices_open_their_images(app: Driver, dataset: Any) -> None:
    report = evaluate(dataset, "predictions")
    assert report.map50 > 0.3
    app.open(dataset.name)
    panel = app.panel("Slices")
    panel.get_by_text("over 40 images").wait_for(timeout=120_000)
    app.picture("app-slices")
