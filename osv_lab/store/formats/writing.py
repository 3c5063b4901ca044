"""What every writer needs: a folder that appears whole, media linked under unique names, and a list of what is lost."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.store.formats.files import image_size, shown, stem_of, suffix_of, video_size
from osv_lab.store.geometry import XYWH, bounds
from osv_lab.store.records import Box, ImageClass, Keypoints, Kind, Label, OrientedBox, Polygon, Problem, Record

Link: TypeAlias = Literal["hard", "symlink", "copy"]
LINKS: tuple[Link, ...] = ("hard", "symlink", "copy")
_BINARY = getattr(os, "O_BINARY", 0)


@dataclass
class Written:
    """What a writer did.

    Attributes:
        images: Media written, by split (``""``: none).
        labels: Labels written, by the kind they had in the records.
        losses: What the format cannot say, with the number of labels (or images) concerned.
        problems: Media and labels that could not be written at all, each with the reason.
        notes: What a person should know about the result.
        classes: Class names in the order of their ids.
    """

    images: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    losses: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    classes: tuple[str, ...] = ()

    def lose(self, what: str, count: int = 1) -> None:
        """Name something that the format cannot say."""
        if count:
            self.losses[what] += count

    def lose_common(
        self, label: Label, *, confidence: bool = True, index: bool = True, attributes: bool = True
    ) -> None:
        """Name confidence, track and attributes of a label, those that the format cannot say."""
        if confidence and label.confidence is not None:
            self.losses["confidence"] += 1
        if index and not isinstance(label, ImageClass) and label.index is not None:
            self.losses["track ids"] += 1
        if attributes and label.attributes:
            for name in label.attributes:
                if name != "coco_id":
                    self.losses[f"attribute {name!r}"] += 1


class ClassList:
    """Class ids in order of the given names, then of appearance.

    Args:
        names: Names that get the first ids.
        only: Whether labels of other classes are left out (the caller chose the classes).
    """

    def __init__(self, names: Iterable[str] = (), only: bool = False) -> None:
        self.ids: dict[str, int] = {}
        self.only = only
        for name in names:
            self.ids.setdefault(name, len(self.ids))

    def id_of(self, name: str) -> int | None:
        """The class's id, ``None`` for one that was not asked for."""
        found = self.ids.get(name)
        if found is None and not self.only:
            found = self.ids[name] = len(self.ids)
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """Names by id."""
        return tuple(self.ids)


