"""Reads YOLO data sets: Ultralytics ``data.yaml`` and the classic darknet layouts.

Labels are found where Ultralytics looks (the last ``images`` of the path becomes ``labels``), else beside the image.
``path``, ``train``, ``val`` and ``test`` of a ``data.yaml`` and the lines of a list may be absolute; relative ones
must stay below the data set's root. What the rows are (boxes, outlines, keypoints, oriented boxes) is read from
``kpt_shape``, a ``task`` key or the rows themselves: rows of nine values only are oriented boxes, unless ``task`` says
otherwise. https://docs.ultralytics.com/datasets/detect/
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from osv_lab.core.errors import InvalidDataError
from osv_lab.store.formats.files import (
    IMAGE_SUFFIXES,
    Tree,
    absolute,
    read_bytes,
    shown,
    split_of_folder,
    stem_of,
    suffix_of,
)
from osv_lab.store.formats.yolo_layout import TEXT_FILES, Layout, from_files, from_yaml, is_data_yaml
from osv_lab.store.formats.yolo_rows import RowFormat, guess_task
from osv_lab.store.records import Problem, Record, Source

_SAMPLED = 400
"""Label files looked at, evenly spread, to learn what the rows are."""


def sniff(tree: Tree) -> str | None:
    """``data.yaml``, or text files of numbers that belong to images."""
    if tree.file:
        name = os.path.basename(tree.file).lower()
        if suffix_of(name) in (".yaml", ".yml"):
            return "data.yaml" if is_data_yaml(tree.file) else None
        return "darknet obj.data" if name == "obj.data" else None
    found = _yamls(tree)
    if found:
        return tree.relative(found[0])
    count = 0
    for folder, names in tree.folders.items():
        stems = {stem_of(name) for name in names if suffix_of(name) in IMAGE_SUFFIXES}
        if not stems:
            continue
        labels = _labels_folder(tree, folder)
        for name in tree.names(labels):
            if suffix_of(name) == ".txt" and stem_of(name) in stems and name.lower() not in TEXT_FILES:
                path = os.path.join(labels, name)
                looks = _looks_like_rows(path)
                if looks:
                    return f"label rows ({tree.relative(path)})"
                count += looks is not None
                if count >= 20:
                    return None
    return None


def _yamls(tree: Tree) -> list[str]:
    """Files that state a YOLO data set, at the root or one folder below; ``data.yaml`` before others."""
    inner = [path for path in (*tree.files(".yaml"), *tree.files(".yml")) if _depth(tree, path) <= 1]
    found = [path for path in inner if is_data_yaml(path)]
    return sorted(
        found,
        key=lambda path: (_depth(tree, path), stem_of(os.path.basename(path)) not in ("data", "dataset"), path),
    )


def _depth(tree: Tree, path: str) -> int:
    return path[len(tree.root) :].count(os.sep) - 1


def _looks_like_rows(path: str) -> bool | None:
    """Whether a text file's first row is a class id and numbers; ``None`` for an empty one."""
    try:
        data = read_bytes(path)
    except (OSError, InvalidDataError):
        return False
    rows = [line.split() for line in data.removeprefix(b"\xef\xbb\xbf").splitlines()[:5] if line.strip()]
    if not rows:
        return None
    for row in rows:
        try:
            numbers = [float(value) for value in row]
        except ValueError:
            continue
        if (
            len(numbers) >= 5
            and numbers[0] == int(numbers[0])
            and all(abs(value) <= 4096 for value in numbers[1:])
        ):
            return True
    return False


def read(tree: Tree) -> tuple[Source, Iterator[Record]]:
    """The source and its records.

    Raises:
        InvalidDataError: ``data.yaml`` cannot be read or states no classes.
    """
    layout = Layout(tree, Source("yolo", absolute(tree.root)))
    stated = (
        tree.file if tree.file and suffix_of(tree.file) in (".yaml", ".yml") else next(iter(_yamls(tree)), None)
    )
    if stated:
        from_yaml(layout, stated)
    else:
        from_files(layout)
    if layout.names is None:
        layout.source.problems.append(
            Problem(
                shown(tree.root), "no class names stated; classes are named class_<id>", consequence="label kept"
            )
        )
    source = layout.source
    source.classes = tuple(layout.names or ())
    rows = _row_format(layout)
    source.info["task"] = rows.task
    if rows.task == "pose":
        source.info["kpt_shape"] = list(rows.keypoints)
    return source, _records(layout, rows)


