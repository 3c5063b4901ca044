"""How long work tells its caller how far it is.

A function that takes a while has a parameter ``progress: Progress = silent``. It calls
``progress(label, done, total)`` as it goes, where ``total`` is ``None`` while unknown. The command line passes
:func:`osv_lab.console.progress_on_terminal`; a notebook or an operator passes its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Progress(Protocol):
    """``progress(label, done, total)``: ``done`` of ``total`` (``None``: unknown) steps of ``label`` are over."""

    def __call__(self, label: str, done: int, total: int | None, /) -> None: ...


def silent(label: str, done: int, total: int | None, /) -> None:
    """Report nothing."""


def tracked(items: Iterable[Item], label: str, progress: Progress, total: int | None = None) -> Iterator[Item]:
    """Yield ``items``, reporting after each one.

    Example:
        >>> seen = []
        >>> list(tracked("ab", "letters", lambda *step: seen.append(step)))
        ['a', 'b']
        >>> seen
        [('letters', 0, 2), ('letters', 1, 2), ('letters', 2, 2)]
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    progress(label, 0, total)
    for done, item in enumerate(items, start=1):
        yield item
        progress(label, done, total)
