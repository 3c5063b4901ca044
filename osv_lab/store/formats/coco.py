"""Reads COCO JSON: boxes, outlines, masks (run lengths, compressed or not), keypoints, crowds.

An annotation with an outline gives two labels, its box and its outline, which share the attribute ``coco_id`` (the
name FiftyOne uses); writers take both for one object. An annotation with keypoints gives keypoints that know their
box. Several files of one split (``instances_val2017``, ``person_keypoints_val2017``) are read as one.
https://cocodataset.org/#format-data
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

from osv_lab.core.errors import InvalidDataError
from osv_lab.store.formats.checks import cut_box, cut_points, cut_ring, number, whole
from osv_lab.store.formats.files import (
    Tree,
    absolute,
    decoded,
    image_size,
    shown,
    split_named,
    split_of_folder,
    stem_of,
    suffix_of,
)
from osv_lab.store.formats.locate import Locator
from osv_lab.store.geometry import (
    XYWH,
    Point,
    bounds,
    decompress_counts,
    from_run_lengths,
    pixel_window,
)
from osv_lab.store.records import Box, Keypoints, Label, Polygon, Problem, Record, Source

_HEAD = 2**16
_PLAIN = frozenset({"id", "image_id", "category_id", "bbox", "segmentation", "area", "keypoints", "num_keypoints"})
MAX_MASK_PIXELS = 2**28
"""Masks of larger images are dropped with a problem instead of filling the memory."""


def sniff(tree: Tree) -> str | None:
    """A JSON file that mentions images together with annotations or categories."""
    if tree.file:
        return os.path.basename(tree.file) if suffix_of(tree.file) == ".json" and _is_coco(tree.file) else None
    found = _files(tree)
    return (
        ", ".join(tree.relative(path) for path in found[:3]) + (", ..." if len(found) > 3 else "")
        if found
        else None
    )


def _files(tree: Tree) -> list[str]:
    return [tree.file] if tree.file else [path for path in tree.files(".json") if _is_coco(path)]


def _is_coco(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
            file.seek(max(0, os.path.getsize(path) - _HEAD))
            text = head + file.read(_HEAD)
    except OSError:
        return False
    return (
        b'"images"' in text and (b'"categories"' in text or b'"annotations"' in text) and b'"caption"' not in text
    )


def read(tree: Tree) -> tuple[Source, Iterator[Record]]:
    """The source and its records.

    Raises:
        InvalidDataError: a JSON file is truncated or is not an object with a list ``images``; the position is named.
    """
    source = Source("coco", absolute(tree.root))
    groups: dict[str | None, list[_File]] = {}
    for path in _files(tree):
        file = _File(path, tree, source)
        groups.setdefault(file.split, []).append(file)
    classes: dict[str, None] = {}
    skeletons: dict[str, tuple[str, ...]] = {}
    for files in groups.values():
        for file in files:
            classes.update(dict.fromkeys(file.categories.values()))
            skeletons.update(file.skeletons)
    source.classes = tuple(classes)
    source.skeletons = skeletons
    return source, _Reader(tree, source, groups).records()


class _File:
    """One JSON file, its categories read and its annotations grouped by image."""

    def __init__(self, path: str, tree: Tree, source: Source) -> None:
        tree.used.add(path)
        self.path = path
        self.shown = tree.relative(path)
        content = load_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("images"), list):
            raise InvalidDataError("not a COCO file", f'{shown(path)} has no list "images"', "give another format")
        self.images: list[Any] = content["images"]
        annotations = content.get("annotations")
        self.annotations: dict[Any, list[Any]] = {}
        for position, annotation in enumerate(annotations if isinstance(annotations, list) else []):
            key = annotation.get("image_id") if isinstance(annotation, dict) else None
            if isinstance(key, (int, str)):
                self.annotations.setdefault(key, []).append(annotation)
            else:
                what = "annotation without an image_id"
                source.problems.append(Problem(self.shown, what, f"annotations[{position}]"))
        used = {a.get("category_id") for group in self.annotations.values() for a in group if _hashable(a)}
        self.categories, self.skeletons = _categories(content.get("categories"), used, self.shown, source)
        stem = stem_of(os.path.basename(path))
        self.split = split_named(stem) or split_of_folder(os.path.dirname(path), tree.root)
        info = content.get("info")
        if isinstance(info, dict):
            source.info.update(
                {str(k): v for k, v in info.items() if isinstance(v, (str, int, float)) and v != ""}
            )


def _hashable(annotation: Mapping[str, Any]) -> bool:
    return isinstance(annotation.get("category_id"), (int, str))


def load_json(path: str) -> Any:
    """The content of a JSON file.

    Raises:
        InvalidDataError: it cannot be read or is broken; says where.
    """
    try:
        with open(path, "rb") as file:
            text, _ = decoded(file.read())
        return json.loads(text)
    except OSError as error:
        raise InvalidDataError("a file cannot be read", f"{shown(path)}: {error.strerror}") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno} (character {error.pos} of {len(text)})"
        at = f"{shown(path)}, {place}: {error.msg}"
        raise InvalidDataError("broken JSON", at, "the file may be truncated: fetch or export it again") from None
    except (ValueError, RecursionError) as error:
        raise InvalidDataError("broken JSON", f"{shown(path)}: {error}", "mend the file") from None


def _categories(
    stated: Any, used: set[Any], file: str, source: Source
) -> tuple[dict[Any, str], dict[str, tuple[str, ...]]]:
    names: dict[Any, str] = {}
    skeletons: dict[str, tuple[str, ...]] = {}
    entries = [entry for entry in stated if isinstance(entry, dict)] if isinstance(stated, list) else []
    supers = {entry.get("supercategory") for entry in entries if isinstance(entry.get("supercategory"), str)}
    for position, entry in enumerate(entries):
        key, name = entry.get("id"), entry.get("name")
        if not isinstance(key, (int, str)) or not isinstance(name, (str, int, float)):
            source.problems.append(Problem(file, "category without id or name", f"categories[{position}]"))
            continue
        name = str(name)
        # Roboflow puts the project itself first, as a category that the others belong to and nothing is labelled with.
        if key == 0 and key not in used and name in supers and len(entries) > 1:
            continue
        if key in names:
            source.problems.append(Problem(file, f"category id {key} is stated twice", f"categories[{position}]"))
            continue
        names[key] = name
        points = entry.get("keypoints")
        if isinstance(points, list) and points:
            skeletons[name] = tuple(map(str, points))
    if all(isinstance(key, int) for key in names):
        names = dict(sorted(names.items()))
    return names, skeletons


class _Reader:
    def __init__(self, tree: Tree, source: Source, groups: Mapping[str | None, list[_File]]) -> None:
        self.tree = tree
        self.source = source
        self.groups = groups
        self.locator = Locator(tree)

    def records(self) -> Iterator[Record]:
        done: dict[str, str | None] = {}
        for split, files in self.groups.items():
            # Image path -> what the group's files say of it.
            entries: dict[str, list[tuple[_File, dict[str, Any]]]] = {}
            for file in files:
                for path, image in self._images(file):
                    entries.setdefault(path, []).append((file, image))
            for path, stated in entries.items():
                if path in done:
                    what = f"{self.tree.relative(path)} is also listed in {done[path] or 'another file'}"
                    self.source.problems.append(Problem(stated[0][0].shown, what, "", "file skipped"))
                    continue
                done[path] = split
                yield self._record(path, stated, split)
        for path in self.locator.known:
            if path not in done:
                split = split_of_folder(os.path.dirname(path), self.tree.root)
                yield Record(absolute(path), split=split, labelled=False)

    def _images(self, file: _File) -> Iterator[tuple[str, dict[str, Any]]]:
        ids: set[Any] = set()
        for position, image in enumerate(file.images):
            where = f"images[{position}]"
            name = image.get("file_name") if isinstance(image, dict) else None
            if not isinstance(name, str) or not name or not isinstance(image.get("id"), (int, str)):
                self.source.problems.append(
                    Problem(file.shown, "image without id or file_name", where, "file skipped")
                )
                continue
            count = len(file.annotations.get(image["id"], ()))
            lost = f" ({count} annotations)" if count else ""
            if image["id"] in ids:
                what = f"image id {image['id']} is stated twice"
                self.source.problems.append(Problem(file.shown, what, where, "file skipped"))
                continue
            ids.add(image["id"])
            path, what = self._locate(name, file)
            if path is None:
                self.source.problems.append(Problem(file.shown, what + lost, where, "file skipped"))
                continue
            yield path, image
        for key, group in file.annotations.items():
            if key not in ids:
                what = f"{len(group)} annotations of image id {key!r}, which is not listed"
                self.source.problems.append(Problem(file.shown, what, f"image_id {key!r}"))

    def _locate(self, name: str, file: _File) -> tuple[str | None, str]:
        """The image's path: beside the JSON, in a folder named like the file's split, or anywhere by a unique name."""
        root, folder = self.tree.root, os.path.dirname(file.path)
        stem = stem_of(os.path.basename(file.path))
        named = stem.split("_")[-1]
        inner = ("", "images", "data", named, os.path.join("images", named), stem)
        folders = [folder, *(os.path.join(base, name) for base in (folder, root) for name in inner)]
        return self.locator.find(name, dict.fromkeys(map(os.path.normpath, folders)), file.split)

    def _record(self, path: str, stated: list[tuple[_File, dict[str, Any]]], split: str | None) -> Record:
        record = Record(absolute(path), split=split)
        record.size = self._size(path, stated, record.problems)
        if record.size is None:
            what = "neither the file nor the image states the image's size"
            record.problems.append(Problem(stated[0][0].shown, what, shown(path), "label dropped"))
            return record
        # Of two files with the same annotation, the one that knows its keypoints counts.
        chosen: dict[Any, tuple[_File, dict[str, Any]]] = {}
        for file, image in stated:
            for position, annotation in enumerate(file.annotations.get(image["id"], ())):
                key = annotation.get("id")
                key = key if isinstance(key, (int, str)) else (file.path, position)
                if key in chosen:
                    if chosen[key][0] is file:
                        key = (file.path, position)
                    elif "keypoints" not in annotation:
                        continue
                chosen[key] = (file, annotation)
        seen: set[str] = set()
        for file, annotation in chosen.values():
            where = f"annotation {annotation.get('id', '?')}"
            content = repr({key: value for key, value in annotation.items() if key != "id"})
            if content in seen:
                record.problems.append(Problem(file.shown, "the same annotation twice", where))
                continue
            seen.add(content)
            labels, what = _labels(annotation, file, record.size)
            record.labels.extend(labels)
            if what:
                kept = "label kept" if labels else "label dropped"
                record.problems.append(Problem(file.shown, what, where, kept))
        return record

    def _size(
        self, path: str, stated: list[tuple[_File, dict[str, Any]]], problems: list[Problem]
    ) -> tuple[int, int] | None:
        for _, image in stated:
            try:
                width, height = whole(image.get("width")), whole(image.get("height"))
            except ValueError:
                continue
            if width > 0 and height > 0:
                return width, height
        size = image_size(path)
        if size:
            what = f"no usable image size stated; the image's own {size[0]}x{size[1]} was taken"
            problems.append(Problem(stated[0][0].shown, what, self.tree.relative(path), "label kept"))
        return size


def _labels(annotation: dict[str, Any], file: _File, size: tuple[int, int]) -> tuple[list[Label], str]:
    """The labels of one annotation and what was wrong with it."""
    category = annotation.get("category_id")
    name = file.categories.get(category) if isinstance(category, (int, str)) else None
    if name is None:
        return [], f"category id {category!r} is not one of the {len(file.categories)} stated"
    whats: list[str] = []
    common = _common(annotation)
    box: XYWH | None = None
    if annotation.get("bbox") not in (None, []):
        box, what = _bbox(annotation["bbox"], size)
        if box is None:
            return [], what
        whats.append(what)
    segmentation = annotation.get("segmentation")
    labels: list[Label] = []
    if isinstance(segmentation, dict):
        mask_box, what = _mask_box(name, box, segmentation, size, common)
        whats.append(what)
        if mask_box:
            labels.append(mask_box)
    elif isinstance(segmentation, list) and segmentation:
        rings, what = _rings(segmentation, size)
        whats.append(what)
        if rings:
            labels.append(Polygon(name, rings, **common))
            box = box or bounds(point for ring in rings for point in ring)
    keypoints = annotation.get("keypoints")
    if isinstance(keypoints, list) and keypoints:
        label, what = _keypoints(name, keypoints, box, size, common)
        whats.append(what)
        if label:
            labels.insert(0, label)
    has_box = any(isinstance(label, (Box, Keypoints)) for label in labels)
    if box and not has_box:
        labels.insert(0, Box(name, box, **common))
    if len(labels) > 1 and isinstance(annotation.get("id"), int):
        linked = {**common["attributes"], "coco_id": annotation["id"]}
        labels = [_with_attributes(label, linked) for label in labels]
    if not labels and not any(whats):
        whats.append("annotation without bbox, segmentation or keypoints")
    return labels, "; ".join(what for what in whats if what)


def _with_attributes(label: Label, attributes: Mapping[str, Any]) -> Label:
    import dataclasses

    return dataclasses.replace(label, attributes=attributes)


def _common(annotation: dict[str, Any]) -> dict[str, Any]:
    """Confidence, track index and attributes, as keyword arguments of a label."""
    attributes: dict[str, Any] = {}
    nested = annotation.get("attributes")
    for stated in (annotation, nested if isinstance(nested, dict) else {}):
        for key, value in stated.items():
            if key not in _PLAIN and isinstance(value, (bool, int, float, str)):
                attributes[str(key)] = value
    if attributes.get("iscrowd") in (0, False):
        del attributes["iscrowd"]
    elif "iscrowd" in attributes:
        attributes["iscrowd"] = True
    confidence = attributes.pop("score", None)
    index = attributes.pop("track_id", None)
    usable = isinstance(confidence, (int, float)) and 0 <= confidence <= 1
    return {
        "confidence": float(confidence) if usable and confidence is not None else None,
        "index": index if isinstance(index, int) and not isinstance(index, bool) else None,
        "attributes": attributes,
    }


def _bbox(stated: Any, size: tuple[int, int]) -> tuple[XYWH | None, str]:
    try:
        x, y, w, h = (number(value) for value in stated)
    except (ValueError, TypeError) as error:
        return None, f"bbox {str(stated)[:60]}: {error}"
    width, height = size
    box, what = cut_box(x / width, y / height, (x + w) / width, (y + h) / height)
    return box, f"bbox ({x:g}, {y:g}, {w:g}, {h:g}): {what}" if what else ""


def _rings(stated: list[Any], size: tuple[int, int]) -> tuple[tuple[tuple[Point, ...], ...], str]:
    width, height = size
    rings = []
    whats = []
    for flat in stated:
        try:
            numbers = [number(value) for value in flat]
        except (ValueError, TypeError) as error:
            whats.append(f"outline: {error}")
            continue
        if len(numbers) % 2:
            whats.append(f"outline of {len(numbers)} numbers, expected pairs")
            continue
        ring, what = cut_ring([(x / width, y / height) for x, y in zip(numbers[::2], numbers[1::2], strict=True)])
        whats.append(what)
        if ring:
            rings.append(ring)
    return tuple(rings), "; ".join(dict.fromkeys(what for what in whats if what))


def _mask_box(
    name: str, box: XYWH | None, segmentation: dict[str, Any], size: tuple[int, int], common: dict[str, Any]
) -> tuple[Box | None, str]:
    """A run-length mask, cut to the pixels its box touches."""
    import numpy as np

    width, height = size
    try:
        mask_height, mask_width = (whole(side) for side in segmentation["size"])
        if mask_width < 1 or mask_height < 1 or mask_width * mask_height > MAX_MASK_PIXELS:
            return None, f"mask of {mask_width}x{mask_height} pixels"
        counts = segmentation["counts"]
        counts = decompress_counts(counts) if isinstance(counts, str) else [whole(count) for count in counts]
        flat = from_run_lengths(counts, mask_width * mask_height)
    except (ValueError, TypeError, KeyError) as error:
        return None, f"mask: {error}"
    mask = flat.reshape((mask_width, mask_height)).T
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None, "empty mask"
    if box is None:
        x0, x1 = columns[0] / mask_width, (columns[-1] + 1) / mask_width
        y0, y1 = rows[0] / mask_height, (rows[-1] + 1) / mask_height
        box = float(x0), float(y0), float(x1 - x0), float(y1 - y0)
    x0, y0, x1, y1 = pixel_window(box, (mask_width, mask_height))
    inside = mask[y0:y1, x0:x1]
    what = "" if (mask_width, mask_height) == (width, height) else f"mask of {mask_width}x{mask_height} pixels"
    lost = 1 - inside.sum() / mask.sum()
    if lost > 0.01:
        what = f"{lost:.0%} of the mask lay outside its box and was cut"
    return Box(name, box, mask=np.ascontiguousarray(inside), **common), what


def _keypoints(
    name: str, stated: list[Any], box: XYWH | None, size: tuple[int, int], common: dict[str, Any]
) -> tuple[Keypoints | None, str]:
    width, height = size
    try:
        numbers = [number(value) for value in stated]
    except ValueError as error:
        return None, f"keypoints: {error}"
    if len(numbers) % 3:
        return None, f"{len(numbers)} keypoint values, expected a multiple of 3"
    visible = tuple(min(max(int(flag), 0), 2) for flag in numbers[2::3])
    points = [
        (x / width, y / height) if flag else (math.nan, math.nan)
        for x, y, flag in zip(numbers[::3], numbers[1::3], visible, strict=True)
    ]
    moved, what = cut_points(points)
    return Keypoints(name, moved, visible, box, **common), what
