"""Tracks evaluated in the store: the official scores, and every mistake where the App shows it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from track_scenes import disturb, mot17, walk
from tracks_store_scenes import blank_video, clip_of, content

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError
from osv_lab.evaluate.tracking import evaluate_tracks
from osv_lab.store import bulk, bulk_tracks
from osv_lab.store.tracks import read_tracks, write_tracks
from osv_lab.track.metrics import evaluate_sequence, evaluate_sequences
from osv_lab.track.tracks import Tracks


def test_evaluation_through_the_store_is_the_evaluation_of_the_files(fo: Any, dataset_name: str) -> None:
    """The official scores, to the last bit, under MOTChallenge's protocol where its data is there."""
    found = mot17()
    pairs: dict[str, tuple[Tracks, Tracks]] = {}
    for name, sequence in list(found.items())[-1:]:
        truth = sequence.truth.between(1, 80)
        pairs[name] = truth, disturb(truth[truth.confidence != 0])
    if not found:
        scene = walk(14, 100)
        class_id, mark = np.where(scene.track_id % 5 == 0, 7, 1), (scene.track_id % 4 != 0).astype(float)
        pairs["scene"] = Tracks(scene.frame, scene.track_id, scene.xyxy, mark, class_id), disturb(scene)
    [(truth, predicted)] = pairs.values()
    corner = predicted.xyxy[:, :2].round(2)
    boxes = np.hstack((corner, corner + (predicted.xyxy[:, 2:] - corner).round(2)))
    predicted = Tracks(predicted.frame, predicted.track_id, boxes)
    wanted = evaluate_sequences({"scene": (truth, predicted)}, benchmark="mot17")

    dataset = blank_video(fo, dataset_name, 0, {"ground_truth": truth, "tracks": predicted})
    report = evaluate_tracks(dataset, benchmark="mot17")

    assert report.scores.combined.values() == wanted.combined.values()
    sample = dataset.first()
    assert sample.track_eval_hota == wanted.combined.values()["HOTA"]
    assert sample.track_eval_idsw == wanted.combined.clear.switches
    counts = dataset.count_values("frames.tracks.detections.track_eval")
    clear = wanted.combined.clear
    assert (
        counts["tp"] + counts["idsw"] == clear.tp and counts["fp"] == clear.fp and counts["idsw"] == clear.switches
    )
    true = dataset.count_values("frames.ground_truth.detections.track_eval")
    assert true["fn"] == clear.fn and sum(true.values()) == len(truth) and true["ignored"] > 0
    assert "mot17 preprocessing" in report.rule and "HOTA" in report.summary()


@pytest.fixture
def judged(fo: Any, dataset_name: str) -> tuple[Any, Tracks, Tracks]:
    truth = walk(12, 100)
    predicted = disturb(truth)
    return blank_video(fo, dataset_name, 0, {"ground_truth": truth, "tracks": predicted}), truth, predicted


def test_every_mistake_is_where_the_app_shows_it(fo: Any, judged: tuple[Any, Tracks, Tracks]) -> None:
    dataset, truth, predicted = judged
    report = evaluate_tracks(dataset)
    wanted = evaluate_sequence(truth, predicted)

    told = [(e.kind, e.first_frame, e.last_frame, e.truth, e.predicted, e.previous) for e in report.events]
    assert sorted(told, key=str) == sorted(
        ((e.kind, e.first_frame, e.last_frame, e.truth_id, e.predicted_id, e.previous_id) for e in wanted.events),
        key=str,
    )
    kept = dataset.first().track_eval_events.detections
    assert sorted((d.label, *d.support) for d in kept) == sorted(row[:3] for row in told)
    switches = [d for d in kept if d.label == "switch"]
    assert len(switches) == wanted.clear.switches > 0
    for event in switches:
        labels = dataset.first().frames[event.support[1]].tracks.detections
        [marked] = [one for one in labels if one.index == event.predicted]
        assert marked.track_eval == "idsw" and marked.track_eval_index == event.truth
        [true] = [
            d for d in dataset.first().frames[event.support[1]].ground_truth.detections if d.index == event.truth
        ]
        assert true.track_eval_id == marked.id and true.track_eval_iou == marked.track_eval_iou
    assert len(report.clips("switch")) == len(switches)
    assert report.view("switch").first().track_eval_events.detections[0].label == "switch"
    assert sum(one.switches for one in report.tracks) == wanted.clear.switches
    assert (
        len(report.track_rows()) == 12
        and report.track_rows()[0]["coverage"] <= report.track_rows()[-1]["coverage"]
    )
    assert {row["kind"] for row in report.event_rows("merge")} <= {"merge"}
    assert report.to_dict()["scores"]["combined"]["HOTA"] == wanted.values()["HOTA"]


