"""Results that panels look at again and again, kept as long as the dataset is as it was."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

MOST = 16

Result = TypeVar("Result")

_results: OrderedDict[Hashable, tuple[Any, Any]] = OrderedDict()
_lock = threading.Lock()


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


def _state(dataset: Any) -> tuple[str, ...]:
    """What changes whenever a sample is written, or an evaluation or another run is added, replaced or removed."""
    dataset.reload()
    runs = [*dataset.list_evaluations(), *dataset.list_runs()]
    return (str(dataset.max("last_modified_at")), str(dataset.last_modified_at), str(len(dataset)), *runs)
