"""The three-way merge: what was sent, what is on the server now, and what the dataset holds now."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from osv_lab.annotate.changes import RESOLUTIONS, Merge, Resolution, Scope
from osv_lab.annotate.objects import Annotations, Value
from osv_lab.annotate.shape_merge import merge_shapes
from osv_lab.annotate.threeway import Collected
from osv_lab.core.errors import InvalidDataError, UsageError, nearest


def merge(
    base: Annotations,
    theirs: Annotations,
    ours: Annotations,
    conflict: Resolution = "review",
    *,
    scope: Scope | None = None,
    labels: Collection[str] | None = None,
    defaults: Mapping[str, Mapping[str, Value]] | None = None,
) -> Merge:
    """Merge shapes and tags that both sides may have changed, property by property.

    - What the server did not touch stays as it is here, to the last bit, with its identity, confidence and model.
    - What annotators changed is taken over: the object becomes a person's and loses the model's confidence.
    - What they deleted is deleted, what they added is added. What was changed here is kept, and so is what was added
      or deleted here.
    - The same change on both sides is no conflict. Different changes of one property are, and so is a deletion on one
      side of what the other changed. Conflicts are reported with all versions.
    - An object added on both sides is one where that can be shown (:mod:`osv_lab.annotate.overlap`).

    Merging again, with the base that the merge returns or with the old one, changes nothing. Merging the frames of
    some jobs and then the rest gives what merging all at once gives.

    Args:
        base: What was sent, or :attr:`Merge.base` of the merge before.
        theirs: What the server has.
        ours: What the dataset has, every object with its uid.
        conflict: ``review`` keeps ours and leaves the conflict open; ``ours`` and ``theirs`` settle it.
        scope: The frames to merge; all by default. Objects elsewhere are left alone on all sides.
        labels: The class names that are known; others are noted, and taken over.
        defaults: By class, the values that CVAT fills in for attributes that nobody set; they are no edits.

    Returns:
        The changes for the dataset, conflicts, notes, counts, and the base of the next merge.

    Raises:
        UsageError: an unknown ``conflict``, or tracks, which this merge does not take.
        InvalidDataError: an object of the base or the dataset without a uid, or a uid twice on one frame.

    Example:
        >>> from osv_lab.annotate.objects import Shape
        >>> sent = Shape("a", "image", "box", "cat", (1.0, 2.0, 30.0, 40.0), confidence=0.7, source="auto")
        >>> corrected = Shape("a", "image", "box", "dog", (1.0, 2.0, 30.0, 40.0), source="semi-auto", server_id=7)
        >>> done = merge(Annotations((sent,)), Annotations((corrected,)), Annotations((sent,)))
        >>> done.changes[0].properties, done.changes[0].after.label, done.changes[0].after.confidence
        (('label',), 'dog', None)
    """
    if conflict not in RESOLUTIONS:
        raise UsageError("conflict is unknown", repr(conflict), nearest(str(conflict), RESOLUTIONS))
    if base.tracks or theirs.tracks or ours.tracks:
        raise UsageError("this merge takes no tracks", "a task with tracks", "merge its shapes")
    _check("base", base)
    _check("dataset", ours)
    into = Collected()
    merge_shapes(
        base.shapes,
        theirs.shapes,
        ours.shapes,
        conflict,
        scope=scope,
        labels=labels,
        defaults=defaults,
        into=into,
    )
    return into.merge()


def _check(side: str, annotations: Annotations) -> None:
    seen = set()
    for shape in annotations.shapes:
        if not shape.uid:
            raise InvalidDataError(f"an object of the {side} has no uid", f"a {shape.label} on {shape.sample}")
        key = (shape.sample, shape.frame, shape.uid)
        if key in seen:
            raise InvalidDataError(f"two objects of the {side} have one uid", f"{shape.uid} on {shape.sample}")
        seen.add(key)
