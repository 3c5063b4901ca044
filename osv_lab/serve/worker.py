"""What a worker process does: decode, compute and encode the answers that the front process hands it.

A job says by which loaded model each name is answered; the worker itself has no notion of what is current.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import OsvError
from osv_lab.serve import pipe
from osv_lab.serve.batcher import Batcher

if TYPE_CHECKING:
    from osv_lab.serve.limits import Limits
    from osv_lab.serve.served import ServedModel

_log = logging.getLogger("osv_lab.serve")


class Worker:
    """The models of one worker process, and what it does with them.

    Args:
        limits: How much a request may ask; URLs are the front's business.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._models: dict[int, ServedModel] = {}
        self._tally = Tally()
        self._batcher = Batcher(self._tally.batch)

    def load(self, key: int, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Load a model under a key.

        Args:
            asked: ``ref``, ``options``, ``scheduling``, ``max_batch`` and ``lone_threads`` as for
                :func:`osv_lab.serve.served.load_model`, and ``described``: what the front says of this model to
                clients, when another worker has loaded it before.

        Returns:
            What the front must know of it.

        Raises:
            OsvError: it cannot be loaded.
        """
        from osv_lab.serve.served import load_model

        options = dict(asked["options"])
        if isinstance(options.get("imgsz"), list):
            options["imgsz"] = tuple(options["imgsz"])
        model = load_model(
            asked["ref"], options, *(asked[one] for one in ("scheduling", "max_batch", "lone_threads"))
        )
        digest = model.described["digest"]
        if asked["described"] is not None:
            model = dataclasses.replace(model, described=asked["described"])
        self._models[key] = model
        return {
            "digest": digest,
            "described": model.described,
            "plan": dataclasses.asdict(model.plan),
            "defaults": dataclasses.asdict(model.defaults),
            "dataset_version": model.dataset_version,
            "reference": None if model.reference is None else model.reference.to_json(),
            "path": str(getattr(model.detector, "path", asked["ref"])),
        }

    def forget(self, key: int) -> None:
        """Nobody will ask for this model again."""
        if self._models.pop(key, None) is not None:
            _give_memory_back()

    def answer(self, job: Mapping[str, Any], parts: list[bytes]) -> tuple[dict[str, Any], Sequence[bytes]]:
        """The answer to a job, an error being one too."""
        from osv_lab.serve import remote
        from osv_lab.serve.answers import Answers
        from osv_lab.serve.ticket import Ticket

        async def unknown() -> None:
            """Whether the client is still there is the front's to know."""

        ticket = Ticket(job["started"], job["deadline"], unknown, job["lone"])
        try:
            ticket.check()
            named = Named({name: self._models[key] for name, key in job["models"].items()})
            observing = bool(job["observing"])
            answers = Answers(named, self._limits, self._batcher, self._tally, observing=lambda: observing)  # type: ignore[arg-type]
            header, found = remote.OPERATIONS[job["do"]].done(answers, ticket, job, parts)
        except OsvError as error:
            header, found = {"error": pipe.error_json(error)}, []
        except Exception as error:  # noqa: BLE001 - the front answers 500; this process lives on
            _log.exception("a request failed")
            header, found = {"failed": type(error).__name__}, []
        return {**header, "id": job["id"], **self._tally.take()}, found


class Named:
    """The models of one job by name; what :class:`osv_lab.serve.models.Models` is to the front."""

    def __init__(self, models: Mapping[str, ServedModel]) -> None:
        self._models = models

    def current(self, name: str | None = None) -> ServedModel:
        """See :meth:`osv_lab.serve.models.Models.current`."""
        from osv_lab.serve.models import DEFAULT, no_such_model

        model = self._models.get(name or DEFAULT)
        if model is None:
            raise no_such_model(str(name), self._models)
        return model


class Tally:
    """What was counted since the front was last told; see :class:`osv_lab.serve.metrics.Metrics`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._batches: list[int] = []

    def count(self, name: str, by: int = 1) -> None:
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + by

    def batch(self, size: int) -> None:
        with self._lock:
            self._batches.append(size)

    def take(self) -> dict[str, Any]:
        """``{"counts", "batches"}``, and begin anew."""
        with self._lock:
            taken = {"counts": self._counts, "batches": self._batches}
            self._counts, self._batches = {}, []
        return taken


def _give_memory_back() -> None:
    """Let the kernel have the pages that a model left free: between jobs memory is kept, see
    :mod:`osv_lab.serve.spawn`. Only glibc needs to be told."""
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
