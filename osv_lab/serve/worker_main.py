"""A worker process, from its start to its end.

:class:`osv_lab.serve.spawn.Spawned` starts :func:`main` with the file descriptors of two sockets. Work comes over the
first, one frame per job and one per answer. Models are loaded and forgotten over the second, by a thread of its own, so
that neither waits for the other. When the front has gone the worker ends.

ONNX Runtime is imported before anything here. It opens a model mostly without Python, and everything else is imported
meanwhile.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading

from osv_lab.serve import pipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from typing import Any

    from osv_lab.serve.limits import Limits
    from osv_lab.serve.worker import Worker

_A_MOMENT_S = 0.5
"""After this what the first answer does not need is imported."""

_SWITCH_S = 0.0005
"""How long one thread keeps another from Python code; Python's own value is ten times that."""


def main() -> None:
    """Work until the front has gone."""
    # The front is told to stop and drains; its workers end with it, not before.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    jobs, control = (socket.socket(fileno=int(one)) for one in sys.argv[1:3])
    first = pipe.receive(control)
    if first is None:
        return
    # Whoever needs Python again does not wait long for it.
    sys.setswitchinterval(_SWITCH_S)
    orders = _Orders(control)
    threading.Thread(target=orders.obey, name="control", daemon=True).start()
    orders.worker = worker = _worker(_limits(first[0]["limits"]))
    orders.has_worker.set()
    _import_for_answering()
    orders.imported.set()
    later = threading.Timer(_A_MOMENT_S, _import_for_reading)
    later.daemon = True
    later.start()
    _work(jobs, worker)


class _Orders:
    """What comes over the control socket.

    Attributes:
        worker: Whom it concerns.
        has_worker: Set when there is one.
        imported: Set when all that answers need is imported.
    """

    worker: Worker

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self.has_worker = threading.Event()
        self.imported = threading.Event()

    def obey(self) -> None:
        """Load and forget models as told; end the process, whatever it is at, when nobody tells any more."""
        try:
            while (frame := pipe.receive(self._control)) is not None:
                said = self._do(frame[0])
                if said is not None:
                    pipe.send(self._control, said)
        finally:
            os._exit(0)

    def _do(self, order: Mapping[str, Any]) -> dict[str, Any] | None:
        from osv_lab.core.errors import OsvError

        try:
            if order["do"] == "load":
                with _opened_ahead(order):
                    self.has_worker.wait()
                    return {"loaded": self.worker.load(order["key"], order)}
            self.imported.wait()
            if order["do"] == "import":
                return {}
            self.worker.forget(order["key"])
            return None
        except OsvError as error:
            return {"error": pipe.error_json(error)}
        except Exception as error:  # noqa: BLE001 - the front says so; this process lives on
            _failed("a model could not be loaded")
            return {"error": pipe.error_json(OsvError("the model cannot be loaded", type(error).__name__))}


def _opened_ahead(order: Mapping[str, Any]) -> AbstractContextManager[None]:
    """The session of an ONNX model is opened as it will be asked for where it runs one image per core of a CPU."""
    import contextlib

    from osv_lab.detect.providers import opened_ahead, usable_providers

    options = order["options"]
    # On a GPU that would be another one, and may take minutes.
    if order["scheduling"] == "batch" or len(usable_providers(options.get("providers"))) > 1:
        return contextlib.nullcontext()
    return opened_ahead(order["ref"], providers=options.get("providers"), threads=options.get("threads", 1))


def _worker(limits: Limits) -> Worker:
    import logging

    import osv_lab.detect.onnx
    import osv_lab.detect.reference
    import osv_lab.serve.served  # noqa: F401
    from osv_lab.serve.worker import Worker

    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s:     worker: %(message)s")
    return Worker(limits)


def _limits(said: Mapping[str, Any]) -> Limits:
    from osv_lab.serve.limits import FetchPolicy, Limits

    return Limits(**said, fetch=FetchPolicy(allow=False))


def _failed(what: str) -> None:
    import logging

    logging.getLogger("osv_lab.serve").exception(what)


def _import_for_answering() -> None:
    """Import what the first answer to an image needs."""
    import cv2
    import PIL.JpegImagePlugin  # noqa: F401

    import osv_lab.detect.images
    import osv_lab.serve.answers
    import osv_lab.serve.remote
    import osv_lab.serve.ticket  # noqa: F401

    cv2.setNumThreads(1)  # other workers have the other cores


def _import_for_reading() -> None:
    """Import what reads JSON, forms, options and other images; whoever asks with one before waits for this."""
    import osv_lab.serve.reading  # noqa: F401
    from osv_lab.serve.inputs import prepare_decoders

    prepare_decoders()


def _work(jobs: socket.socket, worker: Worker) -> None:
    """Answer jobs: one after the other, or in as many threads as a model that runs in batches asks."""
    from concurrent.futures import ThreadPoolExecutor

    from osv_lab.serve.scheduler import LARGEST_BATCH

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
