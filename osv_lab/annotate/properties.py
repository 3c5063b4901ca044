"""The properties of an object that are merged one by one, and when two values of one are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from osv_lab.annotate.objects import Shape, Track, Value

EXACT: Final = 1e-6
"""Pixels, and degrees: what differs by less was moved by arithmetic and not by a person."""

HUMAN: Final = ("manual", "semi-auto", "consensus")
"""CVAT's words for objects that a person drew or corrected."""

SILENT: Final = ("z_order", "group")
"""Properties whose change does not make a person the author."""

MISSING: Final = None
"""The value of an attribute that an object does not have."""

One = TypeVar("One", Shape, Track)


def values_of(one: Shape | Track) -> dict[str, Any]:
    """The properties of an object by name. A track's geometry changes from frame to frame and is not among them."""
    values: dict[str, Any] = {"label": one.label, "group": one.group}
    if isinstance(one, Shape):
        values["geometry"] = (one.kind, one.points, one.rotation, one.visible)
        values["occluded"] = one.occluded
        values["z_order"] = one.z_order
        values["track"] = one.track
    for name, value in one.attributes.items():
        values["attributes." + name] = value
    return values


def with_values(one: One, values: Mapping[str, Any]) -> One:
    """``one`` with other properties; its identity, source and confidence stay."""
    changed: dict[str, Any] = {"label": values["label"], "group": values["group"]}
    if isinstance(one, Shape):
        kind, points, rotation, visible = values["geometry"]
        changed.update(kind=kind, points=points, rotation=rotation, visible=visible)
        changed.update(occluded=values["occluded"], z_order=values["z_order"], track=values["track"])
    prefix = "attributes."
    changed["attributes"] = {
        name.removeprefix(prefix): value
        for name, value in values.items()
        if name.startswith(prefix) and value is not MISSING
    }
    return replace(one, **changed)


def same_value(name: str, a: Any, b: Any) -> bool:
    """Whether two values of a property are the same, geometry to :data:`EXACT`."""
    if name != "geometry" or a == b or a is None or b is None:
        return bool(a == b)
    (kind, points, rotation, visible), (other, others, turned, seen) = a, b
    return kind == other and visible == seen and same_place(points, rotation, others, turned)


def same_place(points: Sequence[float], rotation: float, others: Sequence[float], turned: float) -> bool:
    """Whether points and rotations are the same, to :data:`EXACT`."""
    angle = abs(rotation - turned) % 360
    return (
        len(points) == len(others)
        and min(angle, 360 - angle) <= EXACT
        and all(abs(x - y) <= EXACT for x, y in zip(points, others, strict=True))
    )


def same(a: Shape | Track, b: Shape | Track) -> bool:
    """Whether two objects are the same in all properties."""
    if a is b:
        return True
    first, second = values_of(a), values_of(b)
    return first == second or all(
        same_value(name, first.get(name), second.get(name)) for name in {*first, *second}
    )


def without_defaults(theirs: One, base: One | None, defaults: Mapping[str, Mapping[str, Value]] | None) -> One:
    """``theirs`` without attributes that nobody set: CVAT fills in the default of one that was not sent."""
    mine = defaults.get(theirs.label) if defaults else None
    if not mine:
        return theirs
    known = base.attributes if base is not None else {}
    kept = {
        name: value
        for name, value in theirs.attributes.items()
        if name in known or name not in mine or mine[name] != value
    }
    return theirs if len(kept) == len(theirs.attributes) else replace(theirs, attributes=kept)


def by_a_person(one: One, source: str) -> One:
    """``one`` as a person's: no model's confidence or reference, and a person's source."""
    return replace(one, source=source if source in HUMAN else "manual", confidence=None, model=None)
