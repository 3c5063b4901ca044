"""A detector that labels tasks on the server: nowhere that people were, never twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from annotation_people import Annotator, labels_of
from cvat_double.reach import Reachable
from cvat_double.scenes import MakeTask
from scripted_detector import ScriptedDetector

from osv_lab.annotate import AnnotationLoop
from osv_lab.annotate.connection import Connection
from osv_lab.annotate.cvat_function import DetectorFunction, create, ontology_of
from osv_lab.annotate.records import Runs
from osv_lab.core.errors import NotFoundError, UnavailableError, UsageError

SURE, UNSURE = ("cat", 0.9, (2.0, 2.0, 20.0, 20.0)), ("dog", 0.4, (30.0, 20.0, 60.0, 40.0))


@pytest.fixture
def task(fo: Any, loop: AnnotationLoop, pets: Any) -> Annotator:
    """A task of the six images with nothing in it but a person's box on frame 1, three images to a job."""
    pets.add_sample_field("empty", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    person = Annotator(loop.connection, loop.send(pets, "key", "empty", ["cat", "dog"], segment_size=3).task)
    box = {"type": "rectangle", "frame": 1, "label_id": person.labels["dog"], "points": [5, 5, 15, 15]}
    person.do("create", box)
    return person


def on_frames(person: Annotator) -> list[int]:
    counts = [0] * 6
    for one in person.objects():
        counts[one["frame"]] += 1
    return counts


def test_empty_frames_are_labelled_and_people_are_left_alone(loop: AnnotationLoop, task: Annotator) -> None:
    mine = next(one for one in task.objects())
    report = loop.predict("key", ScriptedDetector(SURE, UNSURE))
    assert (report.frames, report.objects, dict(report.left)) == (
        5,
        {"cat": 5, "dog": 5},
        {"labelled by people": 1},
    )
    assert on_frames(task) == [2, 1, 2, 2, 2, 2]
    assert next(one for one in task.objects() if one["frame"] == 1) == mine
    assert {one["source"] for one in task.objects() if one["frame"] != 1} == {"auto"}
    before = task.objects()
    again = loop.predict("key", ScriptedDetector(SURE, UNSURE))
    assert (again.frames, again.left["labelled by this detector before"]) == (0, 5)
    assert task.objects() == before


def test_another_detector_replaces_only_frames_that_nobody_touched(loop: AnnotationLoop, task: Annotator) -> None:
    loop.predict("key", ScriptedDetector(SURE, UNSURE))
    zero = [one for one in task.objects() if one["frame"] == 0]
    task.do("update", {**zero[0], "points": [2.0, 2.0, 30.0, 30.0]})
    task.do("delete", next(one for one in task.objects() if one["frame"] == 2))
    for one in [one for one in task.objects() if one["frame"] == 3]:
        task.do("delete", one)
    report = loop.predict("key", ScriptedDetector(SURE, ref="scripted@2"))
    assert (report.frames, report.replaced, dict(report.left)) == (2, 4, {"labelled by people": 4})
    assert on_frames(task) == [2, 1, 1, 0, 1, 1]
    task.finish(max(one.job for one in loop.status("key").jobs))
    assert loop.predict("key", ScriptedDetector(UNSURE, ref="scripted@3")).left["finished by people"] == 3
    assert on_frames(task) == [2, 1, 1, 0, 1, 1]


def test_what_was_predicted_is_pulled_with_its_model(loop: AnnotationLoop, pets: Any, task: Annotator) -> None:
    loop.predict("key", ScriptedDetector(SURE))
    task.finish()
    loop.pull("key")
    pets.reload()
    first, second = pets.head(2)
    (box,) = first["empty"].detections
    assert (box.label, box.osv_source, box.osv_model) == ("cat", "auto", "scripted@1")
    assert box.confidence == pytest.approx(0.9)
    assert second["empty"].detections[0].osv_source == "manual"
    before = labels_of(pets, "empty")
    assert loop.pull("key").changed == 0
    assert labels_of(pets, "empty") == before


def test_somebody_who_draws_while_the_detector_works_keeps_the_frame(
    loop: AnnotationLoop, task: Annotator
) -> None:
    class Meanwhile(ScriptedDetector):
        def predict(self, images: Any, **options: Any) -> Any:
            if not self.images:
                box = {"type": "rectangle", "frame": 4, "label_id": task.labels["dog"], "points": [5, 5, 15, 15]}
                task.do("create", box)
            return super().predict(images, **options)

    report = loop.predict("key", Meanwhile(SURE))
    assert report.left["changed by people meanwhile"] == 1
    assert on_frames(task) == [1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("written", [False, True], ids=["before it wrote", "after it wrote"])
def test_a_run_that_was_killed_is_completed_and_doubles_nothing(
    loop: AnnotationLoop, task: Annotator, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    plain = Connection.call

    def killed(self: Connection, method: str, path: str, *rest: Any, **options: Any) -> Any:
        if method == "PATCH":
            if written:
                plain(self, method, path, *rest, **options)
            raise KeyboardInterrupt
        return plain(self, method, path, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "call", killed)
        with pytest.raises(KeyboardInterrupt):
            loop.predict("key", ScriptedDetector(SURE, UNSURE))
    assert sum(on_frames(task)) == (5 if written else 1)
    report = loop.predict("key", ScriptedDetector(SURE, UNSURE))
    assert on_frames(task) == [2, 1, 2, 2, 2, 2]
    assert report.frames == (3 if written else 5)


def test_a_write_that_the_server_drops_is_noticed_and_repeated(
    loop: AnnotationLoop, task: Annotator, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Connection.call

    def dropping(self: Connection, method: str, path: str, query: Any = None, body: Any = None) -> Any:
        if method == "PATCH" and body["shapes"]:
            body = {**body, "shapes": body["shapes"][1:]}
        return plain(self, method, path, query, body)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "call", dropping)
        with pytest.raises(UnavailableError, match="2 objects"):
            loop.predict("key", ScriptedDetector(SURE, UNSURE))
    loop.predict("key", ScriptedDetector(SURE, UNSURE))
    assert on_frames(task) == [2, 1, 2, 2, 2, 2]


def test_large_jobs_are_written_in_parts(
    loop: AnnotationLoop, task: Annotator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("osv_lab.annotate.predict_task.WRITE", 3)
    plain, sizes = Connection.call, []

    def counting(self: Connection, method: str, path: str, query: Any = None, body: Any = None) -> Any:
        if method == "PATCH":
            sizes.append((query["action"], len(body["shapes"])))
        return plain(self, method, path, query, body)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "call", counting)
        loop.predict("key", ScriptedDetector(SURE, UNSURE))
        # A frame is not divided: 2 frames of the first job, and 3 of the second.
        assert sizes == [("create", 4), ("create", 4), ("create", 2)]
        loop.predict("key", ScriptedDetector(SURE, ref="scripted@2"))
    assert on_frames(task) == [1, 1, 1, 1, 1, 1]


def test_a_run_that_is_not_there_to_its_end_is_not_labelled(loop: AnnotationLoop, pets: Any) -> None:
    loop.send(pets, "key", "pred")
    runs, whole = Runs(pets), Runs(pets).get("key")
    runs.put(replace(whole, phase="sending", task=None))
    with pytest.raises(UsageError, match="interrupted while sending"):
        loop.predict("key", ScriptedDetector(SURE))
    runs.put(whole)


def test_any_task_can_be_labelled_with_its_images_from_the_server(
    loop: AnnotationLoop, make_cvat_task: MakeTask
) -> None:
    made = make_cvat_task(3)
    detector = ScriptedDetector(SURE, UNSURE)
    with pytest.raises(NotFoundError, match="none of the labels"):
        loop.annotate_task(made.id, detector)
    report = loop.annotate_task(made.id, detector, {"cat": "cell", "d*": "crack"}, {"crack": 0.5})
    assert (report.frames, report.objects, report.unknown) == (3, {"cell": 3}, ("cow",))
    assert loop.annotate_task(made.id, detector, {"cat": "cell", "d*": "crack"}, {"crack": 0.5}).frames == 0
    with pytest.raises(NotFoundError):
        loop.annotate_task(10**6, detector)


def test_the_detector_is_a_function_for_cvats_own_driver(
    cvat_server: Reachable, make_cvat_task: MakeTask, tmp_path: Path
) -> None:
    from cvat_sdk.auto_annotation import annotate_task

    made = make_cvat_task(3)
    function = DetectorFunction(
        ScriptedDetector(SURE, UNSURE, names=("cat", "dog")), {"cat": "cell", "dog": "crack"}
    )
    client = cvat_server.client()
    client.config.cache_dir = tmp_path
    annotate_task(client, made.id, function, conf_threshold=0.5)
    shapes = made.get_annotations().shapes
    assert [(one.frame, one.type.value) for one in shapes] == [(frame, "rectangle") for frame in range(3)]
    assert all(list(one.points) == pytest.approx([2.0, 2.0, 20.0, 20.0]) for one in shapes)


def test_the_function_is_made_of_words_as_cvats_command_line_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("osv_lab.detect.load_detector", lambda ref: ScriptedDetector(SURE, ref=ref))
    function = create("best.onnx", 0.5, "cat=animal,dog=")
    assert [label.name for label in function.spec.labels] == ["animal", "cow"]
    with pytest.raises(UsageError, match="CLASS=LABEL"):
        ontology_of(["cat"])
