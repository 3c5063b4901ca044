"""The common ground of all metrics: truth and prediction of one sequence, frame by frame, with their overlaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from osv_lab.core.errors import InvalidDataError, UsageError, nearest
from osv_lab.track.boxes import iou_matrix
from osv_lab.track.tracks import Floats, Ints, Tracks

EPS = float(np.finfo(np.float64).eps)

# Classes of MOT16 and MOT17 whose boxes a tracker may follow or not (person on vehicle, static person, distractor,
# reflection); MOT20 adds non-motorised vehicles.
DISTRACTORS = {"mot17": (2, 7, 8, 12), "mot20": (2, 6, 7, 8, 12)}


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame: dense identities of truth (g,) and prediction (p,), their rows, and the similarity (g, p)."""

    number: int
    truth: Ints
    predicted: Ints
    truth_rows: Ints
    predicted_rows: Ints
    similarity: Floats


@dataclass(frozen=True, eq=False)
class Sequence:
    """Truth and prediction of one sequence with identities numbered densely from 0.

    ``truth_ids[k]`` and ``predicted_ids[k]`` are the original identities of dense identity ``k``.
    """

    frames: tuple[Frame, ...]
    truth_ids: Ints
    predicted_ids: Ints
    truth_count: int
    predicted_count: int


def best_pairs(score: Floats) -> tuple[Ints, Ints]:
    """Rows and columns of the assignment with the highest sum."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(score, maximize=True)
    return rows, columns


def pair(truth: Tracks, predicted: Tracks, frames: int | None = None) -> Sequence:
    """Bring truth and prediction together, frame by frame, with box IoU as similarity.

    Raises:
        InvalidDataError: boxes after the last frame.
    """
    last = max(truth.last_frame, predicted.last_frame)
    count = last if frames is None else frames
    if last > count:
        whose = "truth" if truth.last_frame > count else "prediction"
        raise InvalidDataError("boxes after the end of the sequence", f"{whose} in frame {last} of {count}")
    truth_ids, truth_dense = np.unique(truth.track_id, return_inverse=True)
    predicted_ids, predicted_dense = np.unique(predicted.track_id, return_inverse=True)
    truth_spans, predicted_spans = truth.spans(count), predicted.spans(count)
    numbered = []
    for number in range(1, count + 1):
        t = slice(truth_spans[number - 1], truth_spans[number])
        p = slice(predicted_spans[number - 1], predicted_spans[number])
        similarity = iou_matrix(truth.xyxy[t], predicted.xyxy[p])
        rows = np.arange(t.start, t.stop), np.arange(p.start, p.stop)
        numbered.append(Frame(number, truth_dense[t], predicted_dense[p], *rows, similarity))
    return Sequence(
        tuple(numbered),
        truth_ids,
        predicted_ids,
        int(truth_spans[-1] - truth_spans[0]),
        int(predicted_spans[-1] - predicted_spans[0]),
    )


def motchallenge_masks(
    truth: Tracks, predicted: Tracks, frames: int | None = None, *, benchmark: str = "mot17"
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """MOTChallenge's preprocessing: only pedestrians that are to be considered count.

    Predicted boxes are matched to all truth boxes (IoU of at least 0.5, the highest sum); those that fall on a
    distractor are removed, then all truth boxes but the considered pedestrians.

    Returns:
        Which boxes stay, of the truth (n,) and of the prediction (m,).
    """
    if benchmark not in DISTRACTORS:
        raise UsageError("unknown benchmark", repr(benchmark), nearest(benchmark, DISTRACTORS))
    distractors = DISTRACTORS[benchmark]
    keep = np.ones(len(predicted), dtype=bool)
    for frame in pair(truth, predicted, frames).frames:
        score = np.where(frame.similarity < 0.5 - EPS, 0.0, frame.similarity)
        rows, columns = best_pairs(score)
        matched = score[rows, columns] > EPS
        rows, columns = frame.truth_rows[rows[matched]], frame.predicted_rows[columns[matched]]
        keep[columns[np.isin(truth.class_id[rows], distractors)]] = False
    return (truth.confidence != 0) & (truth.class_id == 1), keep
