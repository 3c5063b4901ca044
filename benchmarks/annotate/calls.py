"""Where the time of a client of CVAT goes: what it asks of the server and waits for, by request."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock
from urllib.parse import urlsplit


@dataclass
class Calls:
    """Requests by kind, of both clients: each begins at urllib3.

    Attributes:
        seconds: Seconds waited for each kind of request; of requests under way at once the sum.
        counts: How many there were.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    _adding: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, seconds: float) -> None:
        """Count one request."""
        with self._adding:
            self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds
            self.counts[kind] = self.counts.get(kind, 0) + 1

    def lines(self, most: int = 8) -> list[str]:
        """The kinds that took longest."""
        kinds = sorted(self.seconds, key=lambda kind: -self.seconds[kind])
        shown = [f"{self.seconds[kind]:8.2f} s {self.counts[kind]:4} x {kind}" for kind in kinds[:most]]
        return [f"{sum(self.seconds.values()):8.2f} s {sum(self.counts.values()):4} requests", *shown]


@contextlib.contextmanager
def recorded() -> Iterator[Calls]:
    """Requests to a server while the block runs."""
    from urllib3.connectionpool import HTTPConnectionPool

    calls = Calls()
    plain = HTTPConnectionPool.urlopen

    def urlopen(self: Any, method: str, url: str, *args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return plain(self, method, url, *args, **options)
        finally:
            calls.add(f"{method} {_kind(url)}", time.perf_counter() - start)

    with mock.patch.object(HTTPConnectionPool, "urlopen", urlopen):
        yield calls


def cpu_of(processes: Iterable[int]) -> float:
    """CPU seconds of processes and of all that they started."""
    import psutil

    total = 0.0
    for number in processes:
        with contextlib.suppress(psutil.Error):
            one = psutil.Process(number)
            for process in (one, *one.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    spent = process.cpu_times()
                    total += spent.user + spent.system + spent.children_user + spent.children_system
    return total


def _kind(url: str) -> str:
    path = urlsplit(url).path
    return re.sub(r"/(\d+|rq|action=[^/]*|[0-9a-f-]{36})(?=/|$)", "/N", path)
