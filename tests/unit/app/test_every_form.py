"""Every form and every panel of the lab opens on images, on videos and on nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from app_scenes import cells

from osv_lab.app.operators import LabOperator
from osv_lab.app.panels import LabPanel
from osv_lab.app.plugins import use_plugins


@pytest.fixture(scope="module")
def datasets(fo: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    made = {
        "images": cells("test-forms-images", tmp_path_factory.mktemp("cells")),
        "empty": fo.Dataset("test-forms-empty"),
        "videos": fo.Dataset("test-forms-videos"),
    }
    made["videos"].add_sample(fo.Sample(filepath=str(Path(__file__).with_name("none.mp4"))))
    yield made
    for dataset in made.values():
        dataset.delete()


def context(dataset: Any, operator: Any, params: dict[str, Any]) -> Any:
    from fiftyone.operators.executor import ExecutionContext, Executor

    request = {"dataset_name": dataset.name, "params": params, "view": [], "panel_id": "one"}
    return ExecutionContext(request_params=request, executor=Executor(), operator_uri=operator.uri)


@pytest.mark.parametrize("what", ["images", "empty", "videos"])
def test_every_form_opens_and_every_panel_draws(datasets: dict[str, Any], what: str) -> None:
    use_plugins()
    from fiftyone.operators.registry import OperatorRegistry

    ours = [one for one in OperatorRegistry().list_operators(builtin=False) if one.uri.startswith("@osv/")]
    forms = [one for one in ours if _is(one, LabOperator)]
    panels = [one for one in ours if _is(one, LabPanel)]
    assert len(forms) > 15 and len(panels) > 8
    for operator in forms:
        form = operator.resolve_input(context(datasets[what], operator, {}))
        assert form.type.properties or operator.about.jobs == "never", operator.uri
    for panel in panels:
        params = {"__method__": "on_load", "panel_id": "one", "panel_state": {}, "event_args": {}}
        ctx = context(datasets[what], panel, params)
        panel.execute(ctx)
        requests = [one.to_json() for one in ctx.executor._requests]
        assert any("show_panel_output" in one["operator_uri"] for one in requests), panel.uri
        # What is wrong in the code of a panel is told on its page by the name of Python's error.
        problems = [one for one in _notes(requests) if str(one.get("label")).endswith("Error")]
        assert not problems, (panel.uri, problems)


def _is(operator: Any, kind: type) -> bool:
    return any(base.__name__ == kind.__name__ for base in type(operator).__mro__)


def _notes(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping with a label, however deep."""
    if isinstance(value, dict):
        if "label" in value:
            yield value
        for one in value.values():
            yield from _notes(one)
    elif isinstance(value, list):
        for one in value:
            yield from _notes(one)
