"""What annotators made of what they were sent: accepted, moved, relabelled, removed; and what they added."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from osv_lab.annotate.changes import key_of
from osv_lab.annotate.documents import TRUSTED
from osv_lab.annotate.identity import identify
from osv_lab.annotate.objects import Shape
from osv_lab.annotate.overlap import extents
from osv_lab.annotate.properties import same_value, values_of
from osv_lab.annotate.records import place_name
from osv_lab.track.boxes import iou_matrix

KINDS: Final = ("accepted", "described", "moved", "relabelled", "removed", "added")
"""``described`` is a change of attributes alone."""
REDRAWN_IOU: Final = 0.5
"""An object that was removed and another drawn that overlaps by this is one that was moved."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one annotator made of one object.

    Attributes:
        kind: One of :data:`KINDS`.
        sample: The sample's id.
        object: The label's id.
        label: Its class as it was sent; of one that was added, as it was drawn.
        became: Its class as it came back, ``""`` where it was removed.
        iou: Overlap of the object as it was sent with the one that came back, 0 to 1: of the boxes around them. 1 where
            it was not moved, ``None`` where there are not both.
        confidence: The model's, ``None`` for what no model said.
        trusted: What autolabel said of it, ``None`` where it said nothing.
        job: CVAT's id of the job.
    """

    kind: str
    sample: str
    object: str
    label: str
    became: str
    iou: float | None
    confidence: float | None
    trusted: bool | None
    job: int


def outcomes(sent: Iterable[Shape], returned: Mapping[tuple[int, str], Sequence[Shape]]) -> list[Outcome]:
    """Compare what was sent with what came back, job by job: in shared images each annotator counts.

    Args:
        sent: The objects as they were sent.
        returned: The objects of finished jobs, by job and place; those of a track are one object.

    Example:
        >>> box = Shape("a", "image", "box", "cat", (0.0, 0.0, 10.0, 10.0))
        >>> [(one.kind, one.iou) for one in outcomes([box], {(1, "image"): [replace(box, points=(0., 0., 10., 5.))]})]
        [('moved', 0.5)]
    """
    of: dict[str, list[Shape]] = defaultdict(list)
    for shape in sent:
        of[place_name(shape.sample, shape.frame)].append(shape)
    found: list[Outcome] = []
    tracks: dict[tuple[int, str], list[Outcome]] = defaultdict(list)

    def note(shape: Shape, outcome: Outcome) -> None:
        (found if shape.track is None else tracks[outcome.job, shape.track]).append(outcome)

    for (job, place), shapes in sorted(returned.items()):
        base = {key_of(shape): shape for shape in of[place]}
        versions, additions, _ = identify(base, shapes)
        pairs = [(shape, versions[key][0]) for key, shape in base.items() if key in versions]
        removed = [shape for key, shape in base.items() if key not in versions]
        for before, after in _redrawn(removed, additions):
            pairs.append((before, after))
            removed.remove(before)
            additions.remove(after)
        for before, after in pairs:
            note(before, _pair(job, before, after))
        for before in removed:
            note(before, _outcome("removed", job, before, "", None))
        for after in additions:
            drawn = replace(after, confidence=None, attributes={})
            note(after, _outcome("added", job, drawn, after.label, None))
    return [*found, *map(_of_track, tracks.values())]


def _of_track(frames: Sequence[Outcome]) -> Outcome:
    """A track is one object: removed or added where it is so on all its frames, else what was done to any of them."""
    kinds = {one.kind for one in frames}
    if len(kinds) == 1:
        kind = kinds.pop()
    else:
        kind = (
            "relabelled"
            if "relabelled" in kinds
            else "moved"
            if kinds - {"accepted", "described"}
            else "described"
        )
    both = [one.iou for one in frames if one.iou is not None]
    first = next((one for one in frames if one.kind == kind), frames[0])
    return replace(first, kind=kind, iou=sum(both) / len(both) if both else None)


def matched(first: Sequence[Shape], second: Sequence[Shape], least: float) -> list[tuple[int, int, float]]:
    """Pairs of places of objects of one kind that overlap by ``least`` or more, and their IoU.

    One to one, with as much overlap as can be had in all; of equals those of one class.
    """
    if not first or not second:
        return []
    from scipy.optimize import linear_sum_assignment

    overlap = iou_matrix(extents(first), extents(second))
    kinds = np.array([[a.kind == b.kind for b in second] for a in first])
    alike = np.array([[a.label == b.label for b in second] for a in first])
    overlap = np.where(kinds & (overlap >= least), overlap, 0.0)
    rows, columns = linear_sum_assignment(overlap + 1e-6 * (alike & (overlap > 0)), maximize=True)
    return [
        (i, j, float(overlap[i, j]))
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True)
        if overlap[i, j] > 0
    ]


def _redrawn(removed: Sequence[Shape], added: Sequence[Shape]) -> list[tuple[Shape, Shape]]:
    return [(removed[i], added[j]) for i, j, _ in matched(removed, added, REDRAWN_IOU)]


def _pair(job: int, before: Shape, after: Shape) -> Outcome:
    old, new = values_of(before), values_of(after)
    moved = not same_value("geometry", old["geometry"], new["geometry"])
    iou = float(iou_matrix(extents([before]), extents([after]))[0, 0]) if moved else 1.0
    if before.label != after.label:
        kind = "relabelled"
    elif moved:
        kind = "moved"
    else:
        described = {name for name in {*old, *new} if name not in ("geometry", "label", "z_order", "group")}
        kind = "described" if any(old.get(name) != new.get(name) for name in described) else "accepted"
    return _outcome(kind, job, before, after.label, iou)


def _outcome(kind: str, job: int, shape: Shape, became: str, iou: float | None) -> Outcome:
    trusted = shape.attributes.get(TRUSTED)
    return Outcome(
        kind,
        shape.sample,
        str(shape.uid),
        shape.label,
        became,
        iou,
        shape.confidence,
        trusted if isinstance(trusted, bool) else None,
        job,
    )
