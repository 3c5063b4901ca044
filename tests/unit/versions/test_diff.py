"""A diff names exactly the edits that were made."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osv_lab.core.errors import NotFoundError, UsageError
from osv_lab.core.settings import SEED
from osv_lab.store.diff import diff_versions
from osv_lab.store.diff_objects import compare_labels, overlap_of
from osv_lab.store.records import Box, Label
from osv_lab.store.versions import create_version, load_version
from osv_lab.store.versions.content import plain_label


def essence(label: Label | None) -> str:
    return "" if label is None else json.dumps(plain_label(label), sort_keys=True)


def test_the_edits_on_real_data_and_no_others(fo: Any, make: Callable[..., Any]) -> None:
    dataset = make()
    first = create_version(dataset)
    chance = random.Random(SEED)
    names = sorted(dataset.distinct("ground_truth.detections.label"))
    ids = dataset.match(fo.ViewField("ground_truth.detections").length() > 1).sort_by("filepath").values("id")
    chosen = chance.sample(ids, 9)
    edits: list[tuple[str, str, str, str]] = []

    def name_of(sample: Any) -> str:
        return str(sample.filepath).rpartition("/")[2]

    def plain(box: Any) -> str:
        x, y, w, h = box.bounding_box
        keys = ("difficult", "truncated", "pose", "occluded")
        attributes = {key: box[key] for key in keys if box.has_field(key) and box[key] is not None}
        return essence(Box(box.label, (x, y, w, h), attributes=attributes, confidence=box.confidence))

    for number, sample_id in enumerate(chosen[:6]):
        sample = dataset[sample_id]
        box = sample.ground_truth.detections[chance.randrange(len(sample.ground_truth.detections))]
        before = plain(box)
        if number < 2:
            x, y, w, h = box.bounding_box
            box.bounding_box = [x + w * 0.1, y, w, h]
            edits.append((name_of(sample), "moved", before, plain(box)))
        elif number < 4:
            box.label = names[(names.index(box.label) + 1) % len(names)]
            edits.append((name_of(sample), "relabelled", before, plain(box)))
        elif number == 4:
            sample.ground_truth.detections.remove(box)
            edits.append((name_of(sample), "removed", before, ""))
        else:
            new = fo.Detection(label=names[0], bounding_box=[0.001, 0.001, 0.002, 0.003])
            sample.ground_truth.detections.append(new)
            edits.append((name_of(sample), "added", "", plain(new)))
        sample.save()
    resplit = dataset[chosen[6]]
    resplit.tags = ["val" if "val" not in resplit.tags else "train"]
    resplit.save()
    gone, late = dataset[chosen[7]], dataset[chosen[8]]
    boxes_gone, boxes_late = len(gone.ground_truth.detections), len(late.ground_truth.detections)
    dataset.delete_samples([gone.id])
    second = create_version(dataset)

    diff = diff_versions(first, second.ref)
    found = [
        (sample.name, change.change, essence(change.before), essence(change.after))
        for sample in diff.changed
        for change in sample.objects
        if sample.changes == ("changed",)
    ]
    assert sorted(found) == sorted(edits)
    assert dict(diff.samples) == {"added": 0, "removed": 1, "resplit": 1, "replaced": 0, "changed": 6}
    assert diff.equal == first.samples - 8
    totals = {change: sum(counts.values()) for change, counts in diff.objects.items()}
    assert totals == {"added": 1, "removed": 1 + boxes_gone, "moved": 2, "relabelled": 2, "edited": 0}
    assert all("→" in name for name in diff.objects["relabelled"])

    back = diff_versions(second, first)
    assert back.samples["added"] == 1 and sum(back.objects["added"].values()) == 1 + boxes_gone
    assert diff_versions(first, first).changed == () and "are equal" in diff_versions(first, first).summary()
    assert boxes_late and json.dumps(diff.to_dict()) and diff._repr_html_() and len(diff.to_frame()) > 2

    moved = diff.view("moved")
    assert sorted(name.rpartition("/")[2] for name in moved.values("filepath")) == sorted(
        name for name, change, *_ in edits if change == "moved"
    )
    assert set(moved.values("changes.detections.change", unwind=True)) == {"moved"}
    assert moved.first().changes.detections[0].change == "moved", "a sample can be read, with all its fields"
    assert len(diff.view("resplit")) == 1 and len(diff.view()) == 8
    whole = diff.view()
    counted = Counter(whole.values("changes.detections.change", unwind=True))
    assert counted == Counter({change: count for change, count in totals.items() if count})
    assert (
        whole.count("ground_truth_before.detections") - whole.count("ground_truth_after.detections") == boxes_gone
    )


def test_a_video_and_the_labels_of_its_frames(fo: Any, home: Path, tmp_path: Path) -> None:
    from osv_lab.store.synthetic_video import render_video

    video = render_video(tmp_path / "parts.mp4", 12, size=(96, 64), n_parts=2)
    dataset = fo.Dataset(f"video-{home.parent.name}")
    sample = fo.Sample(str(video.path), tags=["train"])
    for number in (1, 5):
        box = fo.Detection(label="part", bounding_box=[0.1, 0.2, 0.3, 0.4], index=7)
        sample.frames[number] = fo.Frame(truth=fo.Detections(detections=[box]))
    dataset.add_sample(sample)
    names = [dataset.name]
    try:
        first = create_version(dataset, fields=["frames.truth"])
        assert (first.media, first.labels, first.fields) == ("video", 2, {"frames.truth": "Detections"})
        copy = load_version(first)
        names.append(first.ref)
        boxes = copy.values("frames.truth.detections.bounding_box", unwind=True)
        assert boxes == [0.1, 0.2, 0.3, 0.4] * 2 and copy.first().frames[5].truth.detections[0].index == 7
        assert Path(copy.first().filepath).read_bytes() == video.path.read_bytes()
        sample.frames[5].truth.detections[0].label = "other"
        sample.save()
        diff = diff_versions(first, create_version(dataset, fields=["frames.truth"]))
        (change,) = diff.changed[0].objects
        assert (change.change, change.frame, diff.objects["relabelled"]) == ("relabelled", 5, {"part → other": 1})
        assert len(diff.view("relabelled")) == 1
        names.append(f"{diff.a}..{diff.b}")
        with pytest.raises(UsageError, match="steps are for images"):
            create_version(dataset, fields=["frames.truth"], preprocess=["grayscale"])
    finally:
        for name in names:
            fo.delete_dataset(name)


def test_what_cannot_be_compared(small: Any) -> None:
    version = create_version(small)
    with pytest.raises(NotFoundError):
        diff_versions(version, f"{small.name}@v9")
    with pytest.raises(UsageError, match="iou"):
        diff_versions(version, version, iou=0)
    with pytest.raises(UsageError, match="did you mean 'moved'"):
        diff_versions(version, version).view("move")


def test_steps_change_pixels_and_not_which_sample_it_is(small: Any) -> None:
    plain = create_version(small)
    gray = create_version(small, preprocess=["grayscale"])
    diff = diff_versions(plain, gray)
    assert diff.samples["replaced"] == 12 and diff.samples["added"] == diff.samples["removed"] == 0
    assert not any(sum(counts.values()) for counts in diff.objects.values())
    tiled = diff_versions(plain, create_version(small, preprocess={"tile": {"rows": 1, "columns": 2}}))
    assert (tiled.samples["added"], tiled.samples["removed"]) == (24, 12)


coordinate = st.floats(0, 0.8, allow_nan=False)
boxes = st.builds(
    lambda name, x, y, w, h: Box(name, (x, y, w + 0.01, h + 0.01)),
    st.sampled_from("ab"),
    coordinate,
    coordinate,
    st.floats(0, 0.2),
    st.floats(0, 0.2),
)


@given(st.lists(boxes, max_size=6), st.lists(boxes, max_size=6), st.floats(0.05, 1))
def test_every_object_is_accounted_for_once(old: list[Box], new: list[Box], iou: float) -> None:
    changes = list(compare_labels(old, new, iou))
    common = Counter(map(essence, old)) & Counter(map(essence, new))
    before = Counter(essence(change.before) for change in changes if change.before is not None)
    after = Counter(essence(change.after) for change in changes if change.after is not None)
    assert before == Counter(map(essence, old)) - common and after == Counter(map(essence, new)) - common
    for change in changes:
        if change.before is not None and change.after is not None:
            assert change.iou is not None and change.iou >= iou
            assert (change.before.label == change.after.label) == (change.change != "relabelled")
    assert list(compare_labels(old, list(reversed(old)), iou)) == []


@given(boxes, boxes)
def test_overlap(a: Box, b: Box) -> None:
    assert overlap_of(a, b) == pytest.approx(overlap_of(b, a))
    assert 0 <= overlap_of(a, b) <= 1 and overlap_of(a, a) == pytest.approx(1)
