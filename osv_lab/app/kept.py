"""Results that panels look at again and again, kept as long as the dataset is as it was.

A panel answers at once: what takes longer than :data:`PATIENCE_S` is made in a thread, and the panel looks again.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar, cast

MOST = 16
PATIENCE_S = 0.5
FRESH_S = 5.0
"""A panel looks again every second: what was ready longer ago is no answer to it any more."""

Result = TypeVar("Result")

_results: OrderedDict[Hashable, tuple[Any, Any]] = OrderedDict()
_making: dict[Hashable, _Making] = {}
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
        >>> kept(dataset, lambda: dataset.count("ground_truth.detections"), "objects")
        30
        >>> kept(dataset, lambda: "another", "objects")           # nothing has changed
        30
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

    What became ready while the panel waited is given as it is, so that a dataset that goes on changing is shown too.

    Raises:
        NotYetError: it is not there within :data:`PATIENCE_S`, and made on in a thread; call again.
    """
    place = (dataset.name, *key)
    with _lock:
        making = _making.get(place)
        if making is None or making.is_old():
            making = _making[place] = _Making(lambda: kept(dataset, make, *key))
    try:
        return cast("Result", making.future.result(PATIENCE_S))
    except TimeoutError:
        if making.future.done():
            raise
        raise NotYetError from None
    finally:
        if making.future.done():
            with _lock:
                if _making.get(place) is making:
                    del _making[place]


class _Making:
    """Something being made in a thread: a daemon, so that the server does not wait for it when it ends."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.future: Future[Any] = Future()
        self._make = make
        self._ended = math.inf
        threading.Thread(target=self._run, name="osv-kept", daemon=True).start()

    def is_old(self) -> bool:
        """Whether it ended and nobody came for it."""
        return time.monotonic() - self._ended > FRESH_S

    def _run(self) -> None:
        try:
            made = self._make()
        except BaseException as error:  # noqa: BLE001 (raised to whoever asks)
            self._ended = time.monotonic()
            self.future.set_exception(error)
        else:
            self._ended = time.monotonic()
            self.future.set_result(made)


def _state(dataset: Any) -> tuple[str, ...]:
    """What changes whenever a sample is written, or an evaluation or another run is added, replaced or removed."""
    dataset.reload()
    runs = [*dataset.list_evaluations(), *dataset.list_runs()]
    return (str(dataset.max("last_modified_at")), str(dataset.last_modified_at), str(len(dataset)), *runs)