def _labels_folder(tree: Tree, images: str) -> str:
    """Where labels of images in a folder are: the last ``images`` of its path replaced by ``labels``, else itself."""
    parts = images.split(os.sep)
    for k in range(len(parts) - 1, -1, -1):
        if parts[k].lower() == "images":
            mapped = os.sep.join([*parts[:k], "labels" if parts[k].islower() else "Labels", *parts[k + 1 :]])
            if tree.names(mapped) or os.path.isdir(mapped):
                return mapped
            break
    return images


def _images(layout: Layout) -> Iterator[tuple[str, str | None]]:
    """Every image once with its split: listed ones first, then those of folders."""
    tree = layout.tree
    seen: dict[str, str | None] = {}
    doubled: dict[tuple[str, str], list[str]] = {}

    def fresh(path: str, split: str | None) -> bool:
        if path not in seen:
            seen[path] = split
            return True
        if split and seen[path] and split != seen[path]:
            doubled.setdefault((str(seen[path]), split), []).append(path)
        return False

    for path, split in layout.listed:
        if fresh(path, split):
            yield path, split
    for top, split in layout.folders:
        for folder in tree.subtree(top):
            for name in tree.names(folder):
                path = os.path.join(folder, name)
                if suffix_of(name) in IMAGE_SUFFIXES and fresh(path, split):
                    yield path, split or split_of_folder(folder, top)
    for (first, second), paths in doubled.items():
        what = f"{len(paths)} images are in both {first} and {second}, such as {tree.relative(paths[0])}"
        layout.source.problems.append(Problem(shown(tree.root), what, "", f"kept once, in {first}"))


def _row_format(layout: Layout) -> RowFormat:
    task, keypoints = layout.task, layout.keypoints
    if task is None or (task == "pose" and keypoints is None):
        guessed, shape = guess_task(_sampled_labels(layout), keypoints)
        task = task if task and task != "pose" else guessed
        keypoints = keypoints or shape
    table = {b"%d" % k: name for k, name in enumerate(layout.names or ())}
    return RowFormat(task, table, layout.names is None, keypoints or (0, 0))


def _sampled_labels(layout: Layout) -> list[bytes]:
    tree = layout.tree
    folders = {_labels_folder(tree, os.path.dirname(path)) for path, _ in layout.listed}
    for top, _ in layout.folders:
        for folder in tree.subtree(top):
            if any(suffix_of(name) in IMAGE_SUFFIXES for name in tree.names(folder)):
                folders.add(_labels_folder(tree, folder))
    paths = [
        os.path.join(folder, name)
        for folder in sorted(folders)
        for name in tree.names(folder)
        if suffix_of(name) == ".txt" and name.lower() not in TEXT_FILES
    ]
    return [data for path in _spread(paths, _SAMPLED) if (data := _bytes_or_nothing(path))]


def _spread(items: Sequence[str], count: int) -> Sequence[str]:
    step = max(1, -(-len(items) // count))
    return items[::step]


def _bytes_or_nothing(path: str) -> bytes:
    try:
        return read_bytes(path)
    except (OSError, InvalidDataError):
        return b""


def _records(layout: Layout, rows: RowFormat) -> Iterator[Record]:
    tree = layout.tree
    folder, labels_folder, label_names = "", "", frozenset[str]()
    used: dict[str, set[str]] = {}
    for path, split in _images(layout):
        here, name = os.path.split(path)
        if here != folder:
            folder, labels_folder = here, _labels_folder(tree, here)
            label_names = frozenset(tree.names(labels_folder))
            used.setdefault(labels_folder, set())
        record = Record(absolute(path), split=split)
        label_name = stem_of(name) + ".txt"
        if label_name not in label_names:
            record.labelled = False
            yield record
            continue
        used[labels_folder].add(label_name)
        label_path = os.path.join(labels_folder, label_name)
        try:
            data = read_bytes(label_path)
        except (OSError, InvalidDataError) as error:
            what = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            record.problems.append(
                Problem(tree.relative(label_path), f"cannot be read: {what}", "", "file broken")
            )
            record.labelled = False
        else:
            if data.strip():
                record.labels = rows.labels(data, tree.relative(label_path), record.problems)
        yield record
    for labels_folder, taken in used.items():
        for name in tree.names(labels_folder):
            if suffix_of(name) == ".txt":
                label_path = os.path.join(labels_folder, name)
                if name not in taken and label_path not in tree.used and name.lower() not in TEXT_FILES:
                    what = "label file without an image"
                    layout.source.problems.append(Problem(tree.relative(label_path), what, "", "file skipped"))
                tree.used.add(label_path)
