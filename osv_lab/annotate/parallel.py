"""Several requests under way at once, or one beside something else."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def beside(work: Callable[[], T]) -> Future[T]:
    """Begin a function in a thread of its own, which keeps nothing from ending.

    Example:
        >>> beside(lambda: 1).result()
        1
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result is told
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def in_parallel(work: Iterable[Callable[[], T]], at_once: int) -> Iterator[T]:
    """The results of functions, in their order.

    Args:
        work: Functions without arguments, taken as they are needed.
        at_once: How many run at a time.

    Raises:
        Exception: what the first of them raised that fails; no further ones are begun then, and those under way are
            waited for.

    Example:
        >>> list(in_parallel([lambda: 1, lambda: 2], at_once=2))
        [1, 2]
    """
    begun: deque[Future[T]] = deque()
    with ThreadPoolExecutor(at_once) as pool:
        try:
            for one in work:
                begun.append(pool.submit(one))
                if len(begun) > 2 * at_once:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for future in begun:
                future.cancel()
