"""Who is let in, who waits, and who is worked for: a bounded house with threads.

Work that nobody waits for any more, because it is late or its client has gone, is not begun.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from osv_lab.serve.batcher import Batcher
from osv_lab.serve.crew import Crew
from osv_lab.serve.dispatch import Job
from osv_lab.serve.errors import RequestError
from osv_lab.serve.metrics import Metrics
from osv_lab.serve.models import Models
from osv_lab.serve.remote import call_of
from osv_lab.serve.ticket import CLIENT_GONE, LATE, Ticket, too_late

if TYPE_CHECKING:
    from osv_lab.serve.answers import Answers

Result = TypeVar("Result")

FETCHERS = 8
"""Threads that wait for other hosts, so that those that compute never do."""


class House:
    """The places of a server, its queue, and its threads.

    Args:
        models: Those that answer.
        lanes: Threads that decode, run and suppress. Work goes through one of them in one piece.
        places: Requests in the house at once: being received, waiting and computed.
        deadline_s: How long a request may wait for a thread.
        metrics: Told of what was not done.
        crew: Worker processes that do what can be done in one, instead of the threads.
        answers: What the threads compute; asked for when they do.
        observing: Whether answers carry their observation, which costs about as much as parsing the request.

    Attributes:
        closing: Nothing new is taken.
        leaving: Set when those that stay, streams and the like, should say goodbye; on the event loop only.
        guests: How many of these there are.
        inside: Requests that have a place.
    """

    def __init__(
        self,
        models: Models,
        lanes: int,
        places: int,
        deadline_s: float,
        metrics: Metrics,
        crew: Crew | None = None,
        *,
        answers: Callable[[], Answers],
        observing: Callable[[], bool],
    ) -> None:
        self.models = models
        self.answers = answers
        self.observing = observing
        self.metrics = metrics
        self.crew = crew
        if crew is not None:
            crew.dispatch.metrics = metrics
        self.batcher = Batcher(metrics.batch)
        self.lanes = lanes
        self.places = places
        self.deadline_s = deadline_s
        self.closing = False
        self.leaving = asyncio.Event()
        self.inside = 0
        self.guests = 0
        self._work = 0
        self._pool: ThreadPoolExecutor | None = None
        self._fetchers: ThreadPoolExecutor | None = None

    @property
    def open(self) -> bool:
        """Whether requests are taken."""
        return self._pool is not None and not self.closing

    @property
    def has_room(self) -> bool:
        """Whether a request would be let in."""
        return not self.closing and self.inside < self.places

    @property
    def queue_depth(self) -> int:
        """Pieces of work that wait for a thread."""
        return max(0, self._work - self.lanes)

    def start(self) -> None:
        """Open the house."""
        self._pool = ThreadPoolExecutor(self.lanes, "serve")
        self._fetchers = ThreadPoolExecutor(FETCHERS, "serve-fetch")

    def resize(self, lanes: int) -> None:
        """Work with that many threads from now on; what has been handed out is finished. On the event loop only."""
        if lanes != self.lanes and self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool, self.lanes = ThreadPoolExecutor(lanes, "serve"), lanes

    def stop(self) -> None:
        """Finish what was begun; nothing is taken any more."""
        pool, fetchers = self._pool, self._fetchers
        self._pool = self._fetchers = None
        for one in (pool, fetchers):
            if one is not None:
                one.shutdown(cancel_futures=True)
        if self.crew is not None:
            self.crew.close()
        self.batcher.close()

    def __enter__(self) -> House:
        """Take a place, or be sent away at once.

        Raises:
            RequestError: 503.
        """
        if self.closing:
            self.metrics.count("rejected")
            raise RequestError(503, "the server is stopping", "", "ask another one", retry_after_s=1)
        if self.inside >= self.places:
            self.metrics.count("rejected")
            raise RequestError(503, "the server is busy", "", "try again in a moment", retry_after_s=1)
        self.inside += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.inside -= 1

    def ticket(self, started: float, gone: Callable[[], Awaitable[None]]) -> Ticket:
        """A ticket for a request whose body is here."""
        return Ticket(started, time.perf_counter() + self.deadline_s, gone)

    async def fetch(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Run what waits for other hosts."""
        if self._fetchers is None:
            raise _not_open()
        return await asyncio.get_running_loop().run_in_executor(self._fetchers, work, *arguments)

    async def run(self, ticket: Ticket, work: Callable[..., Result], *arguments: Any) -> Result:
        """Run a piece of work in a thread when its turn comes.

        Raises:
            RequestError: 503 when it has waited too long or the house is not open, 499 when the client has gone.
        """
        if self._pool is None:
            raise _not_open()
        waits = self._work >= self.lanes or self.batcher.busy
        begun = self._pool.submit(_checked, ticket, work, arguments)
        return await self._result(ticket, asyncio.wrap_future(begun), begun.cancel, waits)

    async def compute(self, ticket: Ticket, name: str, *arguments: Any) -> Any:
        """Have a method of :class:`~osv_lab.serve.answers.Answers` called when its turn comes: in a worker process
        where there are any, else in a thread.

        Args:
            name: A key of :data:`osv_lab.serve.remote.OPERATIONS`.

        Raises:
            RequestError: as for :meth:`run`.
        """
        if self.crew is None:
            ticket.lone = self._work == 0
            work = functools.partial(getattr(self.answers(), name), ticket=ticket)
            return await self.run(ticket, work, *arguments)
        if self._pool is None:
            raise _not_open()
        dispatch = self.crew.dispatch
        call = call_of(name, self.models, self.observing(), arguments)
        job = Job(call, ticket, asyncio.get_running_loop().create_future())
        dispatch.begin(job)
        # It waits where all workers are busy, and where none is up.
        return await self._result(ticket, job.answer, lambda: dispatch.cancel(job), job.link is None)

    async def _result(
        self, ticket: Ticket, answer: asyncio.Future[Result], cancel: Callable[[], bool], waits: bool
    ) -> Result:
        """The result of what was begun, while somebody waits for it.

        Args:
            cancel: Has it not done; tells whether it never will be.
            waits: Whether it waits for its turn, so that it may become late, or its client go.
        """
        self._work += 1
        try:
            if waits:
                await self._wait(ticket, answer, cancel)
            return await answer
        except RequestError as error:
            if error.status == CLIENT_GONE:
                self.metrics.count("abandoned")
            elif error.what == LATE:
                self.metrics.count("expired")
            raise
        finally:
            self._work -= 1

    async def _wait(self, ticket: Ticket, answer: asyncio.Future[Any], cancel: Callable[[], bool]) -> None:
        """Until there is an answer, or it is known that there will be none."""
        either: set[asyncio.Future[Any]] = {answer, ticket.watch()}
        await asyncio.wait(either, timeout=ticket.left_s, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            gone = ticket.watch().done()
            # A piece that runs already may still be waiting for its batch; it asks its ticket then.
            ticket.abandoned = ticket.abandoned or gone
            if cancel():
                raise RequestError(CLIENT_GONE, "the client has gone") if gone else too_late()


def _not_open() -> RequestError:
    return RequestError(503, "the server is starting or stopping", "", "try again", retry_after_s=1)


def _checked(ticket: Ticket, work: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    ticket.check()
    return work(*arguments)
