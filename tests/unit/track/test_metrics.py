"""Metrics against TrackEval 1.3.0 (https://pypi.org/project/trackeval), whose numbers are written below."""

from __future__ import annotations

import numpy as np
import pytest
from track_scenes import disturb, mot17, walk

from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.track.metrics import compare, evaluate_sequence, evaluate_sequences
from osv_lab.track.tracks import Tracks

NAMES = (
    "HOTA", "DetA", "AssA", "LocA", "MOTA", "MOTP", "IDF1", "IDSW", "Frag", "TP", "FN", "FP", "MT", "PT", "ML",
)  # fmt: skip
PLAIN = (
    0.620249045, 0.630817944, 0.610524154, 0.839294582, 0.765093304, 0.817855487, 0.811354228, 3, 112, 740, 171, 40,
    10, 2, 0,
)  # fmt: skip
PREPROCESSED = (
    0.577580109, 0.545847928, 0.611547859, 0.847988537, 0.584466019, 0.828935464, 0.739884393, 2, 63, 413, 102, 110,
    6, 1, 0,
)  # fmt: skip
MOT17_09 = (
    0.686507227, 0.650992828, 0.724732906, 0.921358187, 0.641542202, 0.918214935, 0.778583765, 6, 377, 2382, 497, 529,
    19, 3, 0,
)  # fmt: skip


def marked(truth: Tracks) -> Tracks:
    """Truth with MOTChallenge's classes and "consider" marks, distractors among them."""
    kinds = np.array([1, 1, 1, 7, 1, 2, 1, 8, 1, 12, 1, 1, 1])
    return Tracks(truth.frame, truth.track_id, truth.xyxy, truth.track_id % 5 != 0, kinds[truth.track_id])


def agree(values: dict[str, float], expected: tuple[float, ...]) -> None:
    assert [values[name] for name in NAMES] == pytest.approx(expected, abs=1e-8)


def test_scores_agree_with_trackeval() -> None:
    truth = walk()
    agree(evaluate_sequence(truth, disturb(truth), 125).values(), PLAIN)


def test_scores_after_preprocessing_agree_with_trackeval() -> None:
    truth = marked(walk())
    agree(evaluate_sequence(truth, disturb(truth), 120, benchmark="mot17").values(), PREPROCESSED)


def test_scores_on_a_mot17_sequence_agree_with_trackeval() -> None:
    sequence = mot17().get("MOT17-09-SDP")
    if sequence is None:
        pytest.skip("needs MOT17, which no clone has; a generated scene stands for it above")
    found = evaluate_sequence(sequence.truth, disturb(sequence.truth, 3), sequence.frames, benchmark="mot17")
    agree(found.values(), MOT17_09)


def test_sequences_are_pooled_not_averaged() -> None:
    short, long = walk(3, 30, seed=4), walk(12, 120)
    report = evaluate_sequences({"short": (short, short), "long": (long, disturb(long))})
    parts = [scores.clear for scores in report.sequences.values()]
    assert report.combined.clear.tp == sum(part.tp for part in parts)
    assert report.combined.clear.mota == pytest.approx(
        sum(p.mota * (p.tp + p.fn) for p in parts) / sum(p.tp + p.fn for p in parts)
    )
    assert [row["sequence"] for row in report.rows()] == ["short", "long", "all"]
    assert "HOTA" in report.summary() and report.to_dict()["combined"]


def test_perfect_nothing_and_invented() -> None:
    truth, nothing = walk(5, 40), Tracks.empty()
    perfect = evaluate_sequence(truth, truth)
    assert [perfect.values()[name] for name in ("HOTA", "MOTA", "IDF1", "LocA")] == pytest.approx([1, 1, 1, 1])
    assert perfect.events == ()
    missed = evaluate_sequence(truth, nothing).values()
    assert (missed["HOTA"], missed["FN"], missed["ML"]) == (0, len(truth), 5)
    invented = evaluate_sequence(nothing, truth).values()
    assert (invented["HOTA"], invented["FP"]) == (0, len(truth))
    empty = evaluate_sequence(nothing, nothing).values()
    assert all(np.isfinite(value) for value in empty.values())


