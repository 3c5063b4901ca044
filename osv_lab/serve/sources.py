"""The sources of one server, by name.

A client names what the server was started with (:class:`osv_lab.serve.places.Places`), never an address or a path.
"""

from __future__ import annotations

import asyncio
from typing import Any

from osv_lab.serve.errors import RequestError
from osv_lab.serve.frames import SourceRequest
from osv_lab.serve.house import House
from osv_lab.serve.identities import Track, checked_options
from osv_lab.serve.observe import Observers
from osv_lab.serve.places import NAME, Places
from osv_lab.serve.source import Ask, WatchedSource

MAX_RUNNING = 4
"""Most sources that run at once: each keeps a thread busy with decoding."""

MAX_SOURCES = 64


class Sources:
    """Sources by name. All methods are called on the event loop.

    Args:
        places: What there is; what stands for one source is known by its name from the beginning.
        ask: Answers a frame.
        house: Who lets frames in.
        track: Which tracker where nothing else is asked.
        max_running: Most that run at once.
        observers: Shown every frame that is answered.
    """

    def __init__(
        self,
        places: Places,
        ask: Ask,
        house: House,
        track: Track = True,
        max_running: int = MAX_RUNNING,
        observers: Observers | None = None,
    ) -> None:
        self._observers = observers or Observers([])
        self._places, self._ask, self._house, self._track = places, ask, house, track
        self.max_running = max_running
        self._sources = {name: self._make(name, SourceRequest(source=name)) for name in places.single()}

    def start_live(self) -> None:
        """Start the cameras and streams the server was started with, as many as may run."""
        live = [source for source in self._sources.values() if source.live]
        for source in live[: self.max_running]:
            source.start()

    async def close(self) -> None:
        """Stop all."""
        await asyncio.gather(*(source.stop() for source in self._sources.values()))

    def statuses(self) -> list[dict[str, Any]]:
        """The status of each."""
        return [source.status() for source in self._sources.values()]

    def get(self, name: str) -> WatchedSource:
        """Raises :class:`RequestError` (404) where there is no such source."""
        if name not in self._sources:
            known = ", ".join(list(self._sources)[:20]) or "none"
            raise RequestError(404, "no such source", name, f"there are: {known}; POST /sources starts another")
        return self._sources[name]

    def begin(self, asked: SourceRequest) -> WatchedSource:
        """Start a source under a name of its own; one of that name which does not run is replaced.

        Raises:
            RequestError: 403 for what the server was not started with, 404 for no such file, 409 where the name is in
                use or there are too many, 422 for options that cannot be used.
        """
        self._places.resolve(asked.source)
        name = asked.name or asked.source.replace("/", "-")
        if not NAME.fullmatch(name):
            raise RequestError(422, "a source's name is letters, digits, dots and dashes", name, "give a name")
        source = self._make(name, asked)
        present = self._sources.get(name)
        if present is not None and (present.running or present.lingering):
            raise RequestError(409, "a source of this name runs", name, "stop it, or take another name")
        if present is not None and name in self._places.single() and asked.source != name:
            raise RequestError(409, "the name stands for another source", name, "take another name")
        if present is None and len(self._sources) >= MAX_SOURCES:
            raise RequestError(409, "too many sources are known", MAX_SOURCES, "DELETE one of them")
        self._start(source)
        self._sources[name] = source
        return source

    def start(self, name: str) -> WatchedSource:
        """Start a source that is known, with its options."""
        source = self.get(name)
        if not source.running:
            self._start(source)
        return source

    async def stop(self, name: str) -> WatchedSource:
        """Stop one."""
        source = self.get(name)
        await source.stop()
        return source

    async def forget(self, name: str) -> None:
        """Stop one and forget it.

        Raises:
            RequestError: 409 for one the server was started with.
        """
        source = self.get(name)
        if name in self._places.single():
            raise RequestError(409, "the server was started with this source", name, "stop it")
        await source.stop()
        self._sources.pop(name, None)

    def available(self) -> list[str]:
        """What may be started."""
        return self._places.available()

    def _start(self, source: WatchedSource) -> None:
        running = sum(one.running or one.lingering for one in self._sources.values() if one is not source)
        if running >= self.max_running:
            raise RequestError(503, "too many sources run", running, "stop one first", retry_after_s=5)
        source.start()

    def _make(self, name: str, asked: SourceRequest) -> WatchedSource:
        track = self._track if asked.track is None else asked.track
        given = asked.model_dump(exclude_unset=True, exclude={"track", "source", "name"})
        place = self._places.resolve(asked.source)
        options = checked_options(given, track)
        live = self._places.is_live(asked.source)
        return WatchedSource(
            name, asked.source, place, live, options, track, self._ask, self._house, self._observers
        )
