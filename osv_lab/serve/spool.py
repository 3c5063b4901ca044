"""A folder of captured images, each with what was known about it, until the store has them.

An item is two files named by the SHA-256 of the image: ``<digest>.<suffix>`` with the bytes as they were received, and
``<digest>.json``. The image is written first and each file takes its place whole, so what has a ``.json`` is complete
whatever was killed when. Nothing a client sent is part of a name. Several processes may write and empty one folder.

A full spool takes nothing more: what waits in it is kept, what comes is dropped and counted.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osv_lab.core.digests import bytes_digest
from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError
from osv_lab.core.files import write_atomic
from osv_lab.serve.observe import Observation
from osv_lab.serve.rules import MAX_BYTES, MAX_FILES

SUFFIXES: Mapping[str, str] = {
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "BMP": ".bmp",
    "TIFF": ".tif",
    "GIF": ".gif",
    "AVIF": ".avif",
    "JPEG2000": ".jp2",
    "PPM": ".ppm",
}
"""The suffix of an image's file, by Pillow's name of its format."""

MAX_IMAGE_BYTES = 2**30
"""A larger file in the spool was not put there by a server."""

_MAX_JSON_BYTES = 16 * 2**20
_LEFT_OVER_S = 600
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Captured:
    """One image in a spool.

    Attributes:
        digest: SHA-256 of its bytes.
        suffix: The suffix of its file.
        captured_at: Unix time.
        reasons: Why each rule captured it, by the rule's name, the first rule first.
        observation: What was known about it.
    """

    digest: str
    suffix: str
    captured_at: float
    reasons: Mapping[str, str]
    observation: Observation

    def to_json(self) -> dict[str, Any]:
        """As the item's ``.json`` holds it; ``boxes`` are relative to the upright image: x, y, width, height."""
        seen = self.observation
        boxes = [
            [x1 / seen.width, y1 / seen.height, (x2 - x1) / seen.width, (y2 - y1) / seen.height]
            for x1, y1, x2, y2 in seen.xyxy
        ]
        return {
            "version": 1,
            "digest": self.digest,
            "suffix": self.suffix,
            "captured_at": self.captured_at,
            "reasons": dict(self.reasons),
            "boxes": boxes,
            "observation": seen.to_json(),
        }


