"""An operator whoever starts it: a form that is wrong is refused, and work that nobody listens to any more ends."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from osv_lab.app.form import Form
from osv_lab.app.operators import About, Ask, LabOperator
from osv_lab.app.plugins import use_plugins
from osv_lab.core.errors import InterruptedJobError, OsvError, UsageError
from osv_lab.jobs import list_jobs

WRONG: dict[str, tuple[str, dict[str, Any], str]] = {
    "source": ("@osv/curate/ingest", {"source": "/etc/passwd", "dataset": "x"}, "outside the folders"),
    "model": ("@osv/train/predict", {"model": "/etc/passwd"}, "outside the folders"),
    "start": ("@osv/train/train", {"model": "/etc/passwd"}, "outside the folders"),
    "more": ("@osv/train/train", {"more": "model: /etc/passwd.pt"}, "the form has a field for this"),
    "choice": ("@osv/tracks/edit_tracks", {"action": "explode"}, "no such what to do"),
    "type": ("@osv/curate/select", {"strategy": ["mix"]}, "Invalid value type"),
    "range": ("@osv/curate/quality", {"least_similarity": 7}, "must be less than 1"),
    "file": ("@osv/evaluate/export_model", {"model": "models:/x/1", "name": "../x"}, "not a name for a file"),
    "whole": ("@osv/curate/find_label_errors", {"limit": 1.5}, "must be a whole number"),
}


@pytest.fixture
def dataset(fo: Any, dataset_name: str, tmp_path: Path) -> Any:
    dataset = fo.Dataset(dataset_name)
    box = fo.Detection(label="ring", bounding_box=[0.1, 0.1, 0.2, 0.2])
    boxes = fo.Detections(detections=[box])
    dataset.add_sample(fo.Sample(str(tmp_path / "a.png"), tags=["train"], ground_truth=boxes))
    use_plugins()
    return dataset


def execute(uri: str, dataset: Any, params: dict[str, Any], how: str) -> None:
    import fiftyone.operators as foo
    from fiftyone.operators.executor import execute_or_delegate_operator

    if how == "python":
        foo.execute_operator(uri, dataset=dataset.name, params=params)
        return
    request = {"operator_uri": uri, "dataset_name": dataset.name, "params": params, "view": []}
    request |= {"request_delegation": how == "job"}
    asyncio.run(execute_or_delegate_operator(uri, request)).raise_exceptions()


@pytest.mark.parametrize("how", ["app", "job", "python"])
@pytest.mark.parametrize("what", WRONG)
def test_a_form_that_is_wrong_is_refused_by_the_server_too(dataset: Any, what: str, how: str) -> None:
    from fiftyone.operators.executor import ExecutionError

    uri, params, said = WRONG[what]
    # In a thread: browser tests leave an event loop in this one.
    with ThreadPoolExecutor(1) as thread, pytest.raises(ExecutionError, match=said):
        thread.submit(execute, uri, dataset, params, how).result()
    assert list_jobs(dataset.name).jobs == ()


class Counting(LabOperator):
    """Tells of progress until it is stopped."""

    about = About(name="count", label="Count")

    def __init__(self) -> None:
        self.ended = threading.Event()
        super().__init__()

    def form(self, form: Form) -> None:
        if form.switch("wrong", "Wrong"):
            form.refuse("wrong", UsageError("this is wrong"))

    def run(self, ask: Ask) -> Any:
        try:
            for number in range(1_000_000):
                ask.progress("counting", number, None)
        except InterruptedJobError:
            self.ended.set()
            raise


def context(dataset: Any, **params: Any) -> Any:
    from fiftyone.operators.executor import ExecutionContext, Executor

    request = {"operator_uri": "@osv/test/count", "dataset_name": dataset.name, "params": params, "view": []}
    return ExecutionContext(request_params=request, executor=Executor())


def test_work_is_cancelled_when_the_app_stops_listening(dataset: Any) -> None:
    operator = Counting()
    messages = operator.execute(context(dataset))
    for _ in range(3):
        next(messages)
    assert not operator.ended.is_set()
    messages.close()
    assert operator.ended.wait(30)


def test_a_stage_of_a_pipeline_whose_form_is_wrong_does_not_run(dataset: Any) -> None:
    with pytest.raises(OsvError, match="this is wrong"):
        Counting().execute(context(dataset, wrong=True))
