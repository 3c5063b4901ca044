"""What a merge says: changes for the dataset, conflicts, what else was noticed, and the base of the next merge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from osv_lab.annotate.objects import Annotations, Shape, Track

Object: TypeAlias = Shape | Track
Action: TypeAlias = Literal["add", "update", "delete"]
Resolution: TypeAlias = Literal["review", "theirs", "ours"]
RESOLUTIONS: tuple[Resolution, ...] = ("review", "theirs", "ours")
Key: TypeAlias = tuple[str, int, str]
"""Where an object is and which it is: sample, frame and uid. A track's frame is -1."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to do to the dataset.

    Attributes:
        action: ``add``, ``update`` or ``delete``.
        uid: The object's identity; what is added gets it.
        before: The object in the dataset, ``None`` where it is added.
        after: The object as it is to be, ``None`` where it is deleted.
        properties: What differs: ``geometry``, ``label``, ``occluded``, ``z_order``, ``group``, ``track``,
            ``attributes.<name>``; ``existence`` where it is added or deleted.
    """

    action: Action
    uid: str
    before: Object | None
    after: Object | None
    properties: tuple[str, ...]

    @property
    def sample(self) -> str:
        """The id of the sample that it is on."""
        one = self.after or self.before
        assert one is not None
        return one.sample

    @property
    def place(self) -> tuple[str, int]:
        """The sample, and the frame of a video that it is on; 0 for an image."""
        one = self.after or self.before
        return self.sample, one.frame if isinstance(one, Shape) else 0


@dataclass(frozen=True, slots=True)
class Conflict:
    """One object that both sides changed, differently.

    Attributes:
        uid: The object's identity.
        sample: The id of its sample.
        properties: What the sides disagree on, in the words of :class:`Change`.
        base: The object as it was when the sides last agreed.
        theirs: As CVAT has it, ``None`` where it was deleted there.
        ours: As the dataset has it, ``None`` where it was deleted here.
        kept: Whose version the dataset has after the merge.
        others: Further versions on the server, where annotators of overlapping jobs disagree.
    """

    uid: str
    sample: str
    properties: tuple[str, ...]
    base: Object | None
    theirs: Object | None
    ours: Object | None
    kept: Literal["theirs", "ours"]
    others: tuple[Object, ...] = ()


@dataclass(frozen=True, slots=True)
class Note:
    """Something on the server that a person should know of.

    Attributes:
        what: ``unknown shape`` (the dataset cannot hold it; it stays on the server), ``unknown label`` (taken over),
            ``copied`` (an object with another's identity; it got its own), ``unknown identity`` (likewise),
            ``near duplicate`` (added on both sides, both kept), ``drawn twice`` (by two annotators; taken once) or
            ``second tag`` (the field holds one).
        theirs: The object on the server.
        ours: The object in the dataset that it is too near to, or ``None``.
        iou: Their overlap, 0 to 1, or ``None``.
    """

    what: str
    theirs: Object
    ours: Object | None = None
    iou: float | None = None


@dataclass(frozen=True)
class Merge:
    """The result of :func:`osv_lab.annotate.merge.merge`.

    Attributes:
        changes: What to do to the dataset, in the order of the server's objects; at most one per object.
        conflicts: Objects that both sides changed differently.
        notes: What else was noticed.
        base: The base of the next merge, once the changes are applied. Where a conflict is open it is still the old
            one, so that the conflict is found again until somebody resolves it.
        counts: Objects by what happened: ``untouched``, ``edited``, ``added`` and ``deleted`` on the server,
            ``edited here``, ``added here`` and ``deleted here``, ``both`` (changed on both sides without conflict),
            ``conflicts``.
    """

    changes: tuple[Change, ...]
    conflicts: tuple[Conflict, ...]
    notes: tuple[Note, ...]
    base: Annotations
    counts: Mapping[str, int] = field(default_factory=dict)

    def applied(self, ours: Annotations) -> Annotations:
        """``ours`` with the changes: what the dataset holds after the merge."""
        objects: tuple[Object, ...] = (*ours.shapes, *ours.tracks)
        after = {key_of(one): one for one in objects}
        for change in self.changes:
            one = change.after or change.before
            assert one is not None
            key = _key(one, change.uid)
            if change.after is None:
                after.pop(key, None)
            else:
                after[key] = change.after
        return annotations_of(after.values())


@dataclass(frozen=True)
class Scope:
    """The frames that a merge is about: those of finished jobs, say. Everything else is left as it is.

    Attributes:
        ranges: First and last frame of each range, by sample; an image has the range ``(0, 0)``.

    Example:
        >>> scope = Scope({"video": ((0, 19), (40, 59))})
        >>> scope.holds("video", 20), scope.holds("video", 40), scope.holds("other", 0)
        (False, True, False)
    """

    ranges: Mapping[str, Sequence[tuple[int, int]]]

    def holds(self, sample: str, frame: int = 0) -> bool:
        """Whether a frame of a sample is in it."""
        return any(first <= frame <= last for first, last in self.ranges.get(sample, ()))

    def of(self, sample: str, frames: np.ndarray) -> np.ndarray:
        """Which of ``frames (n,)`` of a sample are in it, bool ``(n,)``."""
        found = np.zeros(len(frames), dtype=bool)
        for first, last in self.ranges.get(sample, ()):
            found |= (first <= frames) & (frames <= last)
        return found


def key_of(one: Object) -> Key:
    """The key of an object that has an identity."""
    assert one.uid is not None
    return _key(one, one.uid)


def _key(one: Object, uid: str) -> Key:
    return one.sample, one.frame if isinstance(one, Shape) else -1, uid


def annotations_of(objects: Iterable[Object]) -> Annotations:
    """Shapes and tracks, apart."""
    shapes: list[Shape] = []
    tracks: list[Track] = []
    for one in objects:
        if isinstance(one, Shape):
            shapes.append(one)
        else:
            tracks.append(one)
    return Annotations(tuple(shapes), tuple(tracks))
