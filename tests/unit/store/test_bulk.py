"""The bulk route writes what FiftyOne's SDK writes, and the SDK can work with it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.store import bulk, bulk_read
from osv_lab.store.bulk import NewSample, Writer
from osv_lab.store.records import Box, ImageClass, Keypoints, Label, OrientedBox, Polygon

NAN = float("nan")
MASK = np.array([[True, False, True], [False, True, True]])
EVERY_KIND: dict[str, list[Label]] = {
    "ground_truth": [
        Box("cat", (0, 0.25, 0.5, 0.5), attributes={"difficult": True, "pose": "left", "age": 3, "weight": 2.5}),
        Box("dog", (0.1, 0.2, 0.3, 0.4), mask=MASK, confidence=0.5, index=7),
    ],
    "ground_truth_polygons": [
        Polygon("cat", (((0.0, 0.0), (0.5, 0.0), (0.5, 0.5)), ((0.6, 0.6), (0.7, 0.6), (0.7, 0.7))), 0.25, 4)
    ],
    "ground_truth_oriented": [OrientedBox("ship", ((0.1, 0.1), (0.3, 0.2), (0.25, 0.4), (0.05, 0.3)), 0.75)],
    "ground_truth_keypoints": [
        Keypoints("person", ((0.1, 0.2), (NAN, NAN), (0.3, 0.4)), (2, 0, 1), (0.05, 0.1, 0.5, 0.6), 0.5, 3)
    ],
    "ground_truth_class": [ImageClass("indoor", 0.9, {"lit": False})],
    "ground_truth_classes": [ImageClass("a"), ImageClass("b", 0.5)],
}
IMAGE = {"_cls": "ImageMetadata", "size_bytes": 5, "mime_type": "image/jpeg", "width": 10, "height": 20}


def image(name: str, labels: dict[str, list[Label]], **values: Any) -> NewSample:
    return NewSample(f"/data/{name}.jpg", name * 8, {**IMAGE, "num_channels": 3}, labels, tags=["train"], **values)


@pytest.fixture
def dataset(fo: Any, dataset_name: str) -> Any:
    made = fo.Dataset(dataset_name)
    made.media_type = "image"
    bulk.ensure_digest_index(made)
    return made


@pytest.fixture
def by_sdk(fo: Any, dataset_name: str) -> Iterator[Any]:
    made = fo.Dataset(dataset_name + "-sdk")
    yield made
    made.delete()


def sdk_fields(fo: Any, labels: dict[str, list[Label]]) -> dict[str, Any]:
    """The same labels as a user would write them with FiftyOne's classes."""

    def common(label: Any) -> dict[str, Any]:
        return {"label": label.label, "index": getattr(label, "index", None), **label.attributes}

    def one(label: Label) -> Any:
        if isinstance(label, Box):
            return fo.Detection(
                bounding_box=list(label.xywh), mask=label.mask, confidence=label.confidence, **common(label)
            )
        if isinstance(label, Keypoints):
            return fo.Keypoint(
                points=list(label.points),
                confidence=None if label.confidence is None else [label.confidence] * len(label.points),
                visible=list(label.visible),
                bounding_box=list(label.xywh or ()),
                **common(label),
            )
        if isinstance(label, ImageClass):
            return fo.Classification(label=label.label, confidence=label.confidence, **label.attributes)
        rings = label.rings if isinstance(label, Polygon) else (label.corners,)
        filled = isinstance(label, Polygon)
        return fo.Polyline(
            points=[list(ring) for ring in rings],
            closed=True,
            filled=filled,
            confidence=label.confidence,
            **common(label),
        )

    containers = {
        "ground_truth": lambda found: fo.Detections(detections=found),
        "ground_truth_polygons": lambda found: fo.Polylines(polylines=found),
        "ground_truth_oriented": lambda found: fo.Polylines(polylines=found),
        "ground_truth_keypoints": lambda found: fo.Keypoints(keypoints=found),
        "ground_truth_class": lambda found: found[0],
        "ground_truth_classes": lambda found: fo.Classifications(classifications=found),
    }
    return {name: containers[name]([one(label) for label in some]) for name, some in labels.items()}


