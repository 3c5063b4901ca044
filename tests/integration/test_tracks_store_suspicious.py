"""Tracks that look wrong, without truth: planted faults are found, clean tracks are left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tracks_store_scenes import blank_video

from osv_lab.evaluate.suspicious import suspicious
from osv_lab.track.tracks import Tracks


def line(identity: int, frames: range, x: float, speed: float, y: float = 100, class_id: int = 1) -> Tracks:
    number = np.array(frames)
    left, top = x + speed * (number - number[0]), np.full(len(number), y)
    boxes = np.column_stack((left, top, left + 40, top + 100))
    return Tracks(number, np.full(len(number), identity), boxes, class_id=np.full(len(number), class_id))


def test_planted_faults_are_written_and_clean_tracks_are_not(fo: Any, dataset_name: str) -> None:
    crossing = Tracks.concatenate((line(1, range(1, 80), 0, 4), line(2, range(1, 80), 316, -4)))
    swapped = np.where(crossing.frame >= 40, 3 - crossing.track_id, crossing.track_id)
    flicker = line(5, range(1, 80), 0, 2, 400)
    planted = Tracks.concatenate(
        (
            Tracks(crossing.frame, swapped, crossing.xyxy, class_id=crossing.class_id),
            line(3, range(1, 40), 500, 2),
            line(3, range(40, 80), 800, 2),
            flicker[flicker.frame % 4 != 0],
            line(6, range(1, 80), 300, 1, 250),
            line(7, range(30, 60), 330, 1, 250),
            line(8, range(40, 43), 700, 1, 420),
        )
    )
    dataset = blank_video(fo, dataset_name, 0, {"tracks": planted, "clean": crossing})
    report = suspicious(dataset)

    kinds = {one.kind: one for one in report.events}
    assert set(kinds) == {"swap", "teleport", "flicker", "merge", "short"}
    assert kinds["swap"].tracks == (1, 2) and kinds["swap"].first_frame <= 40 <= kinds["swap"].last_frame
    assert (kinds["teleport"].tracks, kinds["teleport"].first_frame) == ((3,), 39)
    assert kinds["teleport"].first_s == pytest.approx(38 / 25)
    stored = dataset.first().suspicious_events.detections
    assert sorted((d.label, *d.support) for d in stored) == sorted(
        (one.kind, one.first_frame, one.last_frame) for one in report.events
    )
    assert all(0 <= d.confidence <= 1 and d.reason and d.tracks for d in stored)
    assert dataset.first().suspicious_count == len(report.events)
    assert dataset.first().suspicious_score == pytest.approx(sum(one.score for one in report.events))
    assert len(report.clips()) == len({(one.first_frame, one.last_frame, one.kind) for one in report.events})
    assert report.view("teleport").count("suspicious_events.detections") == 1 and "teleport" in report.summary()

    clean = suspicious(dataset, "clean")
    assert clean.events == () and dataset.first().suspicious_events.detections == []


def test_a_class_that_flips_is_told_by_name(fo: Any, dataset_name: str) -> None:
    flipping = Tracks.concatenate((line(4, range(1, 40), 0, 2), line(4, range(40, 70), 78, 2, class_id=3)))
    dataset = blank_video(fo, dataset_name, 0, {"tracks": flipping})
    assert dataset.distinct("frames.tracks.detections.label") == ["pedestrian"], "one class per track"
    [event] = suspicious(dataset).events
    assert event.kind == "class_flip" and event.reason == "1 changes among classes car, pedestrian"
