"""What the annotation loop keeps in the database, and how it writes labels: without a server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from osv_lab.annotate import AnnotationLoop
from osv_lab.annotate.objects import Shape
from osv_lab.annotate.pack import pack
from osv_lab.annotate.records import Run, Runs
from osv_lab.core.errors import NotFoundError, UnavailableError, UsageError
from osv_lab.store.annotation_store import read_labelled, replace_labels


@pytest.fixture
def dataset(fo: Any, dataset_name: str, tmp_path: Path) -> Any:
    """Three images with two boxes each."""
    found = fo.Dataset(dataset_name)
    samples = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((48, 64, 3), number, np.uint8)).save(path)
        boxes = [
            fo.Detection(label=label, bounding_box=[0.1, 0.2, 0.3, 1 / 3], confidence=0.7, blurred=True)
            for label in ("cat", "dog")
        ]
        samples.append(fo.Sample(filepath=str(path), pred=fo.Detections(detections=boxes)))
    found.add_samples(samples, dynamic=True, progress=False)
    return found


def test_a_snapshot_comes_back_to_the_last_bit(dataset: Any) -> None:
    runs = Runs(dataset)
    sent = Run("a", "u", "sending", "http://h", "", "pred", "Detections", samples=("s",), sizes=((4, 3),))
    runs.put(replace(sent, types={"a.b": "int"}))
    shape = Shape(
        "x", "s", "box", "cat", (0.1, 1 / 3, 2.0, 1e-300), attributes={"a.b": 1, "$c": True}, server_id=5
    )
    runs.put_base("a", [shape], ["s", "empty"])
    assert runs.base("a").shapes == (shape,)
    assert runs.get("a").types == {"a.b": "int"}
    assert runs.get("a").sizes == ((4, 3),)
    runs.put_base("a", [], ["s"])
    assert runs.base("a").shapes == ()
    runs.remove("a")
    assert runs.find("a") is None
    runs.put_some("a", counted={"stamp": "late"})
    assert runs.names() == []


def test_a_field_that_changed_since_it_was_read_is_not_written(dataset: Any) -> None:
    first, second, _ = read_labelled(dataset, "pred")
    sample = dataset[first.id]
    sample["pred"].detections[0].label = "cow"
    sample.save()
    assert replace_labels(dataset, "pred", "Detections", [(first, []), (second, second.labels[:1])]) == 1
    dataset.reload()
    assert [[box.label for box in some] for some in dataset.values("pred.detections")] == [
        ["cow", "dog"],
        ["cat"],
        ["cat", "dog"],
    ]


def test_what_cannot_be_sent_is_reported_and_the_rest_is_packed(dataset: Any) -> None:
    first, second, third = dataset
    Path(first.filepath).unlink()
    second["pred"].detections[0].bounding_box = [1.5, 0, 0.1, 0.1]
    second["pred"].detections[1].label = " dog"
    second.save()
    package = pack(dataset, "key", "pred")
    assert package.run.samples == (second.id, third.id)
    assert [shape.label for shape in package.shapes] == ["cat", "dog"]
    assert len(package.problems) == 3
    assert package.run.types == {"blurred": "bool"}
    assert package.run.sizes == ((64, 48), (64, 48))


def test_a_corrupt_image_is_left_out_and_said(dataset: Any) -> None:
    bad = Path(dataset.first().filepath)
    bad.write_bytes(bad.read_bytes()[:45])
    package = pack(dataset, "key", "pred")
    assert package.run.samples == tuple(dataset.values("id")[1:])
    assert [bad.name in problem for problem in package.problems] == [True]


def test_chosen_classes_alone_are_packed(dataset: Any) -> None:
    package = pack(dataset, "key", "pred", ["dog"])
    assert {shape.label for shape in package.shapes} == {"dog"}


@pytest.mark.parametrize("field", ["nothing", "filepath"])
def test_a_field_without_labels_is_refused(dataset: Any, field: str) -> None:
    with pytest.raises((NotFoundError, UsageError)):
        pack(dataset, "key", field)


def test_a_server_that_is_down_leaves_nothing_behind(dataset: Any) -> None:
    loop = AnnotationLoop(dataset, "http://127.0.0.1:9", ("ann", "secret"))
    with pytest.raises(UnavailableError, match="does not answer") as caught:
        loop.send(dataset, "key", "pred")
    assert "secret" not in str(caught.value)
    assert loop.list().runs == ()


def test_an_unknown_key_is_said_with_the_known_ones(dataset: Any) -> None:
    Runs(dataset).put(Run("first", "u", "sent", "http://h", "", "pred", "Detections"))
    with pytest.raises(NotFoundError, match="first"):
        Runs(dataset).get("frist")


def test_paths_that_are_not_in_the_dataset_are_refused(dataset: Any) -> None:
    with pytest.raises(NotFoundError, match="1 of 1 paths"):
        AnnotationLoop(dataset, "http://127.0.0.1:9", ("a", "b")).send_samples_to_annotation(["elsewhere.png"])
