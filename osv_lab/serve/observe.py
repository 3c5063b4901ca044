"""What one answer was, in a few plain values, and those who look at answers after they were sent.

An observation is made where the image is decoded and travels without its pixels; capture rules and drift read it.
Observers run in one thread behind a bounded queue: what they cannot keep up with is dropped and counted, and no
answer ever waits for them.

Example:
    >>> observation = Observation("best.onnx", 640, 480, 0.4, ((1.0, 2.0, 30.0, 40.0),), (0.9,), ("car",))
    >>> Observation.from_json(observation.to_json()) == observation
    True
"""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from osv_lab.core.errors import InvalidDataError
from osv_lab.detect.confidence import Confidence
from osv_lab.serve.metrics import metric_lines

if TYPE_CHECKING:
    import numpy as np
    import supervision as sv

    from osv_lab.detect.detector import Found

_log = logging.getLogger("osv_lab.serve")

_LOOKED_AT = 72
"""Pixels along the shorter side that brightness and hash are taken from."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One image and what a model found in it, JSON-able.

    Attributes:
        model: The model's reference, as clients see it.
        width: Pixels across, of the upright image.
        height: Pixels down.
        brightness: Mean luma (ITU-R BT.601), 0 to 1.
        xyxy: Boxes in pixels of the upright image.
        confidence: Scores, 0 to 1.
        class_name: Class names.
        class_id: Class ids; empty where only names are known.
        hash: 64-bit difference hash: images that look alike differ in few bits.
        digest: SHA-256 of the model's file.
        dataset_version: What the model was trained on.
        task: As of :class:`osv_lab.detect.detector.Detector`.
        threshold: The request's confidence threshold: nothing scored lower was seen. One per class name where the
            model has its own.
        partial: Whether the request asked for some classes only, so that others may be missing.
        tracker_id: Track identities, -1 where there is none; ``None`` where nothing was tracked.
        disagreement: Why the tracker doubts the detections; empty where it does not.
    """

    model: str
    width: int
    height: int
    brightness: float
    xyxy: tuple[tuple[float, float, float, float], ...] = ()
    confidence: tuple[float, ...] = ()
    class_name: tuple[str, ...] = ()
    class_id: tuple[int, ...] = ()
    hash: int = 0
    digest: str | None = None
    dataset_version: str | None = None
    task: str = "detect"
    threshold: Confidence = 0.0
    partial: bool = False
    tracker_id: tuple[int, ...] | None = None
    disagreement: str = ""

    @property
    def relative_areas(self) -> tuple[float, ...]:
        """Area of each box as a share of the image, 0 to 1."""
        whole = float(self.width * self.height)
        return tuple(min(1.0, max(0.0, (x2 - x1) * (y2 - y1) / whole)) for x1, y1, x2, y2 in self.xyxy)

    def to_json(self) -> dict[str, Any]:
        """The same as plain values; the hash as 16 hexadecimal characters."""
        values = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return {**values, "hash": f"{self.hash:016x}"}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Observation:
        """An observation of plain values.

        Raises:
            InvalidDataError: they are none.
        """
        try:
            known = {one.name: values[one.name] for one in dataclasses.fields(cls) if one.name in values}
            known["hash"] = int(known.get("hash", "0"), 16)
            known["xyxy"] = tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in known.get("xyxy", ()))
            for name, kind in (("confidence", float), ("class_name", str), ("class_id", int)):
                known[name] = tuple(kind(one) for one in known.get(name, ()))
            if known.get("tracker_id") is not None:
                known["tracker_id"] = tuple(map(int, known["tracker_id"]))
            for name in ("width", "height"):
                known[name] = int(known[name])
            observation = cls(**known)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidDataError("this is no observation", f"{type(error).__name__}: {error}") from None
        count = len(observation.xyxy)
        if min(observation.width, observation.height) < 1 or not (
            count == len(observation.confidence) == len(observation.class_name)
        ):
            raise InvalidDataError("this is no observation", "its boxes, scores and classes do not fit together")
        numbers = (*observation.confidence, *(value for box in observation.xyxy for value in box))
        if not all(map(math.isfinite, numbers)):
            raise InvalidDataError("this is no observation", "a box or score is not finite")
        return observation


def observe(image: np.ndarray, detections: sv.Detections | Found, *, model: str, **about: Any) -> Observation:
    """The observation of one answer.

    Args:
        image: BGR uint8 ``(h, w, 3)``.
        detections: What was found in it.
        model: The reference of the model that found it.
        about: Further attributes of the :class:`Observation`.
    """
    import numpy as np

    brightness, looks = appearance(image)
    names, scores, ids = detections.data.get("class_name"), detections.confidence, detections.class_id
    count, tracks = len(detections), getattr(detections, "tracker_id", None)
    boxes = np.nan_to_num(detections.xyxy.astype(float)).round(2).tolist()
    return Observation(
        model=model,
        width=int(image.shape[1]),
        height=int(image.shape[0]),
        brightness=brightness,
        xyxy=tuple((a, b, c, d) for a, b, c, d in boxes),
        confidence=tuple(np.round(scores.astype(float), 4).tolist()) if scores is not None else (1.0,) * count,
        class_name=tuple(str(name) for name in (names if names is not None else [""] * count)),
        class_id=tuple(map(int, ids)) if ids is not None else (),
        hash=looks,
        tracker_id=None if tracks is None else tuple(map(int, tracks)),
        **about,
    )


