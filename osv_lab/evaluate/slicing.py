"""Parts of a view that a model may do worse on: by field, tag, brightness, density, object size, or look."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from osv_lab.core.errors import NotFoundError, UsageError, nearest
from osv_lab.core.settings import SPLITS
from osv_lab.evaluate.clusters import clusters
from osv_lab.evaluate.scene import Scene

WORDS = ("tags", "brightness", "sharpness", "density", "size", "class", "cluster")
"""What a view can be sliced by, beside its fields."""

BINS = 4
"""Slices of a number, of about as many images each."""

MOST_VALUES = 20
"""A field with more values is no category."""

LEAST_IMAGES = 5


@dataclass(frozen=True)
class Slice:
    """A part of the images.

    Attributes:
        by: What it is a slice by.
        name: What the images in it share, in words.
        images: ``(images,)`` bool.
    """

    by: str
    name: str
    images: np.ndarray


def slices_of(
    view: Any,
    scene: Scene,
    by: Sequence[str],
    *,
    embeddings: np.ndarray | str | None = None,
    bins: int = BINS,
) -> tuple[Slice, ...]:
    """The slices of a scene's images.

    Args:
        view: The view the scene was read from.
        scene: Predictions and objects.
        by: Words of :data:`WORDS` (but ``size``, which parts objects, not images) and names of plain sample fields. A
            field of numbers is cut into quantiles.
        embeddings: What looks alike, for ``cluster``: ``(k, d)``, one row per sample of the view in its order, or the
            name of a vector field; by default colours and edges of the whole image.
        bins: Into how many slices numbers are cut.

    Returns:
        Slices of at least five images that are not all of them.

    Raises:
        NotFoundError: no such word or field.
        UsageError: a field that is no value of a sample, or has too many.
    """
    chosen = view._dataset.select(list(scene.samples), ordered=True)
    found: list[Slice] = []
    for word in dict.fromkeys(by):
        if word == "tags":
            found += _tags(chosen.values("tags"))
        elif word in ("brightness", "sharpness"):
            found += _numbers(word, _measured(chosen, word), bins)
        elif word == "density":
            count = np.bincount(scene.objects.image, minlength=len(scene.samples))
            found += _numbers("density", count.astype(float), bins, lambda value: f"{value:.0f}", " objects")
        elif word == "class":
            for number, name in enumerate(scene.class_names):
                own = np.zeros(len(scene.samples), bool)
                own[scene.objects.image[scene.objects.class_id == number]] = True
                found.append(Slice("class", f"images with {name}", own))
        elif word == "cluster":
            places = {sample: row for row, sample in enumerate(view.values("id"))}
            rows = [places[sample] for sample in scene.samples]
            given = np.asarray(embeddings)[rows] if isinstance(embeddings, np.ndarray) else embeddings
            for name, own in clusters(chosen, scene, given):
                found.append(Slice("cluster", name, own))
        else:
            found += _field(chosen, word, bins)
    usable = [one for one in found if LEAST_IMAGES <= int(one.images.sum()) < len(scene.samples)]
    return tuple(usable)


def _tags(tags: Sequence[Sequence[str]]) -> list[Slice]:
    counts = Counter(tag for some in tags for tag in set(some or ()))
    most = [tag for tag, _ in counts.most_common(MOST_VALUES)]
    return [
        Slice(
            "tags",
            f"{'split' if tag in SPLITS else 'tag'} {tag}",
            np.array([tag in (some or ()) for some in tags]),
        )
        for tag in most
    ]


def _numbers(
    by: str, values: np.ndarray, bins: int, show: Callable[[float], str] = "{:.3g}".format, unit: str = ""
) -> list[Slice]:
    """Quantile slices; equal values are never parted."""
    known = np.isfinite(values)
    if not known.any():
        return []
    edges = np.unique(np.quantile(values[known], np.linspace(0, 1, bins + 1)))
    found = []
    for low, high in itertools.pairwise(edges):
        own = known & (values >= low) & ((values < high) if high < edges[-1] else (values <= high))
        if own.any():
            least, most = show(float(values[own].min())), show(float(values[own].max()))
            text = f"{by} {least}" if least == most else f"{by} {least} to {most}"
            found.append(Slice(by, text + unit, own))
    if not (~known).any():
        return found
    return [*found, Slice(by, f"{by} not known", ~known)]


def _measured(chosen: Any, word: str) -> np.ndarray:
    from osv_lab.curate.measures import measure_view

    rows, _ = measure_view(chosen)
    return np.array([np.nan if row.get("broken") else float(row[word]) for row in rows])


def _field(chosen: Any, name: str, bins: int) -> list[Slice]:
    import fiftyone as fo

    declared = chosen.get_field(name)
    plain = (fo.StringField, fo.BooleanField, fo.IntField, fo.FloatField)
    is_label = getattr(declared, "document_type", None) is fo.Classification
    if declared is None:
        known = [*WORDS, *chosen.get_field_schema(flat=True)]
        raise NotFoundError("no such field or word to slice by", repr(name), nearest(name, known))
    if not isinstance(declared, plain) and not is_label:
        raise UsageError("slices are by plain values of samples", f"'{name}' holds {type(declared).__name__}")
    values = chosen.values(f"{name}.label" if is_label else name)
    distinct = Counter(values)
    if isinstance(declared, fo.FloatField | fo.IntField) and len(distinct) > bins:
        return _numbers(name, np.array([np.nan if one is None else float(one) for one in values]), bins)
    if len(distinct) > MOST_VALUES:
        raise UsageError("too many values to slice by", f"'{name}' has {len(distinct)}", "use a coarser field")
    return [
        Slice(
            name,
            f"{name} {value if value is not None else 'not known'}",
            np.array([one == value for one in values]),
        )
        for value, _ in distinct.most_common()
    ]
