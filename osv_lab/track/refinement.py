"""Better tracks when the whole video is known: earlier starts, filled gaps, smoother paths, no stray boxes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from osv_lab.core.errors import UsageError
from osv_lab.track.appearance import unit_vectors
from osv_lab.track.assignment import assign
from osv_lab.track.boxes import iou_matrix, to_xywh, to_xyxy
from osv_lab.track.tracks import Floats, Ints, Tracks


def refine(
    tracks: Tracks,
    untracked: Tracks | None = None,
    *,
    frame_rate: float = 30.0,
    looks: Mapping[int, npt.ArrayLike] | None = None,
    stitch_gap_s: float = 2.0,
    backfill: bool = True,
    fill_gap_s: float = 1.0,
    smooth_s: float = 1 / 15,
    least_length: int = 1,
) -> Tracks:
    """Refine the tracks of a finished video; each step is optional.

    Args:
        tracks: What a tracker gave.
        untracked: The detections it gave no identity to, for ``backfill`` (their identities do not count).
        looks: What each identity looks like, (d,) each (the mean of its embeddings, say): tracks that follow on one
            another and look alike are joined (:func:`stitched`). Without looks none are: by motion alone as many wrong
            ones are joined as right ones.
        stitch_gap_s: Longest time in seconds between two tracks that are joined.
        backfill: Give a track the tentative boxes that came right before its first.
        frame_rate: Frames per second.
        fill_gap_s: Longest gap in seconds that is filled along a straight line; 0 fills none.
        smooth_s: Width in seconds (standard deviation) of the local-linear smoothing; 0 leaves boxes as they are.
        least_length: Tracks of fewer boxes (before filling) are dropped.

    Example:
        >>> tracks = Tracks([1, 2, 5], [1, 1, 1], [[0, 0, 10, 10], [2, 0, 12, 10], [8, 0, 18, 10]])
        >>> refine(tracks, smooth_s=0).xyxy[:, 0].tolist()
        [0.0, 2.0, 4.0, 6.0, 8.0]
    """
    if not frame_rate > 0 or min(fill_gap_s, stitch_gap_s, smooth_s, least_length) < 0:
        found = (
            f"frame_rate {frame_rate}, fill_gap_s {fill_gap_s}, smooth_s {smooth_s}, least_length {least_length}"
        )
        raise UsageError("a negative option", found, "give 0 to leave a step out")
    longest, width = int(fill_gap_s * frame_rate + 1e-9), smooth_s * frame_rate
    if looks is not None:
        tracks = stitched(tracks, looks, longest=int(stitch_gap_s * frame_rate + 1e-9))
    if backfill and untracked is not None:
        tracks = backfilled(tracks, untracked)
    _, index, lengths = np.unique(tracks.track_id, return_inverse=True, return_counts=True)
    tracks = tracks[lengths[index] >= least_length] if len(tracks) else tracks
    parts = []
    for identity in np.unique(tracks.track_id):
        part = tracks[tracks.track_id == identity]
        if longest:
            part = _filled(part, longest)
        if width:
            part = _smoothed(part, width)
        parts.append(part)
    return Tracks.concatenate(parts)


def stitched(
    tracks: Tracks, looks: Mapping[int, npt.ArrayLike], *, longest: int, alike: float = 0.3, reach: float = 2.0
) -> Tracks:
    """Join tracks of which one begins after the other has ended, near to it, and looks like it.

    Args:
        looks: (d,) embedding of each identity; one that has none is not joined.
        longest: Most frames between the end of one and the begin of the other.
        alike: Greatest cosine distance.
        reach: Greatest distance of the two boxes' centres, in box heights.
    """
    known = np.array([k for k in np.unique(tracks.track_id).tolist() if k in looks], dtype=np.int64)
    if len(known) < 2 or longest < 1:
        return tracks
    vectors = unit_vectors([np.asarray(looks[k], dtype=np.float32).ravel() for k in known.tolist()], len(known))
    first = np.array([np.flatnonzero(tracks.track_id == k)[0] for k in known])
    last = np.array([np.flatnonzero(tracks.track_id == k)[-1] for k in known])
    begin, end = to_xywh(tracks.xyxy[first]), to_xywh(tracks.xyxy[last])
    gap = tracks.frame[first][None, :] - tracks.frame[last][:, None]
    away = np.hypot(*(begin[None, :, :2] - end[:, None, :2]).transpose(2, 0, 1))
    near = away <= reach * np.maximum(begin[None, :, 3], end[:, None, 3])
    cost = np.where((gap > 0) & (gap <= longest + 1) & near, 1 - vectors @ vectors.T, np.inf)
    rows, columns = assign(cost, alike + 1e-6)
    owner = dict(zip(known.tolist(), known.tolist(), strict=True))
    # By begin, so that a chain of tracks takes the identity of its first.
    for row, column in sorted(zip(rows.tolist(), columns.tolist(), strict=True), key=lambda pair: first[pair[1]]):
        owner[int(known[column])] = owner[int(known[row])]
    identity = [owner.get(k, k) for k in tracks.track_id.tolist()]
    return Tracks(tracks.frame, identity, tracks.xyxy, tracks.confidence, tracks.class_id)


def backfilled(tracks: Tracks, untracked: Tracks, *, least_iou: float = 0.3, most: int = 3) -> Tracks:
    """Give tracks the untracked boxes right before their first: a tracker confirms late, a reader need not.

    Args:
        least_iou: Least overlap with the track's next box.
        most: Up to how many frames.
    """
    identities, first = np.unique(tracks.track_id, return_index=True)
    free = np.ones(len(untracked), dtype=bool)
    spans = untracked.spans(max(tracks.last_frame, untracked.last_frame))
    rows, owners = [], []
    # Rows are sorted by frame, so the first row of an identity is where it begins.
    for identity, row in zip(identities.tolist(), first.tolist(), strict=True):
        box, frame = tracks.xyxy[row], int(tracks.frame[row])
        for before in range(frame - 1, max(frame - 1 - most, 0), -1):
            there = np.arange(spans[before - 1], spans[before])
            there = there[free[there]]
            overlap = iou_matrix(box[None], untracked.xyxy[there])[0]
            if not len(there) or overlap.max() < least_iou:
                break
            best = int(there[overlap.argmax()])
            free[best] = False
            rows.append(best)
            owners.append(identity)
            box = untracked.xyxy[best]
    if not rows:
        return tracks
    found = untracked[np.array(rows)]
    order = np.argsort(untracked.frame[np.array(rows)], kind="stable")
    return Tracks.concatenate(
        (tracks, Tracks(found.frame, np.array(owners)[order], found.xyxy, found.confidence, found.class_id))
    )


def _filled(part: Tracks, longest: int) -> Tracks:
    """One identity with its gaps of up to ``longest`` frames filled along straight lines."""
    missing = np.setdiff1d(np.arange(part.frame[0], part.frame[-1] + 1), part.frame)
    after = np.searchsorted(part.frame, missing)
    missing = missing[part.frame[after] - part.frame[after - 1] - 1 <= longest] if len(missing) else missing
    if not len(missing):
        return part
    before = np.searchsorted(part.frame, missing) - 1
    boxes = np.column_stack([np.interp(missing, part.frame, column) for column in part.xyxy.T])
    confidence = np.interp(missing, part.frame, part.confidence)
    identity = np.full(len(missing), part.track_id[0])
    return Tracks.concatenate((part, Tracks(missing, identity, boxes, confidence, part.class_id[before])))


def _smoothed(part: Tracks, width: float) -> Tracks:
    """One identity with each box replaced by a local straight line through its neighbours, Gaussian weighted."""
    if len(part) < 3:
        return part
    boxes = to_xyxy(_local_linear(part.frame, to_xywh(part.xyxy), width))
    return Tracks(part.frame, part.track_id, boxes, part.confidence, part.class_id)


def _local_linear(frame: Ints, values: Floats, width: float) -> Floats:
    """(n, k) local-linear regression of (n, k) values on time (Cleveland, 1979, with a Gaussian window)."""
    reach = int(np.ceil(3 * width))
    out = np.empty_like(values)
    begin = np.searchsorted(frame, frame - reach)
    end = np.searchsorted(frame, frame + reach, side="right")
    for row in range(len(frame)):
        near = slice(begin[row], end[row])
        offset = (frame[near] - frame[row]).astype(np.float64)
        weight = np.exp(-0.5 * (offset / width) ** 2)
        s0, s1, s2 = weight.sum(), (weight * offset).sum(), (weight * offset * offset).sum()
        spread = s0 * s2 - s1 * s1
        kernel = weight * (s2 - s1 * offset) / spread if spread > 1e-9 * s0 * s0 else weight / s0
        out[row] = kernel @ values[near]
    return out
