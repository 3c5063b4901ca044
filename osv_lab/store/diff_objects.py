"""Which objects differ between two label lists of the same image."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from osv_lab.store.geometry import bounds
from osv_lab.store.records import Box, ImageClass, Keypoints, Label, OrientedBox, Polygon
from osv_lab.store.versions.content import plain_label

ObjectChange: TypeAlias = Literal["added", "removed", "moved", "relabelled", "edited"]
OBJECT_CHANGES: tuple[ObjectChange, ...] = ("added", "removed", "moved", "relabelled", "edited")


@dataclass(frozen=True, slots=True)
class ChangedObject:
    """One object that differs.

    Attributes:
        change: ``added``; ``removed``; ``moved``: the same class, another place; ``relabelled``: another class,
            whatever the place; ``edited``: only attributes or confidence differ.
        field: Its label field.
        before: The label in the first version, ``None`` where added.
        after: The label in the second, ``None`` where removed.
        iou: Overlap of before and after, 0 to 1; ``None`` where one is missing.
        frame: The frame of a video, from 1; ``None`` for an image.
    """

    change: ObjectChange
    field: str
    before: Label | None
    after: Label | None
    iou: float | None = None
    frame: int | None = None


def change_name(found: ChangedObject) -> str:
    """The class of a changed object, ``old → new`` where it was relabelled."""
    names = [label.label for label in (found.before, found.after) if label is not None]
    return " → ".join(dict.fromkeys(names))


def compare_labels(
    old: Sequence[Label], new: Sequence[Label], iou: float, field: str = "", frame: int | None = None
) -> Iterator[ChangedObject]:
    """The objects that differ between two label lists of one image, field and frame."""
    common = Counter(map(label_text, old)) & Counter(map(label_text, new))
    left, right = _beyond(old, common), _beyond(new, common)
    for same_class, same_place in ((True, True), (False, True), (True, False), (False, False)):
        for i, j, overlap in _pairs(left, right, iou, same_class, same_place):
            a, b = left[i], right[j]
            assert a is not None and b is not None
            change: ObjectChange = "relabelled" if not same_class else "edited" if same_place else "moved"
            yield ChangedObject(change, field, a, b, overlap, frame)
            left[i] = right[j] = None
    yield from (ChangedObject("removed", field, a, None, None, frame) for a in left if a is not None)
    yield from (ChangedObject("added", field, None, b, None, frame) for b in right if b is not None)


def label_text(label: Label) -> str:
    return json.dumps(plain_label(label), sort_keys=True)


def _beyond(labels: Sequence[Label], common: Counter[str]) -> list[Label | None]:
    """Labels without those that are on both sides."""
    left = Counter(common)
    rest: list[Label | None] = []
    for label in labels:
        text = label_text(label)
        if left[text]:
            left[text] -= 1
        else:
            rest.append(label)
    return rest


def _pairs(
    left: Sequence[Label | None], right: Sequence[Label | None], iou: float, same_class: bool, same_place: bool
) -> list[tuple[int, int, float]]:
    """Which go together, the largest overlap first."""
    found = []
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            if a is None or b is None or (a.label == b.label) is not same_class:
                continue
            overlap = 1.0 if _place(a) == _place(b) else overlap_of(a, b)
            if overlap >= iou and (overlap == 1.0 and _place(a) == _place(b)) is same_place:
                found.append((i, j, overlap))
    chosen, used = [], (set(), set())  # type: tuple[list[tuple[int, int, float]], tuple[set[int], set[int]]]
    for i, j, overlap in sorted(found, key=lambda pair: (-pair[2], pair[0], pair[1])):
        if i not in used[0] and j not in used[1]:
            used[0].add(i)
            used[1].add(j)
            chosen.append((i, j, overlap))
    return chosen


def _place(label: Label) -> Any:
    """The geometry of a label, comparable."""
    stated = plain_label(label)
    keys = ("xywh", "mask", "rings", "closed", "corners", "points", "visible")
    kind = "class" if isinstance(label, ImageClass) else "object"
    return kind, json.dumps([stated.get(key) for key in keys])


def overlap_of(a: Label, b: Label) -> float:
    """IoU, 0 to 1, of the boxes around two labels."""
    first, second = extent(a), extent(b)
    if first is None or second is None:
        return 0.0
    (ax, ay, aw, ah), (bx, by, bw, bh) = first, second
    w, h = min(ax + aw, bx + bw) - max(ax, bx), min(ay + ah, by + bh) - max(ay, by)
    inside = max(w, 0.0) * max(h, 0.0)
    union = aw * ah + bw * bh - inside
    return float(np.clip(inside / union, 0.0, 1.0)) if union > 0 else 0.0


def extent(label: Label) -> tuple[float, float, float, float] | None:
    """The relative ``x, y, w, h`` around a label; ``None`` for an image's class."""
    if isinstance(label, Box) or (isinstance(label, Keypoints) and label.xywh is not None):
        return label.xywh
    if isinstance(label, Polygon):
        points: Iterable[tuple[float, float]] = (point for ring in label.rings for point in ring)
    elif isinstance(label, OrientedBox):
        points = label.corners
    elif isinstance(label, Keypoints):
        points = label.points
    else:
        return None
    try:
        return bounds(points)
    except ValueError:
        return None
