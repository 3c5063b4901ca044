"""Until when a request's answer is of use, and whether anybody still waits for it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from osv_lab.serve.errors import RequestError

if TYPE_CHECKING:
    import asyncio

CLIENT_GONE = 499
"""The status of a request whose client did not wait; nginx's, seen in metrics and logs only."""

LATE = "the request waited too long"


def too_late() -> RequestError:
    """What is said of a request that waited beyond its deadline."""
    return RequestError(503, LATE, "", "try again in a moment", retry_after_s=1)


class Ticket:
    """One request: until when its answer is of use, and whether anybody still waits for it.

    Args:
        started: ``time.perf_counter()`` when the request arrived.
        deadline: ``time.perf_counter()`` after which nothing is begun for it.
        gone: Waits until the client has gone.
        lone: Whether nothing else was being done when it was begun.
    """

    __slots__ = ("_gone", "_watch", "abandoned", "deadline", "lone", "started")

    def __init__(
        self, started: float, deadline: float, gone: Callable[[], Awaitable[None]], lone: bool = False
    ) -> None:
        self.started = started
        self.deadline = deadline
        self.lone = lone
        self.abandoned = False
        self._gone = gone
        self._watch: asyncio.Future[None] | None = None

    def check(self) -> None:
        """Refuse to begin what nobody waits for; called in worker threads, just before the work.

        Raises:
            RequestError: 499 when the client has gone, 503 when it is too late.
        """
        if self.abandoned:
            raise RequestError(CLIENT_GONE, "the client has gone")
        if time.perf_counter() > self.deadline:
            raise too_late()

    @property
    def left_s(self) -> float:
        """Seconds until the deadline, at least 0."""
        return max(0.0, self.deadline - time.perf_counter())

    def watch(self) -> asyncio.Future[None]:
        """Done when the client has gone; one watch per request, begun when it is first needed."""
        if self._watch is None:
            import asyncio  # a worker has no event loop, and does without it

            self._watch = asyncio.ensure_future(self._gone())
        return self._watch

    def close(self) -> None:
        """The request is over: what is left of it is not begun."""
        self.abandoned = True
        if self._watch is not None:
            self._watch.cancel()
