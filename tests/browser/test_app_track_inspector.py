"""The Tracks plugin as a person meets it: a planted identity switch is found on the timeline, swapped and undone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from app_driver import Driver
from support import ROOT, shared_data

from osv_lab.evaluate.suspicious import suspicious
from osv_lab.evaluate.tracking import evaluate_tracks
from osv_lab.store.ingest import ingest
from osv_lab.store.synthetic_video import render_video
from osv_lab.store.tracks import read_tracks, write_tracks
from osv_lab.track import mot
from osv_lab.track.tracks import Tracks

if TYPE_CHECKING:
    from playwright.sync_api import Locator

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

TRACKS = ROOT / "tests" / "data" / "car_detection_tracks.txt"
"""What YOLOX-Nano and BoT-SORT say of car-detection.mp4."""


def planted(fo: Any, name: str, folder: Path) -> tuple[Any, int, tuple[int, int]]:
    """A video whose tracks have one identity switch, with the truth: the dataset, the frame and the identities."""
    data = shared_data()
    if data is not None:
        video, truth, at, pair = data / "videos" / "car-detection.mp4", mot.read_tracks(TRACKS), 219, (2, 3)
    else:
        rendered = render_video(folder / "parts.mp4", 100)
        video, truth, at, pair = rendered.path, mot.read_tracks(rendered.mot), 51, (1, 2)
    ingest(video, name)
    dataset = fo.load_dataset(name)
    truth = Tracks(truth.frame, truth.track_id, truth.xyxy, truth.confidence)
    late, ids = truth.frame >= at, truth.track_id.copy()
    ids[late] = np.select([ids[late] == pair[0], ids[late] == pair[1]], pair[::-1], ids[late])
    write_tracks(dataset.first(), truth, "ground_truth", class_names={0: "car"})
    write_tracks(dataset.first(), Tracks(truth.frame, ids, truth.xyxy, truth.confidence), class_names={0: "car"})
    dataset.app_config.color_scheme = fo.ColorScheme(color_by="instance")
    dataset.save()
    assert evaluate_tracks(dataset).scores.combined.clear.switches == 2
    suspicious(dataset)
    return dataset, at, pair


def mark(panel: Locator, kind: str) -> Locator:
    """The topmost mark of a kind on the timeline."""
    traces = panel.locator(".js-plotly-plot").evaluate("plot => plot.data.map(trace => trace.name)")
    return panel.locator(".scatterlayer .trace").nth(traces.index(kind)).locator("path.point").last


def shown_frame(app: Driver, video: str, number: int) -> None:
    """Wait until the open sample shows this frame of a video, which looks like no other frame, by one at most."""
    reader, frames = cv2.VideoCapture(video), []
    while (read := reader.read())[0]:
        frames.append(cv2.resize(read[1], (192, 108), interpolation=cv2.INTER_AREA).astype(np.int16))
    stack, best = np.stack(frames), 0
    picture = app.page.locator("[data-cy='modal'] canvas, [data-cy='modal'] video").first
    picture.wait_for(timeout=60_000)
    for _ in range(60):
        seen = cv2.imdecode(np.frombuffer(picture.screenshot(), np.uint8), cv2.IMREAD_COLOR)
        wide = stack.shape[2] / stack.shape[1]
        tall = round(seen.shape[1] / wide)
        top = max(0, (seen.shape[0] - tall) // 2)
        seen = cv2.resize(seen[top : top + tall], (192, 108), interpolation=cv2.INTER_AREA).astype(np.int16)
        best = int(np.abs(stack - seen).mean((1, 2, 3)).argmin()) + 1
        if abs(best - number) <= 1:
            return
        app.page.wait_for_timeout(1000)
    pytest.fail(f"frame {number} is to be seen, the picture is most like frame {best}")


def test_a_planted_switch_is_found_swapped_and_undone(
    app: Driver, fo: Any, dataset_name: str, tmp_path: Path
) -> None:
    dataset, at, (one, two) = planted(fo, dataset_name, tmp_path)
    truth = read_tracks(dataset.first(), "ground_truth", class_names=["car"])
    app.open(dataset.name)
    panel = app.panel("Track inspector")
    panel.get_by_text("2 identity switches").wait_for()
    panel.locator(".ytick").first.wait_for()
    app.picture("app-track-inspector")

    # The first click: the mark of the switch. The video opens at the last frame before it.
    mark(panel, "switch").click(force=True)
    shown_frame(app, dataset.first().filepath, at - 1)
    app.picture("app-track-inspector-video", 2500)
    app.close_modal()
    # Once more, though the App is already at that clip.
    mark(panel, "switch").click(force=True)
    shown_frame(app, dataset.first().filepath, at - 1)
    app.close_modal()
    app.picture("app-track-inspector-found")

    # The second: what would mend it.
    panel.get_by_role("button", name=f"Swap {one} and {two} from frame {at}").click()
    panel.get_by_role("button", name=f"Undo: {one} and {two} swapped from frame {at}").wait_for()
    app.picture("app-track-inspector-swapped")
    found = read_tracks(dataset.first(), class_names=["car"])
    assert np.array_equal(found.track_id, truth.track_id) and np.array_equal(found.xyxy, truth.xyxy)

    panel.get_by_text("Older than the last edit").wait_for()
    panel.get_by_role("button", name="Look again").click()
    panel.get_by_text("0 identity switches").wait_for(timeout=60_000)
    assert "track_eval: HOTA 1.000, IDF1 1.000, MOTA 1.000" in panel.inner_text()
    dataset.reload()
    assert dataset.first()["track_eval_idsw"] == 0
    app.picture("app-track-inspector-mended")

    panel.get_by_role("button", name="Undo").click()
    panel.get_by_role("button", name=f"Redo: {one} and {two} swapped").wait_for()
    assert not np.array_equal(read_tracks(dataset.first()).track_id, truth.track_id)


def test_events_are_filtered_and_the_form_says_what_an_edit_would_do(
    app: Driver, fo: Any, dataset_name: str, tmp_path: Path
) -> None:
    dataset, at, (one, _) = planted(fo, dataset_name, tmp_path)
    app.open(dataset.name)
    panel = app.panel("Track inspector")
    panel.locator(".ytick").first.wait_for()
    lanes = panel.locator(".ytick")
    assert {"switch", "merge", f"car {one}"} <= set(lanes.all_text_contents())
    panel.get_by_role("combobox").nth(2).click()
    app.page.get_by_role("option", name="switch (2)").click()
    lanes.filter(has_text="merge").wait_for(state="hidden")
    assert "switch" in lanes.all_text_contents()

    panel.get_by_role("button", name="Edit…").click()
    app.choose("What to do", "Split a track at a frame")
    app.fill("Track", "77")
    app.fill("From frame", str(at))
    app.told("no track 77")
    assert app.form.get_by_role("button", name="Execute").is_disabled()
    app.fill("Track", str(one))
    app.told(f"{one} split at frame {at}, from there on it is ")
    app.picture("app-track-edit")
    before = set(dataset.distinct("frames.tracks.detections.index"))
    app.send()
    app.told(r"car-detection: |parts: ")
    app.done()
    dataset.reload()
    assert len(set(dataset.distinct("frames.tracks.detections.index")) - before) == 1
    panel.get_by_role("button", name=f"Undo: {one} split at frame {at}").wait_for()


def test_tracks_are_made_judged_and_searched_from_the_menu(
    app: Driver, fo: Any, dataset_name: str, tmp_path: Path
) -> None:
    video = render_video(tmp_path / "parts.mp4", 30)
    ingest(video.path, dataset_name)
    dataset = fo.load_dataset(dataset_name)
    truth = mot.read_tracks(video.mot)
    write_tracks(
        dataset.first(), Tracks(truth.frame, truth.track_id, truth.xyxy), "truth", class_names={0: "part"}
    )
    app.open(dataset.name)
    app.operator("Track objects")
    app.choose("Detections", "of a field")
    app.send()
    app.told("1 clips tracked into 'frames.tracks'")
    app.done()
    panel = app.panel("Track inspector")
    panel.get_by_text("Nobody has looked for mistakes").wait_for()
    panel.get_by_role("button", name="Evaluate against truth").click()
    app.choose("True tracks", "frames.truth")
    app.send()
    app.told("track_eval: HOTA ")
    app.picture("app-track-evaluated")
    app.done()
    panel.get_by_text("track_eval: HOTA").wait_for()
