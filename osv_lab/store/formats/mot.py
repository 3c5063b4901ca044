"""Reads MOTChallenge sequences: ``seqinfo.ini``, ``gt/gt.txt``, frames in ``img1`` or a video.

Frames count from 1, as in records. Boxes are taken as stated, edges from 0, as trackers and their evaluation do; they
may leave the image and are not cut. A row whose mark is 0 is kept with the attribute ``ignored``.
https://motchallenge.net/instructions/
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterator

from osv_lab.core.errors import InvalidDataError
from osv_lab.store.formats.checks import number, whole
from osv_lab.store.formats.files import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    Tree,
    absolute,
    decoded,
    image_size,
    read_bytes,
    shown,
    split_of_folder,
    stem_of,
    suffix_of,
    video_size,
)
from osv_lab.store.records import Box, Label, Problem, Record, Source

CLASSES = (
    "pedestrian", "person on vehicle", "car", "bicycle", "motorbike", "non motorized vehicle", "static person",
    "distractor", "occluder", "occluder on the ground", "occluder full", "reflection", "crowd",
)  # fmt: skip
"""MOT16, MOT17 and MOT20's classes; a file numbers them from 1."""
_MAX_BYTES = 2**29


def sniff(tree: Tree) -> str | None:
    """A folder with ``seqinfo.ini``, or with ``gt/gt.txt`` of comma separated rows."""
    found = _sequences(tree)
    return f"{len(found)} sequences" if found else None


def _sequences(tree: Tree) -> list[str]:
    if tree.file and os.path.basename(tree.file) not in ("seqinfo.ini", "gt.txt"):
        return []
    folders = {os.path.dirname(path) for path in tree.find("seqinfo.ini")}
    for path in tree.find("gt.txt"):
        if os.path.basename(os.path.dirname(path)) == "gt" and _is_rows(path):
            folders.add(os.path.dirname(os.path.dirname(path)))
    return sorted(folders)


