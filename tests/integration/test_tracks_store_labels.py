"""What is written of tracks: FiftyOne's own documents, to the last bit, never over a person's labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from track_scenes import mot17, walk
from tracks_store_scenes import Blocks, blank_video

from osv_lab.core.errors import UsageError
from osv_lab.store.tracks import read_tracks, track, write_tracks
from osv_lab.track.tracks import Tracks


def test_documents_equal_the_sdks(fo: Any, dataset_name: str) -> None:
    """Field by field: what the bulk route writes is what FiftyOne would write."""
    tracks = Tracks([1, 1, 3], [4, 9, 4], [[96, 54, 192, 108], [0, 0, 96, 54], [96, 54, 288, 108]], [0.5, 1, 0.25])
    ours = blank_video(fo, dataset_name, 3, {"tracks": tracks})
    theirs = fo.Dataset(f"{dataset_name}-sdk")
    try:
        sample = fo.Sample(filepath="/nowhere/scene.mp4", metadata=ours.first().metadata.copy())
        maker = ours.first().frames[1].tracks.made_by
        instances = {4: fo.Instance(), 9: fo.Instance()}
        for number in (1, 2, 3):
            found = [
                fo.Detection(
                    label="object",
                    bounding_box=[x1 / 960, y1 / 540, (x2 - x1) / 960, (y2 - y1) / 540],
                    confidence=score,
                    index=index,
                    instance=instances[index],
                )
                for frame, index, (x1, y1, x2, y2), score in zip(
                    tracks.frame.tolist(),
                    tracks.track_id.tolist(),
                    tracks.xyxy,
                    tracks.confidence.tolist(),
                    strict=True,
                )
                if frame == number
            ]
            sample.frames[number] = fo.Frame(tracks=fo.Detections(detections=found, made_by=maker))
        theirs.add_sample(sample, dynamic=True)
        assert plain(ours._frame_collection) == plain(theirs._frame_collection)
        paths, expected = ours.get_frame_field_schema(flat=True), theirs.get_frame_field_schema(flat=True)
        # FiftyOne declares instances only where attributes are declared as they are met.
        known = {path: type(one) for path, one in expected.items() if ".instance" not in path}
        assert {path: type(paths[path]) for path in known} == known
    finally:
        theirs.delete()


def plain(collection: Any) -> list[Any]:
    """Documents with ids and times reduced to their type, the links of a track kept as numbers."""
    links: dict[Any, int] = {}

    def shape(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            if value.get("_cls") == "Instance":
                return links.setdefault(value["_id"], len(links))
            return {name: shape(item, name) for name, item in sorted(value.items())}
        if isinstance(value, list):
            return [shape(item) for item in value]
        return value if isinstance(value, (bool, int, float, str, type(None))) else type(value).__name__

    return [shape(document) for document in collection.find().sort("frame_number", 1)]


def test_a_result_goes_in_and_comes_out_to_the_last_bit(fo: Any, dataset_name: str) -> None:
    sequences = mot17()
    scene = next(iter(sequences.values())).truth.between(1, 60) if sequences else None
    tracks = walk(8, 60) if scene is None else scene
    if scene is None:
        boxes = np.round(tracks.xyxy, 2)
        tracks = Tracks(tracks.frame, tracks.track_id, boxes, tracks.confidence, np.ones(len(tracks), int))
    dataset = blank_video(fo, dataset_name)
    write_tracks(dataset.first(), tracks, "frames.result")
    for where in (dataset, dataset.first()):
        found = read_tracks(where, "result")
        for name in ("frame", "track_id", "xyxy", "confidence", "class_id"):
            np.testing.assert_array_equal(getattr(found, name), getattr(tracks, name))


def test_a_shorter_result_replaces_all_of_a_longer_one(fo: Any, dataset_name: str) -> None:
    dataset = blank_video(fo, dataset_name)
    write_tracks(dataset.first(), Tracks(range(1, 21), [1] * 20, [[0, 0, 9, 9]] * 20), "result")
    write_tracks(dataset.first(), Tracks([1, 4], [7, 7], [[0, 0, 9, 9]] * 2), "result")
    assert read_tracks(dataset, "result").frame.tolist() == [1, 4]
    assert dataset.count("frames") == 20


def test_labels_of_a_person_are_not_replaced(fo: Any, videos: Any) -> None:
    sample = videos.first()
    sample.frames[3] = fo.Frame(
        mine=fo.Detections(detections=[fo.Detection(label="car", bounding_box=[0, 0, 1, 1])])
    )
    sample.save()
    with pytest.raises(UsageError, match="a person made or edited"):
        track(videos, Blocks(), field="mine")
    with pytest.raises(UsageError, match="a person made or edited"):
        write_tracks(sample, Tracks.empty(), "mine")
    videos.reload()
    assert videos.count("frames.mine.detections") == 1
    assert len(track(videos, Blocks(), field="mine", overwrite=True).clips) == 3
