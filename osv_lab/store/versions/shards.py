"""Media packed into tar files that are the same bytes wherever they are made.

A member's name is its media's SHA-256 and suffix; owner, times and modes are fixed (POSIX.1-1988 "ustar", which has no
extended headers, so a member's bytes start 512 after its header).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from osv_lab.core.digests import bytes_digest
from osv_lab.core.errors import CheckFailedError, InvalidDataError
from osv_lab.store.versions.objects import CHUNK, HashingFile, Object, Objects

SHARD_BYTES = 128 << 20
"""A shard is closed once it has this many bytes. Larger files get a shard of their own."""

_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Place:
    """Where a media file's bytes are: shard, first byte, length."""

    oid: str
    offset: int
    size: int


class Packer:
    """Writes media into new shards, one after the other.

    Args:
        objects: Where finished shards go.
        known: Where media are already. They are not written again.
    """

    def __init__(self, objects: Objects, known: Mapping[str, Place] | None = None) -> None:
        self._objects = objects
        self.places: dict[str, Place] = dict(known or {})
        self._stack = contextlib.ExitStack()
        self._file: HashingFile | None = None
        self._pending: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> Packer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._close()
        self._stack.close()

    def __contains__(self, media: str) -> bool:
        return media in self.places or media in self._pending

    def add(self, media: str, suffix: str, source: bytes | Path) -> None:
        """Pack a media file, unless it is there already.

        Args:
            media: SHA-256 of its bytes.
            suffix: Its suffix, with the dot.
            source: The bytes, or the file that has them.

        Raises:
            InvalidDataError: the bytes have another digest, or the file cannot be read.
        """
        if media in self:
            return
        try:
            with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:
                size = file.seek(0, io.SEEK_END)
                file.seek(0)
                self._append(media, suffix, file, size)
        except OSError as error:
            raise InvalidDataError("a media file cannot be read", f"{source!s:.200} ({error.strerror})") from error

    def _append(self, media: str, suffix: str, source: BinaryIO, size: int) -> None:
        if self._file is not None and self._file.size + size > SHARD_BYTES:
            self._close()
        if self._file is None:
            self._file = self._stack.enter_context(self._objects.writing())
        info = tarfile.TarInfo(media + suffix)
        info.size, info.mode = size, 0o644
        self._file.write(info.tobuf(tarfile.USTAR_FORMAT))
        offset = self._file.size
        found = hashlib.sha256()
        while chunk := source.read(CHUNK):
            found.update(chunk)
            self._file.write(chunk)
        if found.hexdigest() != media or self._file.size != offset + size:
            name = getattr(source, "name", media)
            raise InvalidDataError(
                "a media file is not what it was when it was ingested",
                name,
                "bring the old file back, or ingest it",
            )
        self._file.write(b"\0" * (-size % _BLOCK))
        self._pending[media] = offset, size

    def _close(self) -> None:
        if self._file is None:
            return
        # Two empty blocks end an archive, filled up to a record of 20 blocks.
        end = 2 * _BLOCK
        self._file.write(b"\0" * (end + -(self._file.size + end) % (20 * _BLOCK)))
        oid = self._file.keep().oid
        self.places |= {media: Place(oid, *where) for media, where in self._pending.items()}
        self._file, self._pending = None, {}
        self._stack.close()


def read_media(objects: Objects, media: str, place: Place) -> bytes:
    """A media file out of its shard.

    Raises:
        CheckFailedError: the bytes there are others; the message names the shard.
    """
    try:
        with open(objects.path(place.oid), "rb") as file:
            file.seek(place.offset)
            data = file.read(place.size)
    except FileNotFoundError:
        raise CheckFailedError("a shard is missing", place.oid, "pull the version again") from None
    if bytes_digest(data) != media:
        raise CheckFailedError(
            "a shard is damaged", f"{objects.path(place.oid)}, at byte {place.offset}", "pull the version again"
        )
    return data


def members(path: Path) -> Iterator[tuple[str, Place]]:
    """Digests of the media in a shard, each with its place.

    Raises:
        InvalidDataError: it is no shard.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                yield Path(member.name).stem, Place("", member.offset_data, member.size)
    except tarfile.TarError as error:
        raise InvalidDataError("not a shard", f"{path} ({error})", "pull the version again") from error


def without(objects: Objects, oid: str, unwanted: Callable[[str], bool]) -> tuple[Object | None, dict[str, Place]]:
    """A shard again, without some of its media: the new object (``None``: nothing was left) and their places."""
    path = objects.path(oid)
    kept = Packer(objects)
    with kept, tarfile.open(path, "r:") as archive:
        for member in archive:
            media = Path(member.name).stem
            source = archive.extractfile(member)
            if source is not None and not unwanted(media):
                kept.add(media, Path(member.name).suffix, source.read())
    if not kept.places:
        return None, {}
    new = next(iter(kept.places.values())).oid
    return Object(new, objects.path(new).stat().st_size), kept.places
