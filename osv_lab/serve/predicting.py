"""``POST /predict`` and ``/predict/batch``: from a request to its answer, through the house.

Reading the body is all the event loop does; parsing, decoding and inference of a request run elsewhere in one piece.
What does not fit is refused at once, with a reason, before it costs memory.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import osv_lab.serve.fetch  # noqa: F401 - here, not later in a thread
from osv_lab.core.errors import OsvError
from osv_lab.serve.asked import Asked
from osv_lab.serve.errors import RequestError
from osv_lab.serve.house import House
from osv_lab.serve.inputs import image_bytes
from osv_lab.serve.limits import Limits
from osv_lab.serve.message import Answer, Fetch, Sent, is_url
from osv_lab.serve.ticket import Ticket

if TYPE_CHECKING:
    from osv_lab.serve.answers import Answers, Batch
    from osv_lab.serve.observe import Observation, Observers


class Seen(NamedTuple):
    """One image that was answered: what was found, how to get it, and what keeping it costs."""

    observation: Observation | None
    image: Callable[[], bytes]
    size_bytes: int


class Predicting:
    """Answers predictions.

    Args:
        house: Who is let in, and where the work is done.
        answers: What the work is; asked for when this process does some of it.
        limits: Sizes, and how long a body may take.
        observers: Shown what was answered, once it was sent.
    """

    def __init__(self, house: House, answers: Callable[[], Answers], limits: Limits, observers: Observers) -> None:
        self._house = house
        self._answers = answers
        self._limits = limits
        self._observers = observers

    async def one(self, asked: Asked) -> Answer:
        """The answer to ``POST /predict``.

        Raises:
            RequestError: it cannot be answered with predictions.
        """
        started = time.perf_counter()
        with self._house:
            sent = await asked.sent(self._limits.max_body_bytes, self._limits.body_timeout_s)
            found, seen = await self._look(sent, started, asked.gone)
            self._show_later(found, [seen])
            return found

    async def batch(self, asked: Asked) -> Answer:
        """The answer to ``POST /predict/batch``.

        Raises:
            RequestError: the request as a whole cannot be answered.
        """
        started = time.perf_counter()
        with self._house as house:
            sent = await asked.sent(self._limits.max_batch_bytes, self._limits.body_timeout_s)
            ticket = house.ticket(started, asked.gone)
            try:
                batch = await house.run(ticket, lambda: self._answers().read_batch(sent))
                each = await self._each(batch, ticket)
                results = [result for result, _ in each]
                whole = await house.run(ticket, self._answers().finish_batch, batch, results, started)
                self._show_later(whole, [seen for _, seen in each])
                return whole
            finally:
                ticket.close()

    async def frame(self, sent: Sent, gone: Callable[[], Awaitable[None]]) -> Answer:
        """As :meth:`one` for a frame of a stream or source, which shows its frames to observers itself."""
        with self._house:
            return (await self._look(sent, time.perf_counter(), gone))[0]

    async def _look(self, sent: Sent, started: float, gone: Callable[[], Awaitable[None]]) -> tuple[Answer, Seen]:
        """What is found in one image; a place in the house is taken already."""
        house = self._house
        ticket = house.ticket(started, gone)
        try:
            found, fetched = await house.compute(ticket, "predict", sent), None
            if isinstance(found, Fetch):
                fetched = await house.fetch(self._fetched, found.url)
                ticket.deadline = time.perf_counter() + house.deadline_s
                found = await house.compute(ticket, "predict", sent, fetched)
            return found, Seen(found.observation, lambda: self._image_of(sent, fetched), len(fetched or sent.body))
        finally:
            ticket.close()

    def _fetched(self, url: str) -> bytes:
        return image_bytes(url, self._limits)

    def _image_of(self, sent: Sent, fetched: bytes | None) -> bytes:
        return self._answers().image_of(sent) if fetched is None else fetched

    async def _each(self, batch: Batch, ticket: Ticket) -> list[tuple[dict[str, Any], Seen]]:
        """The results of a batch's images, in order. No more of them are under way than there are threads, which
        bounds the memory and lets other requests in between."""
        house = self._house
        room = asyncio.Semaphore(min(batch.batch_size, house.lanes))

        async def one(index: int, image: str | bytes) -> tuple[dict[str, Any], Seen]:
            source: str | bytes | OsvError = image
            async with room:
                if isinstance(image, str) and is_url(image):
                    try:
                        source = await house.fetch(self._fetched, image)
                    except RequestError as error:
                        source = error
                # Waiting for its own batch is not waiting for the server.
                ticket.deadline = time.perf_counter() + house.deadline_s
                result, observation = await house.compute(ticket, "one_of_batch", batch, index, source)
                kept = image if isinstance(source, OsvError) else source
                image_of = functools.partial(self._answers().image_of_item, kept)
                return result, Seen(observation, image_of, len(kept))

        tasks = [asyncio.ensure_future(one(index, image)) for index, image in enumerate(batch.images)]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    def _show_later(self, answer: Answer, seen: Sequence[Seen]) -> None:
        """Show what was answered to the observers once it was sent."""
        if self._observers.watching:
            answer.then = functools.partial(self._show, seen)

    def _show(self, seen: Sequence[Seen]) -> None:
        for one in seen:
            self._observers.offer(*one)
