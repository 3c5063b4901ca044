"""Whether what a served model sees is still what its training version showed: a sliding window against a reference.

The reference is a profile of the model's own answers on held-out images of the version it was trained on; it stands in
the model's sidecar (``<model>.osv.json``, key ``drift_reference``), where ``osv drift reference MODEL DATASET`` and
``lab.deploy`` put it. Scores, box sizes, classes, detections per image and brightness are counted; no image is kept.

Example:
    >>> reference = Reference(Profile(("car",)), confidence=0.25)
    >>> drift = Drift(lambda digest: reference)
    >>> drift.see(Observation("m", 10, 10, 0.5, ((0, 0, 5, 5),), (0.9,), ("car",), digest="ab"), bytes)
    >>> drift.states()[0]["images"]
    1
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError
from osv_lab.core.files import write_atomic
from osv_lab.detect.confidence import Confidence, check_confidence, limit_of
from osv_lab.serve.metrics import metric_lines
from osv_lab.serve.observe import Observation
from osv_lab.serve.profile import MIN_IMAGES, Look, Profile, Shift, brightness_only, compare, look
from osv_lab.serve.served import SIDECAR_KEY as SIDECAR_KEY

WINDOW = 1000
"""Images that are compared with the reference: the newest ones."""

_MOST_MODELS = 8


@dataclass(frozen=True, slots=True)
class Reference:
    """What a model's answers usually look like.

    Attributes:
        profile: Its answers on images it was not trained on, of the data it was trained for.
        confidence: The threshold they were made at; what scores lower is not compared.
        digest: SHA-256 of the model's file.
        dataset: The data set, and its version where it has one.
        split: The split the images are of.
    """

    profile: Profile
    confidence: Confidence
    digest: str | None = None
    dataset: str = ""
    split: str = ""

    def is_cut(self, threshold: Confidence) -> bool:
        """Whether answers at these thresholds lack some of what the reference's have."""
        return any(limit_of(threshold, name) > limit_of(self.confidence, name) for name in self.profile.classes)

    def look(self, seen: Observation) -> Look:
        """An answer as the reference's were made: nothing below its threshold; where something may be missing, only
        what does not depend on it."""
        if seen.partial or self.is_cut(seen.threshold):
            return brightness_only(seen.brightness)
        scored = enumerate(zip(seen.confidence, seen.class_name, strict=True))
        kept = [k for k, (score, name) in scored if score >= limit_of(self.confidence, name)]
        areas = seen.relative_areas
        return look(
            [seen.confidence[k] for k in kept],
            [areas[k] for k in kept],
            [seen.class_name[k] for k in kept],
            seen.brightness,
        )

    def to_json(self) -> dict[str, Any]:
        """As it stands in a sidecar."""
        return {
            "confidence": self.confidence,
            "digest": self.digest,
            "dataset": self.dataset,
            "split": self.split,
            **self.profile.to_json(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Reference:
        """A reference of plain values.

        Raises:
            InvalidDataError: they are none.
        """
        profile = Profile.from_json(values)
        try:
            confidence = values["confidence"]
            confidence = dict(confidence) if isinstance(confidence, Mapping) else float(confidence)
            check_confidence(confidence)
        except (KeyError, TypeError, ValueError, UsageError) as error:
            raise InvalidDataError("this is no drift reference", f"confidence: {error}") from None
        digest = values.get("digest")
        about = {name: str(values.get(name) or "") for name in ("dataset", "split")}
        return cls(profile, confidence, str(digest) if digest else None, **about)

    def write(self, path: str | Path) -> None:
        """Write it as a file of its own."""
        write_atomic(path, json.dumps(self.to_json(), indent=1, ensure_ascii=False))

    @classmethod
    def read(cls, path: str | Path) -> Reference:
        """A reference of a file, or of a model file's sidecar.

        Raises:
            NotFoundError: there is none.
            InvalidDataError: it cannot be read.
        """
        path = Path(path)
        sidecar = path.with_name(f"{path.name}.osv.json")
        if path.suffix.lower() != ".json":
            path = sidecar
        fix = "make one: osv drift reference MODEL DATASET"
        try:
            values = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise NotFoundError("there is no drift reference", path, fix) from None
        except (OSError, ValueError) as error:
            raise InvalidDataError("the drift reference cannot be read", f"{path}: {error}", fix) from None
        found = (
            values.get(SIDECAR_KEY, values if "counts" in values else None) if isinstance(values, dict) else None
        )
        if not isinstance(found, dict):
            raise NotFoundError("there is no drift reference", path, fix)
        return cls.from_json(found)


@dataclass(slots=True)
class _Window:
    model: str
    reference: Reference
    looks: deque[Look] = field(default_factory=deque)
    profile: Profile = field(init=False)

    def __post_init__(self) -> None:
        self.profile = Profile(self.reference.profile.classes)

    def add(self, one: Look, most: int) -> None:
        self.looks.append(one)
        self.profile.add(one)
        if len(self.looks) > most:
            self.profile.add(self.looks.popleft(), -1)


class Drift:
    """An observer that counts; one window per model, so that a swap begins anew. May be used from any thread.

    Args:
        reference_of: The reference of a model by the digest of its file; ``None`` where it has none.
        window: Images in a window.
        min_images: How many make a window say anything.
    """

    def __init__(
        self,
        reference_of: Callable[[str], Reference | None],
        *,
        window: int = WINDOW,
        min_images: int = MIN_IMAGES,
    ) -> None:
        self._reference_of = reference_of
        self._most = window
        self._min_images = min_images
        self._windows: OrderedDict[str, _Window] = OrderedDict()
        self._lock = threading.Lock()

    def see(self, observation: Observation, image: Callable[[], bytes]) -> None:
        """Count one answer; the image is not looked at."""
        if observation.digest is None:
            return
        with self._lock:
            window = self._window(observation.digest, observation.model)
            if window is not None:
                window.add(window.reference.look(observation), self._most)

    def states(self) -> list[dict[str, Any]]:
        """What is known about each model, the one that answered last first; as ``GET /drift`` shows it."""
        return [
            {
                "model": window.model,
                "digest": digest,
                "dataset": window.reference.dataset,
                "split": window.reference.split,
                "images": len(window.looks),
                "window": self._most,
                "min_images": self._min_images,
                "drifted": [one.feature for one in shifts if one.drifted],
                "features": [one.to_json() for one in shifts],
            }
            for digest, window, shifts in self._compared()
        ]

    def metrics(self) -> list[str]:
        """PSI, whether that is drift, and images in the window, by model and feature."""
        compared = self._compared()
        index, drifted = [], []
        for digest, window, shifts in compared:
            for one in shifts:
                labels = {"model": window.model, "digest": digest, "feature": one.feature}
                if one.enough:
                    index.append((labels, round(one.psi, 6)))
                    drifted.append((labels, int(one.drifted)))
        images = [({"model": window.model, "digest": digest}, len(window.looks)) for digest, window, _ in compared]
        return [
            *metric_lines("drift_psi", "gauge", "Population stability index against the reference.", index),
            *metric_lines("drifted", "gauge", "1 where a feature has drifted, and not by chance.", drifted),
            *metric_lines("drift_images", "gauge", "Images in the window.", images),
        ]

    def _compared(self) -> list[tuple[str, _Window, list[Shift]]]:
        with self._lock:
            return [
                (digest, window, compare(window.profile, window.reference.profile, self._min_images))
                for digest, window in reversed(self._windows.items())
            ]

    def _window(self, digest: str, model: str) -> _Window | None:
        if digest not in self._windows:
            reference = self._reference_of(digest)
            if reference is None:
                return None
            self._windows[digest] = _Window(model, reference)
            if len(self._windows) > _MOST_MODELS:
                self._windows.popitem(last=False)
        self._windows.move_to_end(digest)
        return self._windows[digest]
