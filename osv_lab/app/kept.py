"""Results that panels look at again and again, kept as long as the dataset is as it was.

A panel answers at once: what takes longer than :data:`PATIENCE_S` is made in a thread, and the panel looks again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar, cast

MOST = 16
PATIENCE_S = 0.5

Result = TypeVar("Result")

_results: OrderedDict[Hashable, tuple[Any, Any]] = OrderedDict()
_making: dict[Hashable, Future[Any]] = {}
_lock = threading.Lock()


class NotYetError(Exception):
    """The result is still being made: look again in a second."""


def kept(dataset: Any, make: Callable[[], Result], *key: Hashable) -> Result:
    """What ``make`` gives, made anew only where the dataset has changed since by another hand than its own.

    Args:
        dataset: What the result is about.
        make: Makes it; it may write into the dataset.
        key: What tells it from other results about the dataset.

    Example:
        >>> kept(dataset, lambda: error_budget(view, "eval"), "budget", "eval")     # doctest: +SKIP
    """
    place = (dataset.name, *key)
    with _lock:
        state, found = _results.get(place, (None, None))
    if state == _state(dataset):
        return cast("Result", found)
    made = make()
    with _lock:
        _results[place] = (_state(dataset), made)
        _results.move_to_end(place)
        while len(_results) > MOST:
            _results.popitem(last=False)
    return made


def kept_soon(dataset: Any, make: Callable[[], Result], *key: Hashable) -> Result:
    """As :func:`kept`, for a panel, which shows what happens meanwhile.

    Raises:
        NotYetError: it is not there within :data:`PATIENCE_S`, and made on in a thread; call again.
    """
    place = (dataset.name, *key)
    with _lock:
        future = _making.get(place)
        if future is None:
            future = _making[place] = Future()
            # A daemon, unlike a pool's threads: the server does not wait for it when it ends.
            work = threading.Thread(
                target=_make, args=(place, future, lambda: kept(dataset, make, *key)), daemon=True
            )
            work.start()
    try:
        result = future.result(PATIENCE_S)
    except TimeoutError:
        if not future.done():
            raise NotYetError from None
        raise
    finally:
        if future.done():
            _forget(place, future)
    return cast("Result", result)


def _make(place: Hashable, future: Future[Any], make: Callable[[], Any]) -> None:
    try:
        future.set_result(make())
    except BaseException as error:  # noqa: BLE001 (raised to whoever asks next)
        future.set_exception(error)
    else:
        # Kept by now, and judged anew by whoever asks next; an error waits to be told.
        _forget(place, future)


def _forget(place: Hashable, future: Future[Any]) -> None:
    with _lock:
        if _making.get(place) is future:
            del _making[place]


def _state(dataset: Any) -> tuple[str, ...]:
    """What changes whenever a sample is written, or an evaluation or another run is added, replaced or removed."""
    dataset.reload()
    runs = [*dataset.list_evaluations(), *dataset.list_runs()]
    return (str(dataset.max("last_modified_at")), str(dataset.last_modified_at), str(len(dataset)), *runs)
