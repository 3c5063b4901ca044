"""What steps do to one image, drawn."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from osv_lab.core.errors import UsageError
from osv_lab.core.files import write_atomic
from osv_lab.core.report import Report
from osv_lab.core.settings import SEED
from osv_lab.store.records import Label
from osv_lab.store.transforms.apply import augmented, preprocessed, random_of
from osv_lab.store.transforms.catalogue import Steps, parse_steps
from osv_lab.store.transforms.item import Item, make_item
from osv_lab.store.transforms.labels import remapped
from osv_lab.store.transforms.shapes import outlines_of


@dataclass(frozen=True)
class Preview(Report):
    """An image after its steps.

    Attributes:
        titles: What each picture is.
        images: BGR uint8 ``(h, w, 3)``, without drawing.
        labels: The labels of each, relative, by field.
        drawn: The images with their labels drawn.
    """

    titles: tuple[str, ...]
    images: tuple[np.ndarray, ...] = field(repr=False, compare=False)
    labels: tuple[Mapping[str, Sequence[Label]], ...] = field(repr=False, compare=False)
    drawn: tuple[np.ndarray, ...] = field(repr=False, compare=False)

    def rows(self) -> list[Mapping[str, Any]]:
        return [
            {
                "picture": title,
                "width": image.shape[1],
                "height": image.shape[0],
                "labels": sum(map(len, labels.values())),
            }
            for title, image, labels in zip(self.titles, self.images, self.labels, strict=True)
        ]

    def summary(self) -> str:
        return f"{len(self.images)} pictures: {', '.join(self.titles)}"

    def save(self, folder: str | Path) -> list[Path]:
        """Write the drawn pictures as PNG files; their paths."""
        import cv2

        paths = []
        for k, (title, image) in enumerate(zip(self.titles, self.drawn, strict=True)):
            paths.append(Path(folder) / f"{k:02d}-{title.replace(' ', '-')}.png")
            write_atomic(paths[-1], cv2.imencode(".png", image)[1].tobytes())
        return paths

    def _repr_html_(self) -> str:
        import cv2

        pictures = []
        for title, image in zip(self.titles, self.drawn, strict=True):
            data = base64.b64encode(cv2.imencode(".jpg", image)[1].tobytes()).decode()
            pictures.append(
                f"<figure style='display:inline-block;margin:4px'><img style='max-height:280px' "
                f"src='data:image/jpeg;base64,{data}'><figcaption>{html.escape(title)}</figcaption></figure>"
            )
        return "".join(pictures)


def preview(
    sample: Any,
    steps: Steps,
    *,
    copies: int = 4,
    seed: int = SEED,
    fields: Sequence[str] | None = None,
) -> Preview:
    """Show what steps do to one image, before a version is made of them.

    Args:
        sample: A ``fiftyone.Sample``, or an image: a path, or BGR uint8 ``(h, w, 3)``.
        steps: Preprocessing and augmentation together, as for
            :func:`~osv_lab.store.versions.create.create_version`.
        copies: How many augmented copies, where there are augmentation steps.
        seed: Where chance starts from.
        fields: Label fields; by default all of the sample's.

    Returns:
        The original, what preprocessing makes of it, and the copies. A mosaic here has four times the same image.

    Raises:
        UsageError: steps that cannot be used.

    Example:
        >>> made = preview(dataset.first(), {"rotate": {"degrees": 15}}, copies=2)
        >>> [path.name for path in made.save("preview")]
        ['00-original.png', '01-augmented-1.png', '02-augmented-2.png']
    """
    from osv_lab.detect.images import read_image

    chosen = parse_steps(steps)
    before = [step for step in chosen if step.kind.stage == "preprocess"]
    after = [step for step in chosen if step.kind.stage == "augment"]
    if copies < 0:
        raise UsageError("copies must be zero or more", copies)
    labels: Mapping[str, list[Label]] = {}
    skeletons: Mapping[str, Sequence[str]] = {}
    if isinstance(sample, (str, Path, np.ndarray)):
        image = sample if isinstance(sample, np.ndarray) else read_image(sample)
    else:
        image, labels = read_image(sample.filepath), _labels_of(sample, fields)
        skeletons = _skeletons(sample, labels)
    original = make_item(image, labels)
    items = preprocessed(make_item(image, remapped(labels, before)), before, skeletons)
    titles = ["original", *([item.part or "preprocessed" for item in items] if before else [])]
    shown = [original, *(items if before else [])]
    if after:
        for k in range(1, copies + 1):
            source = items[(k - 1) % len(items)]
            rng = random_of(seed, "preview", k)
            shown.append(augmented(source, after, rng, partial(_same, source), skeletons))
            titles.append(f"augmented {k}")
    return Preview(
        titles=tuple(titles),
        images=tuple(item.image for item in shown),
        labels=tuple(item.labels for item in shown),
        drawn=tuple(_drawn(item) for item in shown),
    )


def _same(item: Item) -> Item:
    return item


def _labels_of(sample: Any, fields: Sequence[str] | None) -> dict[str, list[Label]]:
    from osv_lab.store.convert.fiftyone import labels_of

    found = {}
    for name in fields if fields is not None else sample.field_names:
        value = sample[name]
        if type(value).__name__ in ("Detections", "Polylines", "Keypoints", "Classification"):
            found[name] = labels_of(value)
    return found


def _skeletons(sample: Any, fields: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    dataset = getattr(sample, "_dataset", None)
    if dataset is None:
        return {}
    known = {name: dataset.skeletons.get(name) or dataset.default_skeleton for name in fields}
    return {name: tuple(skeleton.labels or ()) for name, skeleton in known.items() if skeleton is not None}


def _drawn(item: Item) -> np.ndarray:
    import cv2

    image = item.image.copy()
    names = sorted({shape.label.label for shape in item.shapes})
    width = max(1, round(max(item.size) / 400))
    for shape in item.shapes:
        turn = names.index(shape.label.label) * 47 % 180
        colour = tuple(map(int, cv2.cvtColor(np.array([[[turn, 220, 255]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0]))
        closed = getattr(shape.label, "closed", True)
        for ring in outlines_of(shape):
            cv2.polylines(image, [np.rint(ring - 0.5).astype(np.int32)], closed, colour, width, cv2.LINE_AA)
        for x, y in shape.points if shape.points is not None else ():
            if x == x and y == y:
                cv2.circle(image, (round(x - 0.5), round(y - 0.5)), 2 * width, colour, -1, cv2.LINE_AA)
    return image
