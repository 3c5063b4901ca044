"""Steps move labels exactly as they move pixels, whatever kind of label it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osv_lab.core.errors import UsageError
from osv_lab.store.records import Box, ImageClass, Keypoints, Label, OrientedBox, Polygon
from osv_lab.store.transforms import KINDS, parse_steps, preview
from osv_lab.store.transforms.apply import augmented, preprocessed, random_of
from osv_lab.store.transforms.item import Item, make_item

SIZE = (160, 120)
MOVING = {
    "flip": {"horizontal": True, "vertical": True},
    "ninety": {"clockwise": True, "counter-clockwise": True, "upside-down": True},
    "crop": {"min": 10, "max": 40},
    "rotate": {"degrees": 35},
    "shear": {"horizontal": 15, "vertical": 15},
    "mosaic": True,
}
LARGE = [
    {"resize": {"width": 90, "height": 150, "format": name}}
    for name in ("Stretch to", "Fill (with center crop) in", "Fit within", "Fit (black edges) in",
                 "Fit (white edges) in", "Fit (reflect edges) in")
]  # fmt: skip
STILL = [
    {"static-crop": {"x_min": 20, "x_max": 95, "y_min": 5, "y_max": 80}},
    {"tile": {"rows": 2, "columns": 3}},
]


def scene(kind: str) -> Item:
    """A white quadrilateral on black with a label of a kind that follows its border."""
    import cv2

    width, height = SIZE
    centre, (w, h), turn = (80.0, 64.0), (60.0, 34.0), 0.0 if kind in ("box", "mask") else 0.4
    cos, sin = math.cos(turn), math.sin(turn)
    corners = [
        (centre[0] + x * w / 2 * cos - y * h / 2 * sin, centre[1] + x * w / 2 * sin + y * h / 2 * cos)
        for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    large = np.zeros((height * 8, width * 8), np.uint8)
    cv2.fillPoly(large, [np.rint(np.array(corners) * 8).astype(np.int32)], 255)
    image = cv2.cvtColor(cv2.resize(large, SIZE, interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR)
    relative = tuple((x / width, y / height) for x, y in corners)
    box = (50 / width, 47 / height, 60 / width, 34 / height)
    made: dict[str, Label] = {
        "box": Box("part", box),
        "mask": Box("part", box, np.ones((34, 60), dtype=bool)),
        "polygon": Polygon("part", (relative,)),
        "oriented_box": OrientedBox("part", relative),  # type: ignore[arg-type]
        "keypoints": Keypoints("part", relative, visible=(2, 2, 2, 2)),
    }
    return make_item(image, {"truth": [made[kind]]})


def painted(item: Item) -> np.ndarray:
    """The pixels that the labels say are the object's."""
    import cv2

    drawn = np.zeros((item.size[1] * 8, item.size[0] * 8), np.uint8)
    for shape in item.shapes:
        if shape.mask is not None:
            x, y = shape.at
            h, w = shape.mask.shape
            part = np.kron(shape.mask.astype(np.uint8) * 255, np.ones((8, 8), np.uint8))
            target = drawn[y * 8 : (y + h) * 8, x * 8 : (x + w) * 8]
            target[:] = np.maximum(target, part[: target.shape[0], : target.shape[1]])
        else:
            cv2.fillPoly(drawn, [np.rint(ring * 8).astype(np.int32) for ring in shape.outline], 255)
    return cv2.resize(drawn, item.size, interpolation=cv2.INTER_AREA) > 127


def iou(a: np.ndarray, b: np.ndarray) -> float:
    union = (a | b).sum()
    return float((a & b).sum() / union) if union else 1.0


def run(name: str, params: Any, item: Item, seed: int) -> Item:
    return augmented(item, parse_steps({name: params}), random_of(seed, name), lambda: item, {})


@pytest.mark.parametrize("kind", ["mask", "polygon", "oriented_box"])
@pytest.mark.parametrize("name", list(MOVING))
def test_labels_stay_on_their_pixels(kind: str, name: str) -> None:
    seen = 0
    for seed in range(12):
        done = run(name, MOVING[name], scene(kind), seed)
        white = done.image[:, :, 0] > 127
        if kind == "oriented_box" and name in ("crop", "shear", "mosaic"):
            # A cut or sheared rectangle is none; its label is the smallest that holds what is left.
            assert (white & ~painted(done)).sum() <= 0.08 * white.sum() + 25
        elif white.sum() > 200:
            assert iou(white, painted(done)) > 0.9, seed
            seen += 1
    assert seen or kind == "oriented_box"