def test_events_are_located_and_add_up_to_the_counts() -> None:
    truth = walk()
    found = disturb(truth)
    scores = evaluate_sequence(truth, found)
    kinds = [event.kind for event in scores.events]
    assert kinds.count("switch") == scores.clear.switches > 0
    assert kinds.count("fragmentation") == scores.clear.fragmentations
    lengths = {"missed": 0, "false": 0}
    for event in scores.events:
        assert event.first_frame <= event.last_frame
        kind = event.kind.removesuffix("_track")
        if kind in lengths:
            lengths[kind] += event.last_frame - event.first_frame + 1
        if event.kind == "switch":
            assert event.previous_id != event.predicted_id
            box = found[(found.frame == event.last_frame) & (found.track_id == event.predicted_id)]
            assert box.xyxy[0].tolist() == list(event.xyxy)
    assert lengths == {"missed": scores.clear.fn, "false": scores.clear.fp}


def still(identity: int, frames: range, left: float) -> Tracks:
    box = [left, 0, left + 10, 20]
    return Tracks(list(frames), [identity] * len(frames), [box] * len(frames))


def test_events_tell_merges_and_identities_that_are_never_right() -> None:
    truth = Tracks.concatenate(
        (still(1, range(1, 6), 0), still(2, range(4, 11), 100), still(3, range(1, 11), 200))
    )
    # Identity 5 is on truth 1, then goes on with truth 2; 6 is nowhere, 3 is never found.
    found = Tracks.concatenate(
        (
            still(5, range(1, 5), 0),
            still(5, range(7, 11), 100),
            still(8, range(4, 6), 100),
            still(6, range(2, 7), 500),
        )
    )
    comparison = compare(truth, found)
    told = [(e.kind, e.first_frame, e.last_frame, e.truth_id, e.predicted_id, e.previous_id)
            for e in comparison.scores.events]  # fmt: skip
    assert told == [
        ("missed_track", 1, 10, 3, None, None),
        ("false_track", 2, 6, None, 6, None),
        ("merge", 4, 7, 2, 5, 1),
        ("missed", 5, 5, 1, None, None),
        ("switch", 5, 7, 2, 5, 8),
        ("fragmentation", 6, 6, 2, 5, 8),
        ("missed", 6, 6, 2, None, None),
    ]
    first, second, third = comparison.lifetimes()
    assert (first.coverage, first.switches, first.predicted_ids) == (0.8, 0, ((5, 4),))
    assert (second.matched, second.boxes, second.switches, second.fragmentations) == (6, 7, 1, 1)
    assert second.predicted_ids == ((5, 4), (8, 2)) and (second.first_frame, second.last_frame) == (4, 10)
    assert third.coverage == 0 and third.predicted_ids == ()


def test_a_comparison_says_which_boxes_preprocessing_left_out() -> None:
    truth = Tracks([1, 1, 1], [1, 2, 3], [[0, 0, 9, 9], [50, 0, 59, 9], [90, 0, 99, 9]], [1, 1, 0], [1, 8, 1])
    found = Tracks([1, 1, 1], [1, 2, 3], [[50, 0, 59, 9], [0, 0, 9, 9], [90, 0, 99, 9]])
    comparison = compare(truth, found, benchmark="mot17")
    assert comparison.truth_rows.tolist() == [0] and comparison.predicted_rows.tolist() == [1, 2]
    assert comparison.scores.clear.tp == 1 and comparison.scores.clear.fp == 1


def test_the_least_overlap_of_a_match_can_be_chosen() -> None:
    truth, found = still(1, range(1, 5), 0), still(1, range(1, 5), 4)
    strict, loose = evaluate_sequence(truth, found), evaluate_sequence(truth, found, iou=0.4)
    assert (strict.clear.tp, strict.identity.tp) == (0, 0) and (loose.clear.tp, loose.identity.tp) == (4, 4)
    assert strict.values()["HOTA"] == loose.values()["HOTA"]


def test_wrong_input_is_named() -> None:
    truth = walk(3, 20)
    with pytest.raises(InvalidDataError, match="prediction in frame 30 of 20"):
        evaluate_sequence(truth, Tracks([30], [1], [[0, 0, 1, 1]]), 20)
    with pytest.raises(UsageError, match="did you mean 'mot17'"):
        evaluate_sequence(truth, truth, benchmark="mot71")
    with pytest.raises(InvalidDataError, match="track 4 in frame 2"):
        Tracks([1, 2, 2], [4, 4, 4], np.zeros((3, 4)))
    with pytest.raises(InvalidDataError, match="frame 1"):
        Tracks([1], [1], [[0, np.nan, 1, 1]])
    with pytest.raises(InvalidDataError, match="differ in length"):
        Tracks([1, 2], [1], np.zeros((2, 4)))
    with pytest.raises(InvalidDataError, match="below 1"):
        Tracks([0], [1], np.zeros((1, 4)))
