"""Where tracking went wrong, frame by frame: switches, fragmentations, false and missed boxes, with identities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from osv_lab.track.metrics.clear import Matches, find_breaks
from osv_lab.track.tracks import Ints, Tracks


@dataclass(frozen=True)
class TrackEvent:
    """One mistake, located.

    Attributes:
        kind: ``switch`` (a true identity has another predicted one than before), ``merge`` (a predicted identity goes
            on with another true one), ``fragmentation`` (a true identity is found again after frames without),
            ``false`` (predicted boxes where nothing is), ``missed`` (true boxes that nothing covers);
            ``false_track`` and ``missed_track`` for those of an identity that is never right, or never found.
        first_frame, last_frame: Where it is. A switch spans from the last frame with the old identity to the first
            with the new one, a merge likewise; a fragmentation the frames in between; false and missed boxes one run
            of frames.
        truth_id: The true identity (after a merge: the new one), ``None`` for false boxes.
        predicted_id: The predicted identity (after a switch: the new one), ``None`` for missed boxes.
        previous_id: The predicted identity before a switch or an interruption; the true one before a merge.
        xyxy: The box at ``last_frame`` (of false and missed runs: at ``first_frame``), absolute pixels.
    """

    kind: str
    first_frame: int
    last_frame: int
    truth_id: int | None
    predicted_id: int | None
    previous_id: int | None
    xyxy: tuple[float, float, float, float]


def track_events(truth: Tracks, predicted: Tracks, matches: Matches) -> list[TrackEvent]:
    """Every mistake of a sequence, sorted by first frame.

    Args:
        truth, predicted: The evaluated boxes (after preprocessing).
        matches: Their matches, from :func:`osv_lab.track.metrics.clear.match`.
    """
    events = [*_breaks(truth, predicted, matches), *_merges(truth, predicted, matches)]
    for kind, tracks, matched in (
        ("missed", truth, matches.truth_row),
        ("false", predicted, matches.predicted_row),
    ):
        alone = np.delete(np.arange(len(tracks)), matched)
        known = set(tracks.track_id[matched].tolist())
        for rows in _runs(tracks, alone):
            first, last = int(tracks.frame[rows[0]]), int(tracks.frame[rows[-1]])
            identity = int(tracks.track_id[rows[0]])
            true_id, predicted_id = (identity, None) if kind == "missed" else (None, identity)
            name = kind if identity in known else f"{kind}_track"
            box = _box(tracks, int(rows[0]))
            events.append(TrackEvent(name, first, last, true_id, predicted_id, None, box))
    return sorted(events, key=lambda event: (event.first_frame, event.last_frame, event.kind, event.xyxy))


def _breaks(truth: Tracks, predicted: Tracks, matches: Matches) -> Iterator[TrackEvent]:
    breaks = find_breaks(matches)

    def ids(k: int) -> tuple[int, int]:
        return int(truth.track_id[matches.truth_row[k]]), int(predicted.track_id[matches.predicted_row[k]])

    for kind, before, after in (
        ("switch", breaks.switch_from, breaks.switch_to),
        ("fragmentation", breaks.stopped, breaks.resumed),
    ):
        between = 1 if kind == "fragmentation" else 0
        for k, n in zip(before.tolist(), after.tolist(), strict=True):
            first, last = int(matches.frame[k]) + between, int(matches.frame[n]) - between
            true_id, new_id = ids(n)
            box = _box(predicted, int(matches.predicted_row[n]))
            yield TrackEvent(kind, first, last, true_id, new_id, ids(k)[1], box)


def _merges(truth: Tracks, predicted: Tracks, matches: Matches) -> Iterator[TrackEvent]:
    """The switches of predicted identities between true ones."""
    order = np.lexsort((matches.step, matches.predicted))
    before, after = order[:-1], order[1:]
    moved = (matches.predicted[before] == matches.predicted[after]) & (
        matches.truth[before] != matches.truth[after]
    )
    for k, n in zip(before[moved].tolist(), after[moved].tolist(), strict=True):
        row = int(matches.predicted_row[n])
        yield TrackEvent(
            "merge",
            int(matches.frame[k]),
            int(matches.frame[n]),
            int(truth.track_id[matches.truth_row[n]]),
            int(predicted.track_id[row]),
            int(truth.track_id[matches.truth_row[k]]),
            _box(predicted, row),
        )


def _runs(tracks: Tracks, rows: Ints) -> list[Ints]:
    """``rows`` in groups: one identity in consecutive frames."""
    if not len(rows):
        return []
    rows = rows[np.lexsort((tracks.frame[rows], tracks.track_id[rows]))]
    cut = (np.diff(tracks.track_id[rows]) != 0) | (np.diff(tracks.frame[rows]) != 1)
    return np.split(rows, np.flatnonzero(cut) + 1)


def _box(tracks: Tracks, row: int) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(value) for value in tracks.xyxy[row])
    return x1, y1, x2, y2
