"""Autolabel on the frames of videos, alone and as tracks: what people made stays, and what goes to CVAT are windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from annotation_films import FRAMES, frame_labels, of_track, tracked_film
from annotation_people import Annotator, looping
from cvat_double.reach import Reachable
from scripted_detector import ScriptedDetector

from osv_lab.annotate import autolabel_write
from osv_lab.annotate.autolabel import autolabel
from osv_lab.core.errors import InterruptedJobError, UsageError

SURE, UNSURE = ("cat", 0.9, (2.0, 2.0, 20.0, 20.0)), ("dog", 0.4, (130.0, 90.0, 150.0, 110.0))


class SometimesUnsure(ScriptedDetector):
    """Sees the unsure object on some frames only, in the order that it is asked."""

    def __init__(self, *frames: int) -> None:
        super().__init__(SURE)
        self.frames = frames

    def predict(self, images: Any, **options: Any) -> Any:
        found = []
        for image in images:
            self.says = (SURE, UNSURE) if self.images + 1 in self.frames else (SURE,)
            found += super().predict([image], **options)
        return found


@pytest.fixture
def films(fo: Any, dataset_name: str, tmp_path: Path) -> Any:
    return tracked_film(fo, dataset_name, tmp_path)


def test_frames_get_proposals_and_what_is_unsure_is_sent_as_windows(films: Any, told_server: Reachable) -> None:
    report = autolabel(films, SometimesUnsure(3, 5, 35), "auto")
    assert (report.field, report.labelled, report.trusted, report.images) == (
        "frames.auto",
        FRAMES,
        FRAMES,
        (3, 37),
    )
    assert report.view("uncertain").values("id") == [films.first().id]
    assert report.windows(margin=2) == {films.first().id: [(1, 7), (33, 37)]}
    with looping(films) as loop:
        task = loop.send(report.view(), "check", report.field, windows=report.windows(margin=2))
        assert (len(task.tasks), task.objects) == (2, 7 + 5 + 3)


def test_it_goes_on_where_it_stopped_and_does_nothing_twice(films: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("osv_lab.annotate.autolabel.WRITE_EVERY", 16)
    plain, calls = autolabel_write.ProposalWriter.write, []

    def stopping(self: Any, found: Any) -> None:
        calls.append(len(found))
        if len(calls) == 2:
            raise KeyboardInterrupt
        plain(self, found)

    with monkeypatch.context() as patch:
        patch.setattr(autolabel_write.ProposalWriter, "write", stopping)
        with pytest.raises(InterruptedJobError, match="16 images"):
            autolabel(films, ScriptedDetector(SURE), "frames.auto")
    report = autolabel(films, ScriptedDetector(SURE), "frames.auto")
    assert (report.kept, report.labelled, report.proposals) == (16, FRAMES - 16, FRAMES)
    before = frame_labels(films, "auto")
    again = ScriptedDetector(SURE)
    assert autolabel(films, again, "frames.auto").kept == FRAMES
    assert again.images == 0
    assert frame_labels(films, "auto") == before


def test_proposals_are_tracks_beside_those_that_are_there(films: Any) -> None:
    for frame in films.first().frames.values():
        frame["pred"].detections = [one for one in frame["pred"].detections if one.index == 2]
        frame.save()
    before = frame_labels(films)
    report = autolabel(films, ScriptedDetector(SURE), "pred", tracker="bytetrack")
    after = frame_labels(films)
    assert report.trusted == FRAMES
    assert of_track(after, 2) == of_track(before, 2)
    track = of_track(after, 3)
    assert len(track) >= FRAMES - 1
    assert len({str(one["instance"]["_id"]) for one in track.values()}) == 1
    # The same again does nothing, and another detector replaces it.
    assert autolabel(films, ScriptedDetector(SURE), "pred", tracker="bytetrack").kept == FRAMES
    assert frame_labels(films) == after
    autolabel(films, ScriptedDetector(ref="scripted@2"), "pred", tracker="bytetrack")
    assert frame_labels(films) == before


def test_frames_that_annotators_went_over_are_theirs(films: Any, told_server: Reachable) -> None:
    sample = films.first()
    autolabel(films, ScriptedDetector(SURE), "auto")
    with looping(films) as loop:
        task = loop.send(films, "check", "frames.auto", windows={sample.id: [(1, 5)]})
        person = Annotator(loop.connection, task.task)
        person.do("delete", *person.objects())
        person.finish()
        loop.pull("check")
        report = autolabel(films, ScriptedDetector(SURE, ref="scripted@2"), "auto")
    # They are proposed again where people left them out, and said to be so.
    assert report.why == {"not in people's labels": 5}
    assert report.trusted == FRAMES - 5


def test_a_tracker_is_for_videos(pets: Any) -> None:
    with pytest.raises(UsageError, match="follows the frames of videos"):
        autolabel(pets, ScriptedDetector(SURE), "auto", tracker="bytetrack")


def test_a_film_that_is_none_is_named(films: Any) -> None:
    Path(films.first().filepath).write_bytes(b"nothing")
    report = autolabel(films, ScriptedDetector(SURE), "auto")
    assert (report.labelled, len(report.problems), report.exit_code) == (0, 1, 4)
