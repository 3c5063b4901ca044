"""Annotation formats: what is in a folder, one :class:`~osv_lab.store.records.Record` per image.

    source, records = open_source("datasets/blood")       # or a data.yaml, a .json, a .xml, a .csv, a video
    for record in records:
        print(record.path, len(record.labels), [problem.what for problem in record.problems])

A bad item never raises: it is described in ``record.problems``, or in ``source.problems`` when it belongs to no image.
``source.problems`` and, for formats without a class list, ``source.classes`` are complete once the records are read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from osv_lab.core.errors import InvalidDataError, UsageError, nearest
from osv_lab.store.formats import coco, cvat, folders, mot, table, voc, yolo
from osv_lab.store.formats.files import Tree, shown
from osv_lab.store.records import Problem, Record, Source


@dataclass(frozen=True)
class _Format:
    sniff: Callable[[Tree], str | None]
    read: Callable[[Tree], tuple[Source, Iterator[Record]]]
    labelled: bool
    about: str


FORMATS: dict[str, _Format] = {
    "yolo": _Format(yolo.sniff, yolo.read, True, "YOLO: data.yaml, or text files beside images or in labels/"),
    "coco": _Format(coco.sniff, coco.read, True, "COCO: .json with images, annotations, categories"),
    "voc": _Format(voc.sniff, voc.read, True, "Pascal VOC: one .xml per image"),
    "cvat": _Format(cvat.sniff, cvat.read, True, "CVAT XML 1.1 for images or video"),
    "csv": _Format(table.sniff, table.read, True, "CSV with a file, a class and a box per row"),
    "mot": _Format(mot.sniff, mot.read, True, "MOTChallenge: seqinfo.ini, gt/gt.txt, img1/"),
    "classes": _Format(folders.sniff_classes, folders.read_classes, False, "one folder per class"),
    "images": _Format(folders.sniff_images, folders.read_images, False, "a folder of images"),
    "videos": _Format(folders.sniff_videos, folders.read_videos, False, "a folder of videos"),
}


def open_source(path: str | os.PathLike[str], format: str = "auto") -> tuple[Source, Iterator[Record]]:
    """What is at ``path``, recognised by its content, and its records one by one.

    Args:
        path: A folder, or the one file that describes a data set.
        format: A name of :data:`FORMATS`, or ``auto``.

    Raises:
        NotFoundError: nothing is there.
        UsageError: no such format.
        InvalidDataError: nothing known was found, or several formats at once; or the one file that everything hangs
            on (``data.yaml``, a COCO ``.json``) is broken.
    """
    tree = Tree.of(path)
    if format != "auto" and format not in FORMATS:
        raise UsageError("unknown data format", repr(format), nearest(format, [*FORMATS, "auto"]))
    name = recognise(tree) if format == "auto" else format
    source, records = FORMATS[name].read(tree)
    return source, _accounted(tree, source, records)


def recognise(tree: Tree) -> str:
    """The name of the one format that a folder or file is in.

    Raises:
        InvalidDataError: none, or more than one.
    """
    found: dict[str, str] = {}
    for name, known in FORMATS.items():
        if known.labelled or not found:
            recognised = known.sniff(tree)
            if recognised:
                found[name] = recognised
        if found and not known.labelled and name != "images":
            break
    if "images" in found and (videos := FORMATS["videos"].sniff(tree)):
        found["videos"] = videos
    if len(found) == 1:
        return next(iter(found))
    at = f"{shown(tree.file or tree.root)} holds {tree.describe()}"
    if found:
        seen = "; ".join(f"{name} ({what})" for name, what in found.items())
        fix = f"give format={next(iter(found))!r} or another"
        raise InvalidDataError("more than one data format", f"{at}: {seen}", fix)
    known_formats = "; ".join(f"{name} ({known.about})" for name, known in FORMATS.items())
    raise InvalidDataError("no known data format", at, f"known are {known_formats}")


def _accounted(tree: Tree, source: Source, records: Iterator[Record]) -> Iterator[Record]:
    """The records; then every file of a folder that was neither media nor annotation is named."""
    media: set[str] = set()
    for record in records:
        media.add(str(record.path))
        yield record
    if tree.file:
        return
    for folder, names in tree.folders.items():
        for name in names:
            path = os.path.join(folder, name)
            if path not in media and path not in tree.used:
                what = f"not part of the {source.format} data set"
                source.problems.append(Problem(tree.relative(path), what, "", "file skipped"))
