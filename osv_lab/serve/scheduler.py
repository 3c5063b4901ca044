"""How a model uses the machine: single images side by side on a CPU, batches that grow with the load on a GPU.

Which of the two is measured when a model is loaded, since it depends on the network as much as on the hardware; and so
is whether an image that has the machine for itself is better run on all cores. What is found in an image is the same
either way.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from osv_lab.core.errors import UsageError
from osv_lab.serve.lone import MAX_BYTES
from osv_lab.serve.remembered import recall, remember

if TYPE_CHECKING:
    import numpy as np

    from osv_lab.detect.detector import Detector

Scheduling = Literal["auto", "parallel", "batch"]
SCHEDULINGS: tuple[Scheduling, ...] = ("auto", "parallel", "batch")

LARGEST_BATCH = 64
"""Most images that go through a network together."""

_WORTH_IT = 1.1
"""How much faster than images side by side batches must be to be taken on a CPU, since they make each answer wait for
others; and all cores than one for an image alone, since they do more work for it."""

WAYS = ("parallel", "batch of 8", "alone on one core", "alone on all cores")
"""What is measured on a CPU."""

_CPUS = frozenset({"CPUExecutionProvider", "openvino:CPU", "litert:CPU"})
"""Providers that run several images beside each other, one core each."""

_MEASURE_S = 0.15
"""How long each way is measured."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How one model is run.

    Attributes:
        mode: ``"parallel"``: one image per thread, each thread with one core; ``"batch"``: whatever waits goes through
            the network together.
        lanes: Threads that decode, run and suppress.
        max_batch: Most images that go through the network together.
        lone_threads: Cores that an image is run on when nothing else is to be done; see :mod:`osv_lab.serve.lone`.
        images_per_s: What the warm-up measured, by way; empty where nothing was to be chosen.
    """

    mode: Literal["parallel", "batch"]
    lanes: int
    max_batch: int = 1
    lone_threads: int = 1
    images_per_s: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values, as ``/models`` shows them."""
        measured = {way: round(rate, 1) for way, rate in self.images_per_s.items()}
        return {
            "mode": self.mode,
            "lanes": self.lanes,
            "max_batch": self.max_batch,
            "lone_threads": self.lone_threads,
            "measured_images_per_s": measured,
        }


def load_planned(
    ref: str | Path | Detector,
    options: Mapping[str, Any],
    scheduling: Scheduling = "auto",
    max_batch: int | None = None,
    lone_threads: int | None = None,
) -> tuple[Detector, Plan]:
    """Load a detector and decide how it is run.

    Args:
        ref: As for :func:`osv_lab.detect.load_detector`, or a detector that is loaded already. Of the latter nothing
            is known about threads, so it is called by one at a time.
        options: As for :func:`osv_lab.detect.load_detector`.
        scheduling: ``"auto"`` measures and takes what is faster; a file that was measured on this machine before is not
            measured again, see :mod:`osv_lab.serve.remembered`.
        max_batch: Most images that go through the network together, 1 to 64; measured when ``None``.
        lone_threads: Cores for an image that is alone; ``None`` takes all of them where ``"auto"`` measured that to be
            faster and the file is not larger than 256 MiB, since its weights are then in memory twice, else one.

    Raises:
        OsvError: the model cannot be loaded, or not be run as asked.
    """
    from osv_lab.core.cores import usable_cores
    from osv_lab.detect import load_detector

    if scheduling not in SCHEDULINGS:
        raise UsageError("no such scheduling", repr(scheduling), f"use one of {', '.join(SCHEDULINGS)}")
    if max_batch is not None and not 1 <= max_batch <= LARGEST_BATCH:
        raise UsageError("max_batch must lie between 1 and 64", max_batch)
    if lone_threads is not None and lone_threads < 1:
        raise UsageError("lone_threads must be at least 1", lone_threads)
    if not isinstance(ref, (str, Path)):
        if scheduling == "parallel" and not is_exported(ref):
            raise UsageError(
                "this detector is not known to be safe for threads", ref.ref, "use scheduling='batch'"
            )
        mode = "parallel" if scheduling == "parallel" else "batch"
        return ref, Plan("parallel", usable_cores()) if mode == "parallel" else _batch_plan(ref, max_batch)

    cores, text = usable_cores(), str(ref)
    known = recall(Path(text), options) if scheduling == "auto" else None
    if known is not None and set(known) != set(WAYS):
        known = None
    if scheduling == "parallel" or (known and not _together(known, cores)):
        alone = load_detector(text, **{"threads": 1, **options})
        if not is_exported(alone):
            raise UsageError(
                "only exported models run in several threads", text, "export it, or use scheduling='batch'"
            )
        return alone, _parallel_plan(alone, cores, known or {}, options, lone_threads)
    whole = load_detector(text, **options)
    on_cpu = is_exported(whole) and _CPUS.issuperset(whole.provider.split(", "))
    if scheduling == "batch" or not on_cpu:
        return whole, _batch_plan(whole, max_batch)
    if not known:
        alone, wide = (load_detector(text, **{"threads": number, **options}) for number in (1, cores))
        known = dict(zip(WAYS, measure_cpu(alone, wide, whole, cores), strict=True))
        remember(Path(text), options, known)
        if not _together(known, cores):
            return alone, _parallel_plan(alone, cores, known, options, lone_threads)
    return whole, Plan("batch", max(cores, 16), max_batch or 8, images_per_s=known)


