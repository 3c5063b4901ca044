"""Where tracks probably went wrong, without truth: events with a reason and a score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from osv_lab.track.boxes import iou_matrix, to_xywh
from osv_lab.track.swaps import find_swaps
from osv_lab.track.tracks import Tracks

# A step this many times a track's usual one (and at least this part of its box) is a teleport.
_STEP_TIMES, _STEP_OF_BOX = 6.0, 0.5
_MERGED_IOU = 0.8
_FLICKER_GAPS = 3


@dataclass(frozen=True)
class Suspicion:
    """One suspicious event.

    Attributes:
        kind: ``teleport`` (a jump that no other step of the track comes near), ``flicker`` (in and out of sight),
            ``class_flip`` (the detector's class changes for good or often), ``merge`` (two identities on one box),
            ``swap`` (two tracks that meet each go on where the other was heading), ``short`` (too few boxes).
        track_ids: The identities concerned.
        first_frame, last_frame: Where.
        score: 0 to 1, how sure; sort by it.
        reason: The evidence in words.
    """

    kind: str
    track_ids: tuple[int, ...]
    first_frame: int
    last_frame: int
    score: float
    reason: str


def suspicious_events(tracks: Tracks, *, least_length: int = 5) -> list[Suspicion]:
    """All suspicious events of a video, the surest first.

    Args:
        tracks: What a tracker gave; ``class_id`` as the detector said it, for class flips.
        least_length: Tracks of fewer boxes are suspicious.

    Example:
        >>> boxes = [[k, 0, k + 10, 20] for k in (0, 1, 2, 60, 61, 62)]
        >>> [event.kind for event in suspicious_events(Tracks(range(1, 7), [1] * 6, boxes))]
        ['teleport']
    """
    events: list[Suspicion] = []
    last = tracks.last_frame
    for identity in np.unique(tracks.track_id).tolist():
        part = tracks[tracks.track_id == identity]
        events += _teleports(part, identity)
        events += _flicker(part, identity)
        events += _class_flips(part, identity)
        # At the edges of the video a short track is none of the tracker's doing.
        if len(part) < least_length and part.frame[0] > 1 and part.frame[-1] < last:
            score = 1 - len(part) / least_length
            events.append(_event("short", (identity,), part, score, f"only {len(part)} boxes"))
    events += _merges(tracks)
    events += _swaps(tracks)
    return sorted(events, key=lambda event: (-event.score, event.first_frame, event.kind, event.track_ids))


def _event(kind: str, ids: tuple[int, ...], part: Tracks, score: float, reason: str) -> Suspicion:
    return Suspicion(kind, ids, int(part.frame[0]), int(part.frame[-1]), float(np.clip(score, 0, 1)), reason)


def _teleports(part: Tracks, identity: int) -> list[Suspicion]:
    if len(part) < 4:
        return []
    box = to_xywh(part.xyxy)
    elapsed = np.diff(part.frame)
    move = np.diff(box[:, :2], axis=0)
    # Against the steady motion of the whole track, per frame.
    pace = np.median(move / elapsed[:, None], axis=0)
    step = np.hypot(*(move - pace * elapsed[:, None]).T)
    usual = max(float(np.median(step)), 1e-6)
    size = np.sqrt(box[:-1, 2] * box[:-1, 3])
    jumped = (step > _STEP_TIMES * usual) & (step > _STEP_OF_BOX * size * np.sqrt(elapsed))
    return [
        _event(
            "teleport",
            (identity,),
            part[k : k + 2],
            1 - _STEP_OF_BOX * size[k] / step[k],
            f"moved {step[k]:.0f} px, {step[k] / size[k]:.1f} times its size, in {elapsed[k]} frames",
        )
        for k in np.flatnonzero(jumped).tolist()
    ]


def _flicker(part: Tracks, identity: int) -> list[Suspicion]:
    gaps = np.flatnonzero(np.diff(part.frame) > 1)
    if len(gaps) < _FLICKER_GAPS:
        return []
    span = part[int(gaps[0]) : int(gaps[-1]) + 2]
    missing = int(span.frame[-1] - span.frame[0] + 1 - len(span))
    rate = len(gaps) / max(1, int(span.frame[-1] - span.frame[0]))
    if rate < 0.05:
        return []
    return [_event("flicker", (identity,), span, 3 * rate, f"{len(gaps)} gaps, {missing} frames missing")]


def _class_flips(part: Tracks, identity: int) -> list[Suspicion]:
    changes = np.flatnonzero(np.diff(part.class_id) != 0)
    if not len(changes):
        return []
    counts = np.unique(part.class_id, return_counts=True)[1]
    minority = 1 - counts.max() / counts.sum()
    if minority < 0.1:
        return []
    span = part[int(changes[0]) : int(changes[-1]) + 2]
    classes = ", ".join(map(str, np.unique(part.class_id).tolist()))
    return [
        _event("class_flip", (identity,), span, 2 * minority, f"{len(changes)} changes among classes {classes}")
    ]


def _merges(tracks: Tracks) -> list[Suspicion]:
    meetings: dict[tuple[int, int], list[int]] = {}
    for number, frame in tracks.frames():
        if len(frame) < 2:
            continue
        merged = np.triu(iou_matrix(frame.xyxy, frame.xyxy) > _MERGED_IOU, k=1)
        for a, b in np.sort(frame.track_id[np.argwhere(merged)], axis=1).tolist():
            meetings.setdefault((a, b), []).append(number)
    return [
        Suspicion(
            "merge",
            pair,
            when[0],
            when[-1],
            min(1.0, len(when) / 10),
            f"overlap by more than {_MERGED_IOU:.0%} in {len(when)} frames",
        )
        for pair, when in sorted(meetings.items())
        if len(when) >= 3
    ]


def _swaps(tracks: Tracks) -> list[Suspicion]:
    return [
        Suspicion(
            "swap",
            swap.track_ids,
            swap.first_frame,
            swap.last_frame,
            swap.score,
            f"exchanged they go on straighter: off by {swap.kept:.1f} times their usual jitter as tracked, "
            f"by {swap.swapped:.1f} exchanged",
        )
        for swap in find_swaps(tracks)
    ]
