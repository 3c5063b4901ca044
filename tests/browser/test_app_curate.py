"""The Curate plugin as a person meets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from app_driver import Driver
from app_scenes import cells

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