def _is_rows(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            first = file.readline(4096)
        values = [number(value) for value in first.split(b",")]
    except (OSError, ValueError):
        return False
    return len(values) >= 6


def read(tree: Tree) -> tuple[Source, Iterator[Record]]:
    """The source and its records: one per frame image with the fields ``sequence`` and ``frame_number``, or one per
    video. A sequence whose media are absent gives no record and one problem that says what was lost."""
    source = Source("mot", absolute(tree.root))
    sequences = _sequences(tree)
    if not sequences:
        raise InvalidDataError("no MOTChallenge sequence", shown(tree.root), "it needs seqinfo.ini or gt/gt.txt")
    source.classes = CLASSES

    def records() -> Iterator[Record]:
        used: set[str] = set()
        for folder in sequences:
            yield from _sequence(tree, source, folder, used)
        source.classes = tuple(name for name in CLASSES if name in used) + tuple(sorted(used - set(CLASSES)))

    return source, records()


def _sequence(tree: Tree, source: Source, folder: str, used: set[str]) -> Iterator[Record]:
    info = _info(tree, source, folder)
    name = info.get("name") or os.path.basename(folder)
    # Detections, camera motion and the like belong to a tracker, not to the labels.
    for inner in tree.subtree(folder):
        tree.used.update(
            os.path.join(inner, file) for file in tree.names(inner) if suffix_of(file) in (".txt", ".ini")
        )
    rows_path = os.path.join(folder, "gt", "gt.txt")
    images = _images(tree, os.path.join(folder, info.get("imdir") or "img1"))
    video = None if images else _video(tree, folder, name)
    labelled = "gt.txt" in tree.names(os.path.join(folder, "gt"))
    if not images and video is None:
        rows = sum(1 for line in read_bytes(rows_path, _MAX_BYTES).splitlines() if line.strip()) if labelled else 0
        what = f"no {info.get('imdir') or 'img1'}/ folder with frames and no video; its {rows} boxes have no image"
        source.problems.append(Problem(tree.relative(folder), what, name, "file skipped"))
        return
    size = _size(info) or (image_size(next(iter(images.values()))) if images else video_size(video or ""))
    problems: list[Problem] = []
    frames: dict[int, list[Label]] = {}
    if not labelled:
        source.problems.append(
            Problem(tree.relative(folder), "no gt/gt.txt: frames without labels", name, "label kept")
        )
    elif size is None:
        problems.append(Problem(tree.relative(folder), "no size in seqinfo.ini and none readable", name))
    else:
        frames = _rows(rows_path, tree.relative(rows_path), size, problems)
    used.update(label.label for labels in frames.values() for label in labels)
    split = split_of_folder(folder, tree.root)
    if video is not None:
        record = Record(
            absolute(video), frames=frames, split=split, size=size, labelled=labelled, problems=problems
        )
        record.fields["sequence"] = name
        yield record
        return
    source.problems.extend(problems)
    for frame, path in images.items():
        record = Record(
            absolute(path), frames.pop(frame, []), split=split, tags=(name,), labelled=labelled, size=size
        )
        record.fields.update(sequence=name, frame_number=frame)
        yield record
    if frames:
        lost = sum(len(labels) for labels in frames.values())
        what = f"{len(frames)} frames without an image, from frame {min(frames)} ({lost} boxes)"
        source.problems.append(Problem(tree.relative(rows_path), what, name, "file skipped"))


def _info(tree: Tree, source: Source, folder: str) -> dict[str, str]:
    path = os.path.join(folder, "seqinfo.ini")
    if "seqinfo.ini" not in tree.names(folder):
        return {}
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(decoded(read_bytes(path))[0])
        section = next(iter(parser.sections()), None)
        return dict(parser[section]) if section else {}
    except (OSError, configparser.Error) as error:
        what = f"cannot be read: {str(error).splitlines()[0]}"
        source.problems.append(Problem(tree.relative(path), what, "", "file broken"))
        return {}


def _size(info: dict[str, str]) -> tuple[int, int] | None:
    try:
        width, height = whole(info.get("imwidth")), whole(info.get("imheight"))
    except ValueError:
        return None
    return (width, height) if width > 0 and height > 0 else None


def _images(tree: Tree, folder: str) -> dict[int, str]:
    found: dict[int, str] = {}
    for file in tree.names(os.path.normpath(folder)):
        if suffix_of(file) in IMAGE_SUFFIXES and stem_of(file)[-9:].isdecimal():
            found[int(stem_of(file)[-9:])] = os.path.join(os.path.normpath(folder), file)
    return dict(sorted(found.items()))


def _video(tree: Tree, folder: str, name: str) -> str | None:
    here = [os.path.join(folder, file) for file in tree.names(folder) if suffix_of(file) in VIDEO_SUFFIXES]
    if len(here) == 1:
        return here[0]
    named = [path for path in tree.files(VIDEO_SUFFIXES) if stem_of(os.path.basename(path)) == name]
    return named[0] if len(named) == 1 else None


def _rows(path: str, file: str, size: tuple[int, int], problems: list[Problem]) -> dict[int, list[Label]]:
    """Boxes by frame. Columns: frame, identity, left, top, width, height, mark, class, visibility."""
    width, height = size
    frames: dict[int, list[Label]] = {}
    seen: dict[tuple[int, int], int] = {}
    for line, row in enumerate(read_bytes(path, _MAX_BYTES).splitlines(), start=1):
        if not row.strip():
            continue
        try:
            values = [number(value) for value in row.split(b",")]
            if len(values) < 6:
                raise ValueError(f"{len(values)} values, expected 6 to 9")
            frame, index = int(values[0]), int(values[1])
            x, y, w, h = values[2:6]
            if frame < 1:
                raise ValueError(f"frame {frame}; frames count from 1")
            if w <= 0 or h <= 0:
                raise ValueError("box without area")
        except ValueError as error:
            problems.append(Problem(file, str(error), f"line {line}"))
            continue
        first = seen.setdefault((frame, index), line)
        if first != line and index >= 0:
            problems.append(
                Problem(file, f"identity {index} twice in frame {frame} (line {first})", f"line {line}")
            )
            continue
        class_id = int(values[7]) if len(values) > 7 else -1
        name = CLASSES[class_id - 1] if 1 <= class_id <= len(CLASSES) else "pedestrian"
        if class_id > len(CLASSES):
            name = f"class_{class_id}"
        attributes: dict[str, bool | int | float | str] = {}
        if len(values) > 6 and values[6] == 0:
            attributes["ignored"] = True
        if len(values) > 8 and 0 <= values[8] <= 1:
            attributes["visibility"] = values[8]
        box = Box(name, (x / width, y / height, w / width, h / height), None, None, index, attributes)
        frames.setdefault(frame, []).append(box)
    return frames
