"""What a CVAT server does with annotations: asked of the double, and of a real server if OSV_CVAT_URL is set."""

from __future__ import annotations

from typing import Any

import pytest
from cvat_double.scenes import MakeTask, box, patch, put, raw
from cvat_sdk import Client, models
from cvat_sdk.api_client import exceptions
from cvat_sdk.core.proxies.annotations import AnnotationUpdateAction
from cvat_sdk.core.proxies.projects import Project


def test_put_replaces_with_new_ids_and_drops_frames_that_do_not_exist(
    make_cvat_task: MakeTask, cvat_project: Project
) -> None:
    task, cell = make_cvat_task(5), cvat_project.get_labels()[0]
    put(task, [box(cell, 0), box(cell, 4), box(cell, 99)], [models.LabeledImageRequest(frame=3, label_id=cell.id)])
    before = task.get_annotations()
    assert [shape.frame for shape in before.shapes] == [0, 4]
    assert [tag.frame for tag in before.tags] == [3]
    put(task, [box(cell, 0)])
    after = task.get_annotations()
    assert (len(after.shapes), len(after.tags)) == (1, 0)
    assert after.shapes[0].id not in {shape.id for shape in before.shapes}


def test_coordinates_come_back_to_the_last_bit(make_cvat_task: MakeTask, cvat_project: Project) -> None:
    task, cell = make_cvat_task(2), cvat_project.get_labels()[0]
    points = [0.1 + 0.2, 1 / 3, 64 * (1 - 2**-40), 47.999999999999]
    put(task, [box(cell, 0, points, rotation=12.3456789012345)])
    (shape,) = task.get_annotations().shapes
    assert (list(shape.points), shape.rotation) == (points, 12.3456789012345)


def test_attributes_left_out_are_filled_with_defaults(make_cvat_task: MakeTask, cvat_project: Project) -> None:
    task, cell = make_cvat_task(2), cvat_project.get_labels()[0]
    uid = models.AttributeValRequest(spec_id=cell.attributes[0].id, value="u1")
    put(task, [box(cell, 0), box(cell, 1, attributes=[uid], source="auto")])
    shapes = sorted(task.get_annotations().shapes, key=lambda shape: shape.frame)
    assert [[value.value for value in shape.attributes] for shape in shapes] == [["none"], ["u1"]]
    assert [shape.source for shape in shapes] == ["manual", "auto"]


def test_create_adds_update_keeps_the_id_and_brings_back_the_deleted(
    make_cvat_task: MakeTask, cvat_project: Project
) -> None:
    task, cell = make_cvat_task(3), cvat_project.get_labels()[0]
    put(task, [box(cell, 0)])
    patch(task, AnnotationUpdateAction.CREATE, box(cell, 0, (5, 5, 9, 9)))
    one, two = sorted(shape.id for shape in task.get_annotations().shapes)
    moved = box(cell, 0, (6, 6, 9, 9), id=two)
    patch(task, AnnotationUpdateAction.UPDATE, moved)
    assert {shape.id: list(shape.points) for shape in task.get_annotations().shapes}[two] == [6, 6, 9, 9]
    patch(task, AnnotationUpdateAction.DELETE, moved)
    assert [shape.id for shape in task.get_annotations().shapes] == [one]
    patch(task, AnnotationUpdateAction.UPDATE, moved)
    assert {shape.id for shape in task.get_annotations().shapes} == {one, two}
    task.remove_annotations()
    assert not task.get_annotations().shapes


def test_what_is_refused_and_what_is_not(
    cvat_client: Client, make_cvat_task: MakeTask, cvat_project: Project
) -> None:
    task, cell = make_cvat_task(2), cvat_project.get_labels()[0]
    good = {"type": "rectangle", "frame": 0, "label_id": cell.id, "points": [1, 2, 3, 4]}

    def status(action: str = "create", **change: Any) -> int:
        path = f"/api/tasks/{task.id}/annotations?action={action}"
        return raw(cvat_client, "PATCH", path, {"version": 0, "shapes": [{**good, **change}]})[0]

    assert status(label_id=10**8) == 400
    assert status(points=[1, 2, 3]) == 400
    assert status(points=[1, 2, 3, float("nan")]) == 400
    assert status(frame=-1) == 400
    assert status(type="banana") == 400
    assert status(rotation=-1) == 400
    assert status(id=5) == 400
    assert status("delete") == 400
    assert status(attributes=[{"spec_id": 10**8, "value": "x"}]) == 400
    assert not task.get_annotations().shapes
    assert status(points=[900, 900, -5, -5]) == 200  # inverted and outside the image: nobody minds
    assert len(task.get_annotations().shapes) == 1


def test_a_write_moves_the_dates_of_the_job_and_the_task(make_cvat_task: MakeTask, cvat_project: Project) -> None:
    task, cell = make_cvat_task(4), cvat_project.get_labels()[0]
    before = {job.id: (job.start_frame, job.updated_date) for job in task.get_jobs()}
    task.fetch()
    task_before = task.updated_date
    patch(task, AnnotationUpdateAction.CREATE, box(cell, 3))
    moved = [before[job.id][0] for job in task.get_jobs() if job.updated_date > before[job.id][1]]
    assert moved == [2]
    assert task.fetch().updated_date > task_before


def test_the_ground_truth_job_is_among_the_jobs_and_not_in_the_task(
    cvat_client: Client, make_cvat_task: MakeTask, cvat_project: Project
) -> None:
    task, cell = make_cvat_task(5), cvat_project.get_labels()[0]
    asked = models.JobWriteRequest(
        type="ground_truth", task_id=task.id, frame_selection_method="manual", frames=[0, 3]
    )
    made, _ = cvat_client.api_client.jobs_api.create(asked)
    truth = cvat_client.jobs.retrieve(made.id)
    put(truth, [box(cell, 3)])
    assert [job.type for job in task.get_jobs()] == ["ground_truth", *["annotation"] * 3]
    assert len(truth.get_annotations().shapes) == 1
    assert not task.get_annotations().shapes
    assert list(truth.get_meta().included_frames) == [0, 3]
    with pytest.raises(exceptions.ApiException):
        cvat_client.api_client.jobs_api.create(asked)


def test_frames_deleted_keep_their_annotations(make_cvat_task: MakeTask, cvat_project: Project) -> None:
    task, cell = make_cvat_task(3), cvat_project.get_labels()[0]
    put(task, [box(cell, 1)])
    task.remove_frames_by_ids([1])
    assert list(task.get_meta().deleted_frames) == [1]
    assert [shape.frame for shape in task.get_annotations().shapes] == [1]


def test_a_label_takes_its_shapes_along(
    cvat_client: Client, make_cvat_task: MakeTask, cvat_project: Project
) -> None:
    task, (cell, crack) = make_cvat_task(3), cvat_project.get_labels()
    put(task, [box(cell, 0), box(crack, 1)])
    cvat_client.api_client.labels_api.destroy(cell.id)
    assert [shape.label_id for shape in task.get_annotations().shapes] == [crack.id]
    with pytest.raises(exceptions.ApiException):
        patch(task, AnnotationUpdateAction.CREATE, box(cell, 0))
