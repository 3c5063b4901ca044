"""Keep Python's garbage collector from searching all of FiftyOne again and again."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

_inside = False
_BATCHES_OF = 50_000


@contextlib.contextmanager
def collecting_only_new() -> Iterator[None]:
    """Let the garbage collector look only at objects made inside the block.

    FiftyOne brings about a million objects that stay. Building documents by the hundred thousand makes the collector
    go through all of them every few batches, which takes as long as the building itself.
    """
    global _inside
    # An outer block has frozen already, or the user has, whose decision it then is. Counting takes a while, so it
    # comes second.
    if _inside or gc.get_freeze_count():
        yield
        return
    _inside = True
    often = gc.get_threshold()
    gc.freeze()
    # A batch of documents is some ten thousand objects, all in use: looking for garbage within it finds none.
    gc.set_threshold(_BATCHES_OF, *often[1:])
    try:
        yield
    finally:
        gc.set_threshold(*often)
        gc.unfreeze()
        _inside = False
