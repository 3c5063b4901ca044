"""Images that look alike, named by what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from osv_lab.core.errors import NotFoundError, UsageError
from osv_lab.core.settings import SEED
from osv_lab.evaluate.scene import Scene

MOST_CLUSTERS = 8
LEAST_IMAGES = 10
"""Images per cluster on average, at least."""

_TELLING = 0.5
"""Standard deviations (of all images) by which a cluster differs from the rest for it to be said."""


def clusters(chosen: Any, scene: Scene, embeddings: np.ndarray | str | None) -> list[tuple[str, np.ndarray]]:
    """Clusters of a scene's images, largest first: a name, and which images.

    k-means on standardised principal components, with the number of clusters, 2 to 8, that has the best silhouette
    (P. Rousseeuw, 1987). The name says in what a cluster differs most from the other images.

    Args:
        chosen: The scene's images as a view, in its order.
        scene: What is in them.
        embeddings: ``(images, d)``, the name of a vector field, or ``None`` for colours and edges of the image.

    Raises:
        NotFoundError: no such field.
        UsageError: embeddings of another number, or not known for every image.
    """
    from sklearn.cluster import KMeans  # type: ignore[import-untyped]
    from sklearn.decomposition import PCA  # type: ignore[import-untyped]
    from sklearn.metrics import silhouette_score  # type: ignore[import-untyped]
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    points = _points(chosen, embeddings)
    if points.ndim != 2 or len(points) != len(scene.samples):
        raise UsageError("embeddings must be one row per sample", f"shape {points.shape}")
    most = min(MOST_CLUSTERS, len(points) // LEAST_IMAGES)
    if most < 2 or not np.isfinite(points).all() or np.ptp(points) == 0:
        return []
    with threadpool_limits(1):
        reduced = PCA(min(16, *points.shape), random_state=SEED).fit_transform(points)
        best, labels = -1.0, np.zeros(len(points), int)
        for count in range(2, most + 1):
            found = KMeans(count, n_init=3, random_state=SEED).fit_predict(reduced)
            if len(np.unique(found)) < 2:
                continue
            score = float(silhouette_score(reduced, found, sample_size=min(1500, len(found)), random_state=SEED))
            if score > best:
                best, labels = score, found
    traits = _traits(chosen, scene)
    order = np.argsort(-np.bincount(labels), kind="stable")
    named = [(_name(traits, labels == number), labels == number) for number in order if (labels == number).any()]
    return [(f"cluster {place}: {name}", own) for place, (name, own) in enumerate(named, start=1)]


def _points(chosen: Any, embeddings: np.ndarray | str | None) -> np.ndarray:
    if isinstance(embeddings, np.ndarray):
        return embeddings.astype(float)
    if isinstance(embeddings, str):
        if not chosen.has_field(embeddings):
            raise NotFoundError("no such field of embeddings", repr(embeddings))
        rows = chosen.values(embeddings)
        if any(row is None for row in rows):
            raise UsageError("embeddings are not known for every image", f"'{embeddings}'")
        return np.array([np.asarray(row, float) for row in rows])
    return np.stack(list(_looks(chosen.values("filepath"))))


def _looks(paths: list[str]) -> Iterator[np.ndarray]:
    """Colours and edges of whole images; of one that cannot be read, nothing."""
    from pathlib import Path

    from osv_lab.core.errors import OsvError
    from osv_lab.detect.images import decode_small
    from osv_lab.track.descriptor import ClassicalEmbedder

    embedder = ClassicalEmbedder(stripes=3, size=(96, 96))
    empty: np.ndarray | None = None
    for path in paths:
        try:
            pixels, _ = decode_small(Path(path).read_bytes(), 96)
            height, width = pixels.shape[:2]
            empty = np.asarray(embedder.embed(pixels, np.array([[0.0, 0, width, height]])))[0]
            yield empty
        except (OsvError, OSError):
            if empty is None:
                grey = np.full((8, 8, 3), 128, np.uint8)
                empty = np.asarray(embedder.embed(grey, np.array([[0.0, 0, 8, 8]])))[0]
            yield np.zeros_like(empty)


def _traits(chosen: Any, scene: Scene) -> dict[tuple[str, str], np.ndarray]:
    """What can be said of an image, as numbers: words for much and for little of it, and ``(images,)`` values."""
    from osv_lab.curate.measures import measure_view

    count = len(scene.samples)
    measures, _ = measure_view(chosen)
    found: dict[tuple[str, str], np.ndarray] = {}
    for name, much, little in (("brightness", "bright", "dark"), ("sharpness", "sharp", "blurred")):
        found[much, little] = np.array([np.nan if row.get("broken") else float(row[name]) for row in measures])
    objects = scene.objects
    found["crowded", "sparse"] = np.bincount(objects.image, minlength=count).astype(float)
    for number, name in enumerate(scene.class_names):
        own = np.bincount(objects.image[objects.class_id == number], minlength=count)
        found[f"many {name}", f"few {name}"] = own.astype(float)
    relative = np.sqrt(np.maximum(objects.area, 0) / np.maximum(np.prod(scene.sizes[objects.image], axis=1), 1))
    total = np.bincount(objects.image, weights=relative, minlength=count)
    with np.errstate(invalid="ignore", divide="ignore"):
        found["large objects", "small objects"] = total / np.bincount(objects.image, minlength=count)
    return found


def _name(traits: dict[tuple[str, str], np.ndarray], own: np.ndarray) -> str:
    """The three traits in which a cluster differs most from the other images."""
    said = []
    for (much, little), values in traits.items():
        known = np.isfinite(values)
        spread = values[known].std() if known.any() else 0.0
        if spread == 0 or not (known & own).any() or not (known & ~own).any():
            continue
        away = float((values[known & own].mean() - values[known & ~own].mean()) / spread)
        said.append((abs(away), much if away > 0 else little))
    telling = [word for size, word in sorted(said, reverse=True) if size >= _TELLING][:3]
    return ", ".join(telling) or "nothing that stands out"
