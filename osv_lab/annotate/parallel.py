"""Several requests under way at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def in_parallel(work: Sequence[Callable[[], T]], at_once: int) -> Iterator[T]:
    """The results of functions, in their order.

    Args:
        work: Functions without arguments.
        at_once: How many run at a time.

    Raises:
        Exception: what the first of them raised that fails; no further ones are begun then, and those under way are
            waited for.

    Example:
        >>> list(in_parallel([lambda: 1, lambda: 2], at_once=2))
        [1, 2]
    """
    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(one) for one in work]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()
