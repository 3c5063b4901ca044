"""Records with their media files looked at, some threads ahead of whoever takes them."""

from __future__ import annotations

import itertools
import os
import re
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from osv_lab.core.digests import value_digest
from osv_lab.core.errors import InvalidDataError
from osv_lab.core.settings import load_settings
from osv_lab.store.bulk_read import batches
from osv_lab.store.formats.files import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from osv_lab.store.media import Media, is_video, probe
from osv_lab.store.records import Label, Problem, Record

_MEDIA_SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES

AHEAD = 512
"""How many files are looked at before they are needed."""

_GROUP = 16


@dataclass(slots=True)
class Item:
    """One record with what was found about its file.

    Attributes:
        record: The record.
        name: Its file below the source's root, printable.
        video: Whether it is a video.
        labels: All labels, those of frames included.
        media: What the file is, or ``None`` when it cannot be used.
        why_broken: Why not.
    """

    record: Record
    name: str
    video: bool
    labels: list[Label]
    media: Media | None = None
    why_broken: str = ""

    @property
    def dropped(self) -> int:
        """How many labels the reader had to drop."""
        return sum(problem.consequence == "label dropped" for problem in self.record.problems)


def probed(records: Iterable[Record], root: Path) -> Generator[Item, None, None]:
    """Look at the records' files in threads, and yield in order. Memory holds :data:`AHEAD` records."""
    workers = min(8, (os.cpu_count() or 1) + 1)
    waiting: deque[Future[list[Item]]] = deque()
    pool = ThreadPoolExecutor(workers, "osv-probe")
    try:
        for group in batches(records, _GROUP):
            waiting.append(pool.submit(_look, [_item(record, root) for record in group]))
            if len(waiting) * _GROUP > AHEAD:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _item(record: Record, root: Path) -> Item:
    video = record.frames is not None or is_video(record.path)
    return Item(record, relative(record.path, root), video, all_labels(record))


def all_labels(record: Record) -> list[Label]:
    """The labels of a record, those of frames included."""
    return [*record.labels, *itertools.chain.from_iterable((record.frames or {}).values())]


def _look(items: list[Item]) -> list[Item]:
    for item in items:
        try:
            item.media = probe(item.record.path, video=item.video)
        except InvalidDataError as error:
            item.why_broken = error.what
        except OSError as error:
            item.why_broken = f"it cannot be read ({error.strerror or error})"
    return items


def folders_named_like_media(root: Path) -> list[Problem]:
    """Folders below a source that are named like an image or video: readers see no file there."""
    found = []
    for folder, inner, _ in os.walk(root):
        named = [Path(folder, name) for name in inner if Path(name).suffix.lower() in _MEDIA_SUFFIXES]
        found += [
            Problem(relative(path, root), "a folder, not a file", "", "file skipped") for path in sorted(named)
        ]
    return found


def media_folder(dataset: str) -> Path:
    """Where the lab keeps media of a dataset that it had to copy."""
    name = re.sub(r"[^\w.-]+", "_", dataset, flags=re.ASCII).strip("._")[:60]
    return load_settings().media_dir / f"{name}-{value_digest(dataset)[:8]}"


def relative(path: Path, root: Path) -> str:
    """A path as reports show it: below the source's root where it is, printable."""
    text, folder = str(path), str(root)
    inside = folder if folder.endswith(os.sep) else folder + os.sep
    return shown(text.removeprefix(inside))


def shown(path: str | os.PathLike[str]) -> str:
    """A path as printable text: bytes that are not UTF-8 appear as ``\\xNN``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_utf8(path: str | os.PathLike[str]) -> bool:
    """Whether the store can hold a path: MongoDB's strings are UTF-8."""
    try:
        os.fspath(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
