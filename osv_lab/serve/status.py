"""How a server does, in one look: what it serves, how busy and how fast it is, whether what it sees has changed.

look = server_status("http://127.0.0.1:8000")
print(look.summary())      # models:/cells@champion: 1,204 images answered, p50 21 ms, p95 48 ms
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from osv_lab.core.errors import UnavailableError
from osv_lab.core.report import Report

ROUTES = ("/predict", "/predict/batch")
_LINE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class ServerStatus(Report):
    """One look at a server. Counts are since it was started.

    Attributes:
        url: Where it is.
        ready: Whether it answers predictions.
        models: What it serves, as ``GET /models`` has it.
        images: Images answered.
        rejected: Requests sent away because it was full.
        in_flight: Requests that it is at.
        latency_ms: Median and 95th percentile of the time from a request's first line to its answer, in
            milliseconds, to within the bounds of the histogram; ``None`` before there was one.
        captured: Images kept, by rule; empty where it keeps none.
        drift: Each model's comparison with its training, as ``GET /drift`` has it.
    """

    url: str
    ready: bool
    models: tuple[Mapping[str, Any], ...]
    images: int
    rejected: int
    in_flight: int
    latency_ms: tuple[float, float] | None
    captured: Mapping[str, int]
    drift: tuple[Mapping[str, Any], ...]

    def rows(self) -> list[Mapping[str, Any]]:
        return [
            {
                "model": one["ref"],
                "task": one["task"],
                "data": one["dataset_version"] or "",
                "provider": one["provider"],
                "input": "x".join(map(str, one["input_size"] or ("any",))),
                "scheduling": one["scheduling"]["mode"],
                "digest": (one["digest"] or "")[:12],
            }
            for one in self.models
        ]

    def shifts(self) -> list[Mapping[str, Any]]:
        """How far each feature of each model has moved, as ``model``, ``feature``, ``psi``, ``state`` (``drifted``,
        ``changed``, ``stable`` or ``too few images``) and ``images``; empty where nothing can be compared."""
        shown = ("feature", "psi", "state", "images")
        return [
            {"model": state["model"], **{name: feature[name] for name in shown}}
            for state in self.drift
            for feature in state["features"]
        ]

    def summary(self) -> str:
        served = ", ".join(str(one["ref"]) for one in self.models) or "no model"
        text = f"{served}: {self.images:,} images answered"
        if self.latency_ms is not None:
            text += ", p50 {:.0f} ms, p95 {:.0f} ms".format(*self.latency_ms)
        if self.rejected:
            text += f", {self.rejected:,} requests sent away"
        return text if self.ready else f"{text}; not ready"


def server_status(url: str, key: str | None = None, *, timeout_s: float = 3.0) -> ServerStatus:
    """Look at a server.

    Args:
        url: Where it is.
        key: Its bearer key, with the scope that reads its state, if it wants one.
        timeout_s: How long it may take.

    Raises:
        UsageError: no URL, or a key that it does not take.
        UnavailableError: there is none, or it does not answer in time.
    """
    from osv_lab.serve.client import Client

    with Client(url, key, timeout_s=timeout_s, retries=0) as client:
        samples = _samples(client.metrics())
        models, drift = client.models(), client.drift()
        return ServerStatus(
            url=client.url,
            ready=client.health(),
            models=tuple(models),
            images=int(_sum(samples, "osv_images_total")),
            rejected=int(_sum(samples, "osv_rejected_total")),
            in_flight=int(_sum(samples, "osv_in_flight")),
            latency_ms=_latency(samples),
            captured={
                labels["rule"]: int(value)
                for labels, value in samples.get("osv_captured_total", ())
                if "rule" in labels
            },
            drift=tuple(drift),
        )


Samples = Mapping[str, Sequence[tuple[Mapping[str, str], float]]]


def _samples(text: str) -> Samples:
    """Prometheus' text format as values by metric.

    Example:
        >>> _samples('osv_captured_total{rule="near"} 2')
        {'osv_captured_total': [({'rule': 'near'}, 2.0)]}
    """
    found: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for line in text.splitlines():
        if (match := _LINE.fullmatch(line)) is not None:
            try:
                value = float(match[3])
            except ValueError:
                raise UnavailableError(
                    "the server's metrics cannot be read", line, "is it one of osv serve?"
                ) from None
            found.setdefault(match[1], []).append((dict(_LABEL.findall(match[2] or "")), value))
    return found


def _sum(samples: Samples, name: str) -> float:
    return sum(value for _, value in samples.get(name, ()))


def _latency(samples: Samples) -> tuple[float, float] | None:
    """Percentiles from the histogram's buckets, all prediction routes together."""
    counts: dict[float, float] = {}
    for labels, value in samples.get("osv_request_seconds_bucket", ()):
        if labels.get("route") in ROUTES:
            bound = math.inf if labels["le"] == "+Inf" else float(labels["le"])
            counts[bound] = counts.get(bound, 0.0) + value
    total = counts.get(math.inf, 0.0)
    if not total:
        return None
    return _quantile(counts, 0.5 * total), _quantile(counts, 0.95 * total)


def _quantile(counts: Mapping[float, float], rank: float) -> float:
    """Milliseconds at a rank, linear within its bucket, as Prometheus' ``histogram_quantile`` has it."""
    below, before = 0.0, 0.0
    for bound, count in sorted(counts.items()):
        if count >= rank:
            if math.isinf(bound):
                return 1000 * below
            share = (rank - before) / (count - before) if count > before else 1.0
            return 1000 * (below + (bound - below) * share)
        below, before = bound, count
    return 1000 * below
