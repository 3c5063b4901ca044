"""Reads COCO JSON: boxes, outlines, masks (run lengths, compressed or not), keypoints, crowds.

An annotation with an outline gives two labels, its box and its outline, which share the attribute ``coco_id`` (the
name FiftyOne uses); writers take both for one object. An annotation with keypoints gives keypoints that know their
box. Several files of one split (``instances_val2017``, ``person_keypoints_val2017``) are read as one.
https://cocodataset.org/#format-data
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from osv_lab.core.errors import InvalidDataError
from osv_lab.store.formats.checks import whole
from osv_lab.store.formats.coco_labels import annotation_labels
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
from osv_lab.store.records import Problem, Record, Source

_HEAD = 2**16


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
        folder = os.path.dirname(path)
        self.split = split_named(stem) or split_of_folder(folder, tree.root)
        named = stem.split("_")[-1]
        inner = ("", "images", "data", named, os.path.join("images", named), stem)
        places = [folder, *(os.path.join(base, name) for base in (folder, tree.root) for name in inner)]
        self.image_folders = tuple(dict.fromkeys(map(os.path.normpath, places)))
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
        return self.locator.find(name, file.image_folders, file.split)

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
        seen: dict[str, list[dict[str, Any]]] = {}
        for file, annotation in chosen.values():
            where = f"annotation {annotation.get('id', '?')}"
            same_box = seen.setdefault(str(annotation.get("bbox")), [])
            if any(_same(annotation, other) for other in same_box):
                record.problems.append(Problem(file.shown, "the same annotation twice", where))
                continue
            same_box.append(annotation)
            labels, what = annotation_labels(annotation, file.categories, record.size)
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


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return {**one, "id": None} == {**other, "id": None}
