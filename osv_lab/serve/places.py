"""Where a server may get frames from: named when it is started, so that no request can name an address.

Example:
    >>> places = Places({"gate": "rtsp://10.0.0.7/live", "door": "0"})
    >>> places.available(), places.is_live("gate")
    (['door', 'gate'], True)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from osv_lab.core.errors import NotFoundError, UsageError
from osv_lab.serve.errors import RequestError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a source may be called."""

VIDEOS = frozenset(
    (
        ".mp4",
        ".mov",
        ".m4v",
        ".mkv",
        ".webm",
        ".avi",
        ".ts",
        ".m2ts",
        ".mpg",
        ".mpeg",
        ".flv",
        ".wmv",
        ".ogv",
        ".gif",
    )
)
"""What counts as a video in a folder."""

_LISTED = 200


class Places:
    """Names, and what they stand for.

    Args:
        given: An address (``rtsp://…``, ``http://…``), a camera's index, a video file, or a folder of videos, by name.

    Raises:
        UsageError: a name that cannot be used.
        NotFoundError: no such file or folder.
    """

    def __init__(self, given: Mapping[str, str | int | Path] | None = None) -> None:
        self._streams: dict[str, str] = {}
        self._files: dict[str, Path] = {}
        self._folders: dict[str, Path] = {}
        for name, place in (given or {}).items():
            self._add(name, str(place))

    def _add(self, name: str, place: str) -> None:
        if not NAME.fullmatch(name):
            raise UsageError(
                "a source's name is letters, digits, dots and dashes", repr(name), "write gate=rtsp://…"
            )
        if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", place) or re.fullmatch(r"\d{1,3}", place):
            self._streams[name] = place
            return
        path = Path(place).expanduser()
        if not path.exists():
            raise NotFoundError(
                "no such video or folder", f"{name}={place}", "give an address, a file or a folder"
            )
        (self._folders if path.is_dir() else self._files)[name] = path.resolve()

    def single(self) -> list[str]:
        """The names that stand for one source each."""
        return sorted([*self._streams, *self._files])

    def available(self) -> list[str]:
        """What a request may name: those, and ``folder/file`` for the videos of the folders."""
        inside = [
            f"{name}/{file.name}"
            for name, folder in sorted(self._folders.items())
            for file in sorted(folder.iterdir())
            if file.suffix.lower() in VIDEOS and file.is_file()
        ]
        return [*self.single(), *inside][:_LISTED]

    def is_live(self, ref: str) -> bool:
        """Whether it does not wait: a camera or an address."""
        return ref in self._streams

    def resolve(self, ref: str) -> str | Path:
        """What a name stands for.

        Raises:
            RequestError: 403, the server was not started with it; 404, no such file in a folder.
        """
        if ref in self._streams:
            return self._streams[ref]
        if ref in self._files:
            return self._files[ref]
        name, _, file = ref.partition("/")
        if name not in self._folders:
            raise RequestError(
                403,
                "the server was not started with this source",
                ref,
                "GET /sources lists what is available; start the server with --source NAME=PLACE to add to it",
            )
        folder = self._folders[name]
        # A bare name, and what it leads to lies in the folder itself: no link and no .. leads out.
        if "/" not in file and "\\" not in file and "\0" not in file and Path(file).suffix.lower() in VIDEOS:
            path = (folder / file).resolve()
            if path.parent == folder and path.is_file():
                return path
        raise RequestError(404, "no such video in the folder", ref, "GET /sources lists what is available")