@pytest.mark.parametrize("kind", ["box", "mask", "polygon", "oriented_box"])
@pytest.mark.parametrize(
    "step", [*LARGE[:2], LARGE[2], LARGE[3], LARGE[4], *STILL], ids=lambda step: str(step)[:60]
)
def test_preprocessing_keeps_labels_on_their_pixels(kind: str, step: Mapping[str, Any]) -> None:
    for done in preprocessed(scene(kind), parse_steps(step), {}):
        white = done.image[:, :, 0] > 127
        edges = "white" in str(step)
        if edges:
            inside = np.zeros_like(white)
            h = round(90 * SIZE[1] / SIZE[0])
            top = (150 - h) // 2
            inside[top : top + h] = True
            white &= inside
        if done.shapes and kind != "oriented_box" and white.sum() > 60:
            assert iou(white, painted(done)) > 0.87
        elif done.shapes:
            assert (white & ~painted(done)).sum() <= 0.1 * white.sum() + 25


def test_sizes_of_the_six_ways_to_resize() -> None:
    sizes = [preprocessed(scene("box"), parse_steps(step), {})[0].size for step in LARGE]
    assert sizes == [(90, 150), (90, 150), (90, 68), (90, 150), (90, 150), (90, 150)]


@pytest.mark.parametrize("name", ["flip", "ninety", "rotate", "shear"])
def test_a_box_is_around_what_it_was_around(name: str) -> None:
    for seed in range(10):
        done = run(name, MOVING[name], scene("box"), seed)
        ys, xs = np.nonzero(done.image[:, :, 0] > 127)
        (x0, y0), (x1, y1) = done.shapes[0].outline[0].min(axis=0), done.shapes[0].outline[0].max(axis=0)
        assert np.allclose((x0, y0, x1, y1), (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1), atol=2)


def test_mirrored_keypoints_change_sides() -> None:
    points = ((0.2, 0.3), (0.8, 0.3), (math.nan, math.nan))
    label = Keypoints("face", points, visible=(2, 1, 0))
    item = make_item(np.zeros((100, 100, 3), np.uint8), {"truth": [label]})
    names = {"truth": ("left_eye", "right_eye", "nose")}
    flip = parse_steps({"flip": {"horizontal": True}})
    flipped = next(
        done
        for seed in range(20)
        if (done := augmented(item, flip, random_of(seed), lambda: item, names)).shapes[0] is not item.shapes[0]
    )
    (found,) = flipped.labels["truth"]
    assert isinstance(found, Keypoints)
    # The left eye is still the one on the subject's left: where the right one was mirrored to.
    assert np.allclose(found.points[:2], [(0.2, 0.3), (0.8, 0.3)]) and found.visible == (1, 2, 0)
    assert math.isnan(found.points[2][0])
    plain = augmented(
        item, flip, random_of(next(s for s in range(20) if random_of(s).random() < 0.5)), lambda: item, {}
    )
    assert np.allclose(plain.labels["truth"][0].points[:2], [(0.8, 0.3), (0.2, 0.3)])  # type: ignore[union-attr]


