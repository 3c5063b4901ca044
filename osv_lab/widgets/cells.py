"""Which cell made which widgets, so that running it again does not pile them up."""

from __future__ import annotations

import sys
import threading
import weakref
from typing import Protocol


class Closable(Protocol):
    """What can be closed."""

    def close(self) -> None: ...


class _Made:
    """The widgets of one execution of one cell."""

    def __init__(self, execution: str) -> None:
        self.execution = execution
        self.widgets: weakref.WeakSet[Closable] = weakref.WeakSet()


_lock = threading.Lock()
_by_cell: dict[str, _Made] = {}
_by_key: weakref.WeakValueDictionary[str, Closable] = weakref.WeakValueDictionary()


def registered(widget: Closable, key: str, *, explicit: bool) -> None:
    """Note a new widget, and close those whose place it takes.

    These are all that an earlier run of the same cell made. Where the front end does not say which cell is run, or
    where a key was given, it is the one with the same key.
    """
    cell, execution = running_cell()
    old: list[Closable] = []
    with _lock:
        if explicit or cell is None:
            before = _by_key.get(key)
            old += [before] if before is not None else []
            _by_key[key] = widget
        if cell is not None:
            made = _by_cell.get(cell)
            if made is None or made.execution != execution:
                old += list(made.widgets) if made is not None else []
                made = _by_cell[cell] = _Made(execution)
            made.widgets.add(widget)
    for one in old:
        if one is not widget:
            one.close()


def running_cell() -> tuple[str | None, str]:
    """The id of the cell that runs, if the front end says it, and the id of the message that runs it."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    if shell is None or not hasattr(shell, "get_parent"):
        return None, ""
    parent = shell.get_parent() or {}
    cell = (parent.get("metadata") or {}).get("cellId")
    return (str(cell) if cell else None), str((parent.get("header") or {}).get("msg_id", ""))
