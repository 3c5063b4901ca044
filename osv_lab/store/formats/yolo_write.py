"""Writes YOLO data sets as Ultralytics reads them: ``data.yaml``, ``images/<split>``, ``labels/<split>``; classes as
``<split>/<class>``. https://docs.ultralytics.com/datasets/
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import yaml

from osv_lab.core.files import write_atomic
from osv_lab.store.formats.files import shown
from osv_lab.store.formats.writing import (
    LESSER,
    ClassList,
    Link,
    MediaFolder,
    Written,
    best,
    box_of,
    lose_rest,
    objects,
    sound_labels,
    split_folder,
    write_small,
)
from osv_lab.store.geometry import Point, box_ring, joined_ring, mask_rings
from osv_lab.store.records import Box, ImageClass, Keypoints, Kind, Label, OrientedBox, Polygon, Problem, Record

Task: TypeAlias = Literal["detect", "segment", "pose", "obb", "classify"]

_ORDER: Mapping[Task, tuple[Kind, ...]] = {
    "detect": ("box", "mask", "polygon", "oriented_box", "keypoints"),
    "segment": ("polygon", "mask", "oriented_box", "box", "keypoints"),
    "pose": ("keypoints", "box", "mask", "polygon", "oriented_box"),
    "obb": ("oriented_box", "polygon", "mask", "box", "keypoints"),
    "classify": ("class",),
}
_SPLITS = ("train", "val", "test")


def write(
    records: Iterable[Record],
    folder: Path,
    classes: ClassList,
    task: Task = "detect",
    link: Link = "hard",
    skeletons: Mapping[str, tuple[str, ...]] | None = None,
) -> Written:
    """Fill an empty folder.

    Args:
        records: Images; videos are named as problems.
        folder: Exists and is empty.
        classes: Class ids.
        task: What the rows say: ``class cx cy w h``, an outline, a box and keypoints, or four corners.
        link: See :class:`~osv_lab.store.formats.writing.MediaFolder`.
        skeletons: Keypoint names per class; the longest gives ``kpt_shape`` for pose, else the first label does.
    """
    if task == "classify":
        return _write_classify(records, folder, classes, link)
    written = Written()
    media = MediaFolder(link)
    rows = _Rows(task, classes, written, max((len(names) for names in (skeletons or {}).values()), default=0))
    folders: dict[str, tuple[str, str]] = {}
    for record in records:
        if record.frames is not None:
            written.problems.append(Problem(shown(record.path), "a video, YOLO has images", "", "file skipped"))
            continue
        split = split_folder(record)
        if split not in folders:
            images, labels = folder / "images" / split, folder / "labels" / split
            images.mkdir(parents=True)
            labels.mkdir(parents=True)
            folders[split] = str(images), str(labels)
        image_folder, label_folder = folders[split]
        try:
            name = media.place(record.path, image_folder)
        except OSError as error:
            what = f"the image cannot be read: {error.strerror}"
            written.problems.append(Problem(shown(record.path), what, "", "file skipped"))
            continue
        written.images[record.split or ""] += 1
        if record.tags:
            written.lose("tags", len(record.tags))
        if record.labelled or record.labels:
            write_small(f"{label_folder}{os.sep}{name[: name.rfind('.')]}.txt", rows.text(record))
    _finish(folder, written, classes, rows, skeletons or {}, list(folders))
    return written


class _Rows:
    """Label files of one task."""

    def __init__(self, task: Task, classes: ClassList, written: Written, keypoints: int) -> None:
        self.task = task
        self.order = _ORDER[task]
        self.classes = classes
        self.written = written
        self.keypoints = keypoints
        self.flip: list[int] | None = None
        self.row: Callable[[str, Label], str | None] = {
            "detect": self._detect, "segment": self._segment, "pose": self._pose, "obb": self._obb
        }[task]  # fmt: skip

    def text(self, record: Record) -> str:
        """The whole label file of an image."""
        lines = []
        written = self.written
        for group in objects(sound_labels(record, record.labels, written)):
            label = group[0] if len(group) == 1 else best(group, self.order)
            if isinstance(label, ImageClass):
                written.lose("image classes")
                continue
            class_id = self.classes.id_of(label.label)
            if class_id is None:
                written.lose("labels of other classes", len(group))
                continue
            line = self.row(str(class_id), label)
            if line is None:
                continue
            lines.append(line)
            written.labels[label.kind] += 1
            written.lose_common(label)
            if len(group) > 1:
                lose_rest(group, label, written)
        return "".join(lines)

    def _detect(self, class_id: str, label: Label) -> str | None:
        if label.kind != "box":
            box = box_of(label)
            if box is None or box[2] <= 0 or box[3] <= 0:
                self.written.lose(f"{label.kind.replace('_', ' ')} labels without a box")
                return None
            self.written.lose(LESSER[label.kind])
        else:
            assert isinstance(label, Box)
            box = label.xywh
        x, y, w, h = box
        return f"{class_id} {x + w / 2:.9g} {y + h / 2:.9g} {w:.9g} {h:.9g}\n"

    def _segment(self, class_id: str, label: Label) -> str | None:
        rings: Sequence[Sequence[Point]]
        if isinstance(label, Polygon) and label.closed:
            rings = label.rings
        elif isinstance(label, Box) and label.mask is not None:
            rings = mask_rings(label.mask, label.xywh)
            self.written.lose("mask pixels, written as outlines without holes")
        elif isinstance(label, OrientedBox):
            rings = (label.corners,)
            self.written.lose("oriented boxes, written as outlines")
        elif isinstance(label, Box):
            rings = (box_ring(label.xywh),)
            self.written.lose("boxes, written as outlines")
        else:
            rings = ()
        if not rings:
            self.written.lose(f"{'open lines' if isinstance(label, Polygon) else label.kind} that have no outline")
            return None
        if len(rings) > 1:
            self.written.lose("outlines of several parts, joined by lines")
        ring = rings[0] if len(rings) == 1 else joined_ring(rings)
        return f"{class_id} {_numbers(ring)}\n"

    def _pose(self, class_id: str, label: Label) -> str | None:
        if isinstance(label, Keypoints):
            if not self.keypoints:
                self.keypoints = len(label.points)
            if len(label.points) > self.keypoints:
                self.written.lose(
                    f"keypoints beyond the first {self.keypoints}", len(label.points) - self.keypoints
                )
            box = label.xywh
            if box is None:
                box = box_of(label)
                self.written.lose("(the box around keypoints that had none was made)")
        else:
            box = box_of(label)
            self.written.lose("boxes, written with unlabelled keypoints")
        if box is None or box[2] <= 0 or box[3] <= 0 or not self.keypoints:
            self.written.lose(
                "keypoints without a box" if isinstance(label, Keypoints) else "boxes before keypoints"
            )
            return None
        x, y, w, h = box
        points: Sequence[Point] = label.points if isinstance(label, Keypoints) else ()
        visible: Sequence[int] = label.visible if isinstance(label, Keypoints) else ()
        parts = []
        for k in range(self.keypoints):
            px, py = points[k] if k < len(points) else (math.nan, math.nan)
            if px != px or py != py:
                parts.append("0 0 0")
            else:
                parts.append(f"{px:.9g} {py:.9g} {visible[k] if k < len(visible) else 2}")
        return f"{class_id} {x + w / 2:.9g} {y + h / 2:.9g} {w:.9g} {h:.9g} {' '.join(parts)}\n"

    def _obb(self, class_id: str, label: Label) -> str | None:
        if isinstance(label, OrientedBox):
            corners: Sequence[Point] = label.corners
        elif isinstance(label, Polygon) and len(label.rings) == 1 and len(label.rings[0]) == 4:
            corners = label.rings[0]
        else:
            box = box_of(label)
            if box is None:
                self.written.lose(f"{label.kind} labels without a box")
                return None
            corners = box_ring(box)
            kind = "boxes" if label.kind == "box" else f"{label.kind} labels"
            self.written.lose(f"{kind}, written as boxes with rotation 0")
        return f"{class_id} {_numbers(corners)}\n"


def _numbers(points: Iterable[Point]) -> str:
    return " ".join(f"{x:.9g} {y:.9g}" for x, y in points)


def _finish(
    folder: Path, written: Written, classes: ClassList, rows: _Rows, skeletons: Mapping[str, tuple[str, ...]],
    splits: Sequence[str],
) -> None:  # fmt: skip
    stated: dict[str, object] = {split: f"images/{split}" for split in _SPLITS if split in splits}
    stated.update({split: f"images/{split}" for split in splits if split not in _SPLITS})
    if written.images[""]:
        written.notes.append(f"{written.images['']} images without a split were written as train")
    for split in ("train", "val"):
        # Ultralytics refuses a data.yaml without both.
        if split not in stated and stated:
            stand_in = next(
                other for other in ("val", "test", "train", *stated) if other in stated and other != split
            )
            stated[split] = stated[stand_in]
            written.notes.append(f"there is no {split} split: data.yaml's {split} points at {stand_in}")
    stated["names"] = dict(enumerate(classes.names))
    stated["task"] = rows.task
    if rows.task == "pose":
        stated["kpt_shape"] = [rows.keypoints, 3]
        names = {k: list(skeletons[name]) for k, name in enumerate(classes.names) if name in skeletons}
        if names:
            stated["kpt_names"] = names
        flip = _flip_index(next(iter(names.values()), []))
        if flip:
            stated["flip_idx"] = flip
    written.classes = classes.names
    text = yaml.safe_dump(stated, sort_keys=False, allow_unicode=True)
    write_atomic(folder / "data.yaml", text)


def _flip_index(names: Sequence[str]) -> list[int]:
    """For each keypoint the one it is in a mirrored image, by ``left``/``right`` in the names; ``[]`` without."""
    if not any("left" in name.lower() for name in names):
        return []
    lowered = [name.lower() for name in names]
    mirrored = [n.replace("left", "\0").replace("right", "left").replace("\0", "right") for n in lowered]
    return [lowered.index(name) if name in lowered else k for k, name in enumerate(mirrored)]


def _write_classify(records: Iterable[Record], folder: Path, classes: ClassList, link: Link) -> Written:
    written = Written()
    media = MediaFolder(link)
    made: set[str] = set()
    splits: dict[str, None] = {}
    for record in records:
        labels = [label for label in record.labels if isinstance(label, ImageClass)]
        for label in record.labels:
            if not isinstance(label, ImageClass):
                written.lose(f"{label.kind.replace('_', ' ')} labels")
        chosen = [label for label in labels if classes.id_of(label.label) is not None]
        written.lose("labels of other classes", len(labels) - len(chosen))
        if record.frames is not None or not chosen:
            what = (
                "a video, YOLO has images"
                if record.frames is not None
                else "an image without a class has no folder"
            )
            written.problems.append(Problem(shown(record.path), what, "", "file skipped"))
            continue
        written.lose("second classes of an image", len(chosen) - 1)
        split = split_folder(record)
        target = str(folder / split / class_folder(chosen[0].label))
        if target not in made:
            os.makedirs(target, exist_ok=True)
            made.add(target)
        try:
            media.place(record.path, target)
        except OSError as error:
            what = f"the image cannot be read: {error.strerror}"
            written.problems.append(Problem(shown(record.path), what, "", "file skipped"))
            continue
        splits.setdefault(split)
        written.images[record.split or ""] += 1
        written.labels["class"] += 1
        written.lose_common(chosen[0])
        if record.tags:
            written.lose("tags", len(record.tags))
    if written.images[""]:
        written.notes.append(f"{written.images['']} images without a split were written as train")
    # Every split gets every class folder: class ids are positions in the sorted list of folders.
    for split in splits:
        for name in classes.names:
            os.makedirs(folder / split / class_folder(name), exist_ok=True)
    written.classes = tuple(sorted(classes.names))
    return written


def class_folder(name: str) -> str:
    """A class name as a folder name: separators, control characters and a leading dot replaced.

    Example:
        >>> class_folder("a/b"), class_folder("..")
        ('a_b', '__')
    """
    cleaned = "".join("_" if c in '/\\:*?"<>|' or ord(c) < 32 else c for c in name).strip() or "_"
    if not cleaned.strip("."):
        return "_" * len(cleaned)
    return "_" + cleaned[1:] if cleaned[0] == "." else cleaned
