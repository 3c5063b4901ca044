"""A data folder as readers see it: listed once, in a stable order, never left by a path inside a label file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from osv_lab.core.errors import InvalidDataError, NotFoundError

IMAGE_SUFFIXES = frozenset(
    (
        ".avif",
        ".bmp",
        ".dng",
        ".heic",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".mpo",
        ".pbm",
        ".pfm",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    )
)
VIDEO_SUFFIXES = frozenset(
    (
        ".3gp",
        ".asf",
        ".avi",
        ".flv",
        ".m4v",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".ts",
        ".webm",
        ".wmv",
    )
)
MAX_TEXT_BYTES = 64 * 2**20
_USUAL_BYTES, _LARGE_PART = 2**14, 2**20
"""The largest label file of one image that is read. A list or label file beyond it is reported, not loaded."""

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
_IGNORED = frozenset({"__MACOSX", "__pycache__", "Thumbs.db", "desktop.ini"})


def shown(path: str | os.PathLike[str]) -> str:
    """A path as printable text: bytes that are not UTF-8 appear as ``\\xNN``.

    Example:
        >>> shown("caf\\udce9.jpg")
        'caf\\\\xe9.jpg'
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def split_named(name: str) -> str | None:
    """The split that a folder or file name stands for, or ``None``.

    Example:
        >>> split_named("valid"), split_named("train2017"), split_named("instances_val2017"), split_named("cats")
        ('val', 'train', 'val', None)
    """
    name = name.lower()
    if name in _SPLIT_NAMES:
        return _SPLIT_NAMES[name]
    found = {_SPLIT_NAMES[word] for word in re.split(r"[^a-z]+", re.sub(r"\d+", "", name)) if word in _SPLIT_NAMES}
    return found.pop() if len(found) == 1 else None


def split_of_folder(folder: str, root: str) -> str | None:
    """The split that a folder's position below ``root`` stands for: the part nearest to the images decides."""
    relative = os.path.relpath(folder, root)
    parts = [] if relative == "." else relative.split(os.sep)
    for part in reversed(parts):
        split = split_named(part)
        if split:
            return split
    return None


def suffix_of(name: str) -> str:
    """The lower-case suffix with its dot, ``""`` without one. Faster than ``Path(name).suffix``."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


def stem_of(name: str) -> str:
    """A file name without its suffix."""
    dot = name.rfind(".")
    return name[:dot] if dot > 0 else name


@dataclass
class Tree:
    """The files of one source.

    Attributes:
        root: The folder, absolute. When a file was given, the folder it is in.
        file: The file that was given instead of a folder (``data.yaml``, ``instances_val.json``, ...), or ``None``.
        used: Files that a reader took as annotations; what is neither media nor used is reported as such.
    """

    root: str
    file: str | None = None
    used: set[str] = field(default_factory=set)
    _listed: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Tree:
        """The tree of a folder or of the folder around a file.

        Raises:
            NotFoundError: nothing is there.
        """
        absolute = os.path.abspath(os.path.expanduser(path))
        if os.path.isdir(absolute):
            return cls(absolute)
        if os.path.isfile(absolute):
            return cls(os.path.dirname(absolute), absolute)
        raise NotFoundError("no such file or folder", shown(path), "check the path of the data")

    @cached_property
    def folders(self) -> dict[str, list[str]]:
        """File names per folder, folders and names sorted. Linked folders are followed once; dotted names skipped."""
        listing: dict[str, list[str]] = {}
        seen: set[tuple[int, int]] = set()
        pending = [self.root]
        while pending:
            folder = pending.pop()
            try:
                status = os.stat(folder)
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                names, inner = _scan(folder)
            except OSError:
                continue
            listing[folder] = names
            pending.extend(reversed(inner))
        return listing

    def names(self, folder: str) -> list[str]:
        """Sorted file names of any folder, also of one outside the tree that an absolute path names."""
        if folder in self.folders:
            return self.folders[folder]
        if folder not in self._listed:
            try:
                self._listed[folder] = _scan(folder)[0]
            except OSError:
                self._listed[folder] = []
        return self._listed[folder]

    def subtree(self, folder: str) -> Iterator[str]:
        """``folder`` and every folder below it that is listed, or the folder itself when it is outside."""
        folder = os.path.normpath(folder)
        if folder in self.folders:
            inside = folder + os.sep
            yield from (name for name in self.folders if name == folder or name.startswith(inside))
        else:
            outside = Tree(folder)
            self._listed.update(outside.folders)
            yield from outside.folders

    def files(self, suffixes: frozenset[str] | str) -> Iterator[str]:
        """Absolute paths of the tree's files with one of the suffixes."""
        wanted = frozenset({suffixes}) if isinstance(suffixes, str) else suffixes
        for folder, names in self.folders.items():
            for name in names:
                if suffix_of(name) in wanted:
                    yield os.path.join(folder, name)

    def find(self, *names: str) -> list[str]:
        """Absolute paths of the files with one of these names, upper or lower case, those nearest the root first."""
        wanted = {name.lower() for name in names}
        found = [
            os.path.join(folder, name)
            for folder, inside in self.folders.items()
            for name in inside
            if name.lower() in wanted
        ]
        return sorted(found, key=lambda path: (path.count(os.sep), path))

    def relative(self, path: str) -> str:
        """A path as reports show it: below the root where it is."""
        inside = self.root + os.sep
        return shown(path[len(inside) :] if path.startswith(inside) else path)

    def resolve(self, stated: str, base: str | None = None) -> str | None:
        """The absolute path of what an annotation file names, or ``None`` when it would leave the source.

        A relative path must stay below the root. An absolute one is taken as it is when it exists, since lists and
        ``data.yaml`` files legitimately name images elsewhere.
        """
        stated = stated.replace("\\", "/").strip()
        if "\0" in stated:
            return None
        if os.path.isabs(stated):
            return os.path.normpath(stated) if os.path.exists(stated) else None
        path = os.path.normpath(os.path.join(base or self.root, stated))
        return path if path == self.root or path.startswith(self.root.rstrip(os.sep) + os.sep) else None

    def describe(self) -> str:
        """What is in the folder, for an error: counts by suffix."""
        counts: dict[str, int] = {}
        for names in self.folders.values():
            for name in names:
                suffix = suffix_of(name) or "no suffix"
                counts[suffix] = counts.get(suffix, 0) + 1
        listed = sorted(counts.items(), key=lambda item: -item[1])[:8]
        files = ", ".join(f"{count} {suffix}" for suffix, count in listed) or "no files"
        return f"{files} in {len(self.folders)} folder{'s' if len(self.folders) != 1 else ''}"


