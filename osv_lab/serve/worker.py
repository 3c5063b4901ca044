"""A worker process: decodes, computes and encodes the answers that the front process hands it.

:class:`osv_lab.serve.process.WorkerProcess` starts :func:`main` with the file descriptors of two sockets. Work comes
over the first, one frame per job and one per answer. Models are loaded and forgotten over the second, by a thread of
its own, so that neither waits for the other. A job says by which loaded model each name is answered; the worker itself
has no notion of what is current. When the front has gone the worker ends.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import OsvError
from osv_lab.serve import pipe
from osv_lab.serve.scheduler import LARGEST_BATCH, Batcher

if TYPE_CHECKING:
    from osv_lab.serve.limits import Limits
    from osv_lab.serve.served import ServedModel

_log = logging.getLogger("osv_lab.serve")

_A_MOMENT_S = 0.5
"""After this what the first answer does not need is imported."""

_SWITCH_S = 0.0005
"""How long one thread keeps another from Python code; Python's own value is ten times that."""


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
        self._models.pop(key, None)

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


def import_for_loading() -> None:
    """Import what a model is loaded with. Not in two threads: numpy gives up where it meets itself."""
    import onnxruntime  # noqa: F401

    import osv_lab.detect.onnx
    import osv_lab.detect.reference
    import osv_lab.serve.served  # noqa: F401


def import_for_answering() -> None:
    """Import what the first answer to an image needs."""
    import cv2
    import PIL.Image

    import osv_lab.serve.answers
    import osv_lab.serve.remote
    import osv_lab.serve.ticket  # noqa: F401

    cv2.setNumThreads(1)  # other workers have the other cores
    PIL.Image.preinit()


def import_for_reading() -> None:
    """Import what reads JSON, forms and options; whoever asks with one before waits for this."""
    import osv_lab.serve.reading  # noqa: F401


def main() -> None:
    """Work until the front has gone."""
    # The front is told to stop and drains; its workers end with it, not before.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s:     worker: %(message)s")
    jobs, control = (socket.socket(fileno=int(one)) for one in sys.argv[1:3])
    first = pipe.receive(control)
    if first is None:
        return
    worker = Worker(_limits(first[0]["limits"]))
    # While the front does the same; a model is loaded, mostly without Python, while the rest is imported. Whoever needs
    # Python again does not wait long for it.
    sys.setswitchinterval(_SWITCH_S)
    import_for_loading()
    imported = threading.Event()
    threading.Thread(target=_obey, args=(control, worker, imported), name="control", daemon=True).start()
    import_for_answering()
    imported.set()
    later = threading.Timer(_A_MOMENT_S, import_for_reading)
    later.daemon = True
    later.start()
    _work(jobs, worker)


def _limits(said: Mapping[str, Any]) -> Limits:
    from osv_lab.serve.limits import FetchPolicy, Limits

    return Limits(**said, fetch=FetchPolicy(allow=False))


def _obey(control: socket.socket, worker: Worker, imported: threading.Event) -> None:
    """Load and forget models as told; end the process, whatever it is at, when nobody tells any more."""
    try:
        while (frame := pipe.receive(control)) is not None:
            order, _ = frame
            said: dict[str, Any]
            try:
                if order["do"] == "forget":
                    worker.forget(order["key"])
                    continue
                if order["do"] == "import":
                    imported.wait()
                    said = {}
                else:
                    said = {"loaded": worker.load(order["key"], order)}
            except OsvError as error:
                said = {"error": pipe.error_json(error)}
            except Exception as error:  # noqa: BLE001 - as above
                _log.exception("a model could not be loaded")
                said = {"error": pipe.error_json(OsvError("the model cannot be loaded", type(error).__name__))}
            pipe.send(control, said)
    finally:
        os._exit(0)


def _work(jobs: socket.socket, worker: Worker) -> None:
    """Answer jobs: one after the other, or in as many threads as a model that runs in batches asks."""
    sending = threading.Lock()

    def do(job: Mapping[str, Any], parts: list[bytes]) -> None:
        header, found = worker.answer(job, parts)
        with sending:
            pipe.send(jobs, header, *found)

    with ThreadPoolExecutor(2 * LARGEST_BATCH) as pool:
        try:
            while (frame := pipe.receive(jobs)) is not None:
                if frame[0]["in_order"]:
                    do(*frame)
                else:
                    pool.submit(do, *frame)
        except OSError:
            pass  # the front has gone
