"""What a model's answers look like as counts in fixed bins, and how far two such profiles are apart.

Counts add: the profile of two sets of images is the sum of theirs, in any order.

The distance is the population stability index, PSI = sum((p - q) ln(p / q)) over the bins' shares p and q. By the usual
convention (N. Siddiqi, Credit Risk Scorecards, 2006) below 0.1 nothing changed, above 0.25 much did. Few images drift
by chance: where nothing changed, PSI is about (1/n + 1/m) times a chi-squared variable with bins - 1 degrees of freedom
(B. Yurdakul, Statistical Properties of Population Stability Index, 2018). So a feature counts as drifted only where its
PSI exceeds 0.25 and what chance exceeds once in a thousand. Detections of one image are alike; n and m are therefore
numbers of images, whatever is counted.

Example:
    >>> bright, dark = Profile(("car",)), Profile(("car",))
    >>> for _ in range(100):
    ...     bright.add(look((0.9,), (0.1,), ("car",), 0.8))
    ...     dark.add(look((0.9,), (0.1,), ("car",), 0.2))
    >>> [one.feature for one in compare(dark, bright) if one.drifted]
    ['brightness']
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from osv_lab.core.errors import InvalidDataError

CHANGED = 0.1
"""PSI from which a little changed."""

DRIFTED = 0.25
"""PSI from which much changed."""

MIN_IMAGES = 50
"""Fewer images say nothing."""

EDGES: Mapping[str, tuple[float, ...]] = {
    "scores": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    # Shares of the image, about three to a step: sizes differ by orders of magnitude.
    "sizes": (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3),
    "detections": (1, 2, 3, 5, 9, 17, 33, 65),
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
}
"""Where each feature's bins begin, the first one aside: a value on an edge belongs to the bin above."""

FEATURES = ("scores", "sizes", "classes", "detections", "brightness")
_OTHER = "(other)"


@dataclass(frozen=True, slots=True)
class Look:
    """What one image adds to a profile: bins by feature.

    Attributes:
        bins: Per feature the bin of each value; for ``classes``, names. A feature that is absent was not seen.
    """

    bins: Mapping[str, tuple[Any, ...]]


def look(
    scores: Sequence[float], areas: Sequence[float], classes: Sequence[str], brightness: float | None = None
) -> Look:
    """One image.

    Args:
        scores: Of its detections, 0 to 1.
        areas: Of their boxes, as shares of the image.
        classes: Their names.
        brightness: Mean luma, 0 to 1; ``None`` where it is not known.
    """
    values: dict[str, Sequence[float]] = {"scores": scores, "sizes": areas, "detections": (len(scores),)}
    if brightness is not None:
        values["brightness"] = (brightness,)
    bins: dict[str, tuple[Any, ...]] = {
        name: tuple(bisect_right(EDGES[name], value) for value in some) for name, some in values.items()
    }
    return Look({**bins, "classes": tuple(classes)})


def brightness_only(brightness: float) -> Look:
    """An image whose detections say nothing, for instance since only some were asked for."""
    return Look({"brightness": (bisect_right(EDGES["brightness"], brightness),)})


