"""Zip archives as data sources: extracted once, into the lab, with nothing escaping and nothing exploding."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from osv_lab.core.digests import file_digest
from osv_lab.core.errors import InvalidDataError, UnavailableError
from osv_lab.core.progress import Progress, silent
from osv_lab.store.records import Problem

MAX_TOTAL_BYTES = 200 * 2**30
MAX_ENTRIES = 5_000_000
MAX_RATIO = 200
"""An entry that unpacks to more than this many times its packed size, and to over 64 MiB, is a zip bomb."""
_SMALL = 64 * 2**20
_MAX_NAME_BYTES = 240
_CHUNK = 1 << 20


def is_archive(path: Path) -> bool:
    """Whether a file is a zip archive, by its name and content."""
    return path.suffix.lower() == ".zip" and path.is_file()


def extract(path: Path, into: Path, *, progress: Progress = silent) -> tuple[Path, list[Problem]]:
    """Extract a zip archive into a folder named by its digest. A second call finds it and does nothing.

    Entries that would leave the folder (absolute, ``..``, drive letters, links) are left out and named; so are
    encrypted and damaged ones. A killed extraction leaves nothing that looks finished.

    Args:
        path: The archive.
        into: The folder in which the extracted folder appears.
        progress: Told about entries.

    Returns:
        The extracted folder, and what was left out.

    Raises:
        InvalidDataError: not a readable zip, or one that is too large when unpacked.
        UnavailableError: there is no room for it.
    """
    into.mkdir(parents=True, exist_ok=True)
    target = into / file_digest(path)[:32]
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_total(path, entries, into if not target.exists() else None)
            plan = list(_plan(entries))
            problems = [
                Problem(_shown(entry.filename), what, _shown(path.name), "file skipped")
                for entry, _, what in plan
                if what
            ]
            if target.is_dir():
                return target, problems + _recall(target)
            damaged = _extract_all(
                archive, [(entry, name) for entry, name, what in plan if not what], target, progress
            )
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
        raise InvalidDataError("not a readable zip archive", f"{_shown(str(path))}: {error}") from error
    return target, problems + damaged


def _extract_all(
    archive: zipfile.ZipFile, entries: list[tuple[zipfile.ZipInfo, str]], target: Path, progress: Progress
) -> list[Problem]:
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".extracting-"))
    problems = []
    try:
        for done, (entry, name) in enumerate(entries, start=1):
            try:
                _extract_one(archive, entry, temporary / name)
            except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, zlib.error) as error:
                (temporary / name).unlink(missing_ok=True)
                problems.append(
                    Problem(_shown(name), f"damaged or locked in the archive ({error})", "", "file broken")
                )
            progress("extract", done, len(entries))
        # A dotted name, which readers pass over.
        (temporary / _NOTES).write_text(
            "".join(f"{p.file}\t{p.what}\n" for p in problems), "utf-8", "surrogateescape"
        )
        try:
            temporary.rename(target)
        except OSError:
            # Another process finished the same archive first.
            if not target.is_dir():
                raise
    except OSError as error:
        free = shutil.disk_usage(target.parent).free >> 20
        raise UnavailableError(
            "the archive cannot be extracted",
            f"{error.strerror or error} ({free} MiB free in {target.parent})",
            "free some space, or set OSV_HOME to a larger disk",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return problems


_NOTES = ".osv-left-out"


def _recall(target: Path) -> list[Problem]:
    """What could not be extracted when ``target`` was made."""
    try:
        lines = (target / _NOTES).read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []
    return [Problem(name, what, "", "file broken") for name, _, what in (line.partition("\t") for line in lines)]


def _extract_one(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with archive.open(entry) as packed, open(path, "wb") as file:
        while chunk := packed.read(_CHUNK):
            written += len(chunk)
            if written > entry.file_size:
                raise zipfile.BadZipFile("larger than it says")
            file.write(chunk)


def _plan(entries: list[zipfile.ZipInfo]) -> Iterator[tuple[zipfile.ZipInfo, str, str]]:
    """Each file entry with the relative name it is written under and, if it is not, why."""
    names: set[str] = set()
    for entry in entries:
        if entry.is_dir():
            continue
        name, what = safe_name(entry.filename), ""
        if stat.S_ISLNK(entry.external_attr >> 16):
            what = "a link, which is not followed"
        elif stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            what = "a special file"
        elif name is None:
            what = "its name leads out of the archive's folder"
        elif entry.flag_bits & 0x1:
            what = "encrypted"
        elif name.casefold() in names:
            what = "another entry has the same name"
        names.add((name or "").casefold())
        yield entry, name or "", what


def safe_name(name: str) -> str | None:
    """An entry's name as a relative path that stays below its folder, or ``None``.

    Example:
        >>> safe_name("images/a.jpg"), safe_name("../a.jpg"), safe_name("C:\\\\a.jpg"), safe_name("/etc/passwd")
        ('images/a.jpg', None, None, None)
    """
    slashed = name.replace("\\", "/")
    if not slashed or slashed.startswith("/") or re.match(r"[A-Za-z]:", slashed) or "\0" in slashed:
        return None
    parts = [part for part in PurePosixPath(slashed).parts if part != "."]
    if not parts or ".." in parts:
        return None
    return "/".join(_short(part) for part in parts)


def _short(part: str) -> str:
    """A path component that the file system takes: one that is too long keeps its end and gets a digest."""
    raw = os.fsencode(part) if part.isascii() or os.name != "nt" else part.encode()
    if len(raw) <= _MAX_NAME_BYTES:
        return part
    return hashlib.sha256(raw).hexdigest()[:32] + part[-16:]


def _check_total(path: Path, entries: list[zipfile.ZipInfo], folder: Path | None) -> None:
    total = sum(entry.file_size for entry in entries)
    bomb = next(
        (e for e in entries if e.file_size > _SMALL and e.file_size > MAX_RATIO * max(e.compress_size, 1)), None
    )
    shown = _shown(str(path))
    if bomb is not None:
        found = f"{shown}: {_shown(bomb.filename)} unpacks {bomb.compress_size:,} bytes to {bomb.file_size:,}"
        raise InvalidDataError("the archive looks like a zip bomb", found, "unpack it yourself if you trust it")
    if total > MAX_TOTAL_BYTES or len(entries) > MAX_ENTRIES:
        found = f"{shown}: {len(entries):,} entries, {total:,} bytes"
        raise InvalidDataError("the archive is too large", found, "unpack it yourself and ingest the folder")
    if folder is not None and total > (free := shutil.disk_usage(folder).free):
        raise UnavailableError(
            "there is no room for the archive",
            f"{total >> 20} MiB to extract, {free >> 20} MiB free in {folder}",
            "free some space, or set OSV_HOME to a larger disk",
        )


def _shown(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
