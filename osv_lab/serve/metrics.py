"""What the server counts, in Prometheus' text format.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4).
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
Labels = Mapping[str, object]


class Metrics:
    """Counts of one server; may be told from any thread.

    Example:
        >>> metrics = Metrics()
        >>> metrics.request("/predict", 200, 0.012)
        >>> 'osv_requests_total{route="/predict",status="200"} 1' in metrics.text()
        True
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, int], int] = {}
        self._latency: dict[str, _Histogram] = {}
        self._batches = _Histogram(_SIZES)
        self._counts = dict.fromkeys(_COUNTS, 0)

    def request(self, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        with self._lock:
            self._requests[route, status] = self._requests.get((route, status), 0) + 1
            self._latency.setdefault(route, _Histogram(_SECONDS)).add(seconds)

    def batch(self, size: int) -> None:
        """That many images went through a network together."""
        with self._lock:
            self._batches.add(size)

    def count(self, name: str, by: int = 1) -> None:
        """One of the things that are counted happened, such as ``images``, ``rejected`` or ``swaps``."""
        with self._lock:
            self._counts[name] += by

    def text(self, gauges: Mapping[str, float] | None = None, models: Iterable[Labels] = ()) -> str:
        """All of it, as ``/metrics`` answers.

        Args:
            gauges: What is now: ``queue_depth``, ``in_flight``, ...
            models: One set of labels per loaded model.
        """
        with self._lock:
            lines = _head("requests_total", "counter", "Requests answered, by route and status.")
            for (route, status), number in sorted(self._requests.items()):
                lines.append(_line("requests_total", {"route": route, "status": status}, number))
            lines += _head("request_seconds", "histogram", "Seconds from a request's first line to its answer.")
            for route, histogram in sorted(self._latency.items()):
                lines += histogram.lines("request_seconds", {"route": route})
            lines += _head("batch_images", "histogram", "Images that went through a network together.")
            lines += self._batches.lines("batch_images", {})
            for name, number in self._counts.items():
                lines += _head(f"{name}_total", "counter", _COUNTS[name])
                lines.append(_line(f"{name}_total", {}, number))
        for name, value in (gauges or {}).items():
            lines += [*_head(name, "gauge", _GAUGES[name]), _line(name, {}, value)]
        lines += _head("model_info", "gauge", "The loaded models.")
        lines += [_line("model_info", labels, 1) for labels in models]
        return "\n".join(lines) + "\n"


_COUNTS = {
    "images": "Images answered with predictions.",
    "lone_images": "Of these, images that were alone and had more cores than one.",
    "rejected": "Requests sent away because the house was full or closing.",
    "expired": "Requests that waited longer than the deadline and were not computed.",
    "abandoned": "Pieces of work not computed because their client had gone.",
    "swaps": "Models exchanged.",
    "stream_frames": "Frames of streams and sources that were looked at.",
    "stream_dropped": "Frames of streams and sources that came too fast to be looked at.",
    "worker_restarts": "Worker processes that took the place of one that died.",
}
_GAUGES = {
    "queue_depth": "Pieces of work that wait for a thread.",
    "in_flight": "Requests in the house: being received, waiting or computed.",
    "ready": "1 when predictions are answered.",
    "lanes": "Images that are computed side by side.",
    "worker_processes": "Worker processes that get work.",
    "streams": "Open streams.",
}


class _Histogram:
    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, labels: Labels) -> list[str]:
        lines, total = [], 0
        for bound, number in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += number
            lines.append(_line(f"{name}_bucket", {**labels, "le": bound}, total))
        return [*lines, _line(f"{name}_sum", labels, self._sum), _line(f"{name}_count", labels, total)]


def metric_lines(name: str, kind: str, text: str, rows: Iterable[tuple[Labels, float]]) -> list[str]:
    """One metric in Prometheus' text format: its head, and a line per set of labels.

    Example:
        >>> metric_lines("drift_images", "gauge", "Images in the window.", [({"model": "a"}, 3)])[-1]
        'osv_drift_images{model="a"} 3'
    """
    return [*_head(name, kind, text), *(_line(name, labels, value) for labels, value in rows)]


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP osv_{name} {text}", f"# TYPE osv_{name} {kind}"]


def _line(name: str, labels: Labels, value: float) -> str:
    said = ",".join(f'{label}="{_escaped(str(one))}"' for label, one in labels.items())
    return f"osv_{name}{{{said}}} {value}" if said else f"osv_{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Metered:
    """ASGI middleware that counts and times what is answered."""

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = routes
        self._paths: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            if not self._paths:
                self._paths = {path for one in self._routes if (path := getattr(one, "path", ""))}
            # What clients make up must not become labels without end.
            route = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.request(route, status, time.perf_counter() - started)
