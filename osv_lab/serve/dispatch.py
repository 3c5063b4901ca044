"""Which worker process gets which job, and what becomes of the jobs of one that dies. On the event loop only."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from osv_lab.serve import pipe
from osv_lab.serve.errors import RequestError
from osv_lab.serve.metrics import Metrics

if TYPE_CHECKING:
    from osv_lab.serve.process import WorkerProcess
    from osv_lab.serve.remote import Call
    from osv_lab.serve.ticket import Ticket

_log = logging.getLogger("osv_lab.serve")

STUCK_S = 120.0
"""A worker that is at one job for longer is killed: nothing it should do takes that long."""


@dataclass(slots=True, eq=False)
class Job:
    """A piece of work for a worker.

    Attributes:
        call: What is to be done, and the models that may answer, which are kept until it is.
        ticket: Looked at just before the job is handed out.
        answer: Its result.
        link: Who has it.
        begun: When that one got it, as ``time.perf_counter()``.
    """

    call: Call
    ticket: Ticket
    answer: asyncio.Future[Any]
    link: Link | None = None
    begun: float = 0.0


class Dispatch:
    """The queue before the workers, in the order of arrival.

    Args:
        on_death: Told when a worker has gone.
    """

    def __init__(self, on_death: Callable[[WorkerProcess], None]) -> None:
        self.metrics = Metrics()
        self.links: list[Link] = []
        self.lanes_each = 1
        self._on_death = on_death
        self._waiting: deque[Job] = deque()
        self._numbers = 0
        self._watch: asyncio.TimerHandle | None = None

    async def add(self, process: WorkerProcess) -> None:
        """Give work to this one too."""
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: Link(self, process), sock=process.jobs)
        if self._watch is None:
            self._watch = loop.call_later(1.0, self._kill_the_stuck)

    def begin(self, job: Job) -> None:
        """Have a job done as soon as a worker is free."""
        self._waiting.append(job)
        self._hand_out()

    def cancel(self, job: Job) -> bool:
        """Whether the job was not handed out yet, and now never will be."""
        if job.link is not None or job.answer.done():
            return False
        self._waiting.remove(job)
        job.answer.cancel()
        return True

    def close(self) -> None:
        """Give out nothing more; what waits is not done."""
        if self._watch is not None:
            self._watch.cancel()
        for job in self._waiting:
            job.answer.cancel()
        self._waiting.clear()
        for link in list(self.links):
            link.transport.abort()

    def _hand_out(self) -> None:
        while self._waiting and self.links:
            lone = len(self._waiting) == 1 and not any(link.jobs for link in self.links)
            if lone:
                # Always the same one, so that no other needs a model on more cores.
                link = min(self.links, key=lambda one: one.process.pid)
            else:
                # The last one back is the one whose memory is warm.
                link = min(reversed(self.links), key=lambda one: len(one.jobs))
            if len(link.jobs) >= self.lanes_each:
                return
            job = self._waiting.popleft()
            try:
                job.ticket.check()
            except RequestError as error:
                job.answer.set_exception(error)
                continue
            self._numbers += 1
            link.give(self._numbers, job, lone, in_order=self.lanes_each == 1)

    def linked(self, link: Link) -> None:
        """A worker is there."""
        self.links.append(link)
        self._hand_out()

    def answered(self, link: Link, header: dict[str, Any], parts: list[bytes]) -> None:
        """A worker has done a job."""
        job = link.jobs.pop(header["id"])
        self.links.remove(link)
        self.links.append(link)
        self._hand_out()
        for name, number in header["counts"].items():
            self.metrics.count(name, number)
        for size in header["batches"]:
            self.metrics.batch(size)
        if job.answer.done():
            return  # nobody waits for it any more
        if "error" in header:
            job.answer.set_exception(pipe.error_of(header["error"]))
        elif "failed" in header:
            job.answer.set_exception(RuntimeError(f"{header['failed']} in a worker process, see its log"))
        else:
            job.answer.set_result(job.call.operation.read(header, parts))

    def lost(self, link: Link) -> None:
        """A worker has died: its jobs fail, and only they."""
        self.links.remove(link)
        for job in link.jobs.values():
            if not job.answer.done():
                job.answer.set_exception(
                    RequestError(
                        503, "the worker process that computed this died", "", "try again", retry_after_s=1
                    )
                )
        self._on_death(link.process)

    def _kill_the_stuck(self) -> None:
        self._watch = asyncio.get_running_loop().call_later(1.0, self._kill_the_stuck)
        for link in list(self.links):
            if any(time.perf_counter() - job.begun > STUCK_S for job in link.jobs.values()):
                _log.error("worker process %d is killed: a job took over %g s", link.process.pid, STUCK_S)
                link.process.kill()


class Link(asyncio.Protocol):
    """The connection to one worker, and the jobs it has."""

    transport: asyncio.Transport

    def __init__(self, dispatch: Dispatch, process: WorkerProcess) -> None:
        self.process = process
        self.jobs: dict[int, Job] = {}
        self._dispatch = dispatch
        self._frames = pipe.Frames()

    def give(self, number: int, job: Job, lone: bool, in_order: bool) -> None:
        """Hand a job out.

        Args:
            lone: Nothing else is being done.
            in_order: It is not to be done beside another one.
        """
        job.link, job.begun = self, time.perf_counter()
        self.jobs[number] = job
        keys = {name: model.detector.key for name, model in job.call.models.items()}  # type: ignore[attr-defined]
        header = {**job.call.header, "id": number, "lone": lone, "in_order": in_order, "models": keys}
        header |= {"started": job.ticket.started, "deadline": job.ticket.deadline}
        self.transport.write(b"".join(pipe.pack(header, *job.call.parts)))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own class is no subclass
        self._dispatch.linked(self)

    def data_received(self, data: bytes) -> None:
        for header, parts in self._frames.feed(data):
            self._dispatch.answered(self, header, parts)

    def connection_lost(self, exc: Exception | None) -> None:
        self._dispatch.lost(self)
