"""One process at a time: a lock that ends with its holder, however that ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from osv_lab.core.errors import OsvError


@contextlib.contextmanager
def exclusive(path: str | Path, otherwise: OsvError | None = None) -> Iterator[None]:
    """Hold a lock file for the length of a block.

    The operating system drops the lock when the process dies, so a killed job never blocks the next one.

    Args:
        path: The lock file; made if missing, and left behind.
        otherwise: Raised at once when another process holds the lock; without it, the call waits.
    """
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "a+b") as handle:
        try:
            _lock(handle.fileno(), wait=otherwise is None)
        except OSError as error:
            if otherwise is None:
                raise
            raise otherwise from error
        # Closing the file gives the lock back.
        yield


def _lock(descriptor: int, wait: bool) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
