"""What people have gone over, so that no machine changes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from osv_lab.annotate.objects import Shape
from osv_lab.annotate.properties import HUMAN
from osv_lab.annotate.records import Runs

if TYPE_CHECKING:
    import fiftyone as fo


@dataclass(frozen=True, slots=True)
class LookedAt:
    """What people have gone over, or have before them now: ids of labels; and
    images and frames of finished jobs, by :func:`osv_lab.annotate.records.place_name`."""

    labels: frozenset[str]
    places: frozenset[str]


def looked_at(dataset: fo.Dataset, field: str) -> LookedAt:
    """What people know of a label field, by the runs that it was sent with."""
    runs = Runs(dataset)
    labels: set[str] = set()
    places: set[str] = set()
    for key in runs.names():
        if runs.get(key).field == field:
            labels.update(str(shape.uid) for shape in runs.base(key).shapes)
            places.update(place for _, place in runs.returned(key))
    return LookedAt(frozenset(labels), frozenset(places))


def made_by_people(shape: Shape) -> bool:
    """Whether a label is a person's: made or changed by one, or of nobody known and without a confidence."""
    return shape.source in HUMAN or (shape.confidence is None and shape.model is None)