@given(
    st.integers(0, 1000), st.sampled_from(sorted(name for name, kind in KINDS.items() if kind.stage == "augment"))
)
@settings(max_examples=120)
def test_every_step_on_every_kind_of_label(seed: int, name: str) -> None:
    """The same seed gives the same bytes; labels stay inside the image; the input is not written to."""
    params = {"bb": None, **MOVING}.get(name.removeprefix("bb")) or {
        "hue": {"degrees": 90}, "saturation": {"percent": 50}, "brightness": {"percent": 40},
        "exposure": {"percent": 40}, "blur": {"pixels": 3},
        "noise": {"percent": 5}, "cutout": {"count": 3, "percent": 30},
        "mosaic": True, "rgrayscale": {"percent": 50},
    }[name.removeprefix("bb")]  # fmt: skip
    width, height = SIZE
    image = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    labels: list[Label] = [
        Box("a", (0.0, 0.0, 0.3, 0.4)), Box("b", (0.5, 0.5, 0.5, 0.5), np.tri(60, 80, dtype=bool)),
        Polygon("c", (((0.1, 0.1), (0.4, 0.2), (0.3, 0.6)),)), Polygon("l", (((0.0, 0.0), (1.0, 1.0)),), closed=False),
        OrientedBox("d", ((0.5, 0.1), (0.7, 0.2), (0.6, 0.5), (0.4, 0.4))),
        Keypoints("e", ((0.2, 0.2), (0.9, 0.9)), visible=(2, 2), xywh=(0.1, 0.1, 0.85, 0.85)), ImageClass("day"),
    ]  # fmt: skip
    item = make_item(image, {"truth": labels})
    kept = image.copy()
    first, second = (run(name, params, item, seed) for _ in range(2))
    assert np.array_equal(first.image, second.image) and str(first.labels) == str(second.labels)
    assert np.array_equal(item.image, kept)
    assert first.image.dtype == np.uint8 and first.image.flags.c_contiguous
    assert first.size == (SIZE if name != "ninety" else first.size)
    assert any(isinstance(label, ImageClass) for label in first.labels["truth"])
    for label in first.labels["truth"]:
        if isinstance(label, Box):
            x, y, w, h = label.xywh
            assert x >= -1e-9 and y >= -1e-9 and x + w <= 1 + 1e-9 and y + h <= 1 + 1e-9 and w > 0 and h > 0
        elif isinstance(label, Polygon):
            assert all(-1e-9 <= value <= 1 + 1e-9 for ring in label.rings for point in ring for value in point)
        elif isinstance(label, Keypoints):
            assert all(math.isnan(v) or -1e-9 <= v <= 1 + 1e-9 for point in label.points for v in point)


def test_cutout_hides_objects_and_says_so() -> None:
    some = [run("cutout", {"count": 1, "percent": 30}, scene("keypoints"), seed) for seed in range(20)]
    hidden = [run("cutout", {"count": 40, "percent": 60}, scene(kind), 3) for kind in ("box", "mask", "polygon")]
    assert all(not item.shapes and not item.image.any() for item in hidden)
    seen = {item.shapes[0].label.visible for item in some if item.shapes}  # type: ignore[union-attr]
    assert (2, 2, 2, 2) in seen and any(1 in visible and 2 in visible for visible in seen)


def test_what_steps_may_say() -> None:
    for steps, message in (
        ({"resise": {"width": 1}}, "did you mean 'resize'"),
        ({"resize": {"width": 640}}, "needs 'height'"),
        ({"resize": {"width": 640, "height": 640, "format": "fit"}}, "unknown 'resize.format'"),
        ({"resize": {"width": 640.5, "height": 640}}, "whole number"),
        ({"rotate": {"degrees": 500}}, "from 0 to 180"),
        ({"flip": {}}, "would do nothing"),
        ({"crop": {"min": 40, "max": 10}}, "min below max"),
        ({"blur": {"pixel": 3}}, "no parameter of this name"),
        ({"image": {"versions": 3}}, "multiplier"),
        ([("flip",)], "not a step"),
        ({"remap": {}}, "would do nothing"),
    ):
        with pytest.raises(UsageError, match=message):
            parse_steps(steps)
    with pytest.raises(UsageError, match="no preprocess step"):
        parse_steps({"flip": {"horizontal": True}}, "preprocess")
    assert [step.name for step in parse_steps(["grayscale", {"auto-orient": True, "tile": False}])] == [
        "grayscale", "auto-orient",
    ]  # fmt: skip
    chosen = parse_steps({"flip": {"horizontal": True}, "brightness": {"percent": 20}})
    assert parse_steps([step.to_plain() for step in chosen]) == chosen


def test_a_preview_of_one_image(fo: Any, small: Any, tmp_path: Path) -> None:
    sample = next(sample for sample in small if sample.ground_truth and sample.ground_truth.detections)
    shown = preview(sample, {"resize": {"width": 64, "height": 48}, "rotate": {"degrees": 20}}, copies=2)
    assert shown.titles == ("original", "preprocessed", "augmented 1", "augmented 2")
    assert [image.shape[:2] for image in shown.images[1:]] == [(48, 64)] * 3
    assert len(shown.labels[0]["ground_truth"]) == len(sample.ground_truth.detections)
    assert not np.array_equal(shown.drawn[1], shown.images[1])
    assert [path.name for path in shown.save(tmp_path)] == [
        "00-original.png", "01-preprocessed.png", "02-augmented-1.png", "03-augmented-2.png",
    ]  # fmt: skip
    assert shown._repr_html_().count("<img") == 4
