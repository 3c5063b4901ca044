"""The worker processes of a server: they compute, the front process keeps everything else.

The front keeps HTTP, the queue, deadlines, keys and limits; a worker decodes, runs a session and encodes the answer,
one job at a time. What brings a worker down (a decoder, a runtime, the kernel's memory killer) fails the jobs it was at
and nothing else, and another takes its place. A model is loaded by every worker before any job names it, and each job
names the models it may be answered by, so a swap is one assignment in the front.

Example:
    >>> from osv_lab.serve.app import create_app
    >>> from osv_lab.serve.slot import ModelSlot
    >>> crew = Crew(processes=2)
    >>> app = create_app(ModelSlot("best.onnx", loader=crew.load), crew=crew)    # processes come and go with it
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.core.cores import usable_cores
from osv_lab.core.errors import InvalidDataError, OsvError, UnavailableError, UsageError
from osv_lab.serve.dispatch import Dispatch
from osv_lab.serve.elsewhere import Elsewhere
from osv_lab.serve.limits import Limits
from osv_lab.serve.process import WorkerProcess
from osv_lab.serve.scheduler import Plan, Scheduling
from osv_lab.serve.served import ServedModel, thresholds_of
from osv_lab.serve.spawn import POSSIBLE

if TYPE_CHECKING:
    from osv_lab.detect.detector import Detector
    from osv_lab.serve.drift import Reference

_log = logging.getLogger("osv_lab.serve")

_MOST_DELAY_S = 30.0
_CALM_S = 60.0
_A_MOMENT_S = 0.3


class Crew:
    """Worker processes, kept at their number.

    Args:
        processes: How many; by default one per core, and a single one for a model that runs in batches.
        limits: How much a request may ask.
        first: A worker that was started already, with the same limits.
        lanes: Jobs at once in a worker whose model runs in batches; by default what its plan asks.

    Attributes:
        dispatch: Hands out the work.

    Raises:
        UsageError: fewer than one, or a system where this cannot be.
    """

    def __init__(
        self,
        processes: int | None = None,
        limits: Limits | None = None,
        lanes: int | None = None,
        first: WorkerProcess | None = None,
    ) -> None:
        if not POSSIBLE:
            raise UsageError("worker processes need Linux or macOS", "Windows", "use processes=0")
        if processes is not None and processes < 1:
            raise UsageError("a crew needs a worker process", processes, "use processes=0 for threads")
        self.dispatch = Dispatch(self._died)
        self._started = 1
        self._asked = processes
        self._limits = limits or Limits()
        self._lanes = lanes
        self._plan: Plan | None = None
        # Members have loaded what is loaded; those of them that the dispatch has a link to get work.
        self._members: list[WorkerProcess] = [] if first is None else [first]
        self._recipes: dict[int, dict[str, Any]] = {}
        self._keys = 0
        self._deaths: deque[float] = deque(maxlen=16)
        self._changing = threading.Lock()
        self._vacant = threading.Event()
        self._closing = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._keeper = threading.Thread(target=self._keep, name="serve-crew", daemon=True)

    @property
    def alive(self) -> int:
        """Workers that get work."""
        return len(self.dispatch.links)

    @property
    def wanted(self) -> int:
        """Workers there should be."""
        batch = self._plan is not None and self._plan.mode == "batch"
        return self._asked or (1 if batch else usable_cores())

    @property
    def lanes(self) -> int:
        """Jobs that are computed at once when all workers are there."""
        return self.wanted * self.dispatch.lanes_each

    @property
    def restarts(self) -> int:
        """Workers that took the place of one that died."""
        return max(0, self._started - self.wanted)

    def describe(self) -> dict[str, int]:
        """What ``/models`` says."""
        return {"wanted": self.wanted, "alive": self.alive, "restarts": self.restarts}

    def warm_up(self) -> None:
        """Start the first worker: it imports what it needs while this process does the same."""
        with self._changing:
            if not self._members and not self._closing.is_set():
                self._members.append(WorkerProcess(self._limits))

    def load(
        self,
        ref: str | Path | Detector,
        options: Mapping[str, Any] | None = None,
        scheduling: Scheduling = "auto",
        max_batch: int | None = None,
        lone_threads: int | None = None,
    ) -> ServedModel:
        """Load a model into all workers; as :func:`osv_lab.serve.served.load_model` does into this process.

        It stays loaded as long as somebody holds what is returned. Not to be called on the event loop.

        Raises:
            OsvError: it cannot be loaded.
        """
        if not isinstance(ref, (str, Path)):
            raise UsageError(
                "a detector in memory cannot be given to worker processes", ref.ref, "use processes=0"
            )
        asked: dict[str, Any] = {"ref": str(ref), "options": dict(options or {}), "described": None}
        asked |= {"scheduling": scheduling, "max_batch": max_batch, "lone_threads": lone_threads}
        self.warm_up()
        with self._changing:
            members = [one for one in self._members if one.alive]
            if not members:
                raise UnavailableError("no worker process is up", "", "try again in a moment")
            self._keys += 1
            key = self._keys
            members[0].begin_loading(key, asked)
            said = members[0].loaded()
            plan = Plan(**said["plan"])
            # The others load the same file, not what the reference may lead to by then, and measure nothing.
            recipe = {**asked, "ref": said["path"], "described": said["described"], "scheduling": plan.mode}
            recipe |= {"max_batch": plan.max_batch, "lone_threads": plan.lone_threads}
            for one in members[1:]:
                one.begin_loading(key, recipe)
            for one in members[1:]:
                try:
                    _check_same(one.loaded(), recipe)
                except OsvError as error:
                    _log.error("a worker process leaves: %s", error)
                    one.kill()
            self._recipes[key] = recipe
            if self._plan is None:
                self._plan = plan
                self.dispatch.lanes_each = 1 if plan.mode == "parallel" else self._lanes or plan.lanes
        defaults, version = thresholds_of(said["defaults"]), said["dataset_version"]
        usual = None if said["reference"] is None else _reference_of(said["reference"])
        model = ServedModel(Elsewhere(key, said["described"]), plan, said["described"], defaults, version, usual)
        weakref.finalize(model, self._forget, key).atexit = False
        return model

    async def start(self) -> None:
        """Give out work from now on, and keep the workers at their number."""
        self._loop = asyncio.get_running_loop()
        for one in self._members:
            await self.dispatch.add(one)
        self._keeper.start()
        # The first worker's first answer has the machine for itself.
        self._loop.call_later(_A_MOMENT_S, self._vacant.set)

    def stop(self) -> None:
        """Give out nothing more. On the event loop only."""
        self._closing.set()
        self._vacant.set()
        self.dispatch.close()

    def close(self) -> None:
        """End the workers; not to be called on the event loop."""
        self._closing.set()
        self._vacant.set()
        if self._keeper.is_alive():
            self._keeper.join()
        with self._changing:
            for one in self._members:
                one.end()
            self._members.clear()

    def _died(self, process: WorkerProcess) -> None:
        process.lost = True
        if not self._closing.is_set():
            _log.error("worker process %d died; another takes its place", process.pid)
            self._deaths.append(time.monotonic())
            self._vacant.set()

    def _keep(self) -> None:
        """Fill places that are empty; after many deaths in a minute only after a while."""
        while not self._closing.is_set():
            self._vacant.wait()
            self._vacant.clear()
            if self._closing.wait(self._delay_s()):
                return
            with self._changing:
                gone = [one for one in self._members if not one.alive]
                self._members = [one for one in self._members if one.alive]
                missing = self.wanted - len(self._members)
            for one in gone:
                one.kill()
                one.end()
            try:
                if missing > 0:
                    self._fill(missing)
            except (OsvError, OSError) as error:
                _log.error("no worker process could be started: %s", error)
                self._deaths.append(time.monotonic())
                self._vacant.set()

    def _delay_s(self) -> float:
        """How long to wait before workers are replaced: a second try at once, then longer and longer."""
        recent = sum(time.monotonic() - one < _CALM_S for one in self._deaths)
        beyond = recent - 2 * self.wanted
        return 0.0 if beyond <= 0 else min(_MOST_DELAY_S, 0.25 * 2**beyond)

    def _fill(self, missing: int) -> None:
        # They import at the same time, and nobody who changes a model waits for that.
        new = [WorkerProcess(self._limits) for _ in range(missing)]
        try:
            for one in new:
                one.wait_until_up()
            with self._changing:
                for key, recipe in self._recipes.items():
                    for one in new:
                        one.begin_loading(key, recipe)
                    for one in new:
                        _check_same(one.loaded(), recipe)
                self._members += new
        except (OsvError, OSError):
            for one in new:
                one.kill()
                one.end()
            raise
        assert self._loop is not None
        for one in new:
            asyncio.run_coroutine_threadsafe(self.dispatch.add(one), self._loop).result()
            self._started += 1
            if self._started > self.wanted:
                self.dispatch.metrics.count("worker_restarts")

    def _forget(self, key: int) -> None:
        # Whoever drops the last reference, which may be the event loop, must not wait for a model that is loaded.
        threading.Thread(target=self._forget_now, args=(key,), name="serve-forget", daemon=True).start()

    def _forget_now(self, key: int) -> None:
        with self._changing:
            del self._recipes[key]
            for one in self._members:
                one.forget(key)


def _reference_of(said: Mapping[str, Any]) -> Reference:
    from osv_lab.serve.drift import Reference

    return Reference.from_json(said)


def _check_same(said: Mapping[str, Any], recipe: Mapping[str, Any]) -> None:
    """Refuse another model than the first worker loaded: its file was written anew.

    Raises:
        InvalidDataError: it is not the same.
    """
    if said["digest"] != recipe["described"]["digest"]:
        ref = recipe["described"]["ref"]
        raise InvalidDataError(
            "the model's file has changed since it was loaded", ref, "swap the model to load it"
        )
