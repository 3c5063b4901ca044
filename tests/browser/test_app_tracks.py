"""Tracks in the FiftyOne App: the video plays, boxes carry identities, mistakes are tags with frames."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support import shared_data

from osv_lab.app import open_app
from osv_lab.evaluate.suspicious import suspicious
from osv_lab.evaluate.tracking import evaluate_tracks
from osv_lab.store.ingest import ingest
from osv_lab.store.synthetic_video import render_video
from osv_lab.store.tracks import track, write_tracks
from osv_lab.track.mot import read_tracks
from osv_lab.track.tracks import Tracks

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]

CAR_VIDEO, CAR_MODEL = "videos/car-detection.mp4", "models/yolox_nano_coco.onnx"


@pytest.fixture(scope="module")
def names() -> tuple[str, str]:
    """The synthetic dataset and the real one."""
    tag = uuid.uuid4().hex[:8]
    return f"parts-{tag}", f"cars-{tag}"


@pytest.fixture(scope="module")
def app(fo: Any, names: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The App with both datasets; gives its address. Without real data the second has the synthetic video too."""
    video = render_video(tmp_path_factory.mktemp("video") / "parts.mp4", 100)
    ingest(video.path, names[0])
    parts = fo.load_dataset(names[0])
    truth = read_tracks(video.mot)
    labels = {number: f"part{number}" for number in range(1, 9)}
    write_tracks(parts.first(), truth, "ground_truth", class_names=labels)
    # From frame 51 on, 1 and 2 have changed places and 3 goes on as 30.
    late, ids = truth.frame > 50, truth.track_id.copy()
    ids[late] = np.select([ids[late] == 1, ids[late] == 2, ids[late] == 3], [2, 1, 30], ids[late])
    write_tracks(parts.first(), Tracks(truth.frame, ids, truth.xyxy, None, truth.class_id), class_names=labels)
    assert evaluate_tracks(parts).scores.combined.clear.switches == 3
    suspicious(parts)
    data = shared_data()
    if data is not None:
        ingest(data / CAR_VIDEO, names[1])
        track(fo.load_dataset(names[1]), data / CAR_MODEL)
    else:
        ingest(video.path, names[1])
        tracked = fo.load_dataset(names[1])
        write_tracks(tracked.first(), truth, "detections", class_names=labels)
        track(tracked, from_field="frames.detections", refine=True)
    for name in names:
        dataset = fo.load_dataset(name)
        dataset.app_config.color_scheme = fo.ColorScheme(color_by="instance")
        dataset.save()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    session = open_app(names[0], port=port)
    yield f"http://127.0.0.1:{port}"
    session.close()


def open_grid(page: Page, url: str, name: str) -> None:
    page.goto(f"{url}/datasets/{name}", timeout=120_000)
    page.locator("[data-cy='looker']").first.wait_for(timeout=120_000)
    page.wait_for_timeout(3000)


def open_video(page: Page) -> list[str]:
    """The first video, large, with a lane per track; gives the lines of its player: time, ruler, lanes."""
    page.locator("[data-cy='looker']").first.click()
    page.get_by_label("Show tracks").click(timeout=120_000)
    page.wait_for_timeout(3000)
    return player(page)


def player(page: Page) -> list[str]:
    lines = page.locator("[data-cy='modal'] [data-cy='panel-content-fo-sample-modal-plugin']").inner_text()
    return str(lines).splitlines()


def play(page: Page, for_ms: int) -> str:
    """Play for a while, pause, and say at what time it stands."""
    page.keyboard.press("Space")
    page.wait_for_timeout(for_ms)
    page.keyboard.press("Space")
    page.wait_for_timeout(1500)
    return player(page)[0]


def test_tracks_and_their_mistakes_are_shown(
    page: Page, app: str, names: tuple[str, str], output_dir: Path
) -> None:
    open_grid(page, app, names[0])
    tags = page.locator("[data-cy='looker']").first.inner_text()
    assert "[50, 51]" in tags and "track_eval_events" in page.locator("[data-cy='sidebar']").inner_text()
    page.screenshot(path=output_dir / "app-track-events.png")
    open_video(page)
    page.locator("[data-cy='modal'] [data-cy='checkbox-frames.ground_truth']").last.click()
    page.wait_for_timeout(1500)
    lanes = player(page)
    identities = {int(line.split()[1]) for line in lanes if line.startswith("part") and " " in line}
    assert identities == {1, 2, 3, 4, 5, 6, 30}, lanes
    assert not play(page, 2500).startswith("0:00.00")
    page.screenshot(path=output_dir / "app-tracks.png")


def test_a_video_is_tracked_and_plays(page: Page, app: str, names: tuple[str, str], output_dir: Path) -> None:
    import fiftyone as fo

    open_grid(page, app, names[1])
    lanes = open_video(page)
    wanted = set(fo.load_dataset(names[1]).distinct("frames.tracks.detections.index"))
    shown = {int(line.rsplit(" ", 1)[1]) for line in lanes if line.rsplit(" ", 1)[-1].isdecimal() and " " in line}
    assert wanted and shown == wanted, lanes
    assert not play(page, 3000).startswith("0:00.00")
    page.screenshot(path=output_dir / "app-tracks-cars.png")
