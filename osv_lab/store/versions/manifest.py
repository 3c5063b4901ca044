"""The samples of a version: lines of text, and an index of fixed-size rows over them.

A row is ``ident (32) key (32) media (32)`` and, little-endian, ``line offset u64, line length u32, shard u32, member
offset u64, size u64``: 128 bytes. Rows are sorted by ident and key. A diff compares rows and reads only the lines of
the samples that differ; loading reads one media file with one seek.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from osv_lab.core.digests import set_digest
from osv_lab.core.errors import InvalidDataError
from osv_lab.store.versions.content import Entry, read_entry, write_entry
from osv_lab.store.versions.objects import Object, Objects
from osv_lab.store.versions.shards import Place

SAMPLES, INDEX, SHARDS = "samples.jsonl", "samples.index", "shards/"
ROW = struct.Struct("<32s32s32sQIIQQ")


@dataclass(frozen=True, slots=True)
class Row:
    """One sample: what it is (:attr:`Entry.ident`), its content, its media, and where its line and media are."""

    ident: bytes
    key: bytes
    media: bytes
    line: int
    length: int
    shard: int
    offset: int
    size: int


@dataclass(frozen=True)
class Manifest:
    """The samples of a version that is here.

    Attributes:
        samples: The file of lines.
        rows: The index, as bytes.
        shards: MD5 of each shard, by its number in the rows.
    """

    objects: Objects
    samples: Path
    rows: bytes
    shards: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows) // ROW.size

    def __iter__(self) -> Iterator[Row]:
        return (Row(*values) for values in ROW.iter_unpack(self.rows))

    def keys(self) -> Iterator[bytes]:
        """Ident and key of each sample."""
        rows, step = self.rows, ROW.size
        return (rows[at : at + 64] for at in range(0, len(rows), step))

    def row(self, number: int) -> Row:
        """The row of a number."""
        return Row(*ROW.unpack_from(self.rows, number * ROW.size))

    def entries(self, rows: Iterable[Row] | None = None) -> Iterator[tuple[Row, Entry]]:
        """Samples with what the version says of them: all, or those of the given rows."""
        with open(self.samples, "rb") as file:
            for row in self if rows is None else rows:
                file.seek(row.line)
                entry = read_entry(file.read(row.length))
                if bytes.fromhex(entry.key) != row.key or bytes.fromhex(entry.media) != row.media:
                    raise InvalidDataError("a version's index and lines differ", self.samples, "pull it again")
                yield row, entry

    def place(self, row: Row) -> Place:
        """Where a sample's media is."""
        if row.shard >= len(self.shards):
            raise InvalidDataError("a version's index names no shard of it", row.shard, "pull it again")
        return Place(self.shards[row.shard], row.offset, row.size)

    def places(self) -> dict[str, Place]:
        """Where every media file is, by digest."""
        return {row.media.hex(): self.place(row) for row in self}

    def digest(self) -> str:
        """The content digest of the version."""
        return set_digest(row.key.hex() for row in self)


def open_manifest(objects: Objects, tree: str) -> Manifest:
    """The samples of the version whose folder has this digest.

    Raises:
        NotFoundError: its files are not here.
        InvalidDataError: they are damaged.
    """
    files = objects.tree(tree)
    try:
        rows = objects.path(files[INDEX]).read_bytes()
        samples = objects.path(files[SAMPLES])
    except (KeyError, FileNotFoundError) as error:
        raise InvalidDataError("a version's manifest is missing", error, "pull it again") from error
    if len(rows) % ROW.size:
        raise InvalidDataError("a version's index is damaged", files[INDEX], "pull it again")
    shards = tuple(files[path] for path in sorted(files) if path.startswith(SHARDS))
    return Manifest(objects, samples, rows, shards)


def write_manifest(
    objects: Objects, lines: Iterable[tuple[Entry, bytes]], places: Mapping[str, Place]
) -> tuple[Object, str, int]:
    """Write the folder of a version from its samples, in any order.

    Args:
        objects: Where to.
        lines: Each sample with its line, as :func:`~osv_lab.store.versions.content.write_entry` wrote it.
        places: Where the media are.

    Returns:
        The folder's listing, the content digest, and the bytes of all media.
    """
    ordered = sorted(
        ((bytes.fromhex(entry.ident), bytes.fromhex(entry.key), entry.media, line) for entry, line in lines),
    )
    used = sorted({places[media].oid for _, _, media, _ in ordered})
    number = {oid: k for k, oid in enumerate(used)}
    rows = bytearray()
    at = 0
    with objects.writing() as file:
        for ident, key, media, line in ordered:
            place = places[media]
            rows += ROW.pack(
                ident, key, bytes.fromhex(media), at, len(line), number[place.oid], place.offset, place.size
            )
            at += len(line) + 1
            file.write(line + b"\n")
        samples = file.keep()
    files = {SAMPLES: samples, INDEX: objects.add(bytes(rows))}
    for oid, k in number.items():
        files[f"{SHARDS}{k:05d}.tar"] = Object(oid, objects.path(oid).stat().st_size)
    size = sum({media: places[media].size for _, _, media, _ in ordered}.values())
    return objects.add_tree(files), set_digest(key.hex() for _, key, _, _ in ordered), size


def lines_of(entries: Sequence[Entry]) -> Iterator[tuple[Entry, bytes]]:
    """Each sample with its line."""
    return ((entry, write_entry(entry)) for entry in entries)
