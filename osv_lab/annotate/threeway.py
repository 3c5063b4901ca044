"""The three-way rule for one object, property by property.

Per property, with ``base`` as last agreed: what nobody changed stays; what one side changed is taken from it; what both
changed to the same is no conflict; what both changed differently is one, and so is what annotators of overlapping jobs
changed differently. (This is diff3's rule for chunks of a text, Khanna, Kunal and Pierce, "A formal investigation of
Diff3", FSTTCS 2007, with the properties of an object as the chunks, which cannot slip against each other.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from osv_lab.annotate.changes import Change, Conflict, Merge, Note, Object, Resolution, annotations_of
from osv_lab.annotate.objects import Shape, Track
from osv_lab.annotate.properties import SILENT, by_a_person, same_value, with_values

One = TypeVar("One", Shape, Track)
_NOTHING: Mapping[str, Any] = {}


@dataclass(slots=True)
class Verdict:
    """Who changed which properties of one object, and what they are to be."""

    values: dict[str, Any] = field(default_factory=dict)
    base: dict[str, Any] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    theirs: list[str] = field(default_factory=list)
    ours: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)


def judge(
    base: Mapping[str, Any] | None,
    theirs: Sequence[Mapping[str, Any]],
    ours: Mapping[str, Any],
    conflict: Resolution,
) -> Verdict:
    """Merge properties.

    Args:
        base: As last agreed; ``None`` for an object that both sides added under one identity.
        theirs: On the server, one per version.
        ours: In the dataset.
        conflict: What a property gets that is in conflict: ``review`` and ``ours`` leave it as it is here, ``theirs``
            takes the server's; ``review`` leaves the conflict open.
    """
    verdict = Verdict()
    before = _NOTHING if base is None else base
    for name in dict.fromkeys(name for values in (ours, before, *theirs) for name in values):
        b, o = before.get(name), ours.get(name)
        changed: list[Any] = []
        for values in theirs:
            t = values.get(name)
            if (base is None or not same_value(name, t, b)) and not any(same_value(name, t, x) for x in changed):
                changed.append(t)
        mine = base is None or not same_value(name, o, b)
        verdict.values[name], verdict.base[name] = o, b
        if mine:
            verdict.ours.append(name)
        if not changed:
            continue
        t = changed[0]
        verdict.theirs.append(name)
        if len(changed) > 1 or (mine and not same_value(name, o, t)):
            verdict.conflicts.append(name)
            verdict.base[name] = b if conflict == "review" or len(changed) > 1 else t
            if conflict == "theirs" and not same_value(name, o, t):
                verdict.values[name] = t
                verdict.taken.append(name)
        else:
            verdict.base[name] = t
            if not mine:
                verdict.values[name] = t
                verdict.taken.append(name)
    return verdict


def after_verdict(ours: One, verdict: Verdict, source: str) -> One:
    """The object as the verdict has it, a person's where the person who changed it is on the server."""
    after = with_values(ours, verdict.values)
    return by_a_person(after, source) if any(name not in SILENT for name in verdict.taken) else after


def as_base(theirs: One, uid: str, values: Mapping[str, Any]) -> One:
    """What the next merge is to compare with: the server's object with these properties."""
    return with_values(replace(theirs, uid=uid, job=None), values)


@dataclass(slots=True)
class Collected:
    """The parts of a :class:`Merge`, as they are found."""

    changes: list[Change] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    base: list[Object] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def merge(self) -> Merge:
        """The whole."""
        return Merge(
            tuple(self.changes), tuple(self.conflicts), tuple(self.notes), annotations_of(self.base), self.counts
        )