def _scan(folder: str) -> tuple[list[str], list[str]]:
    """Sorted names of the files, sorted paths of the folders, directly in ``folder``."""
    names: list[str] = []
    inner: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _IGNORED:
                continue
            if entry.is_dir():
                inner.append(entry.path)
            else:
                names.append(entry.name)
    return sorted(names), sorted(inner)


def read_bytes(path: str, limit: int = MAX_TEXT_BYTES) -> bytes:
    """The bytes of a small file.

    Raises:
        OSError: it cannot be read.
        InvalidDataError: it is larger than ``limit`` bytes.
    """
    # Plain system calls: a buffered reader would set ``limit`` bytes aside for each of ten thousand small files.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        data = os.read(handle, _USUAL_BYTES)
        if len(data) == _USUAL_BYTES:
            parts = [data]
            left = limit + 1 - len(data)
            while left > 0 and (part := os.read(handle, min(left, _LARGE_PART))):
                parts.append(part)
                left -= len(part)
            data = b"".join(parts)
    finally:
        os.close(handle)
    if len(data) > limit:
        raise InvalidDataError("a label file is too large", f"{shown(path)} has over {limit >> 20} MiB")
    return data


def decoded(data: bytes) -> tuple[str, bool]:
    """Text, and whether it was the UTF-8 (or marked UTF-16) it should be; other bytes are read as Latin-1."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode("utf-16"), True
        except UnicodeDecodeError:
            return data.decode("latin-1"), False
    try:
        return data.decode("utf-8-sig"), True
    except UnicodeDecodeError:
        return data.decode("latin-1"), False


def image_size(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """``(width, height)`` of an image as displayed (EXIF orientation applied), from its header, or ``None``."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return (height, width) if turned else (width, height)


def video_size(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """``(width, height)`` of a video, or ``None`` when it cannot be opened."""
    import cv2

    capture = cv2.VideoCapture(os.fspath(path))
    try:
        if not capture.isOpened():
            return None
        return int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    finally:
        capture.release()


def absolute(path: str) -> Path:
    """A :class:`~pathlib.Path` of an absolute string. (Readers keep strings while they work: they are faster.)"""
    return Path(path)
