"""The compiled update gives the identities of the NumPy path, on any scene and setting.

Where Numba is not installed the same functions run as plain Python.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from track_scenes import detector_view, mot17, walk

from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.track import ObjectTracker, association, compiled
from osv_lab.track.botsort import BotSort
from osv_lab.track.bytetrack import ByteTrack
from osv_lab.track.compiled import CompiledBotSort, CompiledByteTrack
from osv_lab.track.settings import BotSortSettings, ByteTrackSettings

PAIRS: list[tuple[type[Any], type[Any], type[Any]]] = [
    (ByteTrack, CompiledByteTrack, ByteTrackSettings),
    (BotSort, CompiledBotSort, BotSortSettings),
]
by_algorithm = pytest.mark.parametrize(("plain", "fast", "options"), PAIRS, ids=["bytetrack", "botsort"])
Frame = tuple[npt.NDArray[Any], ...]


def same_state(first: ByteTrack, second: ByteTrack) -> None:
    """Equal to the last digits: a power may be rounded differently."""
    one, two = first.state(), second.state()
    for key, value in one.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_allclose(two[key], value, rtol=1e-9, atol=1e-9, err_msg=key)
        elif isinstance(value, float):
            assert two[key] == pytest.approx(value), key
        else:
            assert two[key] == value, key


@by_algorithm
@given(
    seed=st.integers(0, 10_000),
    objects=st.integers(0, 14),
    crowd=st.booleans(),
    published=st.booleans(),
    per_class=st.booleans(),
    fuse=st.booleans(),
    follow=st.booleans(),
    height_power=st.sampled_from([0.0, 1.0, 2.0]),
    moving=st.booleans(),
    timed=st.booleans(),
    sparse=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_identities_are_those_of_numpy(
    plain: type[Any],
    fast: type[Any],
    options: type[Any],
    seed: int,
    objects: int,
    crowd: bool,
    published: bool,
    per_class: bool,
    fuse: bool,
    follow: bool,
    height_power: float,
    moving: bool,
    timed: bool,
    sparse: bool,
) -> None:
    rng = np.random.default_rng(seed)
    changes: dict[str, Any] = {"per_class": per_class, "fuse_confidence": fuse, "follow_camera": follow}
    changes["height_power"] = height_power
    chosen = options.published(**changes) if published else options(**changes)
    size = (300, 240) if crowd else (960, 540)
    truth = walk(objects, 40, seed=seed, size=size) if objects else walk(1, 8, seed=seed)
    before, association.SPARSE_PAYS = association.SPARSE_PAYS, 0 if sparse else association.SPARSE_PAYS
    try:
        first, second = plain(chosen, frame_rate=10), fast(chosen, frame_rate=10)
        now = 0.0
        for boxes, confidence in detector_view(truth, seed=seed + 1, confidence=(0.2, 0.95), miss=0.2, false=1.0):
            classes = rng.integers(0, 3, len(boxes))
            turn = rng.normal(0, 0.01)
            warp = np.array([[1, -turn, rng.normal(0, 3)], [turn, 1.02, rng.normal(0, 3)]])
            now += rng.choice([0.1, 0.1, 0.2, 0.15, 3.0], p=[0.6, 0.2, 0.1, 0.08, 0.02])
            more = {"warp": warp if moving else None, "timestamp": now if timed else None}
            ids = first.update(boxes, confidence, classes, **more)
            assert second.update(boxes, confidence, classes, **more).tolist() == ids.tolist()
            assert second.classes() == first.classes()
        same_state(first, second)
    finally:
        association.SPARSE_PAYS = before


@by_algorithm
def test_identities_are_those_of_numpy_on_mot17(plain: type[Any], fast: type[Any], options: type[Any]) -> None:
    sequences = mot17()
    if not sequences:
        pytest.skip("needs MOT17, which no clone has; generated scenes stand for it above")
    for item in sequences.values():
        for chosen in (options(), options.published()):
            first, second = (kind(chosen, frame_rate=item.info.frame_rate) for kind in (plain, fast))
            # A part is enough where it is interpreted.
            last = item.frames if compiled.available() else 40
            for number, seen in item.detections.between(1, last).frames(last):
                warp = item.motion[number - 1] if plain is BotSort else None
                ids = first.update(seen.xyxy, seen.confidence, warp=warp)
                assert second.update(seen.xyxy, seen.confidence, warp=warp).tolist() == ids.tolist()


@by_algorithm
def test_boxes_that_are_equal_are_decided_alike(plain: type[Any], fast: type[Any], options: type[Any]) -> None:
    """Rounded boxes and confidences, some of them twice: sums of costs are often equal."""
    for seed in range(6):
        first, second = plain(options()), fast(options())
        for boxes, confidence in detector_view(walk(8, 40, seed=seed, size=(200, 200)), seed=seed):
            boxes, confidence = (boxes / 8).round() * 8 + [[0, 0, 8, 8]], confidence.round(1)
            boxes, confidence = np.vstack((boxes, boxes[:3])), np.append(confidence, confidence[:3])
            assert second.update(boxes, confidence).tolist() == first.update(boxes, confidence).tolist()


@by_algorithm
def test_state_goes_from_one_path_to_the_other(plain: type[Any], fast: type[Any], options: type[Any]) -> None:
    frames = detector_view(walk(10, 60, seed=4), seed=5)
    classes = [np.arange(len(confidence)) % 2 for _, confidence in frames]
    whole = plain()
    expected = [whole.update(*frame, kind).tolist() for frame, kind in zip(frames, classes, strict=True)]
    for one, other in ((plain, fast), (fast, plain), (fast, fast)):
        early, late = one(), other()
        found = [early.update(*frame, kind).tolist() for frame, kind in zip(frames[:30], classes, strict=False)]
        late.restore(early.state())
        found += [
            late.update(*frame, kind).tolist() for frame, kind in zip(frames[30:], classes[30:], strict=True)
        ]
        assert found == expected
        assert late.current()[0].tolist() == whole.current()[0].tolist()
        np.testing.assert_allclose(late.current()[1], whole.current()[1], rtol=1e-9)
        late.reset()
        assert late.update(*frames[0], classes[0]).tolist() == expected[0]


@by_algorithm
def test_bad_input_is_the_same_error_and_changes_nothing(
    plain: type[Any], fast: type[Any], options: type[Any]
) -> None:
    tracker = fast()
    box, bad = [10.0, 10, 50, 90], [[np.nan, 0, 5, 5], [5, 5, 5, 9], [9, 9, 2, 2], [0, 0, np.inf, 5]]
    assert tracker.update([box, *bad], [0.9] * 5, timestamp=1.0).tolist() == [1, -1, -1, -1, -1]
    before = tracker.state()
    for arguments, more, message in (
        (([box], [90.0]), {"timestamp": 1.1}, "confidence above 1"),
        (([box], [0.9, 0.8]), {"timestamp": 1.1}, "do not fit together"),
        (([box], [0.9], [1, 2]), {"timestamp": 1.1}, "class ids"),
        (([box], [0.9]), {"timestamp": 0.9}, "frames out of order"),
        (([box], [0.9]), {"timestamp": 1.1, "warp": np.zeros((2, 3))}, "warp"),
    ):
        with pytest.raises(InvalidDataError, match=message):
            tracker.update(*arguments, **more)
    after = tracker.state()
    assert all(np.array_equal(before[key], after[key]) for key in before)
    assert tracker.update([], [], timestamp=1.1).tolist() == []
    assert tracker.update([box, box], [np.nan, 0.9], timestamp=1.2).tolist() == [-1, 1]


def test_embeddings_are_looked_at_in_numpy() -> None:
    rng = np.random.default_rng(0)
    looks = rng.normal(size=(40, 16))
    first, second = BotSort(), CompiledBotSort()
    assert second.explain().endswith("(compiled)")
    truth = walk(10, 60, seed=8, size=(300, 240))
    for _, frame in truth.frames():
        confidence = np.full(len(frame), 0.9)
        look = looks[frame.track_id]
        ids = first.update(frame.xyxy, confidence, embeddings=look)
        assert second.update(frame.xyxy, confidence, embeddings=look).tolist() == ids.tolist()
    assert "in NumPy" in second.explain()


def test_many_and_dense_objects_give_the_identities_of_numpy() -> None:
    count, frames = (400, 10) if compiled.available() else (60, 4)
    for spread in (130.0, 40.0):
        rng = np.random.default_rng(2)
        corner, speed = rng.uniform(0, spread * count**0.5, (count, 2)), rng.normal(0, 2, (count, 2))
        first, second = ByteTrack(), CompiledByteTrack()
        for k in range(frames):
            at = corner + k * speed + rng.normal(0, 1, (count, 2))
            boxes = np.hstack((at, at + rng.uniform(35, 45, (count, 2))))
            confidence = rng.uniform(0.2, 1, count)
            assert second.update(boxes, confidence).tolist() == first.update(boxes, confidence).tolist()


def test_the_kernel_knows_every_setting() -> None:
    """A setting that is added to the NumPy path must be added to the kernel (and to this list)."""
    known = {
        "high", "low", "new", "match", "match_low", "match_tentative", "lost_s", "fuse_confidence", "height_power",
        "weak_noise", "duplicate_iou", "new_iou", "lost_discount", "follow_camera", "per_class",
    }  # fmt: skip
    assert {field.name for field in fields(ByteTrackSettings)} == known
    assert {field.name for field in fields(BotSortSettings)} == known | {"near_iou", "alike", "smooth"}


def test_the_tracker_by_name_is_compiled_where_numba_is_installed() -> None:
    fast = compiled.available()
    assert isinstance(ObjectTracker("bytetrack").tracker, CompiledByteTrack) == fast
    assert isinstance(ObjectTracker({"algorithm": "botsort"}).tracker, CompiledBotSort) == fast
    assert type(ObjectTracker("botsort", compiled=False).tracker) is BotSort
    assert ObjectTracker("deepsort").tracker.name == "deepsort"
    if fast:
        assert ObjectTracker("bytetrack", compiled=True).explain().endswith("(compiled)")
    else:
        with pytest.raises(UsageError, match="Numba"):
            ObjectTracker("bytetrack", compiled=True)
    with pytest.raises(UsageError, match="compiled"):
        ObjectTracker("bytetrack", compiled="yes")


def test_what_is_cached_is_cached_for_all_its_sources() -> None:
    """Numba looks at the file of the cached function and at what it closes over, and at nothing else."""
    from osv_lab.track.compiled import kernel

    step: Any = kernel.step
    closure = getattr(step, "py_func", step).__closure__
    assert kernel._sources() in [cell.cell_contents for cell in closure]
