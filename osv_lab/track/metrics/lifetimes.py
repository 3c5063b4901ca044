"""Each true identity over its life: how much of it was found, and as whom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from osv_lab.track.metrics.clear import Matches, find_breaks
from osv_lab.track.metrics.hota import Hota
from osv_lab.track.tracks import Tracks


@dataclass(frozen=True)
class Lifetime:
    """One true identity.

    Attributes:
        truth_id: The identity.
        first_frame, last_frame: Where it lives.
        boxes: How many boxes it has.
        matched: How many of them were found.
        switches: How often the predicted identity changed.
        fragmentations: How often it was lost and found again.
        predicted_ids: The predicted identities it had, each with its number of boxes, the longest first.
        hota: Its own HOTA, 0 to 1; see :class:`osv_lab.track.metrics.hota.Hota`.
    """

    truth_id: int
    first_frame: int
    last_frame: int
    boxes: int
    matched: int
    switches: int
    fragmentations: int
    predicted_ids: tuple[tuple[int, int], ...]
    hota: float

    @property
    def coverage(self) -> float:
        """Share of its boxes that were found, 0 to 1. Above 0.8 it counts as mostly tracked, below 0.2 as lost."""
        return self.matched / self.boxes


def lifetimes(truth: Tracks, predicted: Tracks, matches: Matches, hota: Hota) -> list[Lifetime]:
    """Every true identity, in order of identities.

    Args:
        truth, predicted: The evaluated boxes.
        matches: Their matches, from :func:`osv_lab.track.metrics.clear.match`.
        hota: Their HOTA.
    """
    identities = np.unique(truth.track_id)
    breaks = find_breaks(matches)
    switches = np.bincount(matches.truth[breaks.switch_to], minlength=len(identities))
    fragmentations = np.bincount(matches.truth[breaks.resumed], minlength=len(identities))
    named = predicted.track_id[matches.predicted_row]
    found = []
    for dense, identity in enumerate(identities.tolist()):
        frames = truth.frame[truth.track_id == identity]
        ids, counts = np.unique(named[matches.truth == dense], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        found.append(
            Lifetime(
                identity,
                int(frames[0]),
                int(frames[-1]),
                len(frames),
                int(counts.sum()),
                int(switches[dense]),
                int(fragmentations[dense]),
                tuple(zip(ids[order].tolist(), counts[order].tolist(), strict=True)),
                float(hota.by_truth[dense]),
            )
        )
    return found
