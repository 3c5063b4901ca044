"""The Versions plugin as a person meets it."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_driver import SLOW_MS, Driver
from app_scenes import cells

from osv_lab.core.settings import load_settings
from osv_lab.store.versions import create_version, list_versions

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


def test_two_versions_what_changed_and_an_export(app: Driver, dataset_name: str, tmp_path: Path) -> None:
    dataset = cells(dataset_name, tmp_path, predicted=False)
    app.open(dataset_name)
    panel = app.panel("Versions")
    panel.get_by_role("button", name="Create a version").click(timeout=SLOW_MS)
    app.fill("Preprocessing", "resise: {width: 64}")
    app.told("did you mean 'resize'")
    app.fill("Preprocessing", "")
    app.send()
    app.told(f"{dataset_name}@v1 .*40 samples")
    app.done()
    assert [one.name for one in list_versions(dataset_name).versions] == ["v1"]
    dataset.reload()
    sample = dataset.first()
    gone = sample.ground_truth.detections.pop()
    sample.ground_truth.detections[0].label = "unheard of"
    sample.save()
    create_version(dataset)
    app.open(dataset_name)
    panel = app.panel("Versions")
    told = panel.get_by_text(f"{dataset_name}@v1 → {dataset_name}@v2")
    told.wait_for(timeout=SLOW_MS)
    assert "1 changed, 39 equal" in told.inner_text() and "1 removed" in told.inner_text()
    assert panel.get_by_role("cell", name=gone.label, exact=True).count() == 1
    app.picture("app-versions")
    panel.get_by_role("button", name="Look at the changes").click()
    app.wait_for_count("1 sample")
    between = f"{dataset_name}@v1..{dataset_name}@v2"
    app.open(between)
    changes = app.panel("Versions")
    changes.get_by_text("1 sample differs").wait_for(timeout=2 * SLOW_MS)
    app.picture("app-version-changes")
    changes.get_by_role("cell", name="removed").click()
    app.told("changes.*removed|FilterLabels")
    app.open(dataset_name)
    app.operator("Export a dataset version")
    app.fill("Folder", "../outside")
    app.told("exports are folders in the lab's own")
    app.fill("Folder", "as-yolo")
    app.send()
    app.told("yolo-detect: 40 images")
    assert (load_settings().exports_dir / "as-yolo" / "data.yaml").is_file()
