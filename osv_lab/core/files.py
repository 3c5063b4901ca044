"""Writes that are whole or absent."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends without an error.

    A killed process leaves ``path`` as it was. The suffix is kept, since many writers choose a format by it.

    Example:
        >>> with atomic_path("report.json") as temporary:
        ...     temporary.write_text("{}")
        ...     Path("report.json").exists()
        2
        False
        >>> Path("report.json").read_text()
        '{}'
    """
    import tempfile

    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem[:40]}-", suffix=target.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        # mkstemp makes owner-only files; a finished artifact gets the permissions any new file would have.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: str | Path, data: str | bytes) -> None:
    """Write a small file whole: readers see the old content or the new, never a part."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogateescape"))


def sweep_drafts(path: str | Path) -> None:
    """Remove what killed writes of ``path`` left beside it. Only for a caller that is its one writer."""
    target = Path(path)
    for draft in target.parent.glob(f".{glob.escape(target.stem[:40])}-*{glob.escape(target.suffix)}"):
        draft.unlink(missing_ok=True)
