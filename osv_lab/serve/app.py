"""The HTTP face of a server's models: its parts, and how they are put together.

Example:
    >>> app = create_app(ModelSlot("best.onnx"))
    >>> "/predict" in app.openapi()["paths"]
    True
    >>> uvicorn.run(app)                                              # doctest: +SKIP
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.serve.asked import Asked
from osv_lab.serve.crew import Crew
from osv_lab.serve.door import Door, Handler
from osv_lab.serve.drift import Drift, Reference
from osv_lab.serve.errors import RequestError
from osv_lab.serve.house import House
from osv_lab.serve.keys import KeySource, accepted_keys, scope_of
from osv_lab.serve.limits import Limits
from osv_lab.serve.message import Answer, json_answer
from osv_lab.serve.metrics import Metrics
from osv_lab.serve.models import Models
from osv_lab.serve.observe import Observers
from osv_lab.serve.places import Places
from osv_lab.serve.predicting import Predicting
from osv_lab.serve.slot import ModelSlot

if TYPE_CHECKING:
    from fastapi import FastAPI

    from osv_lab.serve.answers import Answers
    from osv_lab.serve.capture import Capture
    from osv_lab.serve.identities import Track
    from osv_lab.serve.sources import Sources
    from osv_lab.serve.stream import Streams


def create_app(
    slot: ModelSlot,
    *,
    key: KeySource | None = None,
    limits: Limits | None = None,
    workers: int | None = None,
    max_waiting: int = 16,
    deadline_s: float = 10.0,
    also: Sequence[str | Path] = (),
    manage: bool | None = None,
    sources: Mapping[str, str | int | Path] | None = None,
    track: Track = True,
    crew: Crew | None = None,
    capture: Capture | None = None,
    drift: bool | Reference = True,
) -> Door:
    """The ASGI application that serves models.

    Args:
        slot: The model that answers where a request names none; loaded at start-up when it is not yet.
        key: When given, everything but ``/health``, ``/ready`` and the pages wants ``Authorization: Bearer <key>``,
            a key that is for it where it is a :class:`~osv_lab.serve.keys.KeyFile`.
        limits: Sizes, and which URLs are fetched.
        workers: Threads that decode and compute; by default what the model's scheduling asks.
        max_waiting: Requests in the house at once, those computed included; at least ``workers``. Further ones get
            503 with ``Retry-After``.
        deadline_s: A request that has waited longer than this for a thread gets 503 and is not computed.
        also: What else ``/models/load`` and ``/models/swap`` may load; see :class:`osv_lab.serve.models.Models`.
        manage: Whether models can be loaded, swapped and unloaded over HTTP; by default where there is a key.
        sources: What the server may watch, by name; see :class:`osv_lab.serve.places.Places`. Cameras and streams are
            watched from the start.
        track: Which tracker streams and sources have where nothing else is asked; ``False`` for none.
        crew: Worker processes that compute, instead of threads of this one; ``slot`` must load into it.
        capture: Keeps answers worth a second look; nothing is kept without one.
        drift: Whether answers are compared with the reference in a model's sidecar, where it has one; or a reference
            for the model that it was made with.
    """
    served = Served(
        slot,
        Models(slot, also),
        accepted_keys(key),
        limits or Limits(),
        crew,
        capture,
        drift,
        workers,
        max_waiting,
        deadline_s,
        Places(sources),
        track,
        key is not None if manage is None else manage,
    )

    return Door(served.routes(), served.late_routes(), lambda: served.rest, served.living, served.metrics, served)


class Served:
    """The parts of one server; attributes are named as the arguments of :func:`create_app`.

    Attributes:
        models: The models, by name.
        keys: What opens the way, if anything is asked for.
        house: Who is let in, and where work is done.
        predicting: Answers predictions.
        observers: Shown what was answered.
        drifting: Compares answers with references; ``None`` where that is not wanted.
    """

    def __init__(
        self,
        slot: ModelSlot,
        models: Models,
        keys: Any,
        limits: Limits,
        crew: Crew | None,
        capture: Capture | None,
        drift: bool | Reference,
        workers: int | None,
        max_waiting: int,
        deadline_s: float,
        places: Places,
        track: Track,
        manage: bool,
    ) -> None:
        self.slot, self.models, self.keys, self.limits = slot, models, keys, limits
        self.crew, self.capture, self.places, self.track, self.manage = crew, capture, places, track, manage
        self._drift, self._workers, self._max_waiting = drift, workers, max_waiting
        self.metrics = Metrics()
        self.drifting = Drift(self._reference) if drift else None
        self.observers = Observers([one for one in (capture, self.drifting) if one is not None])
        self.house = House(
            models,
            workers or 1,
            max_waiting,
            deadline_s,
            self.metrics,
            crew,
            answers=lambda: self.answers,
            observing=self.observing,
        )
        self.predicting = Predicting(self.house, lambda: self.answers, self.limits, self.observers)

    @functools.cached_property
    def answers(self) -> Answers:
        """What computes in this process."""
        from osv_lab.serve.answers import Answers

        return Answers(self.models, self.limits, self.house.batcher, self.metrics, observing=self.observing)

    @functools.cached_property
    def rest(self) -> FastAPI:
        """What is not answered at the door."""
        from osv_lab.serve.rest import make_rest

        return make_rest(self)

    @functools.cached_property
    def streams(self) -> Streams:
        """``WS /stream``."""
        from osv_lab.serve.stream import Streams

        ask = self.predicting.frame
        return Streams(ask, self.house, self.keys, self.limits, self.track, self.observers)

    @functools.cached_property
    def sources(self) -> Sources:
        """What the server watches."""
        from osv_lab.serve.sources import Sources

        return Sources(self.places, self.predicting.frame, self.house, self.track, observers=self.observers)

    def observing(self) -> bool:
        """Whether an observation would be looked at: drift needs a reference, which few models have."""
        if self.capture is not None or isinstance(self._drift, Reference):
            return True
        return self.drifting is not None and any(model.reference for _, model in self.models.loaded())

    def fit(self) -> None:
        """As many threads, and places for them, as the models ask."""
        lanes = self._workers or max(model.plan.lanes for _, model in self.models.loaded())
        if self.crew is not None:
            lanes = self.crew.lanes
        self.house.resize(lanes)
        self.house.places = max(self._max_waiting, lanes)

    @asynccontextmanager
    async def living(self) -> AsyncIterator[None]:
        """Open the house, and close it in the end.

        Modules are imported by one thread at a time: numpy's refer to each other, and of two threads that meet in
        them one finds a module that is not complete. So what imports them begins before the rest is imported, or
        after it.
        """
        await asyncio.to_thread(self.slot.load)
        if self.crew is None:
            await asyncio.to_thread(self._prepare)
        if self.places.single() or self.capture is not None:
            await asyncio.to_thread(lambda: self.rest)
        self.house.start()
        self.fit()
        if self.crew is not None:
            await self.crew.start()
        if self.places.single():
            self.sources.start_live()
        try:
            yield
        finally:
            self.house.closing = True
            if "sources" in vars(self):
                await self.sources.close()
            if self.crew is not None:
                self.crew.stop()
            await asyncio.to_thread(self.house.stop)
            await asyncio.to_thread(self.observers.close)

    def _prepare(self) -> None:
        """Import what requests are read and answered with, where this process does it."""
        import osv_lab.serve.reading  # noqa: F401
        from osv_lab.serve.inputs import prepare_decoders

        prepare_decoders()
        _ = self.answers

    def routes(self) -> Mapping[tuple[str, str], Handler]:
        """What is answered without a framework."""
        return {
            ("GET", "/health"): self._health,
            ("GET", "/ready"): self._ready,
            ("POST", "/predict"): self._keyed(self.predicting.one),
        }

    def late_routes(self) -> Mapping[tuple[str, str], Handler]:
        """What is answered without a framework, but reads requests in this process, for which it needs what the
        framework imports."""
        return {("POST", "/predict/batch"): self._keyed(self.predicting.batch)}

    def _keyed(self, handler: Handler) -> Handler:
        """The same for those who have a key."""
        if self.keys is None:
            return handler

        async def checked(asked: Asked) -> Answer:
            self.keys.check(asked.header(b"authorization"), scope_of(asked.scope["path"]))
            return await handler(asked)

        return checked

    async def _health(self, _: Asked) -> Answer:
        return json_answer({"status": "ok"})

    async def _ready(self, _: Asked) -> Answer:
        if self.house.closing:
            raise RequestError(503, "the server is stopping", "", "ask another one", retry_after_s=1)
        if not self.models.ready or not self.house.open:
            raise RequestError(503, "the model is not ready", "", "try again in a moment", retry_after_s=1)
        if self.crew is not None and not self.crew.alive:
            raise RequestError(503, "no worker process is up", "", "try again in a moment", retry_after_s=1)
        return json_answer({"status": "ready"})

    def _reference(self, digest: str) -> Reference | None:
        """The drift reference of a loaded model, by the digest of its file."""
        if isinstance(self._drift, Reference) and self._drift.digest == digest:
            return self._drift
        loaded = (model for _, model in self.models.loaded() if model.described.get("digest") == digest)
        return next((model.reference for model in loaded), None)
