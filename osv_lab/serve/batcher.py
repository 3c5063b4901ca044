"""Images that wait go through a network together, in one thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import supervision as sv

    from osv_lab.detect.detector import Found
    from osv_lab.serve.served import ServedModel, Thresholds


@dataclass(slots=True)
class _Waiting:
    model: ServedModel
    thresholds: Thresholds
    image: np.ndarray
    still_wanted: Callable[[], None]
    answer: Future[sv.Detections | Found]


class Batcher:
    """One thread that runs whatever waits, together; nobody waits for a batch to fill.

    While a batch is computed the next one gathers, so batches are as large as the load makes them. Images go together
    where model and thresholds are the same, which keeps every answer what it would be alone.

    Args:
        on_batch: Told the size of every batch.
    """

    def __init__(self, on_batch: Callable[[int], None] = lambda size: None) -> None:
        self._on_batch = on_batch
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._computing = False

    @property
    def busy(self) -> bool:
        """Whether it has work, so that a further image would wait."""
        return bool(self._waiting) or self._computing

    def predict(
        self,
        model: ServedModel,
        image: np.ndarray,
        thresholds: Thresholds,
        still_wanted: Callable[[], None] = lambda: None,
        patience_s: float | None = None,
    ) -> sv.Detections | Found:
        """Detections of one image; blocks until its batch is through.

        Args:
            still_wanted: Raises when the answer is no longer wanted; asked just before the batch is computed.
            patience_s: How long to wait for the batch to begin, before ``still_wanted`` is asked.

        Raises:
            OsvError: what the detector, or ``still_wanted``, raises.
        """
        one = _Waiting(model, thresholds, image, still_wanted, Future())
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="serve-batches", daemon=True)
                self._thread.start()
            self._waiting.append(one)
            self._changed.notify()
        try:
            return one.answer.result(patience_s)
        except TimeoutError:
            if one.answer.cancel():
                still_wanted()
                return self.predict(model, image, thresholds, still_wanted, patience_s)
            return one.answer.result()

    def close(self) -> None:
        """Compute what waits, then end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                batch, self._computing = self._take(), True
            self._compute([one for one in batch if _wanted(one)])
            self._computing = False

    def _take(self) -> list[_Waiting]:
        """The oldest, and what can go with it; the others keep their order."""
        first = self._waiting.popleft()
        batch, others = [first], deque[_Waiting]()
        for one in self._waiting:
            fits = one.model is first.model and one.thresholds == first.thresholds
            (batch if fits and len(batch) < first.model.plan.max_batch else others).append(one)
        self._waiting = others
        return batch

    def _compute(self, batch: Sequence[_Waiting]) -> None:
        if not batch:
            return
        self._on_batch(len(batch))
        try:
            found = batch[0].model.find([one.image for one in batch], batch[0].thresholds)
            if len(found) != len(batch):
                raise RuntimeError(f"the detector gave {len(found)} results for {len(batch)} images")
        except Exception as error:  # noqa: BLE001 - handed to those who wait; the thread must live on
            # One image that the model refuses must not spoil the others' answers.
            if len(batch) == 1:
                batch[0].answer.set_exception(error)
                return
            for one in batch:
                self._compute([one])
            return
        for one, detections in zip(batch, found, strict=True):
            one.answer.set_result(detections)


def _wanted(one: _Waiting) -> bool:
    if not one.answer.set_running_or_notify_cancel():
        return False
    try:
        one.still_wanted()
    except Exception as error:  # noqa: BLE001 - handed to the one who waits
        one.answer.set_exception(error)
        return False
    return True
