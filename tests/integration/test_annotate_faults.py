"""What goes wrong between us and the server: one clear line, the same command completes, and no task is left over."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from annotation_films import frame_labels, tracked_film
from annotation_people import Annotator, at_upload, labels_of, looping, tasks_of
from cvat_double.reach import Reachable
from cvat_double.server import CvatDouble

from osv_lab.annotate import AnnotationLoop, connection
from osv_lab.annotate.records import Runs
from osv_lab.core.errors import InvalidDataError, UnavailableError


@pytest.fixture
def own_server(cvat: CvatDouble, monkeypatch: pytest.MonkeyPatch) -> CvatDouble:
    """A server that may be broken: never a real one."""
    for name in ("url", "user", "password"):
        monkeypatch.setenv(f"OSV_CVAT_{name.upper()}", getattr(cvat, name))
    return cvat


@pytest.fixture
def broken(pets: Any, own_server: CvatDouble) -> Iterator[AnnotationLoop]:
    with looping(pets) as found:
        yield found


def orphans(cvat: CvatDouble, loop: AnnotationLoop) -> int:
    """Tasks on the server that no finished send knows of."""
    runs = Runs(loop.dataset)
    known = {task for name in runs.names() for task in runs.get(name).tasks}
    return len([task for task in cvat.tasks if task.id not in known])


def test_a_server_that_restarts_in_between_makes_no_difference(
    broken: AnnotationLoop, pets: Any, own_server: CvatDouble
) -> None:
    person = Annotator(broken.connection, broken.send(pets, "key", "pred").task)
    own_server.restart()
    assert len(broken.status("key").jobs) == 1
    person.do("delete", person.objects()[0])
    person.finish()
    own_server.down()
    with pytest.raises(UnavailableError):
        broken.pull("key")
    own_server.up()
    assert broken.pull("key").counts["deleted"] == 1
    assert orphans(own_server, broken) == 0


def test_a_send_that_the_server_did_not_live_to_see_is_completed(
    broken: AnnotationLoop, pets: Any, own_server: CvatDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        at_upload(patch, own_server.down)
        with pytest.raises(UnavailableError) as caught:
            broken.send(pets, "key", "pred")
    assert "\n" not in str(caught.value)
    # It could not be asked to delete what it had made.
    assert len(own_server.tasks) == 1
    own_server.up()
    task = broken.send(pets, "key", "pred")
    assert [one.id for one in own_server.tasks] == [task.task]


@pytest.mark.parametrize("size", [10, 20_000])
def test_an_upload_that_is_cut_leaves_nothing(
    broken: AnnotationLoop, pets: Any, own_server: CvatDouble, size: int
) -> None:
    own_server.cut_upload_after(size)
    with pytest.raises(UnavailableError):
        broken.send(pets, "key", "pred")
    assert own_server.tasks == []
    assert broken.list().runs == ()
    task = broken.send(pets, "key", "pred")
    assert (task.objects, orphans(own_server, broken)) == (18, 0)


def test_a_video_that_is_cut_in_its_stream_goes_on_where_it_was(
    fo: Any, dataset_name: str, tmp_path: Path, own_server: CvatDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = tracked_film(fo, dataset_name, tmp_path)
    monkeypatch.setattr(connection, "PART_BYTES", 10_000)
    with looping(films) as loop:
        own_server.cut_upload_after(35_000)
        task = loop.send(films, "key", "frames.pred")
        assert any(call.method == "PATCH" and call.status is None for call in own_server.requests)
        assert own_server.tasks[0].files[f"{films.first().id}.avi"] == Path(films.first().filepath).read_bytes()
        assert (task.jobs, orphans(own_server, loop)) == (1, 0)


def test_labels_of_a_class_that_was_removed_there_stay_here(
    loop: AnnotationLoop, pets: Any, told_server: Reachable
) -> None:
    person = Annotator(loop.connection, loop.send(pets, "key", "pred").task)
    cats = sum(label == "cat" for some in pets.values("pred.detections.label") for label in some)
    before = labels_of(pets)
    loop.connection.call("DELETE", f"/api/labels/{person.labels['cat']}")
    person.do("delete", person.objects()[0])
    person.finish()
    report = loop.pull("key")
    assert report.problems == (
        f"class 'cat' was removed from the CVAT project and {cats} labels with it there; here they stay",
    )
    assert (report.counts["deleted"], report.changed) == (1, 1)
    after = labels_of(pets)
    for sample, one in before.items():
        kept = [label for label in one["detections"] if label["label"] == "cat"]
        assert [label for label in after[sample]["detections"] if label["label"] == "cat"] == kept
    assert loop.pull("key").problems == ()
    assert labels_of(pets) == after


def test_a_corrupt_video_is_left_out_and_said(
    fo: Any, dataset_name: str, tmp_path: Path, told_server: Reachable
) -> None:
    films = tracked_film(fo, dataset_name, tmp_path)
    whole = Path(films.first().filepath).read_bytes()
    for name, content in (("head.avi", whole[:300]), ("text.mp4", b"no video" * 99)):
        (tmp_path / name).write_bytes(content)
        films.add_samples([fo.Sample(filepath=str(tmp_path / name))], progress=False)
    with looping(films) as loop:
        task = loop.send(films, "key", "frames.pred")
        assert (task.samples, len(task.problems)) == (1, 2)
        assert tasks_of(loop) == [task.task]


def test_a_video_that_the_server_cannot_decode_leaves_no_task(
    fo: Any, dataset_name: str, tmp_path: Path, told_server: Reachable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from osv_lab.annotate import pack_clips

    films = tracked_film(fo, dataset_name, tmp_path)
    path = Path(films.first().filepath)
    media = pack_clips.probe_video(path)
    path.write_bytes(path.read_bytes()[:300])
    monkeypatch.setattr(pack_clips, "probe_video", lambda _: media)
    with looping(films) as loop:
        with pytest.raises(InvalidDataError, match=r"film\.avi"):
            loop.send(films, "key", "frames.pred")
        assert (tasks_of(loop), loop.list().runs) == ([], ())


KILLED = """
import os, sys
from osv_lab.annotate import AnnotationLoop
from osv_lab.store import annotation_store
from osv_lab.store.catalogue import open_dataset

