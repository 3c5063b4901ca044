"""Work in another thread, a few items ahead, so that decoding, detection and writing overlap."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")

_END = object()
_TICK_S = 0.1


class Silent(Exception):  # noqa: N818 - a signal between the two halves of this package, never an error a user sees
    """Nothing came for as long as was waited."""


class Ahead(Generic[Item]):
    """Iterates over what another thread produces.

    Args:
        items: Produced in the other thread, errors included (raised here when their turn comes).
        depth: How many items wait at most.
        drop: When they are full, lose the oldest (counted in :attr:`dropped`) and do not make the producer wait.
        patience_s: Raise :class:`Silent` when nothing comes for so long; ``None``: wait.

    Example:
        >>> list(Ahead(iter("abc"), depth=2))
        ['a', 'b', 'c']
    """

    def __init__(
        self, items: Iterator[Item], *, depth: int, drop: bool = False, patience_s: float | None = None
    ) -> None:
        self._queue: queue.Queue[object] = queue.Queue(maxsize=depth)
        self._items = items
        self._drop = drop
        self._patience_s = patience_s
        self._stop = threading.Event()
        self.dropped = 0
        self._thread = threading.Thread(target=self._produce, daemon=True, name="osv-decode")
        self._thread.start()

    def _produce(self) -> None:
        last: object = _END
        try:
            for item in self._items:
                if not self._put(item, self._drop):
                    return
        except BaseException as error:  # noqa: BLE001 - handed over and raised in the consumer's thread
            last = error
        finally:
            # Here and not where garbage is collected: a decoder is closed in the thread that uses it.
            close = getattr(self._items, "close", None)
            if close is not None:
                close()
        self._put(last, False)

    def _put(self, item: object, drop: bool) -> bool:
        """Whether the consumer is still there."""
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0 if drop else _TICK_S)
                return True
            except queue.Full:
                if drop:
                    try:
                        self._queue.get_nowait()
                        self.dropped += 1
                    except queue.Empty:
                        pass
        return False

    def __iter__(self) -> Iterator[Item]:
        while True:
            try:
                item = self._queue.get(timeout=self._patience_s)
            except queue.Empty:
                raise Silent from None
            if item is _END:
                return
            if isinstance(item, BaseException):
                raise item
            yield item  # type: ignore[misc]

    @property
    def running(self) -> bool:
        """Whether the other thread still runs; for a while it may after :meth:`close`."""
        return self._thread.is_alive()

    def close(self, wait_s: float = 2.0) -> None:
        """Stop the producer. One that hangs in a device is left behind after ``wait_s``."""
        self._stop.set()
        self._thread.join(wait_s)


class Behind(Generic[Item]):
    """Hands items to a function in another thread, in order.

    Args:
        work: Called with each item. Its first error is raised by the next :meth:`put` or :meth:`drain`.
        depth: How many items wait at most; :meth:`put` waits when they are full.
    """

    def __init__(self, work: Callable[[Item], None], *, depth: int) -> None:
        self._queue: queue.Queue[Item | None] = queue.Queue(maxsize=depth)
        self._work = work
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._consume, daemon=True, name="osv-write")
        self._thread.start()

    def _consume(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                if self._error is None:
                    self._work(item)
            except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
                self._error = error
            finally:
                self._queue.task_done()
        self._queue.task_done()

    def put(self, item: Item) -> None:
        """Hand one item over."""
        self._raise()
        self._queue.put(item)

    def drain(self) -> None:
        """Wait until all is done."""
        self._queue.join()
        self._raise()

    def close(self) -> None:
        """Finish what was handed over, and end the thread."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
