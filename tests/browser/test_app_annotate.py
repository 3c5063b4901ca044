"""The Annotate plugin as a person meets it: send, look, bring back, settle what both sides changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from annotation_people import Annotator
from app_driver import Driver
from app_scenes import cells
from cvat_double.server import CvatDouble

from osv_lab.annotate import AnnotationLoop
from osv_lab.annotate.settings import CvatSettings, save_settings
from osv_lab.store.ingest import ingest
from osv_lab.store.synthetic_video import render_video
from osv_lab.store.tracks import write_tracks
from osv_lab.track import mot
from osv_lab.track.tracks import Tracks

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture
def known(cvat: CvatDouble, monkeypatch: pytest.MonkeyPatch) -> Iterator[CvatDouble]:
    """The double, as the lab's settings file has it: the App's server reads it there."""
    for name in ("URL", "USER", "PASSWORD", "TOKEN", "ORGANIZATION"):
        monkeypatch.delenv(f"OSV_CVAT_{name}", raising=False)
    file = save_settings(CvatSettings(cvat.url, cvat.user, cvat.password))
    yield cvat
    file.unlink()


def test_nothing_sent_yet_and_no_server_known_are_said(app: Driver, dataset_name: str, tmp_path: Path) -> None:
    cells(dataset_name, tmp_path)
    app.open(dataset_name)
    app.panel("Annotation")
    app.told("Nothing of this dataset was sent yet")
    app.picture("app-annotation-empty")
    app.page.get_by_role("button", name="Send to CVAT").first.click()
    app.fill("Name of this run", "first")
    app.told("OSV_CVAT_URL|no CVAT server")
    assert app.form.get_by_role("button", name="Execute").is_disabled()


def test_labels_go_come_back_and_conflicts_are_settled(
    app: Driver, known: CvatDouble, dataset_name: str, tmp_path: Path
) -> None:
    dataset = cells(dataset_name, tmp_path)
    app.open(dataset.name)
    app.operator("Send to CVAT")
    app.fill("Name of this run", "first")
    app.told(f"To {known.url}")
    app.fill("Images per job", "20")
    app.picture("app-annotate-send")
    app.send()
    app.told(r"40 samples with \d+ labels are at")
    app.done()

    with AnnotationLoop(dataset, organization="") as loop:
        (task,) = {run["task"] for run in loop.list().runs}
        person = Annotator(loop.connection, task)
        mine, gone = person.objects()[:2]
        person.do("update", {**mine, "points": [2.0, 2.0, 90.0, 90.0]})
        person.do("delete", gone)
        person.finish()
    sample = dataset.first()
    sample["ground_truth"].detections[0].bounding_box = [0.5, 0.5, 0.25, 0.25]
    sample.save()

    app.open(dataset.name)
    app.panel("Annotation")
    app.page.get_by_role("button", name="Ask the server").click()
    app.told("2 of 2 jobs completed; labels: 1 edited, 0 added, 1 removed")
    app.page.get_by_role("button", name="Bring labels back").click()
    app.form.wait_for()
    app.send()
    app.told("1 conflict")
    app.done()
    app.told("Keep one version of each")
    app.picture("app-annotation")
    app.page.get_by_role("button", name="Take all of theirs").click()
    app.page.get_by_text("Keep one version of each").wait_for(state="detached")
    dataset.reload()
    box = dataset.first()["ground_truth"].detections[0].bounding_box
    assert [round(640 * box[0]), round(480 * box[1])] == [2, 2]


def test_only_the_frames_around_a_tracks_events_go(
    app: Driver, fo: Any, known: CvatDouble, dataset_name: str, tmp_path: Path
) -> None:
    video = render_video(tmp_path / "parts.mp4", 60)
    ingest(video.path, dataset_name)
    dataset = fo.load_dataset(dataset_name)
    truth = mot.read_tracks(video.mot)
    seen = ~((truth.track_id == truth.track_id[0]) & (truth.frame >= 21) & (truth.frame <= 30))
    tracks = Tracks(truth.frame[seen], truth.track_id[seen], truth.xyxy[seen])
    write_tracks(dataset.first(), tracks, class_names={0: "part"})
    app.open(dataset_name)
    panel = app.panel("Track inspector")
    panel.get_by_role("button", name="Send to CVAT").click()
    app.fill("Frames before and after", "4")
    app.fill("Name of this run", "lost")
    app.told("1 stretch, 18 of 60 frames")
    app.told(f"To {known.url}")
    app.picture("app-track-send")
    app.send()
    app.told("are at")
    app.done()
    with AnnotationLoop(dataset, organization="") as loop:
        assert [job.frames for job in loop.status("lost").jobs] == [18]