def test_a_second_evaluation_replaces_the_first_and_labels_stay_as_they_are(fo: Any, dataset_name: str) -> None:
    truth = walk(6, 50)
    predicted = disturb(truth)
    dataset = blank_video(fo, dataset_name, 0, {"ground_truth": truth, "tracks": predicted})
    labels = content(dataset, "ground_truth"), content(dataset)
    dataset.clone_frame_field("tracks", "copy")
    evaluate_tracks(dataset, key="one")
    second = evaluate_tracks(dataset, "copy", iou=0.9, key="one")

    wanted = evaluate_sequence(truth, predicted, iou=0.9)
    assert second.scores.combined.values() == pytest.approx(wanted.values(), rel=1e-6)
    assert dataset.list_runs() == ["one"]
    assert not dataset.has_field("frames.tracks.detections.one"), "nothing of the first is left"
    assert len(dataset.first().one_events.detections) == len(wanted.events)
    assert (content(dataset, "ground_truth"), content(dataset)) == labels
    np.testing.assert_array_equal(read_tracks(dataset).xyxy, read_tracks(dataset, "copy").xyxy)
    # A killed evaluation has noted its run and written half of it.
    bulk_tracks.set_sample_values(dataset, clip_of(dataset), {"one_hota": -1.0})
    assert evaluate_tracks(dataset, key="one") and dataset.first().one_hota > 0

    dataset.add_sample_field("mine_hota", fo.FloatField)
    with pytest.raises(UsageError, match="mine_hota"):
        evaluate_tracks(dataset, key="mine")
    [(_, record)] = bulk.iter_records(dataset, ["frames.ground_truth"])
    assert not any(label.attributes for some in (record.frames or {}).values() for label in some)


def test_classes_together_and_one_by_one(fo: Any, dataset_name: str) -> None:
    scene = walk(6, 60)
    truth = Tracks(scene.frame, scene.track_id, scene.xyxy, class_id=np.where(scene.track_id % 2, 1, 3))
    mistaken = Tracks(
        scene.frame, scene.track_id, scene.xyxy, class_id=np.where(scene.track_id > 4, 1, truth.class_id)
    )
    dataset = blank_video(fo, dataset_name, 0, {"ground_truth": truth, "tracks": mistaken})
    together = evaluate_tracks(dataset)
    apart = evaluate_tracks(dataset, per_class=True)
    cars = evaluate_tracks(dataset, classes=["car"])

    wrong = int(np.count_nonzero(scene.track_id == 6))
    assert together.scores.combined.values()["HOTA"] == pytest.approx(1)
    assert together.notes == (
        f"{wrong} of {len(scene)} matched boxes have another class: per_class=True counts them as wrong",
    )
    assert set(apart.classes) == {"car", "pedestrian"} and apart.notes == ()
    assert (apart.scores.combined.clear.fp, apart.scores.combined.clear.fn) == (wrong, wrong)
    assert apart.classes["car"].clear.fn == wrong and apart.classes["car"].clear.fp == 0
    assert [row["sequence"] for row in apart.rows()] == ["scene", "all", "class car", "class pedestrian"]
    assert cars.scores.combined.values() == apart.classes["car"].values()


def test_indices_counted_per_class_are_identities_per_class(fo: Any, dataset_name: str) -> None:
    """FiftyOne's own rule, and CVAT's: car 1 and bus 1 are two tracks."""
    dataset = blank_video(fo, dataset_name, 3)
    sample = dataset.first()
    for number in (1, 2, 3):
        sample.frames[number] = fo.Frame(
            ground_truth=fo.Detections(
                detections=[
                    fo.Detection(label=name, index=1, bounding_box=[left, 0.1, 0.1, 0.1])
                    for name, left in (("car", 0.1), ("bus", 0.6))
                ]
            )
        )
    sample.save()
    write_tracks(sample, read_tracks(sample, "ground_truth"), "tracks", class_names={14: "bus", 3: "car"})
    report = evaluate_tracks(dataset)
    assert report.scores.combined.values()["HOTA"] == pytest.approx(1)
    assert sorted((one.track, one.label) for one in report.tracks) == [(1, "bus"), (1, "car")]


def test_truth_on_key_frames_only(fo: Any, dataset_name: str) -> None:
    scene = walk(5, 60)
    dataset = blank_video(fo, dataset_name, 60, {"tracks": scene})
    sample = dataset.first()
    for number, frame in scene[scene.frame % 10 == 0].frames(60):
        if number % 10 == 0:
            sample.frames[number]["ground_truth"] = fo.Detections(
                detections=[
                    fo.Detection(
                        label="object",
                        index=int(index),
                        bounding_box=[x1 / 960, y1 / 540, (x2 - x1) / 960, (y2 - y1) / 540],
                    )
                    for index, (x1, y1, x2, y2) in zip(frame.track_id, frame.xyxy, strict=True)
                ]
            )
    sample.save()
    assert evaluate_tracks(dataset).scores.combined.clear.fp > 0
    assert evaluate_tracks(dataset, only_labelled_frames=True).scores.combined.values()["HOTA"] == pytest.approx(1)


def test_what_cannot_be_evaluated_is_named(fo: Any, judged: tuple[Any, Tracks, Tracks]) -> None:
    dataset = judged[0]
    with pytest.raises(NotFoundError, match=r"did you mean 'frames\.tracks'"):
        evaluate_tracks(dataset, "frames.track")
    with pytest.raises(UsageError, match="the same field"):
        evaluate_tracks(dataset, "tracks", "frames.tracks")
    with pytest.raises(UsageError, match="did you mean 'mot17'"):
        evaluate_tracks(dataset, benchmark="mot71")
    with pytest.raises(UsageError, match="not a name"):
        evaluate_tracks(dataset, key="no name")
    dataset.clone_frame_field("tracks", "boxes")
    dataset.set_values("frames.boxes.detections.index", [[[None] * len(f) for f in s] for s in
                       dataset.values("frames.boxes.detections.index")])  # fmt: skip
    with pytest.raises(InvalidDataError, match="labels without index"):
        evaluate_tracks(dataset, "boxes")
    dataset._frame_collection.update_one({"frame_number": 1}, {"$set": {"tracks.made_by": bulk_tracks.UNFINISHED}})
    with pytest.raises(InvalidDataError, match="half written"):
        evaluate_tracks(dataset)