@dataclass(slots=True)
class Profile:
    """Counts by feature and bin.

    Attributes:
        classes: Names of the classes; what is none of them is counted apart.
        counts: Per feature a count per bin.
        images: Per feature, how many images have a value of it.
    """

    classes: tuple[str, ...]
    counts: dict[str, list[int]] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in FEATURES:
            self.counts.setdefault(name, [0] * self._size(name))
            self.images.setdefault(name, 0)

    def add(self, one: Look, times: int = 1) -> None:
        """Count an image; ``times=-1`` takes it out again."""
        for name, bins in one.bins.items():
            counts = self.counts[name]
            for bin in map(self._class_bin, bins) if name == "classes" else bins:
                counts[bin] += times
            # An image in which nothing was found says nothing about scores, sizes and classes.
            self.images[name] += times * bool(bins)

    def __add__(self, other: Profile) -> Profile:
        if self.classes != other.classes:
            raise ValueError("profiles of different classes cannot be added")
        counts = {
            name: [a + b for a, b in zip(mine, other.counts[name], strict=True)]
            for name, mine in self.counts.items()
        }
        return Profile(self.classes, counts, {name: n + other.images[name] for name, n in self.images.items()})

    def bins(self, name: str) -> tuple[str, ...]:
        """What a feature's bins are called."""
        if name == "classes":
            return (*self.classes, _OTHER)
        edges = [f"{edge:g}" for edge in EDGES[name]]
        return (
            f"< {edges[0]}",
            *(f"{a} to {b}" for a, b in itertools.pairwise(edges)),
            f">= {edges[-1]}",
        )

    def surprise(self, one: Look, expected: Profile, features: Iterable[str]) -> float:
        """How much more an image is like this profile than like the expected one.

        The mean over its values of ln(p / q), summed over features: what it adds to their PSI. Above 0 it belongs to
        what has become more frequent.
        """
        total = 0.0
        for name in features:
            bins = one.bins.get(name, ())
            found = list(map(self._class_bin, bins)) if name == "classes" else list(bins)
            if found:
                p, q = _shares(self.counts[name]), _shares(expected.counts[name])
                total += sum(math.log(p[bin] / q[bin]) for bin in found) / len(found)
        return total

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"classes": list(self.classes), "counts": dict(self.counts), "images": dict(self.images)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Profile:
        """A profile of plain values.

        Raises:
            InvalidDataError: they are none.
        """
        try:
            counts = {str(name): [int(one) for one in some] for name, some in values["counts"].items()}
            images = {str(name): int(one) for name, one in values["images"].items()}
            profile = cls(tuple(map(str, values["classes"])), counts, images)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidDataError("this is no profile of answers", f"{type(error).__name__}: {error}") from None
        for name in FEATURES:
            found = profile.counts[name]
            if len(found) != profile._size(name) or min(found) < 0 or profile.images[name] < 0:
                raise InvalidDataError(
                    "this is no profile of answers", f"{name} has {len(found)} bins", "make the reference again"
                )
        return profile

    def _size(self, name: str) -> int:
        return len(self.classes) + 1 if name == "classes" else len(EDGES[name]) + 1

    def _class_bin(self, name: str) -> int:
        return self.classes.index(name) if name in self.classes else len(self.classes)


@dataclass(frozen=True, slots=True)
class Shift:
    """How far one feature has moved.

    Attributes:
        feature: One of :data:`FEATURES`.
        psi: The population stability index; 0 where the shares are the same.
        by_chance: What it would exceed once in a thousand were nothing changed.
        images: Images looked at now.
        expected: Images of the reference.
        enough: Whether both are enough to say anything.
        most: The bin that moved most, and its share before and now.
    """

    feature: str
    psi: float
    by_chance: float
    images: int
    expected: int
    enough: bool
    most: tuple[str, float, float]

    @property
    def drifted(self) -> bool:
        """Whether it is far, and not by chance."""
        return self.enough and self.psi > DRIFTED and self.psi > self.by_chance

    @property
    def state(self) -> str:
        """``drifted``, ``changed``, ``stable`` or ``too few images``."""
        if not self.enough:
            return "too few images"
        if self.drifted:
            return "drifted"
        return "changed" if self.psi > CHANGED and self.psi > self.by_chance else "stable"

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        name, before, now = self.most
        return {
            "feature": self.feature,
            "psi": round(self.psi, 4),
            "by_chance": round(self.by_chance, 4) if math.isfinite(self.by_chance) else None,
            "state": self.state,
            "images": self.images,
            "reference_images": self.expected,
            "moved_most": {"bin": name, "reference": round(before, 4), "now": round(now, 4)},
        }


def compare(now: Profile, reference: Profile, min_images: int = MIN_IMAGES) -> list[Shift]:
    """How far each feature has moved from the reference.

    Args:
        now: What was seen lately.
        reference: What is usual; of the same classes.
        min_images: How many images both need.
    """
    return [_shift(name, now, reference, min_images) for name in FEATURES]


def _shift(name: str, now: Profile, reference: Profile, min_images: int) -> Shift:
    p, q = _shares(now.counts[name]), _shares(reference.counts[name])
    parts = [(a - b) * math.log(a / b) for a, b in zip(p, q, strict=True)]
    n, m = now.images[name], reference.images[name]
    most = max(range(len(parts)), key=parts.__getitem__)
    by_chance = (1 / n + 1 / m) * _chi_squared(len(parts) - 1) if n and m else math.inf
    enough = min(n, m) >= max(1, min_images)
    return Shift(name, sum(parts), by_chance, n, m, enough, (now.bins(name)[most], q[most], p[most]))


def _shares(counts: Sequence[int]) -> list[float]:
    """Shares of bins, half a count added to each (Jeffreys' prior): a bin that was never seen has no logarithm."""
    total = sum(counts) + 0.5 * len(counts)
    return [(count + 0.5) / total for count in counts]


def _chi_squared(degrees: int, quantile: float = 0.999) -> float:
    """A quantile of the chi-squared distribution (Wilson and Hilferty, 1931: within 3 %)."""
    if degrees < 1:
        return 0.0
    from statistics import NormalDist

    part = 2 / (9 * degrees)
    return float(degrees * (1 - part + NormalDist().inv_cdf(quantile) * math.sqrt(part)) ** 3)
