"""The Curate plugin as a person meets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from app_driver import SLOW_MS, Driver
from app_scenes import cells, cells_folder
from fiftyone import ViewField as F

from osv_lab.core.settings import load_settings
from osv_lab.curate.label_errors import find_label_errors
from osv_lab.curate.review import LabelReview

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture
def dataset(dataset_name: str, tmp_path: Path) -> Any:
    return cells(dataset_name, tmp_path)


def test_a_query_is_judged_at_the_field_and_sets_the_view(app: Driver, dataset: Any) -> None:
    app.open(dataset.name)
    app.operator("Query samples")
    app.fill("Query", "clas:RBC")
    assert "did you mean 'class'" in app.told("the query cannot be read at column 1")
    assert app.form.get_by_role("button", name="Execute").is_disabled()
    app.fill("Query", "split:val")
    app.send()
    assert app.told("of 40 samples match") == "8 of 40 samples match"
    app.wait_for_count("8 samples")


def test_an_operator_that_fails_says_how_to_mend_and_the_app_works_on(app: Driver, dataset: Any) -> None:
    app.open(dataset.name)
    app.operator("Find label errors")
    app.fill("Field and saved view to write", "ground_truth")
    app.send()
    app.told("What to do: choose another key")
    app.picture("app-operator-error")
    app.done()
    app.operator("Find label errors")
    app.send()
    app.told("label_errors: .* of .* labels")
    app.picture("app-operator-result")
    dataset.reload()
    assert "label_errors" in dataset.list_saved_views()


def test_the_bars_of_the_health_panel_set_the_view(app: Driver, dataset: Any) -> None:
    app.open(dataset.name)
    panel = app.panel("Health")
    panel.get_by_text("40 images, 40 labelled").wait_for(timeout=SLOW_MS)
    bars = panel.locator(".bars path")
    bars.first.wait_for(timeout=SLOW_MS)
    app.picture("app-health")
    counts = dataset.count_values("ground_truth.detections.label")
    most = max(counts, key=lambda name: counts[name])
    box = bars.first.bounding_box()
    assert box is not None
    app.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    wanted = len(dataset.match_labels(filter=F("label") == most, fields="ground_truth"))
    app.wait_for_count(f"{wanted} samples")
    panel.get_by_role("combobox").first.click()
    app.page.get_by_role("option", name="objects per image").click()
    panel.get_by_text("objects in an image").wait_for(timeout=SLOW_MS)
    panel.get_by_role("button", name="Show all samples").click()
    app.wait_for_count("40 samples")


def test_label_errors_are_decided_with_keys_and_undone(app: Driver, dataset: Any) -> None:
    find_label_errors(dataset)
    review = LabelReview(dataset)
    total = sum(review.queue().counts.values())
    first, second = review.queue().items[:2]
    before = dataset[first.sample].ground_truth.to_dict()
    app.open(dataset.name)
    panel = app.panel("Label errors")
    panel.get_by_text(first.question).wait_for(timeout=SLOW_MS)
    app.picture("app-label-errors")
    app.page.keyboard.press("f")
    panel.get_by_text("1 fixed").wait_for(timeout=SLOW_MS)
    panel.get_by_text(f"no. {second.rank}", exact=False).wait_for(timeout=SLOW_MS)
    dataset.reload()
    assert review.find(first.id).state == "fixed"
    assert dataset[first.sample].ground_truth.to_dict() != before
    app.page.keyboard.press("s")
    panel.get_by_text("1 skipped").wait_for(timeout=SLOW_MS)
    app.page.keyboard.press("c")
    panel.get_by_text("1 to annotate").wait_for(timeout=SLOW_MS)
    for _ in range(3):
        left = sum(review.queue().counts.values()) - review.queue().counts["open"]
        app.page.keyboard.press("u")
        panel.get_by_text(f"{total - left + 1:,} open").wait_for(timeout=SLOW_MS)
    dataset.reload()
    assert dataset[first.sample].ground_truth.to_dict() == before


def test_a_form_reads_only_where_it_may(app: Driver, fo: Any, dataset: Any, tmp_path: Path) -> None:
    inside = load_settings().home / "imports" / dataset.name
    inside.mkdir(parents=True)
    source, more = cells_folder(inside), f"{dataset.name}-more"
    app.open(dataset.name)
    app.operator("Ingest images and labels")
    app.fill("Source", str(tmp_path.parent))
    app.told("outside the folders that forms may read")
    app.picture("app-form-outside")
    assert app.form.get_by_role("button", name="Execute").first.is_disabled()
    app.fill("Source", str(source))
    app.fill("Dataset", more)
    app.fill("Split", "train=0.5,val")
    app.told("a split is a name or shares")
    app.fill("Split", "val")
    app.send()
    app.told("40 files of .* 40 added")
    app.page.wait_for_url(f"**/datasets/{more}*", timeout=SLOW_MS)
    assert fo.load_dataset(more).count_sample_tags()["val"] == 40