def half(items, size):
    # The database is asked for a half of what there is to be written, and then we are no more.
    if items and type(items[0]).__name__ == "UpdateOne":
        yield items[: len(items) // 2]
        os._exit(9)
    yield from plain(items, size)

plain, annotation_store.batches = annotation_store.batches, half
AnnotationLoop(open_dataset(sys.argv[1]), organization="").pull("key")
"""


def test_a_pull_that_was_killed_among_its_writes_is_completed(
    fo: Any, dataset_name: str, tmp_path: Path, told_server: Reachable
) -> None:
    films = tracked_film(fo, dataset_name, tmp_path)
    with looping(films) as loop:
        person = Annotator(loop.connection, loop.send(films, "key", "frames.pred").task)
        moved, gone = person.objects("tracks")[:2]
        keyframes = [{**shape, "points": [value + 4 for value in shape["points"]]} for shape in moved["shapes"]]
        person.do("update", {**moved, "shapes": keyframes}, kind="tracks")
        person.do("delete", gone, kind="tracks")
        box = {"type": "rectangle", "frame": 0, "points": [3, 4, 10, 12.5]}
        person.do("create", {"frame": 0, "label_id": gone["label_id"], "shapes": [box]}, kind="tracks")
        person.finish()
        before = frame_labels(films)
        killed = subprocess.run([sys.executable, "-c", KILLED, films.name], check=False, timeout=300)
        assert killed.returncode == 9
        changed = {number for number, some in frame_labels(films).items() if some != before[number]}
        assert len(changed) == 20
        report = loop.pull("key")
        assert (report.conflicts, report.changed) == ((), 20)
        after = frame_labels(films)
        assert all(
            sorted(one.get("index", 0) for one in some if one.get("index")) == [1, 3, 4] for some in after.values()
        )
        assert (
            len({str(one["instance"]["_id"]) for some in after.values() for one in some if one.get("index") == 4})
            == 1
        )
        assert loop.pull("key").changed == 0
        assert frame_labels(films) == after
