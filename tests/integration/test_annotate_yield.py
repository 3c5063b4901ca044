"""What annotators made of proposals, and how far they agree: from the records of pulls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from annotation_films import tracked_film
from annotation_people import Annotator, looping
from cvat_double.reach import Reachable

from osv_lab.annotate import AnnotationLoop
from osv_lab.core.errors import NotFoundError


def test_the_yield_is_known_per_class_without_the_server(loop: AnnotationLoop, pets: Any) -> None:
    task = loop.send(pets, "key", "pred", segment_size=3)
    with pytest.raises(NotFoundError, match="pulled"):
        loop.yields("key")
    person = Annotator(loop.connection, task.task)
    moved, gone, relabelled, *_ = person.objects()
    x1, y1, x2, y2 = moved["points"]
    person.do("update", {**moved, "points": [x1, y1, x2, y1 + (y2 - y1) * 0.8], "source": "semi-auto"})
    person.do("delete", gone)
    other = "dog" if relabelled["label_id"] == person.labels["cat"] else "cat"
    person.do("update", {**relabelled, "label_id": person.labels[other], "attributes": []})
    new = {"type": "rectangle", "frame": 1, "label_id": person.labels["dog"], "points": [40, 30, 60, 44]}
    person.do("create", new)
    person.finish(min(job.job for job in loop.status("key").jobs))
    loop.pull("key")
    loop.close()

    report = loop.yields("key")
    total = report.rows()[-1]
    assert (report.images, total["class"], total["sent"], total["accepted"]) == (3, "all", 9, 6)
    assert [total[kind] for kind in ("moved", "removed", "relabelled", "added")] == [1, 1, 1, 1]
    assert total["median IoU"] == pytest.approx(0.8)
    assert sum(row["sent"] for row in report.rows()[:-1]) == 9
    assert report.relabels()[0]["to"] == other
    assert report.view("removed").values("id") == [pets.first().id]
    assert len(report.view("added", "dog")) == 1
    assert [one["proposals"] for one in report.by_trust()] == ["not autolabelled"]
    assert len(report.plot().data) >= 5
    loop.pull("key")
    assert loop.yields("key") == report


def test_annotators_of_shared_images_are_compared(loop: AnnotationLoop, pets: Any, told_server: Reachable) -> None:
    ann, ben = (told_server.new_person()[0] for _ in range(2))
    task = loop.send(pets, "key", "pred", segment_size=4, overlap=2, assignees=[ann, ben])
    first, second = (job.job for job in loop.status("key").jobs)
    them = Annotator(loop.connection, task.task, second)
    gone, relabelled = [one for one in them.objects() if one["frame"] == 2][:2]
    other = "dog" if relabelled["label_id"] == them.labels["cat"] else "cat"
    them.do("delete", gone)
    them.do("update", {**relabelled, "label_id": them.labels[other], "attributes": []})
    person = Annotator(loop.connection, task.task)
    assert [job.removed > 0 for job in loop.status("key").jobs] == [False, True]
    person.finish(first)
    loop.pull("key")
    with pytest.raises(NotFoundError, match="two annotators"):
        loop.agreement("key")
    person.finish()
    loop.pull("key")
    report = loop.agreement()
    (pair,) = report.pairs
    assert {pair.first, pair.second} == {ann, ben}
    assert (pair.images, sorted(pair.objects), pair.both, pair.same_class) == (2, [5, 6], 5, 4)
    assert pair.iou == pytest.approx(1)
    assert report.alpha is not None
    assert 0 < report.alpha < 1
    assert report.view().values("id") == [pets.skip(2).first().id]
    assert report.plot().data[0].type == "heatmap"
    assert {row["annotator"] for row in loop.yields("key").by_annotator()} == {ann, ben, "all"}


def test_a_track_is_one_object(fo: Any, told_server: Reachable, dataset_name: str, tmp_path: Path) -> None:
    films = tracked_film(fo, dataset_name, tmp_path)
    with looping(films) as loop:
        person = Annotator(loop.connection, loop.send(films, "key", "frames.pred").task)
        gone, moved, _ = person.objects("tracks")
        person.do("delete", gone, kind="tracks")
        first, *others = moved["shapes"]
        x1, y1, x2, y2 = first["points"]
        person.do(
            "update", {**moved, "shapes": [{**first, "points": [x1, y1, x2 + 4, y2]}, *others]}, kind="tracks"
        )
        person.finish()
        loop.pull("key")
        report = loop.yields("key")
        total = report.rows()[-1]
        assert [total[name] for name in ("sent", "accepted", "moved", "removed", "added")] == [4, 2, 1, 1, 0]
        assert total["median IoU"] < 1


def test_two_runs_over_the_same_images_are_compared_too(loop: AnnotationLoop, pets: Any) -> None:
    pets.clone_sample_field("pred", "again")
    for key, field in (("ann", "pred"), ("ben", "again")):
        Annotator(loop.connection, loop.send(pets, key, field).task).finish()
        loop.pull(key)
    report = loop.agreement("ann", "ben")
    assert (report.images, report.alpha, dict(report.differing)) == (6, 1.0, {})


def test_what_two_annotators_drew_is_taken_once(loop: AnnotationLoop, pets: Any) -> None:
    task = loop.send(pets, "key", "pred", segment_size=4, overlap=2)
    first, second = (job.job for job in loop.status("key").jobs)
    for job, right in ((first, 60.0), (second, 59.0)):
        person = Annotator(loop.connection, task.task, job)
        new = {"type": "rectangle", "frame": 3, "label_id": person.labels["dog"]}
        person.do("create", {**new, "points": [40.0, 30.0, right, 44.0]})
    whole = Annotator(loop.connection, task.task)
    whole.finish(second)
    assert loop.pull("key").counts["added"] == 1
    whole.finish(first)
    report = loop.pull("key")
    assert any("drawn twice" in problem for problem in report.problems)
    assert pets.reload() is None
    assert len(pets.skip(3).first()["pred"].detections) == 4
    assert loop.pull("key").changed == 0
