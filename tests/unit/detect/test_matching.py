"""Who takes whom, against the rule written out: image by image, prediction by prediction."""

from __future__ import annotations

import numpy as np
import pytest
import supervision as sv

from osv_lab.core.errors import UsageError
from osv_lab.detect.matching import Matching, pair_iou


def boxes(rng: np.random.Generator, count: int, *, truth: bool) -> sv.Detections:
    """Boxes on a coarse grid, so that overlaps and confidences are often equal."""
    corner = rng.integers(0, 4, (count, 2)) * 10.0
    size = rng.integers(1, 4, (count, 2)) * 10.0
    return sv.Detections(
        xyxy=np.concatenate([corner, corner + size], axis=1).reshape(-1, 4),
        class_id=rng.integers(0, 2, count),
        confidence=rng.integers(0, 4, count) / 4,
        data={"iscrowd": rng.random(count) < 0.2} if truth else {},
    )


def taken_by_hand(found: sv.Detections, wanted: sv.Detections, least: float) -> list[int]:
    taken, free = [-1] * len(found), [True] * len(wanted)
    for one in np.argsort(-found.confidence, kind="stable"):
        best, key = -1, (False, 0.0)
        for other in range(len(wanted)):
            crowd = bool(wanted.data["iscrowd"][other])
            if wanted.class_id[other] != found.class_id[one] or not (free[other] or crowd):
                continue
            iou = pair_iou(found.xyxy[[one]], wanted.xyxy[[other]], np.array([crowd]))[0]
            if iou >= least and (best < 0 or (not crowd, iou) >= key):
                best, key = other, (not crowd, iou)
        if best >= 0:
            taken[one], free[best] = best, False
    return taken


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_rule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = [boxes(rng, count, truth=False) for count in rng.integers(0, 12, 20)]
    wanted = [boxes(rng, count, truth=True) for count in rng.integers(0, 9, 20)]
    matching = Matching(found, wanted, 0.25)
    thresholds = (0.25, 0.5, 0.75, 1.0)
    for least, taken in zip(thresholds, matching.taken(thresholds), strict=True):
        first = 0
        overlap = matching.iou_of(taken)
        for image, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
            own = matching.found.image == image
            rows = taken[own]
            expected = taken_by_hand(ours, theirs, min(least, 1 - 1e-10))
            assert [row - first if row >= 0 else -1 for row in rows] == expected
            assert ((overlap[own] >= least - 1e-9) == (rows >= 0)).all()
            first += len(theirs)


def test_ranks_and_what_does_not_fit() -> None:
    one = boxes(np.random.default_rng(1), 5, truth=False)
    one.class_id, one.confidence = np.array([0, 1, 0, 0, 1]), np.array([0.2, 0.3, 0.9, 0.2, 0.8])
    assert Matching([one], [one], 0.5).rank.tolist() == [1, 1, 0, 2, 0]
    nothing = sv.Detections.empty()
    assert Matching([nothing, nothing], [nothing, nothing], 0.5).taken([0.5]).shape == (1, 0)
    with pytest.raises(UsageError, match="same images"):
        Matching([one], [], 0.5)
    one.confidence = None
    with pytest.raises(UsageError, match="need confidences"):
        Matching([one], [one], 0.5)
