"""Send, status and pull against the CVAT double, and against the server of ``OSV_CVAT_URL`` if there is one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from annotation_people import Annotator, at_upload, labels_of, tasks_of

from osv_lab.annotate import AnnotationLoop
from osv_lab.annotate.connection import Connection
from osv_lab.annotate.records import Runs
from osv_lab.core.errors import NotFoundError, UnavailableError, UsageError
from osv_lab.curate.label_errors import find_label_errors
from osv_lab.curate.select import select
from osv_lab.lab import Lab


def test_untouched_labels_come_back_to_the_last_bit(loop: AnnotationLoop, pets: Any) -> None:
    before = labels_of(pets)
    task = loop.send(pets, "key", "pred", segment_size=2)
    assert (task.samples, task.objects, task.jobs) == (6, 18, 3)
    Annotator(loop.connection, task.task).finish()
    report = loop.pull("key")
    assert (report.counts["untouched"], report.changed, report.jobs_pulled) == (18, 0, 3)
    assert labels_of(pets) == before


def test_edits_of_both_sides_meet(loop: AnnotationLoop, pets: Any) -> None:
    person = Annotator(loop.connection, loop.send(pets, "key", "pred").task)
    moved, gone, relabelled = person.objects()[:3]
    other = "dog" if relabelled["label_id"] == person.labels["cat"] else "cat"
    person.do("update", {**moved, "points": [1.5, 2.5, 20.25, 30.125], "source": "semi-auto"})
    person.do("update", {**relabelled, "label_id": person.labels[other]} | {"attributes": []})
    person.do("delete", gone)
    new = {"type": "rectangle", "frame": 5, "label_id": person.labels["dog"], "points": [3, 4, 10, 12.5]}
    person.do("create", new, {**new, "type": "ellipse"})
    sample = pets.last()
    sample["pred"].detections[0].label = "local"
    sample.save()
    (job,) = loop.status("key").jobs
    assert job.removed >= 1
    person.finish()

    report = loop.pull("key")
    assert report.counts["conflicts"] == 0
    assert any("ellipse" in problem for problem in report.problems)
    pets.reload()
    first, last = pets.first()["pred"].detections, pets.last()["pred"].detections
    assert first[0].bounding_box == [1.5 / 64, 2.5 / 48, 18.75 / 64, 27.625 / 48]
    assert (first[0].confidence, first[0].osv_source) == (None, "semi-auto")
    assert last[0].label == "local"
    assert last[0].confidence is not None
    assert [round(value * size) for value, size in zip(last[-1].bounding_box, (64, 48), strict=False)] == [3, 4]
    after = labels_of(pets)
    again = loop.pull("key")
    assert again.changed == 0
    assert labels_of(pets) == after


def test_a_conflict_is_a_view_with_both_versions_until_it_is_settled(loop: AnnotationLoop, pets: Any) -> None:
    person = Annotator(loop.connection, loop.send(pets, "key", "pred").task)
    theirs = person.objects()[0]
    person.do("update", {**theirs, "points": [2.0, 2.0, 9.0, 9.0], "source": "semi-auto"})
    person.finish()
    sample = pets.first()
    sample["pred"].detections[0].bounding_box = [0.5, 0.5, 0.25, 0.25]
    sample.save()

    report = loop.pull("key")
    assert report.view().values("id") == [sample.id]
    pets.reload()
    assert pets.first()["pred"].detections[0].bounding_box == [0.5, 0.5, 0.25, 0.25]
    assert pets.first()["key_theirs"].detections[0].bounding_box == [2 / 64, 2 / 48, 7 / 64, 7 / 48]
    assert len(loop.pull("key").conflicts) == 1
    loop.pull("key", "theirs")
    pets.reload()
    assert pets.first()["pred"].detections[0].bounding_box == [2 / 64, 2 / 48, 7 / 64, 7 / 48]
    assert loop.pull("key").conflicts == ()
    assert not pets.has_saved_view("key_conflicts")
    assert not pets.has_sample_field("key_theirs")


def test_finished_jobs_alone_are_pulled(loop: AnnotationLoop, pets: Any) -> None:
    person = Annotator(loop.connection, loop.send(pets, "key", "pred", segment_size=3).task)
    person.do("delete", *person.objects())
    person.finish(min(job.job for job in loop.status("key").jobs))
    report = loop.pull("key")
    assert (report.jobs_pulled, report.jobs_open, report.counts["deleted"]) == (1, 1, 9)
    pets.reload()
    assert sorted(map(len, pets.values("pred.detections"))) == [0, 0, 0, 3, 3, 3]


def test_a_field_of_one_tag_takes_one_and_tells_of_the_other(fo: Any, loop: AnnotationLoop, pets: Any) -> None:
    pets.set_values("light", [fo.Classification(label="day") for _ in range(6)])
    before = labels_of(pets, "light")
    person = Annotator(loop.connection, loop.send(pets, "key", "light", ["day", "night"]).task)
    person.do("create", {"frame": 0, "label_id": person.labels["night"]}, kind="tags")
    person.finish()
    report = loop.pull("key")
    assert report.problems == (f"second tag, left there: tag 'night' on sample {pets.first().id}",)
    assert labels_of(pets, "light") == before


def test_tags_are_changed_too(loop: AnnotationLoop, pets: Any) -> None:
    person = Annotator(loop.connection, loop.send(pets, "key", "weather", ["day", "night"]).task)
    person.do("delete", person.objects("tags")[0], kind="tags")
    person.do("create", {"frame": 0, "label_id": person.labels["night"]}, kind="tags")
    person.finish()
    loop.pull("key")
    pets.reload()
    assert pets.values("weather.classifications.label") == [["night"], *[["day"]] * 5]


@pytest.mark.parametrize("known", [True, False], ids=["size known", "size unknown"])
def test_a_corrupt_image_is_left_out_and_said(
    loop: AnnotationLoop, pets: Any, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    if known:
        pets.compute_metadata(progress=False)
    # Each image is a request of its own.
    monkeypatch.setattr("osv_lab.annotate.upload.PART_BYTES", 1)
    bad = pets.skip(3).first()
    Path(bad.filepath).write_bytes(Path(bad.filepath).read_bytes()[:200])
    task = loop.send(pets, "key", "pred")
    assert (task.samples, task.objects) == (5, 15)
    assert [bad.id in problem for problem in task.problems] == [True]
    frames = loop.connection.get(f"/api/tasks/{task.task}/data/meta")["frames"]
    assert [frame["name"] for frame in frames] == [f"{one}.png" for one in pets.values("id") if one != bad.id]
    assert tasks_of(loop) == [task.task]
    assert loop.send(pets, "key", "pred").task == task.task
    report = loop.pull("key", done="any")
    assert (report.counts["untouched"], report.changed) == (15, 0)


def test_an_outline_of_several_rings_is_said_and_stays_as_it_is(loop: AnnotationLoop, pets: Any, fo: Any) -> None:
    ring = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9]]
    hole = [[0.5, 0.2], [0.8, 0.2], [0.8, 0.5]]
    first = pets.first()
    first["outlines"] = fo.Polylines(
        polylines=[
            fo.Polyline(label="cat", points=[ring, hole], closed=True, filled=True),
            fo.Polyline(label="dog", points=[ring], closed=True, filled=True),
        ]
    )
    first.save()
    whole, plain = first.outlines.polylines
    task = loop.send(pets, "key", "outlines")
    assert task.objects == 1
    assert [(whole.id in problem, "2 rings" in problem) for problem in task.problems] == [(True, True)]
    person = Annotator(loop.connection, task.task)
    person.do("delete", *person.objects())
    loop.pull("key", done="any")
    pets.reload()
    assert [one.to_dict() for one in pets.first().outlines.polylines] == [whole.to_dict()]
    assert plain.id != whole.id


def test_the_key_is_taken_until_it_is_cancelled(loop: AnnotationLoop, pets: Any) -> None:
    task = loop.send(pets, "key", "pred")
    assert loop.send(pets, "key", "pred").task == task.task
    with pytest.raises(UsageError, match="in use"):
        loop.send(pets.limit(2), "key", "pred")
    loop.cancel("key")
    assert tasks_of(loop) == []
    with pytest.raises(NotFoundError):
        loop.pull("key")


def test_a_task_deleted_on_the_server_is_said_and_changes_nothing(loop: AnnotationLoop, pets: Any) -> None:
    task = loop.send(pets, "key", "pred")
    before = labels_of(pets)
    loop.connection.call("DELETE", f"/api/tasks/{task.task}")
    with pytest.raises(NotFoundError, match="gone from the server"):
        loop.pull("key")
    assert labels_of(pets) == before
    loop.cancel("key")


def test_an_upload_that_fails_leaves_no_task(
    loop: AnnotationLoop, pets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut() -> None:
        raise UnavailableError("the upload was cut")

    with monkeypatch.context() as patch:
        at_upload(patch, cut)
        with pytest.raises(UnavailableError, match="cut"):
            loop.send(pets, "key", "pred")
    assert tasks_of(loop) == []
    assert loop.list().runs == ()


@pytest.mark.parametrize("error", [UnavailableError("the server is silent"), KeyboardInterrupt()], ids=repr)
def test_a_task_whose_making_was_not_answered_is_no_orphan(
    loop: AnnotationLoop, pets: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    plain, late = Connection.call, []

    def slow(self: Connection, method: str, path: str, *rest: Any, **options: Any) -> Any:
        if (method, path) == ("POST", "/api/tasks"):
            # The server makes it when nobody waits for the answer any more.
            late.append(options["body"])
            raise error
        return plain(self, method, path, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "call", slow)
        with pytest.raises(type(error)):
            loop.send(pets, "key", "pred")
    loop.connection.call("POST", "/api/tasks", body=late[0])
    assert loop.list().runs[0]["phase"] == "sending"
    task = loop.send(pets, "key", "pred")
    assert tasks_of(loop) == [task.task]


def test_what_was_begun_on_another_server_is_cleared_there_and_nowhere_else(
    loop: AnnotationLoop, pets: Any
) -> None:
    loop.send(pets, "key", "pred")
    runs, here = Runs(pets), Runs(pets).get("key")
    empty = loop.connection.call("POST", "/api/projects", body={"name": f"{pets.name} other", "labels": []})["id"]
    there = replace(here, key="begun", uid="elsewhere", url="http://elsewhere:8080", phase="sending")
    runs.put(replace(there, project=empty, made_project=True))
    with pytest.raises(UsageError, match="sent elsewhere"):
        loop.send(pets, "begun", "pred")
    # The project of that number on this server is somebody else's.
    assert loop.connection.get(f"/api/projects/{empty}")["id"] == empty
    runs.remove("begun")
    loop.connection.call("DELETE", f"/api/projects/{empty}")


KILLED = """
import os, sys
from osv_lab.annotate import AnnotationLoop, send_images
from osv_lab.store.catalogue import open_dataset
send_images.upload_images = lambda *_: os._exit(9)
pets = open_dataset(sys.argv[1])
AnnotationLoop(pets, organization="").send(pets, "key", "pred")
"""


def test_a_send_that_was_killed_is_completed_by_the_same_command(loop: AnnotationLoop, pets: Any) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, pets.name], check=False)
    assert killed.returncode == 9
    assert len(tasks_of(loop)) == 1
    assert "interrupted" in loop.status().summary()
    with pytest.raises(UsageError, match="interrupted"):
        loop.pull("key")
    task = loop.send(pets, "key", "pred")
    assert tasks_of(loop) == [task.task]


def test_calls_do_not_grow_with_the_images(loop: AnnotationLoop, pets: Any) -> None:
    counts = []
    for key, some in (("few", pets.limit(1)), ("all", pets)):
        before = loop.connection.calls
        loop.send(some, key, "pred")
        loop.pull(key, done="any")
        counts.append(loop.connection.calls - before)
    # Waiting for the server takes as many calls as it takes.
    assert max(counts) <= 40


def test_a_pull_that_was_killed_is_completed_by_the_same_command(
    loop: AnnotationLoop, pets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = Annotator(loop.connection, loop.send(pets, "key", "pred").task)
    moved, gone = person.objects()[:2]
    person.do("update", {**moved, "points": [2.0, 2.0, 9.0, 9.0], "source": "semi-auto"})
    person.do("delete", gone)
    new = {"type": "rectangle", "frame": 5, "label_id": person.labels["dog"], "points": [3, 4, 10, 12.5]}
    person.do("create", new)
    person.finish()

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Runs, "put_base", killed)
        with pytest.raises(KeyboardInterrupt):
            loop.pull("key")
    written = labels_of(pets)
    assert sum(len(one["detections"]) for one in written.values()) == 18
    report = loop.pull("key")
    assert (report.changed, report.conflicts) == (0, ())
    assert labels_of(pets) == written


def test_the_lab_sends_by_path(loop: AnnotationLoop, pets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSV_CVAT_ORGANIZATION", "")
    path = pets.first().filepath
    task = Lab(pets.name).send_samples_to_annotation([path], key="paths", label_field="pred")
    assert (task.samples, task.objects) == (1, 3)


def test_the_queue_of_label_errors_and_a_selection_are_sent_in_one_call(loop: AnnotationLoop, pets: Any) -> None:
    pets.clone_sample_field("pred", "ground_truth")
    for sample in pets.limit(2):
        sample["ground_truth"].detections[0].label = "wrong"
        sample.save()
    queue = find_label_errors(pets, "pred").view()
    assert loop.send(queue, "errors", "ground_truth").samples == len(queue) > 0
    chosen = select(pets, 3, "uncertainty", pred_field="pred").view()
    assert loop.send(chosen, "next", "pred").samples == 3
