"""Conflicts settled one by one, without the server, and settled for good."""

from __future__ import annotations

from typing import Any

import pytest
from annotation_people import Annotator, labels_of

from osv_lab.annotate import AnnotationLoop
from osv_lab.core.errors import NotFoundError, UsageError

THEIRS = [2.0, 2.0, 9.0, 9.0]
THERE = [2 / 64, 2 / 48, 7 / 64, 7 / 48]
HERE = [0.5, 0.5, 0.25, 0.25]


def differ(loop: AnnotationLoop, pets: Any) -> tuple[Annotator, list[str]]:
    """Four objects in conflict: moved on both sides (two), deleted there and moved here, and the other way round."""
    person = Annotator(loop.connection, loop.send(pets, "key", "pred").task)
    a, b, gone, d = person.objects()[:4]
    for one in (a, b, d):
        person.do("update", {**one, "points": THEIRS, "source": "semi-auto"})
    person.do("delete", gone)
    person.finish()
    first, second = pets.head(2)
    for box in first["pred"].detections:
        box.bounding_box = HERE
    ids = [box.id for box in first["pred"].detections] + [second["pred"].detections[0].id]
    del second["pred"].detections[0]
    first.save(), second.save()
    assert len(loop.pull("key").conflicts) == 4
    return person, ids


def boxes(pets: Any) -> dict[str, Any]:
    pets.reload()
    return {box.id: box for sample in pets for box in sample["pred"].detections}


def test_each_conflict_is_settled_for_itself(loop: AnnotationLoop, pets: Any) -> None:
    _, (a, b, c, d) = differ(loop, pets)
    loop.close()
    found = {one.object: one for one in loop.conflicts("key").conflicts}
    assert set(found) == {a, b, c, d}
    assert found[a].properties == ("geometry",)
    assert found[a].theirs[0].points == tuple(THEIRS)
    assert found[a].ours is not None
    assert (found[c].theirs, found[d].ours) == ((), None)

    assert len(loop.resolve("key", a, keep="theirs").conflicts) == 3
    loop.resolve("key", [b], keep="ours")
    loop.resolve("key", c, keep="theirs")
    report = loop.resolve("key", d, keep="theirs")
    assert (report.settled, report.conflicts) == (1, ())
    after = boxes(pets)
    assert after[a].bounding_box == THERE
    assert (after[a].confidence, after[a].osv_source) == (None, "semi-auto")
    assert after[b].bounding_box == HERE
    assert c not in after
    assert after[d].bounding_box == THERE
    assert not pets.has_saved_view("key_conflicts")
    assert not pets.has_sample_field("key_theirs")
    before = labels_of(pets)
    again = loop.pull("key")
    assert (again.conflicts, again.changed) == ((), 0)
    assert labels_of(pets) == before


def test_what_is_kept_as_ours_stays_until_they_change_it_again(loop: AnnotationLoop, pets: Any) -> None:
    person, (a, *_) = differ(loop, pets)
    assert loop.resolve("key", keep="ours").conflicts == ()
    assert loop.pull("key").conflicts == ()
    assert boxes(pets)[a].bounding_box == HERE
    person.do("update", {**person.objects()[0], "points": [1.0, 1.0, 5.0, 5.0], "source": "semi-auto"})
    assert [one.object for one in loop.conflicts("key").conflicts] == []
    loop.pull("key")
    assert [one.object for one in loop.conflicts("key").conflicts] == [a]


def test_a_field_or_view_of_the_keys_name_stays(fo: Any, loop: AnnotationLoop, pets: Any) -> None:
    pets.clone_sample_field("pred", "mine_theirs")
    pets.save_view("own_conflicts", pets.limit(2))
    for key in ("mine", "own"):
        with pytest.raises(UsageError, match="taken"):
            loop.send(pets, key, "pred")
    # One that came later.
    Annotator(loop.connection, loop.send(pets, "key", "pred").task).finish()
    pets.clone_sample_field("pred", "key_theirs")
    pets.save_view("key_conflicts", pets.limit(2))
    assert loop.pull("key").conflicts == ()
    loop.cancel("key")
    pets.reload()
    assert pets.has_sample_field("key_theirs") and pets.has_saved_view("key_conflicts")


def test_two_keys_do_not_share_a_field(loop: AnnotationLoop, pets: Any) -> None:
    loop.send(pets, "batch 1", "pred")
    with pytest.raises(UsageError, match="taken"):
        loop.send(pets, "batch-1", "pred")


def test_a_cancelled_run_takes_its_conflicts_along(loop: AnnotationLoop, pets: Any) -> None:
    differ(loop, pets)
    loop.cancel("key")
    pets.reload()
    assert not (pets.has_sample_field("key_theirs") or pets.has_saved_view("key_conflicts"))
    assert loop.send(pets, "key", "pred").samples == 6


def test_a_conflict_on_a_sample_that_is_gone_is_none(loop: AnnotationLoop, pets: Any) -> None:
    differ(loop, pets)
    pets.delete_samples([pets.first().id])
    assert len(loop.conflicts("key").conflicts) == 1
    assert loop.resolve("key", keep="theirs").conflicts == ()


def test_only_what_is_in_conflict_can_be_settled(loop: AnnotationLoop, pets: Any) -> None:
    differ(loop, pets)
    with pytest.raises(NotFoundError, match="no open conflict"):
        loop.resolve("key", "nobody")
    with pytest.raises(UsageError, match="no such version"):
        loop.resolve("key", keep=3)
    assert len(loop.conflicts("key").conflicts) == 4


def test_annotators_who_disagree_are_two_versions_of_which_one_is_chosen(loop: AnnotationLoop, pets: Any) -> None:
    task = loop.send(pets, "key", "pred", segment_size=4, overlap=2)
    first, second = (job.job for job in loop.status("key").jobs)
    for job, points in ((first, [1.0, 1.0, 9.0, 9.0]), (second, [20.0, 20.0, 40.0, 40.0])):
        person = Annotator(loop.connection, task.task, job)
        shared = next(one for one in person.objects() if one["frame"] == 2)
        person.do("update", {**shared, "points": points, "source": "semi-auto"})
    Annotator(loop.connection, task.task).finish()
    loop.pull("key")
    (conflict,) = loop.conflicts("key").conflicts
    assert len(conflict.theirs) == 2
    loop.resolve("key", keep=1)
    wanted = conflict.theirs[1].points
    for _ in range(2):
        box = boxes(pets)[conflict.object].bounding_box
        assert [box[0] * 64, box[1] * 48] == pytest.approx(wanted[:2])
        assert loop.pull("key").conflicts == ()
