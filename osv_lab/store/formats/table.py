"""Reads boxes from CSV: one row per box, columns by name, in whichever of the usual spellings.

Known are TensorFlow's (``filename,width,height,class,xmin,ymin,xmax,ymax``), Open Images', Kaggle's and the like, and
RetinaNet's without a header (``path,x1,y1,x2,y2,class``). Whether coordinates are pixels or relative is decided once
per file from their largest value and stated in ``Source.info["coordinates"]``. A row without a box is an image
without objects.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from osv_lab.core.errors import InvalidDataError
from osv_lab.store.formats.checks import cut_box, number, ordered_box
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
from osv_lab.store.formats.locate import Locator
from osv_lab.store.formats.values import plain_value
from osv_lab.store.geometry import XYWH
from osv_lab.store.records import Box, Problem, Record, Source

_MAX_BYTES = 2**31
_SUFFIXES = frozenset({".csv", ".tsv"})
_FILE = ("filename", "file_name", "file", "filepath", "file_path", "image_path", "img_path", "path", "image_name",
         "image", "img", "image_id", "imageid", "frame")  # fmt: skip
_LABEL = ("class", "class_name", "classname", "label", "label_name", "labelname", "category", "category_name", "name",
          "class_id", "label_id", "category_id")  # fmt: skip
_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"), ("x_min", "y_min", "x_max", "y_max"), ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"), ("bbox_xmin", "bbox_ymin", "bbox_xmax", "bbox_ymax"),
    ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"), ("x0", "y0", "x1", "y1"),
)  # fmt: skip
_SIDES = (
    ("x", "y", "w", "h"), ("bbox_x", "bbox_y", "bbox_w", "bbox_h"), ("bbox_x", "bbox_y", "bbox_width", "bbox_height"),
    ("left", "top", "width", "height"), ("x", "y", "width", "height"), ("xmin", "ymin", "w", "h"),
    ("xmin", "ymin", "width", "height"), ("x_min", "y_min", "width", "height"),
)  # fmt: skip
_CENTRES = (("cx", "cy", "w", "h"), ("x_center", "y_center", "width", "height"), ("x_center", "y_center", "w", "h"),
            ("xc", "yc", "w", "h"))  # fmt: skip
_CONFIDENCE = ("confidence", "score", "conf", "probability")
_SPLIT = ("split", "subset", "set", "partition")
_INDEX = ("track_id", "tracker_id", "track", "object_id")
_SIZES = (("image_width", "image_height"), ("img_width", "img_height"), ("img_w", "img_h"), ("width", "height"))


@dataclass(frozen=True)
class _Columns:
    """Which column holds what, by position."""

    file: int
    box: tuple[int, int, int, int]
    style: str
    label: int | None = None
    confidence: int | None = None
    split: int | None = None
    index: int | None = None
    size: tuple[int, int] | None = None
    others: Mapping[int, str] | None = None
    header: bool = True


def sniff(tree: Tree) -> str | None:
    """A table whose first row names a file and a box, or is a RetinaNet row."""
    if tree.file:
        return os.path.basename(tree.file) if suffix_of(tree.file) in _SUFFIXES and _peek(tree.file) else None
    for path in tree.files(_SUFFIXES):
        if _peek(path):
            return tree.relative(path)
    return None


def _peek(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            text, _ = decoded(file.read(2**16))
        rows = list(csv.reader(io.StringIO(text), _dialect(text)))
    except (OSError, csv.Error):
        return False
    return bool(rows) and _columns(rows[0]) is not None


def _dialect(text: str) -> type[csv.Dialect]:
    """The separator that the first line has most of."""
    first = text.split("\n", 1)[0]

    class Found(csv.excel):
        delimiter = max(",;\t|", key=first.count)

    return Found


def _columns(first: Sequence[str]) -> _Columns | None:
    names = [re.sub(r"[\s\-]+", "_", name.strip().lower()) for name in first]
    at = {name: position for position, name in reversed(list(enumerate(names)))}
    file = _first(_FILE, at)
    for style, choices in (("corners", _CORNERS), ("sides", _SIDES), ("centre", _CENTRES)):
        for choice in choices:
            if file is not None and all(name in at for name in choice):
                a, b, c, d = (at[name] for name in choice)
                box = (a, b, c, d)
                sizes = [
                    (at[w], at[h]) for w, h in _SIZES if w in at and h in at and not {at[w], at[h]} & set(box)
                ]
                label, confidence, split = _first(_LABEL, at), _first(_CONFIDENCE, at), _first(_SPLIT, at)
                index = _first(_INDEX, at)
                size = sizes[0] if sizes else None
                taken = {file, *box, label, confidence, split, index, *(size or ())}
                others = {k: name for k, name in enumerate(names) if k not in taken and name}
                return _Columns(file, box, style, label, confidence, split, index, size, others)
    return _Columns(0, (1, 2, 3, 4), "corners", 5, header=False) if _is_retinanet(first) else None


def _first(names: Sequence[str], at: Mapping[str, int]) -> int | None:
    return next((at[name] for name in names if name in at), None)


def _is_retinanet(row: Sequence[str]) -> bool:
    if len(row) != 6 or suffix_of(row[0].strip()) not in IMAGE_SUFFIXES:
        return False
    numbers = [value.strip() for value in row[1:5]]
    return not any(numbers) or all(re.fullmatch(r"-?\d+(\.\d*)?", value) for value in numbers)


def read(tree: Tree) -> tuple[Source, Iterator[Record]]:
    """The source and its records.

    Raises:
        InvalidDataError: a table cannot be read, or names neither files nor boxes.
    """
    source = Source("csv", absolute(tree.root))
    paths = [tree.file] if tree.file else [path for path in tree.files(_SUFFIXES) if _peek(path)]
    tables = [_Table(path, tree, source) for path in paths]
    if not tables:
        raise InvalidDataError(
            "no table of boxes", shown(tree.root), f"name columns like {', '.join(_CORNERS[0])}"
        )
    source.classes = tuple(sorted({name for table in tables for name in table.labels()}))
    relative = {table.relative for table in tables if table.relative is not None}
    source.info["coordinates"] = " and ".join("relative" if value else "pixels" for value in sorted(relative))
    return source, _records(tree, source, tables)


class _Table:
    def __init__(self, path: str, tree: Tree, source: Source) -> None:
        tree.used.add(path)
        self.shown = tree.relative(path)
        self.folder = os.path.dirname(path)
        self.split = split_of_folder(self.folder, tree.root) or split_named(stem_of(os.path.basename(path)))
        try:
            text, clean = decoded(read_bytes(path, _MAX_BYTES))
            self.rows = list(csv.reader(io.StringIO(text, newline=""), _dialect(text)))
        except (OSError, csv.Error) as error:
            raise InvalidDataError("a table cannot be read", f"{shown(path)}: {error}") from None
        if not clean:
            source.problems.append(Problem(self.shown, "not UTF-8; read as Latin-1", "", "label kept"))
        columns = _columns(self.rows[0]) if self.rows else None
        if columns is None:
            found = ", ".join(self.rows[0])[:200] if self.rows else "nothing"
            fix = f"name columns like filename, {', '.join(_CORNERS[0])}, class"
            raise InvalidDataError("a table without the columns of boxes", f"{shown(path)}: {found}", fix)
        self.columns = columns
        self.relative = self._is_relative()

    def body(self) -> Iterator[tuple[int, list[str]]]:
        """Rows with their line number."""
        start = 1 if self.columns.header else 0
        return ((line, row) for line, row in enumerate(self.rows[start:], start=start + 1) if any(row))

    def labels(self) -> Iterator[str]:
        at = self.columns.label
        for _, row in self.body():
            if at is not None and at < len(row) and row[at].strip():
                yield row[at].strip()

    def _is_relative(self) -> bool | None:
        """Whether coordinates are relative: none, or next to none, is beyond 1. ``None``: there is no box."""
        beyond = inside = 0
        for _, row in self.body():
            for at in self.columns.box:
                try:
                    value = abs(number(row[at]))
                except (ValueError, IndexError):
                    continue
                beyond += value > 1.5
                inside += value <= 1.5
        return None if beyond + inside == 0 else beyond <= 0.01 * inside

    def value(self, row: Sequence[str], at: int | None) -> str:
        return row[at].strip() if at is not None and at < len(row) else ""


def _records(tree: Tree, source: Source, tables: list[_Table]) -> Iterator[Record]:
    locator = Locator(tree)
    done: set[str] = set()
    for table in tables:
        groups: dict[str, list[tuple[int, list[str]]]] = {}
        for line, row in table.body():
            name = table.value(row, table.columns.file)
            if name:
                groups.setdefault(name, []).append((line, row))
            else:
                source.problems.append(Problem(table.shown, "row without a file name", f"line {line}"))
        for name, rows in groups.items():
            first = rows[0][0]
            split = split_named(table.value(rows[0][1], table.columns.split)) or table.split
            folders = (
                table.folder,
                os.path.join(table.folder, "images"),
                tree.root,
                os.path.join(tree.root, "images"),
            )
            path, what = locator.find(name, folders, split, by_stem=True)
            if path is not None and path in done:
                what, path = f"{tree.relative(path)} is also in another table", None
            if path is None:
                lost = f" ({len(rows)} rows)" if len(rows) > 1 else ""
                source.problems.append(Problem(table.shown, what + lost, f"line {first}", "file skipped"))
                continue
            done.add(path)
            yield _record(path, split or split_of_folder(os.path.dirname(path), tree.root), rows, table)
    for path in locator.known:
        if path not in done:
            yield Record(absolute(path), split=split_of_folder(os.path.dirname(path), tree.root), labelled=False)


def _record(path: str, split: str | None, rows: list[tuple[int, list[str]]], table: _Table) -> Record:
    record = Record(absolute(path), split=split)
    record.size = _size(rows[0][1], table)
    if record.size is None and table.relative is False:
        record.size = image_size(path)
    if record.size is None and table.relative is False:
        what = "neither the table nor the image states the image's size"
        record.problems.append(Problem(table.shown, what, f"line {rows[0][0]}"))
        return record
    scale = (1, 1) if table.relative or record.size is None else record.size
    seen: dict[tuple[str, ...], int] = {}
    for line, row in rows:
        if not any(table.value(row, at) for at in table.columns.box):
            continue
        first = seen.setdefault(tuple(row), line)
        label, what = (None, f"the same row as line {first}") if first != line else _box(row, table, scale)
        if what:
            kept = "label dropped" if label is None else "label kept"
            record.problems.append(Problem(table.shown, what, f"line {line}", kept))
        if label is not None:
            record.labels.append(label)
    return record


def _size(row: Sequence[str], table: _Table) -> tuple[int, int] | None:
    if table.columns.size is None:
        return None
    try:
        width, height = (int(number(table.value(row, at))) for at in table.columns.size)
    except ValueError:
        return None
    return (width, height) if width > 0 and height > 0 else None


def _box(row: Sequence[str], table: _Table, scale: tuple[int, int]) -> tuple[Box | None, str]:
    columns = table.columns
    name = table.value(row, columns.label)
    if columns.label is not None and not name:
        return None, "box without a class"
    try:
        a, b, c, d = (number(table.value(row, at)) for at in columns.box)
    except ValueError as error:
        return None, f"box: {error}"
    width, height = scale
    box: XYWH | None
    if columns.style == "corners":
        box, what = ordered_box(a / width, b / height, c / width, d / height)
    elif columns.style == "sides":
        box, what = cut_box(a / width, b / height, (a + c) / width, (b + d) / height)
    else:
        box, what = cut_box((a - c / 2) / width, (b - d / 2) / height, (a + c / 2) / width, (b + d / 2) / height)
    what = f"({a:g}, {b:g}, {c:g}, {d:g}): {what}" if what else ""
    if box is None:
        return None, what
    confidence: float | None = None
    index: int | None = None
    try:
        text = table.value(row, columns.confidence)
        confidence = number(text) if text else None
        text = table.value(row, columns.index)
        index = int(number(text)) if text else None
    except ValueError as error:
        what = "; ".join(filter(None, [what, f"confidence or track: {error}"]))
    if confidence is not None and not 0 <= confidence <= 1:
        what = "; ".join(filter(None, [what, f"confidence {confidence:g} is not in 0 to 1 and was left out"]))
        confidence = None
    attributes = {
        key: plain_value(text) for at, key in (columns.others or {}).items() if (text := table.value(row, at))
    }
    return Box(name or "object", box, None, confidence, index, attributes), what
