"""A server that finishes its work before it stops listening."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from types import FrameType

import uvicorn

from osv_lab.serve.house import House

_FAREWELL_S = 2.0
_log = logging.getLogger("osv_lab.serve")


class DrainingServer(uvicorn.Server):
    """On the first signal new predictions get 503 and ``/ready`` says so, until those in the house are answered.

    Whoever sends requests here learns so from an answer, not from a refused connection. A second signal, or uvicorn's
    ``timeout_graceful_shutdown``, ends the waiting.
    """

    def __init__(self, config: uvicorn.Config, house: House) -> None:
        super().__init__(config)
        self._house = house
        self._asked_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; the second time, stop."""
        if self._asked_at is not None:
            super().handle_exit(sig, frame)
            return
        self._asked_at = time.monotonic()
        self._house.closing = True

    async def on_tick(self, counter: int) -> bool:
        """uvicorn asks ten times a second whether it is time to go."""
        if self._asked_at is not None and not self.should_exit:
            patience = self.config.timeout_graceful_shutdown or 0
            late = time.monotonic() - self._asked_at > patience
            self._house.leaving.set()
            if late:
                _log.warning("stopping with %d requests unanswered", self._house.inside)
            self.should_exit = late or (self._house.inside == 0 and self._house.guests == 0)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams that are still open, then everything."""
        self._house.closing = True
        self._house.leaving.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_S):
                while self._house.guests:
                    await asyncio.sleep(0.01)
        await super().shutdown(sockets)
