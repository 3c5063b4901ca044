"""Reads CVAT XML 1.1, for images and for video.

Coordinates are pixel edges from 0; ``rotation`` is clockwise in degrees about the box's centre. A box with a
``rotation`` is an oriented box, ``polygon`` elements of one group and label are the rings of one outline, ``points``
and ``skeleton`` are keypoints, ``tag`` is the class of the image. Frames count from 0 in the file and from 1 in
records. Between two stated frames of a track, shapes are interpolated linearly unless the first is ``outside``.
https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from osv_lab.core.errors import InvalidDataError
from osv_lab.store.formats.checks import number, whole
from osv_lab.store.formats.cvat_shapes import interpolated, keypoint_names, merged_groups, shape_label
from osv_lab.store.formats.files import (
    VIDEO_SUFFIXES,
    Tree,
    absolute,
    image_size,
    read_bytes,
    shown,
    split_named,
    split_of_folder,
    stem_of,
    suffix_of,
)
from osv_lab.store.formats.locate import Locator
from osv_lab.store.formats.xml import XmlError, parse_xml
from osv_lab.store.records import Label, Problem, Record, Source

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_MAX_BYTES = 2**30


def sniff(tree: Tree) -> str | None:
    """An XML whose root element is ``<annotations>``."""
    if tree.file:
        return os.path.basename(tree.file) if suffix_of(tree.file) == ".xml" and _is_cvat(tree.file) else None
    for looked, path in enumerate(sorted(tree.files(".xml"), key=lambda path: path.count(os.sep))):
        if _is_cvat(path):
            return tree.relative(path)
        if looked >= 50:
            break
    return None


def _is_cvat(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return re.search(rb"<annotations[\s>]", file.read(4096)) is not None
    except OSError:
        return False


def read(tree: Tree) -> tuple[Source, Iterator[Record]]:
    """The source and its records.

    Raises:
        InvalidDataError: an XML file is broken, or there is none.
    """
    source = Source("cvat", absolute(tree.root))
    paths = [tree.file] if tree.file else [path for path in tree.files(".xml") if _is_cvat(path)]
    if not paths:
        raise InvalidDataError("no CVAT XML file", shown(tree.root), "export the task as CVAT 1.1")
    files = [_File(path, tree, source) for path in paths]
    source.classes = tuple(dict.fromkeys(name for file in files for name in file.classes))
    source.skeletons = {name: points for file in files for name, points in file.skeletons.items()}
    return source, _records(tree, source, files)


class _File:
    """One XML file: its root element and what its ``meta`` says."""

    def __init__(self, path: str, tree: Tree, source: Source) -> None:
        tree.used.add(path)
        self.path = path
        self.shown = tree.relative(path)
        try:
            self.root = parse_xml(read_bytes(path, _MAX_BYTES))
        except (XmlError, OSError) as error:
            raise InvalidDataError(
                "a CVAT file cannot be read", f"{shown(path)}: {error}", "export it again"
            ) from None
        self.folder = os.path.dirname(path)
        self.split = split_of_folder(self.folder, tree.root) or split_named(stem_of(os.path.basename(path)))
        self.classes: dict[str, None] = {}
        parts: dict[str, list[str]] = {}
        for label in self.root.iterfind("meta//labels/label"):
            name, parent = label.findtext("name"), label.findtext("parent")
            if name and parent:
                parts.setdefault(parent, []).append(name)
            elif name:
                self.classes.setdefault(name)
        self.skeletons = {name: tuple(points) for name, points in parts.items()}
        self.stated_classes = bool(self.classes)
        name = self.root.findtext("meta//name")
        if name and "name" not in source.info:
            source.info["name"] = name


def _records(tree: Tree, source: Source, files: list[_File]) -> Iterator[Record]:
    locator = Locator(tree)
    done: set[str] = set()
    for file in files:
        tracks = file.root.findall("track")
        yield from _images(tree, source, locator, file, done)
        if tracks:
            yield from _video(tree, source, locator, file, tracks, done)
    classes = dict.fromkeys(source.classes)
    for file in files:
        classes.update(file.classes)
    source.classes = tuple(classes)
    source.skeletons = {name: points for file in files for name, points in file.skeletons.items()}
    for path in locator.known:
        if path not in done:
            yield Record(absolute(path), split=split_of_folder(os.path.dirname(path), tree.root), labelled=False)


def _images(tree: Tree, source: Source, locator: Locator, file: _File, done: set[str]) -> Iterator[Record]:
    for position, element in enumerate(file.root.iterfind("image")):
        name = element.get("name") or ""
        where = f"image {element.get('id', position)}"
        split = split_named(element.get("subset") or "") or file.split
        folders = [os.path.join(base, *inner) for base in (file.folder, tree.root) for inner in _inner(element)]
        path, what = locator.find(name, dict.fromkeys(folders), split)
        if path is None:
            count = len(element)
            lost = f" ({count} labels)" if count else ""
            source.problems.append(Problem(file.shown, what + lost, where, "file skipped"))
            continue
        if path in done:
            what = f"{tree.relative(path)} is listed twice"
            source.problems.append(Problem(file.shown, what, where, "file skipped"))
            continue
        done.add(path)
        record = Record(absolute(path), split=split or split_of_folder(os.path.dirname(path), tree.root))
        record.size = _size(element) or image_size(path)
        if record.size is None:
            record.problems.append(Problem(file.shown, "no image size stated or readable", where, "label dropped"))
        else:
            record.labels = _shapes(element, file, record.size, where, record.problems)
        yield record


def _inner(element: Element) -> list[tuple[str, ...]]:
    subset = element.get("subset") or ""
    inner: list[tuple[str, ...]] = [("images",), ()]
    return [("images", subset), *inner] if subset and split_named(subset) else inner


def _size(element: Element) -> tuple[int, int] | None:
    try:
        width, height = whole(element.get("width")), whole(element.get("height"))
    except ValueError:
        return None
    return (width, height) if width > 0 and height > 0 else None


def _shapes(
    parent: Element, file: _File, size: tuple[int, int], where: str, problems: list[Problem]
) -> list[Label]:
    labels: list[Label] = []
    seen: set[str] = set()
    for position, element in enumerate(parent, start=1):
        if element.tag == "attribute":
            continue
        label, what = shape_label(element, size, file.skeletons)
        # Members of a group are parts of one outline, which may well repeat.
        if label is not None and "group_id" not in label.attributes:
            content = repr(label) + repr(sorted(element.attrib.items()))
            if content in seen:
                label, what = None, f"the same {element.tag} twice"
            seen.add(content)
        if what:
            kept = "label dropped" if label is None else "label kept"
            problems.append(Problem(file.shown, what, f"{where}, {element.tag} {position}", kept))
        if label is not None:
            file.classes.setdefault(label.label)
            labels.append(label)
            _note_skeleton(element, file)
    return merged_groups(labels)


def _note_skeleton(element: Element, file: _File) -> None:
    if element.tag == "skeleton" and element.get("label") not in file.skeletons:
        file.skeletons[element.get("label") or ""] = keypoint_names(element)


def _video(
    tree: Tree, source: Source, locator: Locator, file: _File, tracks: list[Element], done: set[str]
) -> Iterator[Record]:
    """The tracks of one video: one record with frames, or one per frame image when only those are there."""
    video = _video_path(tree, file)
    images = {} if video else _frame_images(locator, file)
    stated = file.root.find("meta//original_size")
    size = None
    if stated is not None:
        try:
            size = whole(stated.findtext("width")), whole(stated.findtext("height"))
        except ValueError:
            size = None
    if size is None and images:
        size = image_size(next(iter(images.values())))
    if size is None and video:
        from osv_lab.store.formats.files import video_size

        size = video_size(video)
    if size is None or (video is None and not images):
        missing = "the video or its frames are" if video is None and not images else "the size of the video is"
        what = f"{missing} missing ({len(tracks)} tracks)"
        source.problems.append(Problem(file.shown, what, "", "file skipped"))
        return
    problems: list[Problem] = []
    frames: dict[int, list[Label]] = {}
    for position, track in enumerate(tracks):
        _track(track, position, file, size, frames, problems)
    if video:
        done.add(video)
        split = file.split or split_of_folder(os.path.dirname(video), tree.root)
        yield Record(absolute(video), frames=frames, split=split, size=size, problems=problems)
        return
    source.problems.extend(problems)
    sequence = os.path.basename(file.folder)
    for frame, path in sorted(images.items()):
        if path in done:
            continue
        done.add(path)
        record = Record(absolute(path), labels=frames.pop(frame, []), split=file.split, size=size)
        record.fields.update(sequence=sequence, frame_number=frame)
        yield record
    for frame, labels in sorted(frames.items()):
        what = f"the image of frame {frame - 1} is missing ({len(labels)} labels)"
        source.problems.append(Problem(file.shown, what, f"frame {frame - 1}", "file skipped"))


def _track(
    track: Element, position: int, file: _File, size: tuple[int, int], frames: dict[int, list[Label]],
    problems: list[Problem],
) -> None:  # fmt: skip
    name = track.get("label") or ""
    where = f"track {track.get('id', position)}"
    try:
        index = whole(track.get("id", position))
    except ValueError:
        index = position
        problems.append(
            Problem(file.shown, f"track id {track.get('id')!r} is no whole number", where, "label kept")
        )
    shapes: dict[int, tuple[Label, bool]] = {}
    for element in track:
        if element.tag == "attribute":
            continue
        at = f"{where}, frame {element.get('frame')}"
        try:
            frame = whole(element.get("frame")) + 1
            if frame < 1:
                raise ValueError("negative")
        except ValueError:
            problems.append(Problem(file.shown, f"frame {element.get('frame')!r} is no frame number", at))
            continue
        label, what = shape_label(element, size, file.skeletons, name, index, cut=False)
        if what:
            problems.append(Problem(file.shown, what, at, "label dropped" if label is None else "label kept"))
        if label is None:
            continue
        _note_skeleton(element, file)
        if frame in shapes:
            problems.append(Problem(file.shown, "the same track twice in one frame", at))
            continue
        shapes[frame] = label, element.get("outside") == "1"
    if shapes:
        file.classes.setdefault(name)
    for frame, label in interpolated(shapes):
        frames.setdefault(frame, []).append(label)


def _video_path(tree: Tree, file: _File) -> str | None:
    """The video of an XML file: the one its ``meta`` names, of its own name, or the only one in its folder."""
    videos = {os.path.basename(path): path for path in tree.files(VIDEO_SUFFIXES)}
    stated = file.root.findtext("meta//source") or file.root.findtext("meta//original_name") or ""
    named = videos.get(os.path.basename(stated.replace("\\", "/").strip()))
    if named:
        return named
    stem = stem_of(os.path.basename(file.path))
    beside = [path for path in videos.values() if os.path.dirname(path) == file.folder]
    same = [path for path in videos.values() if stem_of(os.path.basename(path)) == stem]
    if len(same) == 1:
        return same[0]
    return beside[0] if len(beside) == 1 else None


def _frame_images(locator: Locator, file: _File) -> dict[int, str]:
    """Frame images (``frame_000000.PNG``, ``img1/000001.jpg``) below the XML's folder, by frame number from 1."""
    found: dict[int, str] = {}
    for path in locator.known:
        if path.startswith(file.folder + os.sep):
            digits = re.search(r"(\d+)$", stem_of(os.path.basename(path)))
            if digits:
                found[int(number(digits[1])) + 1] = path
    return found