def _parallel_plan(
    detector: Detector, cores: int, rates: Mapping[str, float], options: Mapping[str, Any], asked: int | None
) -> Plan:
    """Images side by side, and how many cores one has that is alone."""
    on_one, on_all = (rates.get(way, 0.0) for way in WAYS[2:])
    if asked is None:
        path = getattr(detector, "path", None)
        small = path is not None and path.stat().st_size <= MAX_BYTES
        asked = cores if small and "threads" not in options and on_all > on_one * _WORTH_IT else 1
    return Plan("parallel", cores, 1, asked, rates)


def _together(rates: Mapping[str, float], cores: int) -> bool:
    """Whether images are better run in batches on a CPU."""
    beside, together = (rates.get(way, 0.0) for way in WAYS[:2])
    return cores > 1 and together > beside * _WORTH_IT


def measure_cpu(alone: Detector, wide: Detector, whole: Detector, cores: int) -> Sequence[float]:
    """Images per second in each of :data:`WAYS`: single images in ``cores`` threads, batches of 8 with all cores, and
    one image after the other with one core and with all.

    Args:
        alone: Runs an image on one core.
        wide: Runs an image on all cores.
        whole: Runs batches.
        cores: How many there are.

    They take turns, and the better of each one's turns counts: what else runs on the machine only ever slows them.
    """
    image = grey_image(alone)
    best = [0.0, 0.0]
    with ThreadPoolExecutor(cores) as pool:
        for _ in range(2):
            # No thread waits for another, as none does when they serve.
            rates = pool.map(lambda _: _rate(alone, image, 1, _MEASURE_S / 2), range(cores))
            best[0] = max(best[0], sum(rates))
            best[1] = max(best[1], _rate(whole, image, 8, _MEASURE_S / 2))
    on_one, on_all = (1 / seconds for seconds in _least_s((alone, wide), image))
    # Where cores are taken by others all along, this is what is known of images side by side.
    return max(best[0], on_one), best[1], on_one, on_all


def _least_s(detectors: Sequence[Detector], image: np.ndarray) -> list[float]:
    """The least seconds that each takes for an image, in turns: several cores are seldom all free at once."""
    least = [math.inf] * len(detectors)
    started, turns = time.perf_counter(), 0
    while turns < 3 or time.perf_counter() - started < 2 * _MEASURE_S:
        for index, one in enumerate(detectors):
            begun = time.perf_counter()
            _find(one, [image])
            least[index] = min(least[index], time.perf_counter() - begun)
        turns += 1
    return least


def grey_image(detector: Detector) -> np.ndarray:
    """A plain image of the size the network sees."""
    import numpy as np

    width, height = detector.input_size or (640, 640)
    return np.full((height, width, 3), 114, np.uint8)


def _batch_plan(detector: Detector, max_batch: int | None) -> Plan:
    from osv_lab.core.cores import usable_cores

    rates: dict[str, float] = {}
    if max_batch is None:
        image, size, max_batch, best = grey_image(detector), 1, 1, 0.0
        started = time.perf_counter()
        while size <= LARGEST_BATCH:
            rate = rates[f"batch of {size}"] = _rate(detector, image, size, _MEASURE_S)
            if rate < best * 1.05:
                break
            best, max_batch = rate, size
            size *= 2
            # The next one costs at most twice what this one did.
            if time.perf_counter() - started + 2 * size / rate > 3.0:
                break
    lanes = min(LARGEST_BATCH, max(usable_cores(), 2 * max_batch))
    return Plan("batch", lanes, max_batch, images_per_s=rates)


def _rate(detector: Detector, image: np.ndarray, batch: int, seconds: float) -> float:
    """Images per second in batches of one size; the first batch, which allocates, does not count."""
    _find(detector, [image] * batch)
    started, turns = time.perf_counter(), 0
    while turns == 0 or time.perf_counter() - started < seconds:
        _find(detector, [image] * batch)
        turns += 1
    return turns * batch / (time.perf_counter() - started)


def _find(detector: Detector, images: Sequence[np.ndarray]) -> None:
    """What a request would have done, without what only other callers need."""
    getattr(detector, "find", detector.predict)(images)


def is_exported(detector: Detector) -> bool:
    """Whether it is, or all its members are, an exported file: safe for threads, and has seen an image."""
    from osv_lab.detect.exported import ExportedDetector

    if isinstance(detector, ExportedDetector):
        return True
    from osv_lab.detect.ensemble import EnsembleDetector

    return isinstance(detector, EnsembleDetector) and all(map(is_exported, detector.members))
