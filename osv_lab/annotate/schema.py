"""The labels of a CVAT project: which classes and attributes the dataset needs, and what the project has already.

Nothing that a project has is taken away, since deleting a label deletes its shapes: what is missing is added.
Every label gets one text attribute of ours, :mod:`osv_lab.annotate.origin`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from osv_lab.annotate.connection import Connection
from osv_lab.annotate.objects import Shape, Value
from osv_lab.annotate.origin import ORIGIN
from osv_lab.core.errors import UsageError

MAX_NAME = 64
"""Characters in the name of a label or an attribute (CVAT's limit)."""
_EXACT_INT = 2**53
MAX_TEXT = 4096
"""Characters in the value of an attribute (CVAT's limit)."""

TYPES: Mapping[str, type] = {"bool": bool, "int": int, "float": float, "str": str}
Types: TypeAlias = Mapping[str, str]
"""The type of each attribute by name, one of :data:`TYPES`."""


def attribute_types(shapes: Iterable[Shape]) -> dict[str, str]:
    """The type of each attribute: the narrowest of bool, int, float and str that all its values have.

    Example:
        >>> attribute_types([Shape("a", "s", "tag", "x", attributes={"n": 1}),
        ...                  Shape("b", "s", "tag", "x", attributes={"n": 2.5, "ok": True})])
        {'n': 'float', 'ok': 'bool'}
    """
    seen: dict[str, set[str]] = {}
    for shape in shapes:
        for name, value in shape.attributes.items():
            seen.setdefault(name, set()).add(type(value).__name__)
    return {
        name: next(iter(kinds)) if len(kinds) == 1 else "float" if kinds == {"int", "float"} else "str"
        for name, kinds in seen.items()
        if _nameable(name) and name != ORIGIN
    }


def fits(value: Value, kind: str) -> bool:
    """Whether a value comes back from a CVAT attribute as it went: CVAT cuts white space off the ends of texts."""
    if isinstance(value, str):
        return kind == "str" and value == value.strip() and len(value) <= MAX_TEXT and "\x00" not in value
    return type(value).__name__ == kind or (kind == "float" and type(value) is int and abs(value) <= _EXACT_INT)


def to_text(value: Value) -> str:
    """A value as CVAT keeps it."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def from_text(text: str, kind: str) -> Value | None:
    """The value that a text stands for; ``None`` where it is not of that kind."""
    if kind == "bool":
        return {"true": True, "false": False}.get(text.strip().lower())
    if kind == "str":
        return text
    try:
        number = float(text)
        if kind == "int":
            return int(text) if number == int(number) and "." not in text else int(number)
        return number if abs(number) < float("inf") else None
    except (ValueError, OverflowError):
        return None


def sendable_name(name: str) -> bool:
    """Whether CVAT can have a label of that name."""
    return _nameable(name)


def wanted_labels(
    classes: Iterable[str],
    types: Types,
    choices: Mapping[str, Sequence[str]] | None = None,
    moving: Collection[str] = (),
) -> list[dict[str, Any]]:
    """The labels that the project needs, as CVAT's API takes them.

    Args:
        classes: The class names.
        types: The attributes that every one of them gets: a checkbox for bool, else a text.
        choices: For attributes with a closed set of values: those, the first one being CVAT's default.
        moving: The attributes that change along a track.
    """
    attributes = [_text(ORIGIN)]
    for name, kind in types.items():
        values = [to_text(value) for value in (choices or {}).get(name, ())]
        if values:
            one = {"input_type": "select", "values": values, "default_value": values[0]}
        elif kind == "bool":
            one = {"input_type": "checkbox", "values": ["false"], "default_value": "false"}
        else:
            one = _text(name)
        attributes.append({**one, "name": name, "mutable": name in moving})
    return [{"name": name, "type": "any", "attributes": attributes} for name in dict.fromkeys(classes)]


def reconcile(cvat: Connection, project: int, wanted: Sequence[Mapping[str, Any]]) -> Schema:
    """Add to a project what it lacks of the wanted labels and attributes.

    Raises:
        UsageError: a label of that name takes other shapes, or an attribute another input.
    """
    there = {label["name"]: label for label in cvat.pages("/api/labels", {"project_id": project})}
    changes: list[dict[str, Any]] = []
    for label in wanted:
        found = there.get(label["name"])
        if found is None:
            changes.append(dict(label))
            continue
        if found["type"] not in ("any", "rectangle", "polygon", "tag", "mask", "points", "polyline"):
            raise UsageError(
                "a label of the CVAT project takes other shapes",
                f"'{label['name']}' takes {found['type']}",
                "rename it there, or name another project",
            )
        known = {one["name"]: one for one in found["attributes"]}
        missing = [one for one in label["attributes"] if one["name"] not in known]
        for one in label["attributes"]:
            other = known.get(one["name"])
            if other is not None and (other["input_type"] == "checkbox") != (one["input_type"] == "checkbox"):
                raise UsageError(
                    "an attribute of the CVAT project has another type",
                    f"'{one['name']}' of '{label['name']}' is a {other['input_type']} there, "
                    f"a {one['input_type']} here",
                    "rename it on one side, or name another project",
                )
        if missing:
            changes.append(
                {"id": found["id"], "name": label["name"], "attributes": [*found["attributes"], *missing]}
            )
    if changes:
        cvat.call("PATCH", f"/api/projects/{project}", body={"labels": changes})
        there = {label["name"]: label for label in cvat.pages("/api/labels", {"project_id": project})}
    return Schema.of(there.values())


@dataclass(frozen=True, slots=True)
class Schema:
    """The labels of a project or task as the server has them.

    Attributes:
        ids: CVAT's id of each label, by name.
        names: The other way round.
        specs: CVAT's id of each attribute, by label and name.
        attributes: Attributes as CVAT describes them, by id.
    """

    ids: Mapping[str, int]
    names: Mapping[int, str]
    specs: Mapping[str, Mapping[str, int]]
    attributes: Mapping[int, Mapping[str, Any]] = field(repr=False, default_factory=dict)

    @classmethod
    def of(cls, labels: Iterable[Mapping[str, Any]]) -> Schema:
        """From the answer of ``/api/labels``."""
        every = list(labels)
        return cls(
            {one["name"]: one["id"] for one in every},
            {one["id"]: one["name"] for one in every},
            {one["name"]: {spec["name"]: spec["id"] for spec in one["attributes"]} for one in every},
            {spec["id"]: spec for one in every for spec in one["attributes"]},
        )

    def types(self, sent: Types) -> dict[str, str]:
        """The type of every attribute: as sent, and as CVAT has it for those added there."""
        found = dict(sent)
        for spec in self.attributes.values():
            if spec["name"] != ORIGIN and spec["name"] not in found:
                found[spec["name"]] = {"checkbox": "bool", "number": "float"}.get(spec["input_type"], "str")
        return found

    def along(self) -> dict[str, frozenset[str]]:
        """By class, the attributes that may change along a track."""
        return {
            label: frozenset(name for name, spec in specs.items() if self.attributes[spec]["mutable"])
            for label, specs in self.specs.items()
        }

    def defaults(self, sent: Types) -> dict[str, dict[str, Value]]:
        """By class, the values that CVAT fills in for attributes that nobody set."""
        types = self.types(sent)
        found: dict[str, dict[str, Value]] = {}
        for label, specs in self.specs.items():
            for name, spec in specs.items():
                if name != ORIGIN:
                    value = from_text(str(self.attributes[spec]["default_value"]), types[name])
                    if value is not None:
                        found.setdefault(label, {})[name] = value
        return found


def _text(name: str) -> dict[str, Any]:
    return {"name": name, "mutable": False, "input_type": "text", "values": [""], "default_value": ""}


def _nameable(name: str) -> bool:
    return bool(name) and name == name.strip() and len(name) <= MAX_NAME and "\x00" not in name
