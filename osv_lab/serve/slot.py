"""A place for one model: loaded, exchanged while it is used, and open to many threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import UnavailableError
from osv_lab.serve.scheduler import Scheduling
from osv_lab.serve.served import ServedModel, Thresholds, load_model, shown_ref

if TYPE_CHECKING:
    import numpy as np
    import supervision as sv

    from osv_lab.detect.detector import Detector


class ModelSlot:
    """A place for one model that can be exchanged while it is used.

    Args:
        ref: What to load: a path, ``models:/name@alias``, or a detector that is loaded already.
        scheduling: How it is run, see :func:`osv_lab.serve.scheduler.load_planned`.
        max_batch: Most images that go through the network together; measured when ``None``.
        lone_threads: Cores for an image that is alone, see :func:`osv_lab.serve.scheduler.load_planned`.
        loader: Loads it; :meth:`osv_lab.serve.crew.Crew.load` where worker processes run it.
        options: As for :func:`osv_lab.detect.load_detector`.

    Example:
        >>> slot = ModelSlot("best.onnx")
        >>> slot.load()
        >>> [detections] = slot.predict([image], Thresholds(confidence=0.5))
    """

    def __init__(
        self,
        ref: str | Path | Detector,
        *,
        scheduling: Scheduling = "auto",
        max_batch: int | None = None,
        lone_threads: int | None = None,
        loader: Callable[..., ServedModel] = load_model,
        **options: Any,
    ) -> None:
        self.ref = ref
        self._loader = loader
        self._scheduling = scheduling
        self._max_batch = max_batch
        self._lone_threads = lone_threads
        self._options = options
        self._model: ServedModel | None = None
        self._lock = threading.Lock()

    @property
    def ready(self) -> bool:
        """Whether the model is loaded and has seen its first image."""
        return self._model is not None

    @property
    def current(self) -> ServedModel:
        """The model as it is now; it stays usable when another takes its place.

        Raises:
            UnavailableError: it is not loaded yet.
        """
        if self._model is None:
            raise UnavailableError("the model is not loaded yet", shown_ref(self.ref), "ask /ready and try again")
        return self._model

    @property
    def detector(self) -> Detector:
        """The loaded model's detector.

        Raises:
            UnavailableError: it is not loaded yet.
        """
        return self.current.detector

    def load(self) -> None:
        """Load and warm up, once; a second call returns at once.

        Raises:
            OsvError: the model cannot be found, read or run.
        """
        with self._lock:
            if self._model is None:
                how = self._scheduling, self._max_batch, self._lone_threads
                self._model = self._loader(self.ref, self._options, *how)

    def swap(self, ref: str | Path | None = None) -> ServedModel:
        """Put another model in the place; until it is loaded and warm the old one answers.

        It is run as the one before it, without a measurement: under load that would measure the load.

        Args:
            ref: What to load; the same reference again when ``None``, which an alias may have moved from.

        Returns:
            The new model.

        Raises:
            OsvError: the new model cannot be loaded; the old one stays.
        """
        with self._lock:
            other = self.like(self.ref if ref is None else ref)
            other.load()
            model = other.current
            self.ref, self._model = other.ref, model
            return model

    def like(self, ref: str | Path | Detector) -> ModelSlot:
        """An empty place for another model, run as this one is."""
        how: dict[str, Any] = {"scheduling": self._scheduling, "max_batch": self._max_batch}
        how["lone_threads"] = self._lone_threads
        if self._model is not None and self._scheduling == "auto":
            plan = self._model.plan
            how = {"scheduling": plan.mode, "max_batch": plan.max_batch, "lone_threads": plan.lone_threads}
        return ModelSlot(ref, loader=self._loader, **how, **self._options)

    def check(self, thresholds: Thresholds) -> None:
        """See :meth:`ServedModel.check`."""
        self.current.check(thresholds)

    def predict(self, images: Sequence[np.ndarray], thresholds: Thresholds) -> list[sv.Detections]:
        """Detections of a batch of BGR uint8 images.

        Raises:
            UsageError: a threshold, class name or image that cannot be used.
            UnavailableError: the model is not loaded yet.
        """
        return self.current.predict(images, thresholds)

    def describe(self) -> dict[str, Any]:
        """What the model is, as JSON-able values; ``{"ref", "ready": False}`` before it is loaded."""
        if self._model is None:
            return {"ref": shown_ref(self.ref), "ready": False}
        return dict(self._model.described)
