"""Rows of YOLO label files: ``class cx cy w h``, outlines, keypoints and oriented boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from osv_lab.store.formats.checks import SLIVER, cut_box, cut_points, cut_ring, number, whole
from osv_lab.store.geometry import Point
from osv_lab.store.records import Box, Keypoints, Label, OrientedBox, Polygon, Problem

YoloTask: TypeAlias = Literal["detect", "segment", "pose", "obb"]

MAX_PROBLEMS = 1000
"""Bad rows that one file reports one by one; the rest are counted."""

_NOT_RELATIVE = 2.0
"""A coordinate beyond this cannot be a box that leaves the image a little: it is in pixels."""


@dataclass(frozen=True)
class RowFormat:
    """What the rows of a data set mean.

    Attributes:
        task: detect, segment, pose or obb.
        names: Class name by the id as it is written in the file.
        open_ended: Whether ids without a name are named ``class_<id>`` (a source that states no classes).
        keypoints: ``(K, 2 or 3)`` for pose, else ``(0, 0)``.
    """

    task: YoloTask
    names: dict[bytes, str]
    open_ended: bool = False
    keypoints: tuple[int, int] = (0, 0)

    def labels(self, data: bytes, file: str, problems: list[Problem]) -> list[Label]:
        """The labels of one file; what is wrong with a row goes to ``problems``."""
        labels: list[Label] = []
        names = self.names
        boxes_only = self.task != "pose"
        lines = data.removeprefix(b"\xef\xbb\xbf").splitlines()
        repeated = len(set(lines)) < len(lines)
        seen: dict[tuple[bytes, ...], int] = {}
        bad = 0
        for position, line in enumerate(lines, start=1):
            values = line.split()
            if not values:
                continue
            if repeated:
                first = seen.setdefault(tuple(values), position)
                if first != position:
                    bad += 1
                    if bad <= MAX_PROBLEMS:
                        problems.append(Problem(file, f"the same row as line {first}", f"line {position}"))
                    continue
            if len(values) == 5 and boxes_only:
                # The plain case, written out: ten thousand files are read in about a second.
                name = names.get(values[0])
                try:
                    w = float(values[3])
                    h = float(values[4])
                    x = float(values[1]) - w / 2
                    y = float(values[2]) - h / 2
                except ValueError:
                    name = None
                else:
                    if name is not None and x >= 0 and y >= 0 and x + w <= 1 and y + h <= 1 and w > SLIVER < h:
                        labels.append(Box(name, (x, y, w, h)))
                        continue
            label, what = self._label(values)
            if label is not None:
                labels.append(label)
            if what:
                bad += 1
                if bad <= MAX_PROBLEMS:
                    kept = "label dropped" if label is None else "label kept"
                    problems.append(Problem(file, what, f"line {position}", kept))
        if bad > MAX_PROBLEMS:
            problems.append(Problem(file, f"{bad - MAX_PROBLEMS} more bad rows", "", "label dropped"))
        return labels

    def _label(self, values: Sequence[bytes]) -> tuple[Label | None, str]:
        """One row's label, or ``None``; and what was wrong with it."""
        name = self.names.get(values[0])
        if name is None:
            try:
                class_id = whole(values[0])
            except ValueError as error:
                return None, f"class id is {error}"
            name = self.names.get(b"%d" % class_id)
            if name is None and self.open_ended and 0 <= class_id < 100_000:
                name = f"class_{class_id}"
            if name is None:
                return None, f"class id {_short(class_id)} is not one of 0 to {len(self.names) - 1}"
        try:
            numbers = [number(value) for value in values[1:]]
        except ValueError as error:
            return None, f"a coordinate is {error}"
        count = len(numbers)
        expected = self.keypoints[0] * self.keypoints[1]
        if self.task == "pose" and count in (4 + expected, 5 + expected):
            return self._keypoints(name, numbers)
        if self.task == "pose" and count not in (4, 5):
            return None, f"{count + 1} values, expected {5 + expected}"
        if count in (4, 5):
            return _box(name, numbers)
        if self.task == "obb" and count in (8, 9):
            return _oriented(name, numbers)
        if self.task == "segment" and count >= 6:
            return _polygon(name, numbers)
        wanted = {"detect": "5", "obb": "9", "segment": "7 or more"}.get(self.task, "5")
        return None, f"{count + 1} values, expected {wanted}"

    def _keypoints(self, name: str, numbers: Sequence[float]) -> tuple[Label | None, str]:
        total, dims = self.keypoints
        confidence, what = _confidence(numbers[4 + total * dims :])
        box, cut = _cut_centre_box(numbers)
        if box is None:
            return None, cut
        points: list[Point] = []
        visible: list[int] = []
        for k in range(4, 4 + total * dims, dims):
            x, y = numbers[k], numbers[k + 1]
            flag = int(numbers[k + 2]) if dims == 3 else 2
            known = flag > 0 if dims == 3 else (x, y) != (0, 0) and x >= 0 and y >= 0
            points.append((x, y) if known else (math.nan, math.nan))
            visible.append(min(flag, 2) if known else 0)
        moved, beyond = cut_points(points)
        return Keypoints(name, moved, tuple(visible), box, confidence), _all(what, cut, beyond)


