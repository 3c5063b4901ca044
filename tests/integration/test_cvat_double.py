"""What a CVAT server does, asked through the real client library: of the double, and of a real server if one is set.

Set OSV_CVAT_URL, OSV_CVAT_USER and OSV_CVAT_PASSWORD (an administrator, or an account that may create projects) to run
every test against that server too; what they create there they delete.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cvat_double.reach import Reachable
from cvat_double.scenes import PREDEFINED, UID, MakeTask, box, pictures, put, raw
from cvat_sdk import Client, models
from cvat_sdk.api_client import exceptions
from cvat_sdk.core.exceptions import BackgroundRequestException
from cvat_sdk.core.helpers import make_request_headers
from cvat_sdk.core.proxies.projects import Project
from cvat_sdk.core.uploading import DataUploader


def test_signing_in(cvat_server: Reachable, cvat_client: Client) -> None:
    assert cvat_client.get_server_version().release[:1] >= (2,)
    assert cvat_client.users.retrieve_current_user().username == cvat_server.user
    with pytest.raises(exceptions.ApiException) as refused:
        cvat_server.client(cvat_server.user, "not the password")
    assert refused.value.status == 400


def test_a_wrong_token_is_noticed_on_the_first_call_only(cvat_server: Reachable) -> None:
    impostor = cvat_server.client(token="abcdefgh.0123456789abcdef0123456789abcdef")
    with pytest.raises(exceptions.UnauthorizedException):
        impostor.users.retrieve_current_user()


def test_a_token_reads_only_unless_it_says_otherwise(
    cvat_server: Reachable, cvat_client: Client, cvat_project: Project
) -> None:
    made = [
        json.loads(raw(cvat_client, "POST", "/api/auth/access_tokens", {"name": "osv", **more})[1])
        for more in ({}, {"read_only": False})
    ]
    reader, writer = (cvat_server.client(token=token["value"]) for token in made)
    try:
        assert reader.projects.retrieve(cvat_project.id).name == cvat_project.name
        with pytest.raises(exceptions.ForbiddenException):
            reader.tasks.create(models.TaskWriteRequest(name="no", project_id=cvat_project.id))
        assert writer.tasks.create(models.TaskWriteRequest(name="yes", project_id=cvat_project.id)).id
    finally:
        for token in made:
            assert raw(cvat_client, "DELETE", f"/api/auth/access_tokens/{token['id']}")[0] == 204
    with pytest.raises(exceptions.UnauthorizedException):
        writer.users.retrieve_current_user()


def test_an_organization_hides_what_is_in_no_organization(cvat_client: Client, cvat_project: Project) -> None:
    cvat_client.organization_slug = "no-such-organization"
    with pytest.raises(exceptions.NotFoundException):
        cvat_client.projects.list()
    cvat_client.organization_slug = ""
    assert cvat_project.id in [one.id for one in cvat_client.projects.list(name=cvat_project.name)]


def test_predefined_order_is_kept_and_originals_are_served_byte_for_byte(
    make_cvat_task: MakeTask, tmp_path: Path
) -> None:
    task = make_cvat_task(5)
    paths = [tmp_path / frame.name for frame in task.get_meta().frames]
    assert [path.name for path in paths] == [f"im{number:02}.png" for number in (4, 3, 2, 1, 0)]
    assert [frame.width for frame in task.get_frames_info()] == [64, 65, 66, 67, 68]
    assert task.get_frame(3, quality="original").read() == paths[3].read_bytes()


def test_a_big_file_goes_up_in_chunks(cvat_client: Client, cvat_project: Project, tmp_path: Path) -> None:
    task = cvat_client.tasks.create(models.TaskWriteRequest(name="chunks", project_id=cvat_project.id))
    paths = pictures(tmp_path, 3)
    url = cvat_client.api_map.make_endpoint_url(task.api.create_data_endpoint.path, kwsub={"id": task.id})
    answer = DataUploader(cvat_client, max_request_size=1).upload_files(url, paths, **PREDEFINED)
    cvat_client.wait_for_completion(json.loads(answer.data)["rq_id"])
    assert [frame.name for frame in task.get_meta().frames] == [path.name for path in paths]


@pytest.mark.parametrize("fault", ["missing", "corrupt", "doubled"])
def test_a_failed_upload_leaves_an_orphan_that_cannot_be_filled(
    cvat_client: Client, cvat_project: Project, tmp_path: Path, fault: str
) -> None:
    paths = pictures(tmp_path, 2)
    if fault == "missing":
        bad, expected = tmp_path / "nowhere.png", FileNotFoundError
    elif fault == "corrupt":
        bad, expected = tmp_path / "bad.png", BackgroundRequestException
        bad.write_bytes(b"no image")
    else:
        (tmp_path / "other").mkdir()
        bad, expected = tmp_path / "other" / paths[0].name, exceptions.ServiceException
        bad.write_bytes(paths[0].read_bytes())
    spec = models.TaskWriteRequest(name=f"orphan-{fault}", project_id=cvat_project.id)
    with pytest.raises(expected):
        cvat_client.tasks.create_from_data(spec, [*paths, bad], data_params=PREDEFINED)
    (orphan,) = cvat_client.tasks.list(name=f"orphan-{fault}")
    assert orphan.get_jobs() == []
    if fault == "corrupt":  # its files are taken: the same ones again are one too many
        with pytest.raises(exceptions.ServiceException):
            orphan.upload_data(paths, params=PREDEFINED)
    orphan.remove()


def test_an_upload_that_stopped_half_way_cannot_be_repeated(
    cvat_client: Client, cvat_project: Project, tmp_path: Path
) -> None:
    task, paths = (
        cvat_client.tasks.create(models.TaskWriteRequest(name="half", project_id=cvat_project.id)),
        pictures(tmp_path, 3),
    )
    headers = make_request_headers(cvat_client.api_client)
    url = cvat_client.api_map.make_endpoint_url(task.api.create_data_endpoint.path, kwsub={"id": task.id})
    post = cvat_client.api_client.rest_client.POST
    post(url, headers={"Upload-Start": "", **headers})
    sent = {"image_quality": "80", "client_files[0]": (str(paths[1]), paths[1].read_bytes())}
    post(url, post_params=sent, headers={"Content-Type": "multipart/form-data", "Upload-Multiple": "", **headers})
    for _ in range(2):
        with pytest.raises(exceptions.ServiceException):
            task.upload_data(paths, params=PREDEFINED)
    assert task.fetch().size == 0


def test_data_is_given_once(cvat_client: Client, make_cvat_task: MakeTask, tmp_path: Path) -> None:
    task = make_cvat_task(2)
    with pytest.raises(exceptions.ApiException) as refused:
        task.upload_data(pictures(tmp_path, 1), params=PREDEFINED)
    assert (refused.value.status, "Adding more data" in str(refused.value.body)) == (400, True)


def test_jobs_cut_the_frames_newest_first_ten_to_a_page(cvat_client: Client, make_cvat_task: MakeTask) -> None:
    task = make_cvat_task(23)
    jobs = task.get_jobs()
    assert [(job.start_frame, job.stop_frame) for job in reversed(jobs)] == [
        (start, min(start + 1, 22)) for start in range(0, 23, 2)
    ]
    first, _ = cvat_client.api_client.jobs_api.list(task_id=task.id)
    assert (first.count, len(first.results)) == (12, 10)
    assert [job.id for job in first.results] == [job.id for job in jobs[:10]]


def test_a_changed_stage_resets_the_state_unless_both_are_given(make_cvat_task: MakeTask) -> None:
    task = make_cvat_task(2)
    (job,) = task.get_jobs()
    job.update({"state": "completed"})
    assert (job.stage, job.state, task.fetch().status) == ("annotation", "completed", "annotation")
    job.update({"stage": "validation"})
    assert (job.stage, job.state, task.fetch().status) == ("validation", "new", "validation")
    job.update({"stage": "acceptance", "state": "completed"})
    assert (job.stage, job.state, task.fetch().status) == ("acceptance", "completed", "completed")


def test_an_annotator_has_the_job_and_not_the_task(
    cvat_server: Reachable, make_cvat_task: MakeTask, cvat_project: Project
) -> None:
    task, cell = make_cvat_task(4), cvat_project.get_labels()[0]
    other, mine = task.get_jobs()
    annotator = cvat_server.as_annotator(mine.id)
    job = annotator.jobs.retrieve(mine.id)
    put(job, [box(cell, 0)])
    assert [shape.frame for shape in job.get_annotations().shapes] == [0]
    assert job.update({"state": "completed"}).state == "completed"
    assert [one.id for one in annotator.jobs.list(task_id=task.id)] == [mine.id]
    assert annotator.tasks.list() == []
    refused: list[Callable[[], object]] = [
        lambda: job.update({"stage": "validation"}),
        lambda: job.update({"assignee": None}),
        lambda: annotator.jobs.retrieve(other.id),
        lambda: annotator.tasks.retrieve(task.id),
        lambda: annotator.api_client.tasks_api.retrieve_annotations(task.id),
        lambda: annotator.api_client.tasks_api.destroy(task.id),
        lambda: annotator.projects.retrieve(cvat_project.id),
    ]
    for call in refused:
        with pytest.raises(exceptions.ForbiddenException):
            call()


def test_labels_are_added_to_a_project_and_names_stay_unique(cvat_client: Client, cvat_project: Project) -> None:
    cvat_project.update(models.PatchedProjectWriteRequest(labels=[models.PatchedLabelRequest(name="dent")]))
    assert [label.name for label in cvat_project.get_labels()] == ["cell", "crack", "dent"]
    label = cvat_project.get_labels()[1]
    cvat_client.api_client.labels_api.partial_update(
        label.id, patched_label_request=models.PatchedLabelRequest(attributes=[UID])
    )
    assert [spec.name for spec in cvat_project.get_labels()[1].attributes] == ["osv_uid"]
    with pytest.raises(exceptions.ApiException):
        cvat_project.update(models.PatchedProjectWriteRequest(labels=[models.PatchedLabelRequest(name="cell")]))


def test_what_is_gone_is_404(cvat_client: Client, make_cvat_task: MakeTask, cvat_project: Project) -> None:
    task = make_cvat_task(2)
    (job,) = task.get_jobs()
    task.remove()
    for call in (task.fetch, task.get_annotations, job.fetch, task.remove):
        with pytest.raises(exceptions.NotFoundException):
            call()
    with pytest.raises(exceptions.NotFoundException):
        cvat_client.api_client.requests_api.retrieve("action=create&target=task&target_id=999999999")
