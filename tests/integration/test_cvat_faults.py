"""The faults the CVAT double can be asked for, as the real client library meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import urllib3
from cvat_double.server import CvatDouble
from cvat_sdk import Client, models
from cvat_sdk.api_client import exceptions
from cvat_sdk.core.proxies.annotations import AnnotationUpdateAction
from cvat_sdk.core.proxies.tasks import Task
from cvat_sdk.core.uploading import DataUploader
from PIL import Image

PARAMS = {"sorting_method": "predefined", "image_quality": 80}


@pytest.fixture
def client(cvat: CvatDouble) -> Client:
    return cvat.client()


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Three images of noise, so that they are as big as they look."""
    made = [tmp_path / f"{name}.png" for name in "abc"]
    for path in made:
        Image.effect_noise((160, 120), 80).save(path)
    return made


def spec() -> models.TaskWriteRequest:
    return models.TaskWriteRequest(name="t", labels=[models.PatchedLabelRequest(name="cell")])


@pytest.fixture
def task(client: Client, paths: list[Path]) -> Task:
    return client.tasks.create_from_data(spec(), paths, data_params=PARAMS)


def draw(task: Task) -> None:
    shape = models.LabeledShapeRequest(
        type="rectangle", frame=0, label_id=task.get_labels()[0].id, points=[1.0, 2.0, 3.0, 4.0]
    )
    asked = models.PatchedLabeledDataRequest(version=0, shapes=[shape])
    task.update_annotations(asked, action=AnnotationUpdateAction.CREATE)


def test_a_server_that_is_down_comes_back_with_all_it_had(cvat: CvatDouble, client: Client, task: Task) -> None:
    draw(task)
    cvat.down()
    with pytest.raises(urllib3.exceptions.MaxRetryError):
        task.fetch()
    cvat.up()
    assert task.fetch().size == 3
    cvat.restart()
    assert len(task.get_annotations().shapes) == 1


def test_a_frozen_server_takes_the_call_and_says_nothing(cvat: CvatDouble, client: Client, task: Task) -> None:
    cvat.freeze()
    with pytest.raises(urllib3.exceptions.HTTPError):
        client.api_client.tasks_api.partial_update(
            task.id,
            patched_task_write_request=models.PatchedTaskWriteRequest(name="renamed"),
            _request_timeout=0.2,
        )
    cvat.thaw()
    assert cvat.client().tasks.retrieve(task.id).size == 3


def test_a_cut_upload_leaves_a_task_that_takes_nothing_more(
    cvat: CvatDouble, client: Client, paths: list[Path]
) -> None:
    cvat.cut_upload_after(sum(path.stat().st_size for path in paths) // 2)
    with pytest.raises(urllib3.exceptions.HTTPError):
        client.tasks.create_from_data(spec(), paths, data_params=PARAMS)
    (orphan,) = client.tasks.list()
    for _ in range(2):
        with pytest.raises(exceptions.ServiceException):
            orphan.upload_data(paths, params=PARAMS)
    orphan.remove()
    assert cvat.tasks == []
    assert client.tasks.create_from_data(spec(), paths, data_params=PARAMS).size == 3


def test_a_cut_chunk_is_sent_again(cvat: CvatDouble, client: Client, paths: list[Path]) -> None:
    task = client.tasks.create(spec())
    url = client.api_map.make_endpoint_url(task.api.create_data_endpoint.path, kwsub={"id": task.id})
    cvat.cut_upload_after(paths[0].stat().st_size + 100)
    answer = DataUploader(client, max_request_size=1).upload_files(url, paths, **PARAMS)
    client.wait_for_completion(json.loads(answer.data)["rq_id"])
    assert [task.get_frame(number, quality="original").read() for number in range(3)] == [
        path.read_bytes() for path in paths
    ]
    assert [call.status for call in cvat.requests if call.method == "PATCH"] == [204, None, 204, 204]


def test_a_failed_call_changed_nothing_or_all_of_it(cvat: CvatDouble, task: Task) -> None:
    cvat.fail_next(502, method="PATCH", path="/annotations")
    with pytest.raises(exceptions.ServiceException):
        draw(task)
    assert len(task.get_annotations().shapes) == 0
    cvat.fail_next(500, method="PATCH", path="/annotations", applied=True)
    with pytest.raises(exceptions.ServiceException):
        draw(task)
    assert len(task.get_annotations().shapes) == 1
    cvat.fail_next(None, method="PATCH", path="/annotations", applied=True)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        draw(task)
    assert len(task.get_annotations().shapes) == 2


def test_failures_stop_after_the_number_asked_for(cvat: CvatDouble, task: Task) -> None:
    cvat.fail_next(403, path=f"/tasks/{task.id}", times=2)
    for _ in range(2):
        with pytest.raises(exceptions.ForbiddenException):
            task.fetch()
    assert task.fetch().size == 3


def test_work_waits_for_the_workers_and_success_is_forgotten(
    cvat: CvatDouble, client: Client, paths: list[Path]
) -> None:
    cvat.stall()
    task = client.tasks.create(spec())
    task.upload_data(paths, params=PARAMS, wait_for_completion=False)
    request = f"action=create&target=task&target_id={task.id}"
    assert client.api_client.requests_api.retrieve(request)[0].status.value == "queued"
    assert (task.fetch().size, task.get_jobs()) == (0, [])
    cvat.resume()
    client.wait_for_completion(request)
    assert len(task.get_jobs()) == 1
    cvat.forget_requests()
    with pytest.raises(exceptions.NotFoundException):
        client.wait_for_completion(request)


def test_calls_are_counted_with_their_answers(cvat: CvatDouble, client: Client, task: Task) -> None:
    cvat.requests.clear()
    task.fetch()
    with pytest.raises(exceptions.NotFoundException):
        client.tasks.retrieve(999)
    assert [(call.method, call.path, call.status) for call in cvat.requests] == [
        ("GET", f"/api/tasks/{task.id}", 200),
        ("GET", "/api/tasks/999", 404),
    ]