class Spool:
    """One spool folder.

    Args:
        folder: Made if it is not there, for its owner only.
        max_bytes: Most bytes of images and their ``.json`` in it.
        max_files: Most images in it.
    """

    def __init__(self, folder: str | Path, *, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> None:
        self.folder = Path(folder).expanduser()
        self.max_bytes, self.max_files = max_bytes, max_files
        self._usage: tuple[int, int] | None = None
        self._seen_at = (0, 0.0)

    def make(self) -> None:
        """Make the folder, and remove what writers that were killed left in it.

        Raises:
            UsageError: it cannot be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._alone():
                self._sweep()
        except OSError as error:
            raise UsageError(
                "nothing can be captured there", f"{self.folder} ({error.strerror})", "give another folder"
            ) from None

    def has(self, digest: str) -> bool:
        """Whether an image waits in it."""
        return (self.folder / f"{digest}.json").exists()

    def put(self, item: Captured, image: bytes) -> str:
        """Add an image.

        Returns:
            ``""``, or why it was not added: ``"duplicate"`` or ``"full"``.

        Raises:
            OSError: the disk refuses.
        """
        sidecar = json.dumps(item.to_json(), ensure_ascii=False).encode("utf-8", "backslashreplace")
        size = len(image) + len(sidecar)
        with self._alone():
            if self.has(item.digest):
                return "duplicate"
            if not self._fits(size):
                return "full"
            write_atomic(self.folder / f"{item.digest}{item.suffix}", image)
            write_atomic(self.folder / f"{item.digest}.json", sidecar)
            self._count(size)
        return ""

    def names(self) -> list[str]:
        """Digests of what waits, in no order.

        Raises:
            NotFoundError: there is no such folder.
        """
        try:
            with os.scandir(self.folder) as found:
                return [
                    name
                    for one in found
                    if (name := one.name.removesuffix(".json")) != one.name and _is_digest(name)
                ]
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError("there is no such spool", self.folder, "osv serve --capture makes one") from None

    def read(self, digest: str) -> tuple[Captured, bytes]:
        """One item, checked.

        Raises:
            InvalidDataError: it is damaged, or was put there by something else.
        """
        item = self.describe(digest)
        image = _read(self.folder / f"{digest}{item.suffix}", MAX_IMAGE_BYTES)
        if bytes_digest(image) != digest:
            raise InvalidDataError("the image is not the one that was captured", f"{digest}{item.suffix}")
        return item, image

    def describe(self, digest: str) -> Captured:
        """One item without its image.

        Raises:
            InvalidDataError: its ``.json`` is damaged, or was put there by something else.
        """
        if not _is_digest(digest):
            raise InvalidDataError("this is no name of a captured image", repr(digest))
        try:
            content = json.loads(_read(self.folder / f"{digest}.json", _MAX_JSON_BYTES))
            suffix, reasons = content["suffix"], content["reasons"]
            if content["version"] != 1 or content["digest"] != digest or suffix not in SUFFIXES.values():
                raise ValueError("version, digest or suffix")
            named = {str(name): str(why) for name, why in reasons.items()}
            if not named:
                raise ValueError("no rule")
            captured_at = float(content["captured_at"])
            time.gmtime(captured_at)
            return Captured(digest, suffix, captured_at, named, Observation.from_json(content["observation"]))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError, RecursionError) as error:
            found = f"{digest}.json ({type(error).__name__}: {str(error)[:80]})"
            raise InvalidDataError("what is known about a captured image cannot be read", found) from None

    def remove(self, item: Captured) -> None:
        """Forget an item; the ``.json`` goes first, so that no half of it is ever taken for a whole."""
        for suffix in (".json", item.suffix):
            (self.folder / f"{item.digest}{suffix}").unlink(missing_ok=True)

    def _fits(self, size: int) -> bool:
        """Whether there is room. The folder is looked through only where others may have changed it."""
        now = time.monotonic()
        stale = self._usage is None or self._changed_ns() != self._seen_at[0] or now - self._seen_at[1] > 60
        for again in (stale, True):
            if again:
                self._usage = self._measured()
                self._seen_at = (self._changed_ns(), now)
            assert self._usage is not None
            files, used = self._usage
            if files < self.max_files and used + size <= self.max_bytes:
                return True
        return False

    def _count(self, size: int) -> None:
        assert self._usage is not None
        self._usage = (self._usage[0] + 1, self._usage[1] + size)
        self._seen_at = (self._changed_ns(), self._seen_at[1])

    def _changed_ns(self) -> int:
        return self.folder.stat().st_mtime_ns

    def _measured(self) -> tuple[int, int]:
        """Images and bytes in the folder."""
        files = used = 0
        with os.scandir(self.folder) as found:
            for one in found:
                with contextlib.suppress(FileNotFoundError):  # emptied meanwhile
                    used += one.stat(follow_symlinks=False).st_size
                    files += one.name.endswith(".json")
        return files, used

    def _sweep(self) -> None:
        """Remove temporary files and images without their ``.json`` that no living writer can be at work on."""
        old = time.time() - _LEFT_OVER_S
        with os.scandir(self.folder) as found:
            every = list(found)
        whole = {one.name.removesuffix(".json") for one in every if one.name.endswith(".json")}
        for one in every:
            name, _, suffix = one.name.partition(".")
            ours = f".{suffix}" in SUFFIXES.values() and _is_digest(name) and name not in whole
            temporary = one.name.startswith(".") and _is_digest(one.name[1:41].ljust(64, "0"))
            with contextlib.suppress(FileNotFoundError):
                if (ours or temporary) and one.stat(follow_symlinks=False).st_mtime < old:
                    Path(one.path).unlink()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time adds to the folder, so that its limits hold for all of them together."""
        descriptor = os.open(self.folder / ".lock", os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0), 0o600)
        with open(descriptor, "rb"):
            with contextlib.suppress(ImportError):
                import fcntl

                # The system drops the lock when its holder dies.
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield


def suffix_of(image: bytes) -> str:
    """The suffix for an encoded image.

    Raises:
        InvalidDataError: it is no image, or of a kind that has no suffix here.
    """
    from osv_lab.detect.images import read_header

    kind = read_header(image).format
    if kind not in SUFFIXES:
        raise InvalidDataError("no suffix is known for this kind of image", kind)
    return SUFFIXES[kind]


def _is_digest(name: str) -> bool:
    return len(name) == 64 and _HEX.issuperset(name)


def _read(path: Path, most: int) -> bytes:
    """A regular file's bytes: no link is followed, and a pipe is not waited for."""
    try:
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        with open(os.open(path, flags), "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode) or about.st_size > most:
                raise InvalidDataError("not a file that was captured", path.name)
            return file.read()
    except OSError as error:
        raise InvalidDataError("a captured file cannot be read", f"{path.name} ({error.strerror})") from None
