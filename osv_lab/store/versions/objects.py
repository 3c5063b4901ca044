"""The files of all versions under their MD5, as DVC keeps them, and the records that point at them.

The layout is DVC 3's own: ``files/md5/ab/cdef..`` for a file, the same with ``.dir`` for a folder's listing, and a
``.dvc`` file as the pointer. It is written here and not by ``dvc add``, which wants the whole folder laid out in a work
tree first, hashes files that have not changed, and cannot make the pointer appear last. That DVC itself reads what
stands here is a test.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from osv_lab.core.errors import InvalidDataError, NotFoundError
from osv_lab.core.files import write_atomic
from osv_lab.core.settings import load_settings
from osv_lab.store.schema import changing_alone

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Object:
    """A stored file: its MD5 in hexadecimal (with ``.dir`` for a folder's listing) and size."""

    oid: str
    size: int


class Objects:
    """The store of versions of this lab.

    Args:
        root: Its folder; by default the lab's ``versions``.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or load_settings().home / "versions"
        self.files = self.root / ".dvc" / "cache" / "files" / "md5"
        self.temporary = self.root / ".dvc" / "tmp" / "osv"

    # -- one writer -----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """One process of this lab changes versions at a time. What killed ones left half written is swept away."""
        with changing_alone(f"versions {self.root}"):
            self._prepare()
            yield

    def _prepare(self) -> None:
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir(parents=True)
        self.files.mkdir(parents=True, exist_ok=True)
        config = self.root / ".dvc" / "config"
        if not config.exists():
            write_atomic(config, "[core]\n    no_scm = True\n    analytics = false\n    check_update = false\n")

    # -- objects --------------------------------------------------------------------------------------------

    def path(self, oid: str) -> Path:
        """Where an object is, or would be.

        Raises:
            InvalidDataError: not an MD5.
        """
        bare = oid.removesuffix(".dir")
        if len(bare) != 32 or not set(bare) <= set("0123456789abcdef"):
            raise InvalidDataError("not the name of a stored file", repr(oid), "pull the version again")
        return self.files / oid[:2] / oid[2:]

    def has(self, stored: Object) -> bool:
        """Whether an object is here, as far as its size tells."""
        with contextlib.suppress(FileNotFoundError):
            return self.path(stored.oid).stat().st_size == stored.size
        return False

    @contextlib.contextmanager
    def writing(self) -> Iterator[HashingFile]:
        """A file to write; :meth:`HashingFile.keep` makes it an object. Without that call it leaves nothing."""
        handle, name = tempfile.mkstemp(dir=self.temporary)
        with os.fdopen(handle, "wb") as file:
            hashing = HashingFile(self, file, Path(name))
            try:
                yield hashing
            finally:
                Path(name).unlink(missing_ok=True)

    def add(self, data: bytes, suffix: str = "") -> Object:
        """Store bytes."""
        with self.writing() as file:
            file.write(data)
            return file.keep(suffix)

    def remove(self, oid: str) -> None:
        """Remove an object; no error where there is none."""
        self.path(oid).unlink(missing_ok=True)

    def every(self) -> Iterator[str]:
        """The names of all objects here."""
        for folder in sorted(self.files.glob("[0-9a-f][0-9a-f]")):
            for file in sorted(folder.iterdir()):
                yield folder.name + file.name

    def check(self, oid: str) -> bool:
        """Whether an object's bytes have its MD5."""
        return md5_of(self.path(oid)) == oid.removesuffix(".dir")

    # -- folders --------------------------------------------------------------------------------------------

    def add_tree(self, files: Mapping[str, Object]) -> Object:
        """Store the listing of a folder, as DVC writes it."""
        listing = [{"md5": stored.oid, "relpath": path} for path, stored in sorted(files.items())]
        return self.add(json.dumps(listing, sort_keys=True).encode(), ".dir")

    def tree(self, oid: str) -> dict[str, str]:
        """What a folder holds: MD5 by relative path.

        Raises:
            NotFoundError: its listing is not here.
            InvalidDataError: its listing is damaged.
        """
        try:
            data = self.path(oid).read_bytes()
        except FileNotFoundError:
            raise NotFoundError("a version's files are not here", oid, "pull the version") from None
        return read_tree(oid, data)

    # -- records --------------------------------------------------------------------------------------------

    def record(self, dataset: str, name: str) -> Path:
        """The ``.dvc`` file of a version."""
        return self.root / folder_of(dataset) / f"{name}.dvc"

    def records(self) -> Iterator[Path]:
        """The ``.dvc`` files of all versions."""
        yield from sorted(path for path in self.root.glob("*/*.dvc") if not path.name.startswith("."))

    def collect(self) -> list[str]:
        """Remove what no version needs; the removed."""
        import yaml

        needed: set[str] = set()
        for record in self.records():
            with contextlib.suppress(NotFoundError):
                tree = yaml.safe_load(record.read_text("utf-8"))["outs"][0]["md5"]
                needed |= {tree, *self.tree(tree).values()}
        dropped = [oid for oid in self.every() if oid not in needed]
        for oid in dropped:
            self.remove(oid)
        return dropped


class HashingFile:
    """A file that knows the MD5 of what was written to it."""

    def __init__(self, objects: Objects, file: BinaryIO, path: Path) -> None:
        self._objects, self._file, self._path = objects, file, path
        self._md5 = hashlib.md5(usedforsecurity=False)
        self.size = 0

    def write(self, data: bytes) -> int:
        """Append bytes."""
        self._md5.update(data)
        self.size += len(data)
        return self._file.write(data)

    def keep(self, suffix: str = "") -> Object:
        """Make what was written an object, whole and on disk."""
        stored = Object(self._md5.hexdigest() + suffix, self.size)
        self._file.flush()
        os.fsync(self._file.fileno())
        accept(self._objects, self._path, stored)
        return stored


def accept(objects: Objects, written: Path, stored: Object) -> None:
    """Move a file, whose MD5 was checked, to where its object belongs. Like DVC's, it is read-only there."""
    target = objects.path(stored.oid)
    target.parent.mkdir(parents=True, exist_ok=True)
    written.chmod(0o444)
    written.replace(target)


def read_tree(oid: str, data: bytes) -> dict[str, str]:
    """A folder's listing.

    Raises:
        InvalidDataError: it does not have its MD5, or is no listing.
    """
    if hashlib.md5(data, usedforsecurity=False).hexdigest() != oid.removesuffix(".dir"):
        raise InvalidDataError("the listing of a version's files is damaged", oid, "pull the version again")
    try:
        listing: list[dict[str, Any]] = json.loads(data)
        return {str(one["relpath"]): str(one["md5"]) for one in listing}
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidDataError("the listing of a version's files cannot be read", oid, "pull it again") from error


def md5_of(path: Path) -> str:
    """MD5 of a file, in hexadecimal: DVC's name for it, no safeguard against forgery. That is the digest's part."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def folder_of(dataset: str) -> str:
    """A dataset's name as the name of a folder.

    Example:
        >>> folder_of("blood"), folder_of("a/b"), folder_of("..")
        ('blood', 'a%2Fb', '%2E%2E')
    """
    quoted = urllib.parse.quote(dataset, safe=" ")
    return quoted.replace(".", "%2E") if quoted.startswith(".") else quoted
