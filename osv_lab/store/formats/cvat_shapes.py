"""Shapes of CVAT XML as labels, and tracks between their key frames."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from osv_lab.store.formats.checks import cut_points, cut_ring, number, ordered_box, whole
from osv_lab.store.formats.values import plain_value
from osv_lab.store.geometry import Point, from_run_lengths, rotated_corners
from osv_lab.store.records import Box, ImageClass, Keypoints, Label, OrientedBox, Polygon

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_MAX_MASK_PIXELS = 2**28


def shape_label(
    element: Element, size: tuple[int, int], skeletons: Mapping[str, tuple[str, ...]], name: str | None = None,
    index: int | None = None, cut: bool = True,
) -> tuple[Label | None, str]:  # fmt: skip
    """The label of one shape, or ``None``; and what was wrong with it.

    Args:
        element: ``box``, ``polygon``, ``polyline``, ``points``, ``skeleton``, ``mask`` or ``tag``.
        size: Image ``(width, height)``, pixels.
        skeletons: Keypoint names per class, for their order.
        name: The class, where the track around the shape states it.
        index: The track.
        cut: Whether what reaches beyond the image is cut (tracks keep it: a box may leave the picture).
    """
    name = name or (element.get("label") or "").strip()
    if not name:
        return None, f"{element.tag} without a label"
    attributes = _attributes(element)
    try:
        if element.tag == "box":
            return _box(element, name, size, index, attributes, cut)
        if element.tag in ("polygon", "polyline"):
            return _outline(element, name, size, index, attributes, cut)
        if element.tag == "points":
            points = _points(element.get("points"), size)
            moved, what = cut_points(points) if cut else (tuple(points), "")
            return Keypoints(name, moved, index=index, attributes=attributes), what
        if element.tag == "skeleton":
            return _skeleton(element, name, size, skeletons.get(name), index, attributes)
        if element.tag == "mask":
            return _mask(element, name, size, attributes)
    except ValueError as error:
        return None, f"{element.tag} of {name!r}: {error}"
    if element.tag == "tag":
        return ImageClass(name, attributes=attributes), ""
    return None, f"{element.tag} of {name!r} has no counterpart here"


def _attributes(element: Element) -> dict[str, bool | int | float | str]:
    found: dict[str, bool | int | float | str] = {}
    if element.get("occluded") == "1":
        found["occluded"] = True
    for key, unset in (("z_order", "0"), ("group_id", "0"), ("source", "manual")):
        stated = element.get(key)
        if stated and stated != unset:
            found[key] = plain_value(stated)
    for attribute in element.iterfind("attribute"):
        name = attribute.get("name")
        if name:
            found[name] = plain_value(attribute.text or "")
    return found


def _box(
    element: Element, name: str, size: tuple[int, int], index: int | None, attributes: Any, cut: bool
) -> tuple[Label | None, str]:
    x0, y0, x1, y1 = (number(element.get(key)) for key in ("xtl", "ytl", "xbr", "ybr"))
    width, height = size
    if element.get("rotation") is not None:
        if x1 <= x0 or y1 <= y0:
            return None, f"oriented box of {name!r} without area"
        corners = rotated_corners(x0, y0, x1, y1, number(element.get("rotation")), size)
        return OrientedBox(name, corners, index=index, attributes=attributes), ""
    if not cut:
        if x1 <= x0 or y1 <= y0:
            return None, f"box of {name!r} without area"
        box = x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height
        return Box(name, box, index=index, attributes=attributes), ""
    inside, what = ordered_box(x0 / width, y0 / height, x1 / width, y1 / height)
    what = f"{name!r} ({x0:g}, {y0:g}, {x1:g}, {y1:g}): {what}" if what else ""
    return (Box(name, inside, index=index, attributes=attributes) if inside else None), what


def _points(text: str | None, size: tuple[int, int]) -> list[Point]:
    width, height = size
    points = []
    for pair in (text or "").replace(" ", "").split(";"):
        x, separator, y = pair.partition(",")
        if not separator:
            raise ValueError(f"not a list of points: {pair[:40]!r}")
        points.append((number(x) / width, number(y) / height))
    return points


def _outline(
    element: Element, name: str, size: tuple[int, int], index: int | None, attributes: Any, cut: bool
) -> tuple[Label | None, str]:
    points = _points(element.get("points"), size)
    if element.tag == "polyline":
        if len(points) < 2:
            return None, f"polyline of {name!r} with {len(points)} point"
        moved, what = cut_points(points) if cut else (tuple(points), "")
        what = what.replace("keypoints", "polyline")
        return Polygon(name, (moved,), index=index, attributes=attributes, closed=False), what
    ring, what = cut_ring(points)
    if ring is not None and not cut:
        ring, what = tuple(points), ""
    if ring is None:
        return None, f"{name!r}: {what}"
    return Polygon(name, (ring,), index=index, attributes=attributes), what


def keypoint_names(element: Element) -> tuple[str, ...]:
    """The names of a skeleton's points, in the file's order."""
    return tuple(part.get("label") or str(k) for k, part in enumerate(element.iterfind("points")))


def _skeleton(
    element: Element, name: str, size: tuple[int, int], order: tuple[str, ...] | None, index: int | None,
    attributes: Any,
) -> tuple[Label | None, str]:  # fmt: skip
    found: dict[str, tuple[Point, int]] = {}
    for key, part in zip(keypoint_names(element), element.iterfind("points"), strict=True):
        if part.get("outside") == "1":
            found[key] = (math.nan, math.nan), 0
        else:
            found[key] = _points(part.get("points"), size)[0], 1 if part.get("occluded") == "1" else 2
    names = order or tuple(found)
    unknown = [key for key in found if key not in names]
    if not found or unknown:
        return (
            None,
            f"skeleton of {name!r} with {'unknown points ' + ', '.join(unknown) if unknown else 'no points'}",
        )
    absent: tuple[Point, int] = ((math.nan, math.nan), 0)
    points = tuple(found.get(key, absent)[0] for key in names)
    visible = tuple(found.get(key, absent)[1] for key in names)
    return Keypoints(name, points, visible, index=index, attributes=attributes), ""


def _mask(element: Element, name: str, size: tuple[int, int], attributes: Any) -> tuple[Label | None, str]:
    left, top, w, h = (whole(element.get(key)) for key in ("left", "top", "width", "height"))
    width, height = size
    if w < 1 or h < 1 or w * h > _MAX_MASK_PIXELS:
        return None, f"mask of {name!r} with {w}x{h} pixels"
    if left < 0 or top < 0 or left + w > width or top + h > height:
        return None, f"mask of {name!r} outside the image"
    counts = [whole(count) for count in (element.get("rle") or "").split(",")]
    mask = from_run_lengths(counts, w * h).reshape(h, w)
    if not mask.any():
        return None, f"empty mask of {name!r}"
    box = left / width, top / height, w / width, h / height
    return Box(name, box, mask=mask, attributes=attributes), ""


def merged_groups(labels: list[Label]) -> list[Label]:
    """Outlines of one class that share a ``group_id`` become the rings of one outline."""
    groups: dict[tuple[str, object], list[int]] = {}
    for position, label in enumerate(labels):
        if isinstance(label, Polygon) and label.closed and "group_id" in label.attributes:
            groups.setdefault((label.label, label.attributes["group_id"]), []).append(position)
    gone: set[int] = set()
    for positions in groups.values():
        if len(positions) > 1:
            parts = [labels[position] for position in positions]
            rings = tuple(ring for part in parts if isinstance(part, Polygon) for ring in part.rings)
            first = parts[0]
            assert isinstance(first, Polygon)
            attributes = {key: value for key, value in first.attributes.items() if key != "group_id"}
            labels[positions[0]] = dataclasses.replace(first, rings=rings, attributes=attributes)
            gone.update(positions[1:])
    return [label for position, label in enumerate(labels) if position not in gone]


def interpolated(shapes: Mapping[int, tuple[Label, bool]]) -> Iterator[tuple[int, Label]]:
    """Every frame of a track from its stated ones.

    Args:
        shapes: Label and whether the object is outside, by frame.

    Yields:
        ``(frame, label)`` in order. Frames between two stated ones are interpolated linearly where both are of one
        kind and as many points, else repeat the first; after an ``outside`` frame there are none until the next.
    """
    ordered = sorted(shapes)
    for position, frame in enumerate(ordered):
        label, outside = shapes[frame]
        if outside:
            continue
        yield frame, label
        if position + 1 == len(ordered):
            return
        following = ordered[position + 1]
        target = shapes[following][0]
        for between in range(frame + 1, following):
            yield between, _blend(label, target, (between - frame) / (following - frame))


def _blend(first: Label, second: Label, share: float) -> Label:
    def mixed(a: float, b: float) -> float:
        return a + (b - a) * share

    def mixed_points(a: tuple[Point, ...], b: tuple[Point, ...]) -> tuple[Point, ...]:
        return tuple((mixed(x0, x1), mixed(y0, y1)) for (x0, y0), (x1, y1) in zip(a, b, strict=True))

    if isinstance(first, Box) and isinstance(second, Box):
        x, y, w, h = (mixed(a, b) for a, b in zip(first.xywh, second.xywh, strict=True))
        return dataclasses.replace(first, xywh=(x, y, w, h))
    if isinstance(first, OrientedBox) and isinstance(second, OrientedBox):
        a, b, c, d = mixed_points(first.corners, second.corners)
        return dataclasses.replace(first, corners=(a, b, c, d))
    if isinstance(first, Keypoints) and isinstance(second, Keypoints) and len(first.points) == len(second.points):
        return dataclasses.replace(first, points=mixed_points(first.points, second.points))
    if (
        isinstance(first, Polygon)
        and isinstance(second, Polygon)
        and [len(ring) for ring in first.rings] == [len(ring) for ring in second.rings]
    ):
        rings = tuple(mixed_points(a, b) for a, b in zip(first.rings, second.rings, strict=True))
        return dataclasses.replace(first, rings=rings)
    return first