@contextlib.contextmanager
def new_folder(folder: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """A folder to fill that takes its place when the block ends: a killed export never looks complete.

    Args:
        folder: Where it will be. It must be absent or empty, unless ``overwrite``.
        overwrite: Replace what is there.

    Raises:
        UsageError: the folder holds something, or is a file.
    """
    target = Path(folder).expanduser().absolute()
    occupied = target.exists() and (not target.is_dir() or any(target.iterdir()))
    if occupied and not (overwrite and target.is_dir()):
        raise UsageError("the export folder is not empty", shown(target), "choose a new folder, or overwrite=True")
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    partial = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:60]}.partial-{os.getpid()}-"))
    partial.chmod(0o777 & ~_umask())
    try:
        yield partial
        if occupied:
            old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name[:60]}.partial-{os.getpid()}-"))
            os.replace(target, old)
            os.replace(partial, target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(partial, target)
    finally:
        if partial.exists():
            shutil.rmtree(partial, ignore_errors=True)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _sweep(target: Path) -> None:
    """Remove what killed exports to the same folder left."""
    for left in target.parent.glob(f".{target.name[:60]}.partial-*"):
        owner = left.name.rsplit("partial-", 1)[1].split("-")[0]
        if owner.isdecimal() and not _alive(int(owner)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(process: int) -> bool:
    if os.name == "nt":
        # Signal 0 asks whether a process lives on POSIX; on Windows it would end it.
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


class MediaFolder:
    """Puts media into an export under names that are unique, also without their suffix and whatever the case.

    Args:
        link: ``hard`` (the same file under a second name: no space, survives a move of the original), ``symlink``
            (breaks when the original moves) or ``copy``. Where a link cannot be made, the next of the three is used.
    """

    def __init__(self, link: Link = "hard") -> None:
        if link not in LINKS:
            raise UsageError("unknown way to place media", repr(link), f"use one of: {', '.join(LINKS)}")
        self.ways = list(LINKS[LINKS.index(link) :])
        self.taken: dict[str, set[str]] = {}
        self._real: dict[str, str] = {}

    def place(self, source: Path, folder: str) -> str:
        """The file name that ``source`` has got in ``folder`` (which exists).

        Raises:
            OSError: the source cannot be read.
        """
        path = os.fspath(source)
        name = os.path.basename(path).encode("utf-8", "backslashreplace").decode().replace("\\", "_")
        stem, suffix = stem_of(name), suffix_of(name) and name[name.rfind(".") :]
        taken = self.taken.setdefault(folder, set())
        unique, count = stem, 1
        while unique.casefold() in taken:
            count += 1
            unique = f"{stem}-{count}"
        taken.add(unique.casefold())
        self._link(path, f"{folder}{os.sep}{unique}{suffix}")
        return unique + suffix

    def _link(self, source: str, target: str) -> None:
        # Ultralytics repairs a JPEG without its end in place, through any link, so those are copied.
        ways: Sequence[Link] = self.ways if not _is_cut_jpeg(source) else ("copy",)
        for way in ways:
            try:
                if way == "hard":
                    os.link(source, target)
                elif way == "symlink":
                    os.symlink(self._real_path(source), target)
                else:
                    shutil.copyfile(source, target)
                return
            except OSError as error:
                if way == "copy" or error.errno in (errno.ENOENT, errno.ENOSPC, errno.ENAMETOOLONG):
                    raise
                # Another file system or a file of another owner: it will be so for the next file too.
                self.ways = [other for other in self.ways if other != way]

    def _real_path(self, path: str) -> str:
        """``os.path.realpath``, which asks the system about every folder on the way, once per folder."""
        folder, name = os.path.split(path)
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        place = os.path.join(self._real[folder], name)
        return os.path.realpath(place) if os.path.islink(place) else place


def _is_cut_jpeg(path: str) -> bool:
    if not path.lower().endswith((".jpg", ".jpeg")):
        return False
    # Plain system calls, as in write_small: these two touch every file of an export.
    handle = os.open(path, os.O_RDONLY | _BINARY)
    try:
        size = os.fstat(handle).st_size
        if size < 2:
            return True
        os.lseek(handle, size - 2, os.SEEK_SET)
        return os.read(handle, 2) != b"\xff\xd9"
    finally:
        os.close(handle)


def write_small(path: str, text: str) -> None:
    """Write a label file in UTF-8. It lies in a folder that is not yet in place, so it need not be atomic."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, 0o666)
    try:
        data = memoryview(text.encode())
        while data:
            data = data[os.write(handle, data) :]
    finally:
        os.close(handle)


def size_of(record: Record) -> tuple[int, int]:
    """Pixels of a record's media: as it states them, else from the file.

    Raises:
        InvalidDataError: neither says.
    """
    size = record.size or (video_size(record.path) if record.frames is not None else image_size(record.path))
    if size is None:
        raise InvalidDataError("the size of an image is not known", shown(record.path), "is the file readable?")
    return size


def is_sound(label: Label) -> bool:
    """Whether every coordinate that must be a number is one, and boxes have an area."""
    if isinstance(label, Box):
        x, y, w, h = label.xywh
        return math.isfinite(x + y + w + h) and w > 0 and h > 0
    if isinstance(label, Polygon):
        needed = 3 if label.closed else 2
        return bool(label.rings) and all(len(r) >= needed and math.isfinite(sum(map(sum, r))) for r in label.rings)
    if isinstance(label, OrientedBox):
        return math.isfinite(sum(map(sum, label.corners)))
    return True


def sound_labels(record: Record, labels: Iterable[Label], written: Written) -> list[Label]:
    """The labels that can be written; the others become problems."""
    sound = []
    for position, label in enumerate(labels):
        if is_sound(label):
            sound.append(label)
        else:
            what = f"{label.kind} of {label.label!r} is no shape"
            written.problems.append(Problem(shown(record.path), what, f"label {position + 1}"))
    return sound


def objects(labels: Iterable[Label]) -> list[list[Label]]:
    """Labels by object: those that share a ``coco_id`` are box, outline and keypoints of one."""
    groups: list[list[Label]] = []
    by_id: dict[object, list[Label]] = {}
    for label in labels:
        key = label.attributes.get("coco_id") if label.attributes else None
        group = by_id.get(key) if key is not None else None
        if group is None or label.label != group[0].label or any(label.kind == other.kind for other in group):
            group = [label]
            groups.append(group)
            if key is not None:
                by_id[key] = group
        else:
            group.append(label)
    return groups


def best(group: Sequence[Label], order: Sequence[Kind]) -> Label:
    """The label of an object whose kind comes first in ``order``."""
    return min(group, key=lambda label: order.index(label.kind) if label.kind in order else len(order))


def box_of(label: Label) -> XYWH | None:
    """The axis-aligned box of any label with a place, ``None`` for others."""
    if isinstance(label, Box):
        return label.xywh
    try:
        if isinstance(label, Polygon):
            return bounds(point for ring in label.rings for point in ring)
        if isinstance(label, OrientedBox):
            return bounds(label.corners)
        if isinstance(label, Keypoints):
            return label.xywh or _around(bounds(label.points))
    except ValueError:
        return None
    return None


def _around(box: XYWH, least: float = 0.01) -> XYWH:
    """A box with at least ``least`` on each side, inside the image: points on a line still need a box."""
    x, y, w, h = box
    wide, high = max(w, least), max(h, least)
    return min(max(x - (wide - w) / 2, 0.0), 1 - wide), min(max(y - (high - h) / 2, 0.0), 1 - high), wide, high


LESSER: Mapping[Kind, str] = {
    "mask": "masks, written as their boxes",
    "polygon": "outlines, written as their boxes",
    "oriented_box": "rotation, written as the boxes around it",
    "keypoints": "keypoints, written as the boxes around them",
}
"""How a loss is named when only the box of a label can be written."""


def lose_rest(group: Sequence[Label], chosen: Label, written: Written) -> None:
    """Name what an object's other labels said and the chosen one does not. A box is said by anything."""
    for label in group:
        if label is not chosen and label.kind in LESSER:
            written.lose(LESSER[label.kind])


def split_folder(record: Record) -> str:
    """The folder part for a record's split; samples without one are written as ``train``."""
    return record.split or "train"