def appearance(image: np.ndarray) -> tuple[float, int]:
    """Brightness (0 to 1) and 64-bit difference hash of a BGR uint8 image ``(h, w, 3)``.

    The hash has a bit per pair of neighbours in a row of an image of 9 by 8 pixels: is the right one brighter? (dHash,
    N. Krawetz, "Kind of Like That", 2013). Scaled or slightly changed images differ in few bits.

    Example:
        >>> import numpy as np
        >>> appearance(np.full((4, 4, 3), 255, np.uint8))
        (1.0, 0)
    """
    import cv2
    import numpy as np

    # Every n-th pixel: reading all of a large image would cost more than the rest of this together.
    step = max(1, min(image.shape[:2]) // _LOOKED_AT)
    grey = cv2.cvtColor(np.ascontiguousarray(image[::step, ::step]), cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    bits = np.packbits(small[:, 1:] > small[:, :-1])
    return round(float(grey.mean()) / 255, 4), int.from_bytes(bits.tobytes(), "big")


class Observer(Protocol):
    """Looks at answers after they were sent; called by one thread."""

    def see(self, observation: Observation, image: Callable[[], bytes]) -> None:
        """Look at one answer.

        Args:
            image: Gives the encoded image as it was received, for those who want it.
        """
        ...

    def metrics(self) -> list[str]:
        """Lines for ``/metrics``."""
        ...


@dataclass(frozen=True, slots=True)
class _Seen:
    observation: Observation
    image: Callable[[], bytes]
    size_bytes: int


class Observers:
    """All observers of one server, their queue, and the thread they run in.

    Args:
        observers: Each is told of every answer.
        most: Answers that wait at most.
        most_bytes: Size of the requests that wait at most: their images stay in memory until they were looked at.
    """

    def __init__(
        self, observers: Sequence[Observer] = (), *, most: int = 256, most_bytes: int = 64 * 2**20
    ) -> None:
        self._observers = tuple(observers)
        self._most, self._most_bytes = most, most_bytes
        self._waiting: deque[_Seen] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._size_bytes = 0
        self._busy = self._closed = False
        self._counts = {"observed": 0, "dropped": 0, "failed": 0}

    @property
    def watching(self) -> bool:
        """Whether anybody observes: where nobody does, observations need not be made."""
        return bool(self._observers)

    def offer(self, observation: Observation | None, image: Callable[[], bytes], size_bytes: int = 0) -> None:
        """Show one answer to the observers, soon; never waits, and drops it where too much waits already.

        Args:
            image: Gives the encoded image as it was received; called in the observers' thread, if at all.
            size_bytes: How much memory waiting costs.
        """
        if observation is None or not self._observers:
            return
        with self._changed:
            full = len(self._waiting) >= self._most or self._size_bytes + size_bytes > self._most_bytes
            if self._closed or full:
                self._counts["dropped"] += 1
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="serve-observe", daemon=True)
                self._thread.start()
            self._waiting.append(_Seen(observation, image, size_bytes))
            self._size_bytes += size_bytes
            self._changed.notify_all()

    def close(self, timeout_s: float = 10.0) -> None:
        """Look at what waits, then end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def settle(self, timeout_s: float = 10.0) -> bool:
        """Wait until nothing waits; whether that came to pass."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout_s)

    def text(self) -> str:
        """The observers' part of ``/metrics``; empty where nobody observes."""
        if not self._observers:
            return ""
        with self._changed:
            rows = [({"outcome": name}, number) for name, number in self._counts.items()]
        lines = metric_lines("observations_total", "counter", "Answers shown to capture and drift.", rows)
        lines += [line for one in self._observers for line in one.metrics()]
        return "\n".join(lines) + "\n"

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                seen, self._busy = self._waiting.popleft(), True
                self._size_bytes -= seen.size_bytes
            failed = sum(not self._show(one, seen) for one in self._observers)
            with self._changed:
                self._counts["failed"] += failed
                self._counts["observed"] += 1

    def _show(self, observer: Observer, seen: _Seen) -> bool:
        try:
            observer.see(seen.observation, seen.image)
        except Exception as error:  # noqa: BLE001 - logged and counted
            # One answer that an observer cannot take must not end its thread; a traceback per answer would fill a log.
            if not self._counts["failed"]:
                _log.exception("%s failed (further failures are only counted)", type(observer).__name__)
            else:
                _log.debug("%s failed: %s", type(observer).__name__, error)
            return False
        return True
