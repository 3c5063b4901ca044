"""Which files a form in the App may read and write: those of the lab, of the dataset, and of the stated roots."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from osv_lab.core.errors import NotFoundError, UsageError
from osv_lab.core.settings import Settings, load_settings

MANY = 5000
"""Of a larger dataset the folders of this many samples, spread over it, are looked at."""


def readable_roots(dataset: Any = None, settings: Settings | None = None) -> list[Path]:
    """The lab's folder, the import roots (``OSV_IMPORT_ROOTS``), and the folders of the dataset's media."""
    settings = settings or load_settings()
    roots = [settings.home, *settings.import_roots]
    if dataset is not None:
        roots += sorted(_media_folders(dataset))
    return roots


def allowed_path(text: str, dataset: Any = None, settings: Settings | None = None) -> Path:
    """A path that exists and lies in a folder that forms may read, links followed.

    Args:
        text: What was typed.
        dataset: Its media's folders are allowed too.
        settings: The lab's; by default as the environment has them.

    Raises:
        UsageError: it is no path, or elsewhere; the message names where it may be.
        NotFoundError: there is no such file or folder.
    """
    roots = readable_roots(dataset, settings)
    resolved = _resolved(text)
    if not _inside(resolved, roots):
        told = ", ".join(map(str, roots[:4]))
        raise UsageError(
            "outside the folders that forms may read",
            text,
            f"use one in {told}; osv app --import-root FOLDER allows another",
        )
    try:
        resolved.stat()
    except OSError as error:
        raise NotFoundError(
            "no such file or folder", f"{text} ({error.strerror})", f"look in {resolved.parent}"
        ) from None
    return resolved


def export_path(name: str, settings: Settings | None = None) -> Path:
    """The folder of this name among the lab's exports.

    Raises:
        UsageError: it is no plain name, or would lie elsewhere.

    Example:
        >>> export_path("blood-yolo").parent.name
        'exports'
    """
    folder = (settings or load_settings()).exports_dir
    path = _resolved(folder / name.strip())
    if not name.strip() or not _inside(path, [folder.resolve()]) or path == folder.resolve():
        raise UsageError(
            "exports are folders in the lab's own", repr(name), f"give a name; it is made in {folder}"
        )
    return path


def _resolved(text: str | Path) -> Path:
    """What a path means, links followed; as it was typed it may begin with ``~``."""
    try:
        path = Path(text.strip()).expanduser() if isinstance(text, str) else text
        return path.absolute().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # Such as ~nobody, a loop of links, a null byte.
        raise UsageError("no path", repr(str(text)), str(error)) from None


def _inside(path: Path, roots: Iterable[Path]) -> bool:
    return any(path.is_relative_to(root.resolve()) for root in roots)


def _media_folders(dataset: Any) -> set[Path]:
    """Folders of the media, without those that others lie in."""
    count = dataset.count()
    view = dataset if count <= MANY else dataset[:: -(-count // MANY)]
    folders = {Path(path).parent for path in view.values("filepath")}
    return {one for one in folders if not any(parent in folders for parent in one.parents)}
