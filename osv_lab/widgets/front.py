"""The page's half of the widgets: small plain files, put together into the one module that a widget sends."""

from __future__ import annotations

import functools
from pathlib import Path

FOLDER = Path(__file__).parent / "front"


@functools.cache
def front(*names: str) -> str:
    """Some files of the folder ``front`` as one text, in this order."""
    return "\n".join((FOLDER / name).read_text("utf-8") for name in names)


def script(*names: str) -> str:
    """The module of a widget: what all share, then its own files, the last of which exports it."""
    return front("shared.js", *names)


def style(*names: str) -> str:
    """The style of a widget: what all share, then its own."""
    return front("shared.css", *names)
