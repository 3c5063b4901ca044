"""Steps applied to an image, with chance that depends on the seed and the image alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from osv_lab.store.transforms.catalogue import Chosen
from osv_lab.store.transforms.item import Context, Item


def random_of(seed: int, *parts: object) -> np.random.Generator:
    """A generator that is the same for the same seed and parts in any process and any order of images.

    Example:
        >>> bool(random_of(51, "photo", 1).integers(100) == random_of(51, "photo", 1).integers(100))
        True
    """
    text = " ".join(str(part) for part in (seed, *parts))
    return np.random.default_rng(list(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()))


def preprocessed(item: Item, steps: Sequence[Chosen], skeletons: Mapping[str, Sequence[str]]) -> list[Item]:
    """An image after its preprocessing: one, or its tiles."""
    context = Context(np.random.default_rng(0), lambda: item, skeletons)
    items = [item]
    for step in steps:
        if step.kind.run is None:
            continue
        done = [step.kind.run(one, context, step.params) for one in items]
        items = [part for one in done for part in (one if isinstance(one, list) else [one])]
    return items


def augmented(
    item: Item,
    steps: Sequence[Chosen],
    rng: np.random.Generator,
    others: Callable[[], Item],
    skeletons: Mapping[str, Sequence[str]],
) -> Item:
    """An augmented copy of an image."""
    context = Context(rng, others, skeletons)
    for step in steps:
        if step.kind.run is not None:
            item = step.kind.run(item, context, step.params)
    return item