def shape(value: Any) -> Any:
    """A document with what must differ (ids, times, chance) reduced to its type, and every leaf with its type."""
    from bson import ObjectId

    if isinstance(value, dict):
        return {key: shape(item) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [shape(item) for item in value]
    if isinstance(value, (ObjectId, datetime)):
        return type(value).__name__
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    return type(value).__name__, value


def raw(collection: Any) -> list[Any]:
    documents = list(collection.find().sort("_id"))
    for document in documents:
        if "_rand" in document:
            assert 0.999 <= document["_rand"] <= 1
            document["_rand"] = "chance"
    return [shape(document) for document in documents]


def test_sample_documents_equal_the_sdks_field_by_field(fo: Any, dataset: Any, by_sdk: Any) -> None:
    Writer(dataset).insert([image("a", EVERY_KIND)])
    sample = fo.Sample(
        filepath="/data/a.jpg",
        tags=["train"],
        metadata=fo.ImageMetadata(size_bytes=5, mime_type="image/jpeg", width=10, height=20, num_channels=3),
        content_digest="a" * 8,
        labelled=True,
        **sdk_fields(fo, EVERY_KIND),
    )
    by_sdk.add_sample(sample, dynamic=True)

    assert raw(dataset._sample_collection) == raw(by_sdk._sample_collection)


def test_declared_schema_equals_the_sdks(fo: Any, dataset: Any, by_sdk: Any) -> None:
    Writer(dataset).insert([image("a", EVERY_KIND)])
    by_sdk.add_sample(fo.Sample(filepath="/data/a.jpg", **sdk_fields(fo, EVERY_KIND)), dynamic=True)

    ours, theirs = dataset.get_field_schema(flat=True), by_sdk.get_field_schema(flat=True)

    assert set(theirs) <= set(ours)
    assert {path: type(ours[path]) for path in theirs} == {path: type(theirs[path]) for path in theirs}
    assert type(ours["ground_truth.detections.difficult"]) is fo.BooleanField
    assert type(ours["ground_truth.detections.weight"]) is fo.FloatField


def test_video_and_frame_documents_equal_the_sdks(fo: Any, dataset_name: str, by_sdk: Any) -> None:
    dataset = fo.Dataset(dataset_name)
    dataset.media_type = "video"
    bulk.ensure_digest_index(dataset)
    metadata = {
        "size_bytes": 5,
        "mime_type": "video/mp4",
        "frame_width": 10,
        "frame_height": 20,
        "frame_rate": 12.5,
    }
    metadata |= {"total_frame_count": 3, "duration": 0.24, "encoding_str": "avc1"}
    frames = {
        number: [Box("car", (0.1, 0.1, 0.2, 0.2), index=5), Box("car", (0, 0, 0.1, 0.1))] for number in (1, 3)
    }
    new = NewSample("/data/a.mp4", "d" * 8, {"_cls": "VideoMetadata", **metadata}, frames={"ground_truth": frames})
    Writer(dataset).insert([new])

    sample = fo.Sample(
        filepath="/data/a.mp4", metadata=fo.VideoMetadata(**metadata), content_digest="d" * 8, labelled=True
    )
    instance = fo.Instance()
    for number in frames:
        first = fo.Detection(label="car", bounding_box=[0.1, 0.1, 0.2, 0.2], index=5, instance=instance)
        second = fo.Detection(label="car", bounding_box=[0.0, 0.0, 0.1, 0.1])
        sample.frames[number] = fo.Frame(ground_truth=fo.Detections(detections=[first, second]))
    by_sdk.add_sample(sample)

    assert raw(dataset._sample_collection) == raw(by_sdk._sample_collection)
    assert raw(dataset._frame_collection) == raw(by_sdk._frame_collection)
    linked = [dataset.first().frames[number].ground_truth.detections[0].instance.id for number in frames]
    assert len(set(linked)) == 1
    assert dataset.count("frames") == 2


def test_prediction_documents_equal_the_sdks(fo: Any, dataset: Any, by_sdk: Any) -> None:
    labels: list[Label] = [
        Box("cat", (0.1, 0.2, 0.3, 0.4), confidence=0.5),
        Box("dog", (0, 0, 1, 1), confidence=1),
    ]
    writer = Writer(dataset)
    ids = writer.insert([image("a", {}), image("b", {})])
    writer.set_labels("predictions", {str(ids[0]): labels, str(ids[1]): []})

    for name in ("a", "b"):
        by_sdk.add_sample(
            fo.Sample(
                filepath=f"/data/{name}.jpg",
                tags=["train"],
                metadata=fo.ImageMetadata(
                    size_bytes=5, mime_type="image/jpeg", width=10, height=20, num_channels=3
                ),
                content_digest=name * 8,
                labelled=True,
            )
        )
    made = [sdk_fields(fo, {"ground_truth": some})["ground_truth"] for some in (labels, [])]
    by_sdk.set_values("predictions", made)

    assert raw(dataset._sample_collection) == raw(by_sdk._sample_collection)


def test_the_sdk_reads_filters_changes_and_evaluates_what_was_written(fo: Any, dataset: Any) -> None:
    writer = Writer(dataset)
    truth: list[Label] = [Box("cat", (0.1, 0.1, 0.2, 0.2)), Box("dog", (0.5, 0.5, 0.2, 0.2), mask=MASK)]
    ids = writer.insert([image(name, {"ground_truth": truth}) for name in "abc"])
    found: list[Label] = [Box("cat", (0.1, 0.1, 0.2, 0.2), confidence=0.9)]
    writer.set_labels("predictions", {str(sample_id): found for sample_id in ids})
    writer.finish()

    sample = dataset.first()
    assert [one.label for one in sample.ground_truth.detections] == ["cat", "dog"]
    np.testing.assert_array_equal(sample.ground_truth.detections[1].mask, MASK)
    assert (
        dataset.filter_labels("ground_truth", fo.ViewField("label") == "dog").count("ground_truth.detections") == 3
    )
    sample.ground_truth.detections[0].label = "lion"
    sample.save()
    assert dataset.count_values("ground_truth.detections.label") == {"lion": 1, "cat": 2, "dog": 3}
    dataset.tag_labels("check", label_fields="ground_truth") if hasattr(dataset, "tag_labels") else None
    results = dataset.evaluate_detections(
        "predictions", gt_field="ground_truth", eval_key="eval", compute_mAP=True
    )
    assert results.report()["cat"]["recall"] == 1.0
    assert len(dataset.take(2, seed=51)) == 2
    assert dataset.clone(dataset.name + "-clone").delete() is None


def test_samples_in_memory_see_new_predictions(dataset: Any) -> None:
    writer = Writer(dataset)
    [sample_id] = writer.insert([image("a", {})])
    held = dataset[sample_id]
    writer.set_labels("predictions", {str(sample_id): [Box("cat", (0, 0, 1, 1), confidence=0.5)]})
    writer.finish()
    held.reload()

    assert held.predictions.detections[0].label == "cat"


def test_records_read_back_are_the_records_written(dataset: Any) -> None:
    [sample_id] = Writer(dataset).insert([image("a", EVERY_KIND)])

    [(found_id, record)] = list(bulk_read.iter_records(dataset, list(EVERY_KIND)))

    assert found_id == sample_id
    assert (record.split, record.tags, record.size, record.labelled) == ("train", (), (10, 20), True)
    written = [label for some in EVERY_KIND.values() for label in some]
    assert len(record.labels) == len(written)
    for ours, theirs in zip(record.labels, written, strict=True):
        assert type(ours) is type(theirs)
        assert (ours.label, ours.confidence, dict(ours.attributes)) == (
            theirs.label,
            theirs.confidence,
            dict(theirs.attributes),
        )
        if isinstance(ours, Keypoints) and isinstance(theirs, Keypoints):
            np.testing.assert_array_equal(ours.points, theirs.points)
            assert (ours.visible, ours.xywh, ours.index) == (theirs.visible, theirs.xywh, theirs.index)
        if isinstance(ours, Box) and isinstance(theirs, Box):
            assert (ours.xywh, ours.index) == (theirs.xywh, theirs.index)
            np.testing.assert_array_equal(ours.mask, theirs.mask)
        if isinstance(ours, Polygon) and isinstance(theirs, Polygon):
            assert ours.rings == theirs.rings
        if isinstance(ours, OrientedBox) and isinstance(theirs, OrientedBox):
            assert ours.corners == theirs.corners


def test_reading_a_view_leaves_out_what_it_filters_out(fo: Any, dataset: Any) -> None:
    labels: list[Label] = [Box("cat", (0, 0, 1, 1)), Box("dog", (0, 0, 1, 1))]
    Writer(dataset).insert([image(name, {"ground_truth": labels}) for name in "ab"])

    view = dataset.limit(1).filter_labels("ground_truth", fo.ViewField("label") == "dog")
    [(_, record)] = list(bulk_read.iter_records(view, ["ground_truth", "no_such_field"]))

    assert [label.label for label in record.labels] == ["dog"]


def test_marks_of_an_evaluation_are_not_read_as_attributes(dataset: Any) -> None:
    writer = Writer(dataset)
    [sample_id] = writer.insert(
        [image("a", {"ground_truth": [Box("cat", (0, 0, 1, 1), attributes={"old": True})]})]
    )
    writer.set_labels("predictions", {str(sample_id): [Box("cat", (0, 0, 1, 1), confidence=0.5)]})
    writer.finish()
    dataset.evaluate_detections("predictions", gt_field="ground_truth", eval_key="eval")

    [(_, record)] = list(bulk_read.iter_records(dataset, ["ground_truth"]))

    assert dict(record.labels[0].attributes) == {"old": True}


def test_frames_are_read_with_and_without_frame_stages(fo: Any, dataset_name: str) -> None:
    dataset = fo.Dataset(dataset_name)
    dataset.media_type = "video"
    bulk.ensure_digest_index(dataset)
    writer = Writer(dataset)
    metadata = {"_cls": "VideoMetadata", "frame_width": 10, "frame_height": 20}
    frames = {number: [Box("car", (0, 0, 0.1 * number, 0.1)), Box("bus", (0, 0, 1, 1))] for number in (1, 2)}
    ids = writer.insert([NewSample(f"/data/{n}.mp4", n, metadata, frames={"ground_truth": frames}) for n in "ab"])
    writer.set_frame_labels("predictions", str(ids[0]), {2: [Box("car", (0, 0, 1, 1), confidence=0.5)], 9: []})

    everything = dict(bulk_read.iter_records(dataset, ["ground_truth", "frames.predictions"]))
    cars = dataset.filter_labels("frames.ground_truth", fo.ViewField("label") == "car")
    filtered = dict(bulk_read.iter_records(cars, ["ground_truth"]))

    first = everything[str(ids[0])]
    assert first.size == (10, 20)
    assert {number: len(labels) for number, labels in (first.frames or {}).items()} == {1: 2, 2: 3, 9: 0}
    assert [[one.label for one in some] for some in (filtered[str(ids[1])].frames or {}).values()] == [
        ["car"],
        ["car"],
    ]


def test_a_second_sample_with_the_same_content_is_refused(dataset: Any) -> None:
    writer = Writer(dataset)
    first = writer.insert([image("a", {}), image("b", {})])
    second = writer.insert([image("b", {}), image("c", {}), image("c", {})])

    assert None not in first
    assert second[0] is None
    assert [sample_id is None for sample_id in second].count(True) == 2
    assert len(dataset) == 3


def test_samples_without_a_digest_do_not_count_as_equal(fo: Any, dataset: Any) -> None:
    dataset.add_samples([fo.Sample(filepath=f"/data/{n}.jpg") for n in range(3)])

    assert len(dataset) == 3


def test_an_index_over_equal_digests_says_which(fo: Any, dataset_name: str) -> None:
    made = fo.Dataset(dataset_name)
    made.add_samples([fo.Sample(filepath=f"/data/{n}.jpg", content_digest="same") for n in range(2)])

    with pytest.raises(InvalidDataError, match=r"same content.*same"):
        bulk.ensure_digest_index(made)


def test_attributes_are_fitted_to_the_schema(fo: Any, dataset: Any) -> None:
    writer = Writer(dataset)
    odd = {"label": "x", "a.b": 1, "$set": 2, "_cls": "Evil", "big": 2**70, "id": "7", "np": np.float32(0.5)}
    writer.insert([image("a", {"ground_truth": [Box("cat", (0, 0, 1, 1), attributes={"score": 1.5, "age": 3})]})])
    writer.insert(
        [image("b", {"ground_truth": [Box("cat", (0, 0, 1, 1), attributes={"score": 2, "age": "old"})]})]
    )
    writer.insert([image("c", {"ground_truth": [Box("cat", (0, 0, 1, 1), attributes=odd)]})])
    writer.finish()

    first, second, third = (sample.ground_truth.detections[0] for sample in dataset)
    assert (first.score, first.age, second.score, second.age_text) == (1.5, 3, 2.0, "old")
    assert (third.label, third.attr_label, third.a_b, third.attr_set, third.attr_cls) == ("cat", "x", 1, 2, "Evil")
    assert (third.big, third.np) == (float(2**70), 0.5)
    assert dataset.count_values("ground_truth.detections.age_text") == {"old": 1, None: 2}


def test_a_field_that_holds_something_else_is_refused(fo: Any, dataset: Any) -> None:
    writer = Writer(dataset)
    [sample_id] = writer.insert([image("a", {"ground_truth": [Box("cat", (0, 0, 1, 1))]})])

    with pytest.raises(UsageError, match="'ground_truth' holds Detections, these labels need Polylines"):
        writer.set_labels("ground_truth", {str(sample_id): [Polygon("cat", (((0, 0), (1, 0), (1, 1)),))]})
    with pytest.raises(UsageError, match="different kinds"):
        writer.set_labels("mixed", {str(sample_id): [Box("a", (0, 0, 1, 1)), Polygon("b", (((0, 0), (1, 1)),))]})


def test_a_label_that_cannot_be_stored_is_an_error_of_the_data(dataset: Any) -> None:
    huge = Box("x" * (17 << 20), (0, 0, 1, 1))

    with pytest.raises(InvalidDataError, match="cannot be stored"):
        Writer(dataset).insert([image("a", {"ground_truth": [huge]})])
    with pytest.raises(InvalidDataError, match="cannot be stored"):
        Writer(dataset).insert([image("b", {"ground_truth": [Box("\udce9", (0, 0, 1, 1))]})])


def test_ground_truth_is_replaced_whole(dataset: Any) -> None:
    writer = Writer(dataset)
    [sample_id] = writer.insert([image("a", EVERY_KIND)])
    writer.replace_ground_truth({str(sample_id): image("a", {"ground_truth": [Box("cow", (0, 0, 1, 1))]})})

    [(_, record)] = list(bulk_read.iter_records(dataset, list(EVERY_KIND)))

    assert [label.label for label in record.labels] == ["cow"]


def test_paths_are_kept_as_fiftyone_keeps_them(fo: Any, tmp_path: Path) -> None:
    for path in ("a.jpg", "~/a.jpg", str(tmp_path / "b" / ".." / "a.jpg")):
        assert bulk.absolute(path) == fo.Sample(filepath=path).filepath
