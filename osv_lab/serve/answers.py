"""From a request's body to the bytes of its answer; runs in worker threads, knows nothing of HTTP servers."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import OsvError
from osv_lab.serve.errors import RequestError, as_request_error
from osv_lab.serve.inputs import decode, image_bytes
from osv_lab.serve.limits import Limits
from osv_lab.serve.message import NOTHING_ASKED, Answer, Fetch, NothingAsked, Sent
from osv_lab.serve.pictures import draw, picture_kind
from osv_lab.serve.results import detections_json, item_json, size_json

if TYPE_CHECKING:
    import numpy as np
    import supervision as sv

    from osv_lab.detect.detector import Found
    from osv_lab.serve.batcher import Batcher
    from osv_lab.serve.metrics import Metrics
    from osv_lab.serve.models import Models
    from osv_lab.serve.observe import Observation
    from osv_lab.serve.schemas import OneImageOptions
    from osv_lab.serve.served import ServedModel, Thresholds
    from osv_lab.serve.ticket import Ticket

_log = logging.getLogger("osv_lab.serve")


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch request that was read: one model and one set of thresholds for all its images."""

    model: ServedModel
    thresholds: Thresholds
    images: Sequence[str | bytes]
    batch_size: int


class Answers:
    """Answers of one server's models.

    Args:
        models: Which model answers; each request looks it up once.
        limits: How much a request may ask.
        batcher: Where images of models that run in batches go.
        metrics: Told of every image.
        observing: Whether answers carry their observation, which costs about as much as parsing the request.
    """

    def __init__(
        self,
        models: Models,
        limits: Limits,
        batcher: Batcher,
        metrics: Metrics,
        *,
        observing: Callable[[], bool] = lambda: False,
    ) -> None:
        self.models = models
        self._limits = limits
        self._batcher = batcher
        self._metrics = metrics
        self.observing = observing

    def predict(self, sent: Sent, fetched: bytes | None = None, *, ticket: Ticket) -> Answer | Fetch:
        """The answer to ``POST /predict``.

        Args:
            fetched: The image, when an earlier call said that it must be fetched.

        Raises:
            RequestError: the request cannot be answered with predictions.
        """
        timing = _Timing(ticket.started)
        data, options = self._one_image(sent)
        if fetched is not None:
            data = fetched
        if isinstance(data, Fetch):
            return data
        model = self.models.current(options.model)
        thresholds = options.thresholds(model.defaults)
        timing.lap("read")
        model.check(thresholds)
        image = decode(data, self._limits)
        timing.lap("decode")
        detections = self._detect(model, image, thresholds, ticket, lone=ticket.lone)
        timing.lap("predict")
        kind = picture_kind(options, sent.accept)
        if kind is not None:
            picture = draw(image, detections, kind)
            timing.lap("draw")
            return _answer(picture, model, timing, kind)
        content = {
            "model": model.name,
            "image": size_json(image),
            "predictions": detections_json(detections),
            "timing_ms": timing.total(),
        }
        answer = _answer(content, model, timing)
        answer.observation = self._observed(model, image, detections, thresholds)
        return answer

    def image_of(self, sent: Sent) -> bytes:
        """The encoded image of a request that was answered without a fetch."""
        data, _ = self._one_image(sent)
        assert isinstance(data, bytes)
        return data

    def image_of_item(self, image: str | bytes) -> bytes:
        """The encoded image of one item of a batch that was answered without a fetch."""
        return image if isinstance(image, bytes) else image_bytes(image, self._limits)

    def read_batch(self, sent: Sent) -> Batch:
        """What ``POST /predict/batch`` asks.

        Raises:
            RequestError: the request as a whole cannot be used.
        """
        from osv_lab.serve.reading import read_batch

        options, batch_size, images = read_batch(sent, self._limits)
        if len(images) > self._limits.max_batch:
            raise RequestError(
                413, "too many images in one batch", len(images), f"send at most {self._limits.max_batch}"
            )
        model = self.models.current(options.model)
        thresholds = options.thresholds(model.defaults)
        # A class the model lacks is wrong for all images, so it is said once.
        model.check(thresholds)
        return Batch(model, thresholds, images, batch_size)

    def one_of_batch(
        self, batch: Batch, index: int, image: str | bytes | OsvError, *, ticket: Ticket
    ) -> tuple[dict[str, Any], Observation | None]:
        """The result of one image of a batch, and its observation; what is wrong with it is its result."""
        try:
            if isinstance(image, OsvError):
                raise image
            pixels = decode(self.image_of_item(image), self._limits)
            # The first one is alone only until the second comes.
            found = self._detect(batch.model, pixels, batch.thresholds, ticket, lone=False)
            return item_json(index, pixels, found), self._observed(batch.model, pixels, found, batch.thresholds)
        except OsvError as error:
            if as_request_error(error).status >= 499:
                raise
            return item_json(index, None, error), None

    def finish_batch(self, batch: Batch, results: Sequence[Mapping[str, Any]], started: float) -> Answer:
        """The answer to ``POST /predict/batch``, of its images' results."""
        timing = _Timing(started)
        timing.lap("predict")
        content = {"model": batch.model.name, "results": results, "timing_ms": timing.total()}
        return _answer(content, batch.model, timing)

    def _detect(
        self, model: ServedModel, image: np.ndarray, thresholds: Thresholds, ticket: Ticket, *, lone: bool
    ) -> sv.Detections | Found:
        if model.plan.mode == "parallel":
            wide = model.lone.detector if lone and model.lone is not None else None
            [found] = model.find([image], thresholds, wide)
            if wide is not None:
                self._metrics.count("lone_images")
        else:
            found = self._batcher.predict(model, image, thresholds, ticket.check, ticket.left_s)
        self._metrics.count("images")
        return found

    def _observed(
        self, model: ServedModel, image: np.ndarray, found: sv.Detections | Found, thresholds: Thresholds
    ) -> Observation | None:
        if not self.observing():
            return None
        from osv_lab.serve.observe import observe

        try:
            return observe(
                image,
                found,
                model=str(model.described["ref"]),
                digest=model.described.get("digest"),
                dataset_version=model.dataset_version,
                task=str(model.described.get("task", "detect")),
                threshold=thresholds.confidence,
                partial=thresholds.classes is not None,
            )
        except Exception:  # noqa: BLE001 - logged
            # An answer that is there is given, whatever is wrong with looking at it.
            _log.exception("an answer could not be observed")
            return None

    def _one_image(self, sent: Sent) -> tuple[bytes | Fetch, OneImageOptions | NothingAsked]:
        if sent.bare:
            return sent.body, NOTHING_ASKED
        # What reads anything else takes longer to import than a model to load; a worker has it soon after its start.
        from osv_lab.serve.reading import read_one

        return read_one(sent, self._limits)


def _answer(
    content: Mapping[str, Any] | bytes, model: ServedModel, timing: _Timing, kind: str = "application/json"
) -> Answer:
    headers = [("Content-Type", kind), *model.headers, ("Server-Timing", timing.header())]
    return Answer(content if isinstance(content, bytes) else _to_json(content), headers)


def _to_json(content: Mapping[str, Any]) -> bytes:
    """JSON, by pydantic's encoder where that is imported already: it takes a tenth of the time. Non-finite numbers were
    taken out before."""
    encode = getattr(sys.modules.get("pydantic_core"), "to_json", None)
    if encode is None:
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    encoded: bytes = encode(content)
    return encoded


class _Timing:
    """Milliseconds per step, and of the whole."""

    def __init__(self, started: float) -> None:
        self._started = self._last = started
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self._laps[name] = round((now - self._last) * 1000, 2)
        self._last = now

    def total(self) -> dict[str, float]:
        return {**self._laps, "total": round((time.perf_counter() - self._started) * 1000, 2)}

    def header(self) -> str:
        """As the ``Server-Timing`` header, which browsers' tools show."""
        return ", ".join(f"{name};dur={ms}" for name, ms in self.total().items())