def _box(name: str, numbers: Sequence[float]) -> tuple[Label | None, str]:
    confidence, what = _confidence(numbers[4:])
    box, cut = _cut_centre_box(numbers)
    return (None, cut) if box is None else (Box(name, box, confidence=confidence), _all(what, cut))


def _oriented(name: str, numbers: Sequence[float]) -> tuple[Label | None, str]:
    confidence, what = _confidence(numbers[8:])
    if max(map(abs, numbers[:8])) > _NOT_RELATIVE:
        return None, "coordinates are not relative to the image"
    # Corners may lie outside: moving one would make the rectangle another shape.
    corners = _pairs(numbers[:8])
    ring, cut = cut_ring(corners)
    if ring is None:
        return None, cut.replace("outline", "oriented box")
    return OrientedBox(name, (corners[0], corners[1], corners[2], corners[3]), confidence), what


def _polygon(name: str, numbers: Sequence[float]) -> tuple[Label | None, str]:
    confidence, what = _confidence(numbers[-1:] if len(numbers) % 2 else [])
    points = _pairs(numbers)
    if max(map(abs, numbers)) > _NOT_RELATIVE:
        return None, "coordinates are not relative to the image"
    ring, cut = cut_ring(points)
    return (None, cut) if ring is None else (Polygon(name, (ring,), confidence), _all(what, cut))


def _pairs(numbers: Sequence[float]) -> list[Point]:
    return list(zip(numbers[0::2], numbers[1::2], strict=False))


def _cut_centre_box(numbers: Sequence[float]) -> tuple[tuple[float, float, float, float] | None, str]:
    cx, cy, w, h = numbers[:4]
    if max(abs(cx), abs(cy), w, h) > _NOT_RELATIVE:
        return None, "coordinates are not relative to the image"
    return cut_box(cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)


def _confidence(rest: Sequence[float]) -> tuple[float | None, str]:
    """The confidence that Ultralytics' ``save_conf`` adds at the end of a row."""
    if not rest:
        return None, ""
    if 0 <= rest[0] <= 1:
        return rest[0], ""
    return None, f"the last value, {rest[0]:g}, is no confidence and was left out"


def _all(*whats: str) -> str:
    return "; ".join(what for what in whats if what)


def _short(value: int) -> str:
    return str(value) if abs(value) < 10**12 else f"{value:.3g}"


def guess_task(samples: Sequence[bytes], keypoints: tuple[int, int] | None) -> tuple[YoloTask, tuple[int, int]]:
    """What the rows of some label files are.

    ``kpt_shape`` decides for pose. Else: rows of 9 values only are oriented boxes; any other odd number above 5 is
    an outline; equal rows of ``5 + 3K`` whose every third value is a flag 0, 1 or 2 are keypoints.
    """
    if keypoints:
        return "pose", keypoints
    lengths: set[int] = set()
    flags = True
    for data in samples:
        for line in data.splitlines():
            values = line.split()
            lengths.add(len(values))
            if flags and len(values) >= 8:
                flags = (len(values) - 5) % 3 == 0 and all(
                    value.strip() in (b"0", b"1", b"2", b"0.0", b"1.0", b"2.0") for value in values[7::3]
                )
    lengths -= {0, 5, 6}
    if not lengths:
        return "detect", (0, 0)
    if lengths <= {9, 10}:
        return "obb", (0, 0)
    if flags and len(lengths) == 1 and min(lengths) >= 8 and (min(lengths) - 5) % 3 == 0:
        return "pose", ((min(lengths) - 5) // 3, 3)
    return ("segment", (0, 0)) if max(lengths) >= 7 else ("detect", (0, 0))
