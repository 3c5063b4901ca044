"""Folders without annotation files: plain images, one folder per class, videos."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

from osv_lab.store.formats.files import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    Tree,
    absolute,
    split_named,
    split_of_folder,
    suffix_of,
)
from osv_lab.store.records import ImageClass, Problem, Record, Source

_PLAIN_NAMES = frozenset(
    (
        "images",
        "image",
        "imgs",
        "img",
        "jpegimages",
        "jpegs",
        "photos",
        "pictures",
        "frames",
        "data",
        "raw",
        "img1",
    )
)
"""Folder names that say what files are, not what is on them."""


def sniff_images(tree: Tree) -> str | None:
    """How many images there are, if any."""
    count = sum(1 for _ in tree.files(IMAGE_SUFFIXES))
    return f"{count} images" if count else None


def read_images(tree: Tree) -> tuple[Source, Iterator[Record]]:
    """Images without labels. A folder named train, val or test gives the split."""
    source = Source("images", absolute(tree.root))

    def records() -> Iterator[Record]:
        for path in [tree.file] if tree.file else tree.files(IMAGE_SUFFIXES):
            split = split_of_folder(os.path.dirname(path), tree.root)
            yield Record(absolute(path), split=split, labelled=False)

    return source, records()


def sniff_videos(tree: Tree) -> str | None:
    """How many videos there are, if any."""
    count = sum(1 for _ in tree.files(VIDEO_SUFFIXES))
    return f"{count} videos" if count else None


def read_videos(tree: Tree) -> tuple[Source, Iterator[Record]]:
    """Videos without labels. A folder named train, val or test gives the split."""
    source = Source("videos", absolute(tree.root))

    def records() -> Iterator[Record]:
        for path in [tree.file] if tree.file else tree.files(VIDEO_SUFFIXES):
            split = split_of_folder(os.path.dirname(path), tree.root)
            yield Record(absolute(path), split=split, labelled=False, frames={})

    return source, records()


def sniff_classes(tree: Tree) -> str | None:
    """``root/<split>/<class>/x.jpg`` or at least two ``root/<class>``, with no image anywhere else."""
    if tree.file:
        return None
    classes: set[str] = set()
    with_splits = True
    for folder, names in tree.folders.items():
        if not any(suffix_of(name) in IMAGE_SUFFIXES for name in names):
            continue
        label = _class_of(folder, tree.root)
        if label is None:
            return None
        classes.add(label)
        with_splits = with_splits and os.path.dirname(folder) != tree.root
    return f"{len(classes)} class folders" if len(classes) >= (1 if with_splits else 2) else None


def _class_of(folder: str, root: str) -> str | None:
    """The class an image in ``folder`` has by its position, ``None`` where the position is none of a class."""
    relative = os.path.relpath(folder, root)
    parts = [] if relative == "." else relative.split(os.sep)
    if len(parts) == 2 and split_named(parts[0]) and parts[1].lower() not in _PLAIN_NAMES:
        return parts[1]
    if len(parts) == 1 and split_named(parts[0]) is None and parts[0].lower() not in _PLAIN_NAMES:
        return parts[0]
    return None


def read_classes(tree: Tree) -> tuple[Source, Iterator[Record]]:
    """Image classes from folder names, in the alphabetical order that TorchVision and Ultralytics number them by."""
    counts: Counter[str] = Counter()
    for folder, names in tree.folders.items():
        label = _class_of(folder, tree.root)
        if label is not None:
            counts[label] += sum(suffix_of(name) in IMAGE_SUFFIXES for name in names)
    source = Source("classes", absolute(tree.root), tuple(sorted(counts)))
    for label, count in counts.items():
        if not count:
            source.problems.append(Problem(label, "class folder without an image", consequence="label kept"))

    def records() -> Iterator[Record]:
        for path in tree.files(IMAGE_SUFFIXES):
            folder = os.path.dirname(path)
            label = _class_of(folder, tree.root)
            record = Record(absolute(path), split=split_of_folder(os.path.dirname(folder), tree.root))
            if label is None:
                record.split = split_of_folder(folder, tree.root)
                record.labelled = False
            else:
                record.labels.append(ImageClass(label))
            yield record

    return source, records()
