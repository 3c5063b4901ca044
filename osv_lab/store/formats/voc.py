"""Reads Pascal VOC: one XML per image, in ``Annotations`` beside ``JPEGImages`` or beside the images.

Pixel convention. The VOC challenges number pixels from 1 and include both ends, so their box ``(1, 1, w, h)`` is the
whole image. LabelImg, CVAT, Roboflow and most others write the same elements but mean the coordinates of the edges,
counted from 0. A file whose ``<source><database>`` names a VOC challenge is read the first way, every other file the
second way; ``Source.info["pixel_convention"]`` says which was met.
http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from osv_lab.core.errors import InvalidDataError
from osv_lab.store.formats.checks import number, ordered_box
from osv_lab.store.formats.files import (
    IMAGE_SUFFIXES,
    Tree,
    absolute,
    decoded,
    image_size,
    read_bytes,
    shown,
    split_named,
    split_of_folder,
    stem_of,
    suffix_of,
)
from osv_lab.store.formats.values import plain_value
from osv_lab.store.formats.xml import XmlError, parse_xml
from osv_lab.store.records import Box, Problem, Record, Source

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_CHALLENGE = re.compile(r"pascal\s*voc|the voc\d{4} database", re.IGNORECASE)
_FLAGS = ("difficult", "truncated", "occluded", "crowd")
_KNOWN = frozenset({"name", "bndbox", "attributes", "part", "actions", *_FLAGS})


def sniff(tree: Tree) -> str | None:
    """An XML whose root element is ``<annotation>``."""
    if tree.file:
        return None
    for looked, path in enumerate(tree.files(".xml")):
        if is_annotation(path):
            return tree.relative(path)
        if looked >= 20:
            break
    return None


def is_annotation(path: str) -> bool:
    """Whether a file begins like a VOC annotation."""
    try:
        with open(path, "rb") as file:
            head, _ = decoded(file.read(2048))
    except OSError:
        return False
    return re.search(r"<annotation[\s>]", head) is not None


def read(tree: Tree) -> tuple[Source, Iterator[Record]]:
    """The source and its records. Class names are collected while reading, in order of first appearance."""
    source = Source("voc", absolute(tree.root))
    return source, _Reader(tree, source).records()


class _Reader:
    def __init__(self, tree: Tree, source: Source) -> None:
        self.tree = tree
        self.source = source
        self.images: dict[str, list[str]] = {}
        for path in tree.files(IMAGE_SUFFIXES):
            self.images.setdefault(stem_of(os.path.basename(path)), []).append(path)
        self.splits = self._image_sets()
        self.classes: dict[str, None] = {}
        self.conventions: set[str] = set()

    def records(self) -> Iterator[Record]:
        done: set[str] = set()
        for path in self.tree.files(".xml"):
            self.tree.used.add(path)
            image = self._image_of(path)
            if image is None:
                what = "annotation without its image"
                self.source.problems.append(Problem(self.tree.relative(path), what, "", "file skipped"))
            elif image in done:
                what = f"another annotation of {self.tree.relative(image)}"
                self.source.problems.append(Problem(self.tree.relative(path), what, "", "file skipped"))
            else:
                done.add(image)
                yield self._record(path, image)
        for paths in self.images.values():
            for image in paths:
                if image not in done and "SegmentationClass" not in image and "SegmentationObject" not in image:
                    yield Record(absolute(image), split=self._split(image, image), labelled=False)
        self._close(done)

    def _close(self, done: set[str]) -> None:
        self.source.classes = tuple(self.classes)
        if self.conventions:
            self.source.info["pixel_convention"] = " and ".join(sorted(self.conventions))
        for stem, split in self.splits.items():
            if stem not in self.images:
                what = f"image {shown(stem)!r} of the list is missing"
                self.source.problems.append(Problem(f"ImageSets/{split}.txt", what, "", "file skipped"))

    def _image_sets(self) -> dict[str, str]:
        """Split by image stem from ``ImageSets/Main``. ``trainval`` counts only where train and val say nothing."""
        splits: dict[str, str] = {}
        lists = [path for path in self.tree.files(".txt") if f"{os.sep}ImageSets{os.sep}" in path]
        self.tree.used.update(lists)
        main = [path for path in lists if os.path.basename(os.path.dirname(path)) == "Main"] or lists
        order = {"train.txt": 0, "val.txt": 1, "test.txt": 2, "trainval.txt": 3}
        for path in sorted(main, key=lambda path: order.get(os.path.basename(path), 9)):
            name = os.path.basename(path)
            split = "train" if name == "trainval.txt" else split_named(stem_of(name))
            # cat_train.txt and the like list one class's presence, not a split.
            if split is None or (name not in order and "_" in name):
                continue
            for line in decoded(read_bytes(path, 2**28))[0].splitlines():
                words = line.split()
                if not words:
                    continue
                stem = (
                    stem_of(os.path.basename(line.strip()))
                    if suffix_of(line.strip()) in IMAGE_SUFFIXES
                    else words[0]
                )
                first = splits.setdefault(stem, split)
                if first != split and name != "trainval.txt":
                    what = f"{shown(stem)} is also in {first}"
                    self.source.problems.append(Problem(self.tree.relative(path), what, "", f"kept in {first}"))
        return splits

    def _split(self, annotation: str, image: str) -> str | None:
        stem = stem_of(os.path.basename(image))
        return self.splits.get(stem) or split_of_folder(os.path.dirname(annotation), self.tree.root)

    def _image_of(self, path: str) -> str | None:
        """The image with the annotation's name: of several, the nearest. ``<filename>`` is often wrong, and not used
        unless no image has the name."""
        stem = stem_of(os.path.basename(path))
        candidates = self.images.get(stem)
        if not candidates:
            try:
                head, _ = decoded(read_bytes(path)[:4096])
            except (OSError, InvalidDataError):
                return None
            stated = re.search(r"<filename>\s*([^<]+?)\s*</filename>", head)
            name = os.path.basename(stated[1].replace("\\", "/")) if stated else ""
            candidates = self.images.get(stem_of(name)) or self.images.get(name)
        if not candidates:
            return None
        folder = os.path.dirname(path)
        return max(candidates, key=lambda image: (len(os.path.commonpath([image, folder])), image))

    def _record(self, path: str, image: str) -> Record:
        record = Record(absolute(image), split=self._split(path, image))
        file = self.tree.relative(path)
        try:
            root = parse_xml(read_bytes(path))
        except (XmlError, InvalidDataError, OSError) as error:
            record.problems.append(Problem(file, f"cannot be read: {error}", "", "file broken"))
            record.labelled = False
            return record
        size = self._size(root, image, file, record.problems)
        if size is None:
            what = "neither the annotation nor the image states the image's size"
            record.problems.append(Problem(file, what, "size", "label dropped"))
            return record
        record.size = size
        inclusive = _CHALLENGE.search(root.findtext("source/database") or "") is not None
        self.conventions.add("from 1, ends included" if inclusive else "edges from 0")
        seen: dict[tuple[object, ...], int] = {}
        for position, element in enumerate(root.iter("object"), start=1):
            label, what = self._box(element, size, inclusive)
            if label is not None:
                first = seen.setdefault((label.label, label.xywh, *label.attributes.items()), position)
                if first != position:
                    label, what = None, f"the same box as object {first}"
            if what:
                kept = "label dropped" if label is None else "label kept"
                record.problems.append(Problem(file, what, f"object {position}", kept))
            if label is not None:
                self.classes.setdefault(label.label)
                record.labels.append(label)
        return record

    def _size(self, root: Element, image: str, file: str, problems: list[Problem]) -> tuple[int, int] | None:
        try:
            width, height = (int(number(root.findtext(f"size/{side}"))) for side in ("width", "height"))
            if width > 0 and height > 0:
                return width, height
            stated = f"{width}x{height}"
        except ValueError:
            stated = "none"
        size = image_size(image)
        if size:
            what = f"stated image size is {stated}; the image's own {size[0]}x{size[1]} was taken"
            problems.append(Problem(file, what, "size", "label kept"))
        return size

    def _box(self, element: Element, size: tuple[int, int], inclusive: bool) -> tuple[Box | None, str]:
        name = (element.findtext("name") or "").strip()
        if not name:
            return None, "object without a name"
        corners = element.find("bndbox")
        if corners is None:
            return None, f"{name!r} without a bndbox"
        try:
            x0, y0, x1, y1 = (number(corners.findtext(tag)) for tag in ("xmin", "ymin", "xmax", "ymax"))
        except ValueError as error:
            return None, f"{name!r} box: {error}"
        shift = 1 if inclusive else 0
        width, height = size
        box, what = ordered_box((x0 - shift) / width, (y0 - shift) / height, x1 / width, y1 / height)
        if what:
            what = f"{name!r} ({x0:g}, {y0:g}, {x1:g}, {y1:g}): {what}"
        return (Box(name, box, attributes=_attributes(element)) if box else None), what


def _attributes(element: Element) -> dict[str, bool | int | float | str]:
    """``difficult`` and its like when set, ``pose`` when specified, and CVAT's ``<attributes>``."""
    found: dict[str, bool | int | float | str] = {}
    for child in element:
        text = (child.text or "").strip()
        if child.tag in _FLAGS:
            if text not in ("", "0"):
                found[child.tag] = plain_value(text) if text != "1" else True
        elif child.tag == "pose":
            if text.lower() not in ("", "unspecified"):
                found["pose"] = text
        elif child.tag not in _KNOWN and text and len(child) == 0:
            found[child.tag] = plain_value(text)
    for attribute in element.iterfind("attributes/attribute"):
        name = (attribute.findtext("name") or "").strip()
        if name:
            found[name] = plain_value(attribute.findtext("value") or "")
    return found
