"""How healthy a dataset is: counts, balance, sizes, places, splits; what stands out, in plain words, worst first."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import NotFoundError, UsageError, nearest
from osv_lab.core.settings import SPLITS
from osv_lab.core.words import counted
from osv_lab.curate.findings import FindingsReport, worst_first
from osv_lab.curate.health_findings import about_boxes, about_classes, about_images, about_labels, objects_of
from osv_lab.store.bulk_documents import read_columns
from osv_lab.store.database import connect

if TYPE_CHECKING:
    import fiftyone as fo

GRID = 32
"""Cells across and down of the map of where objects are."""

SIZE_BINS, DENSITY_BARS = 50, 60
"""Cells each way of the plot of sizes, and the most bars of the plot of density."""

PLOTS = ("classes", "splits", "density", "sizes", "places")


@dataclass(frozen=True)
class HealthReport(FindingsReport):
    """The result of :func:`health`.

    Attributes:
        gt_field: The labels' field.
        samples: Images in the view.
        labelled: Images that somebody labelled; those without an object among them are background.
        objects: Objects of each class, most first; labels without a class or a box are in a finding and nowhere else.
        images: Images that show each class.
        by_split: Objects of each class by split; ``""`` holds those in no split.
        density: ``(n,)`` objects in each labelled image.
        sizes: ``(k, 2)`` relative widths and heights of the objects.
        aspects: ``(k,)`` width by height of the objects, in pixels where the images' sizes are known.
        places: ``(32, 32)`` how many objects cover each cell of an image, from the top left.
        duration_s: Seconds spent.
    """

    gt_field: str = "ground_truth"
    samples: int = 0
    labelled: int = 0
    objects: Mapping[str, int] = field(default_factory=dict)
    images: Mapping[str, int] = field(default_factory=dict)
    by_split: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    density: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)
    sizes: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)), repr=False, compare=False)
    aspects: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)
    places: np.ndarray = field(default_factory=lambda: np.zeros((GRID, GRID)), repr=False, compare=False)
    duration_s: float = field(default=0.0, compare=False)

    def summary(self) -> str:
        """The counts in one line."""
        return (
            f"'{self.dataset}': {counted(self.samples, 'image')}, {self.labelled:,} labelled, "
            f"{counted(sum(self.objects.values()), 'object')} of {counted(len(self.objects), 'class', 'classes')}, "
            f"{counted(len(self.findings), 'finding')}"
        )

    def density_step(self) -> int:
        """How many numbers of objects one bar of the plot ``density`` stands for."""
        return 1 + int(self.density.max(initial=0)) // DENSITY_BARS

    def density_edges(self) -> np.ndarray:
        """Where the bars of the plot ``density`` begin."""
        return np.arange(0, int(self.density.max(initial=0)) + 1, self.density_step())

    def part(self, plot: str, x: Any, y: Any = None, trace: str = "") -> Any:
        """The samples that a mark of a plot stands for, as a view; see :func:`osv_lab.curate.health_parts.part`."""
        from osv_lab.curate.health_parts import part

        return part(self, plot, x, y, trace)

    def plot(self, name: str) -> Any:
        """One of :data:`PLOTS` as a plotly figure.

        Raises:
            NotFoundError: no plot is called so.
        """
        if name not in PLOTS:
            raise NotFoundError("no such plot", repr(name), nearest(name, PLOTS))
        import plotly.graph_objects as go

        names = list(self.objects)
        if name == "classes":
            marks = [go.Bar(x=names, y=list(self.objects.values()), name="objects")]
            marks.append(go.Bar(x=names, y=[self.images[one] for one in names], name="images"))
        elif name == "splits":
            marks = []
            for split, some in self.by_split.items():
                total = max(sum(some.values()), 1)
                shares = [some.get(one, 0) / total for one in names]
                marks.append(go.Bar(x=names, y=shares, name=split or "no split"))
        elif name == "density":
            edges = self.density_edges()
            counts = np.histogram(self.density, [*edges, np.inf])[0]
            marks = [go.Bar(x=edges, y=counts, width=self.density_step(), offset=0, name="objects per image")]
        elif name == "sizes":
            # Counted here: a figure with every object would be many megabytes.
            edges = np.linspace(0, 1, SIZE_BINS + 1)
            counts = np.histogram2d(self.sizes[:, 1], self.sizes[:, 0], [edges, edges])[0]
            marks = [go.Heatmap(z=counts, x=(edges[:-1] + edges[1:]) / 2, y=(edges[:-1] + edges[1:]) / 2)]
        else:
            marks = [go.Heatmap(z=self.places)]
        figure = go.Figure(marks)
        title, across, up = _TITLES[name]
        figure.update_layout(title=f"{self.dataset}: {title}", xaxis_title=across, yaxis_title=up)
        if name == "places":
            figure.update_yaxes(autorange="reversed")
        return figure


_TITLES = {
    "classes": ("objects, and images that have one, by class", "class", "count"),
    "splits": ("share of each class in each split", "class", "share of the split's objects"),
    "density": ("objects per image", "objects in an image", "images"),
    "sizes": ("how large objects are", "width, share of the image's", "height, share of the image's"),
    "places": ("where objects are, on a grid over the image", "column, from the left", "row, from the top"),
}
"""Of each plot its title, and what its axes say."""


def health(view: fo.SampleCollection, gt_field: str = "ground_truth") -> HealthReport:
    """Look at a dataset's labels as a whole.

    Args:
        view: A dataset or view of images.
        gt_field: The labels, a field of ``fiftyone.Detections``.

    Returns:
        Numbers, plots (:meth:`HealthReport.plot`) and findings, each with its view. Images are not opened: that is
        :func:`osv_lab.curate.quality.quality`.

    Raises:
        NotFoundError: there is no such field.
        UsageError: the field does not hold boxes.

    Example:
        >>> report = health(dataset)
        >>> print(report.summary())
        'cells': 20 images, 20 labelled, 30 objects of 2 classes, 1 finding
    """
    fo = connect()
    begin = time.perf_counter()
    declared = view.get_field(gt_field)
    if declared is None:
        names = view.get_field_schema(embedded_doc_type=fo.Detections)
        raise NotFoundError(
            "no such field", repr(gt_field), nearest(gt_field, names) if names else "label it first"
        )
    if getattr(declared, "document_type", None) is not fo.Detections:
        raise UsageError("health is about boxes", f"'{gt_field}' is not a field of Detections")
    documents = read_columns(view, gt_field, ("label", "bounding_box", "_id"), ["labelled", "tags", "metadata"])
    labelled = [one for one in documents if one.get("labelled") is not False and one["there"]]
    every = objects_of(labelled)
    # What has no class or no place can be counted, and nothing else.
    objects = every.only(every.named & every.placed)
    split_of = {one["_id"]: next((tag for tag in one.get("tags") or () if tag in SPLITS), "") for one in documents}
    samples, names = objects.sample.tolist(), objects.name.tolist()
    counts = Counter(names)
    pairs = set(zip(samples, names, strict=True))
    images = Counter(name for _, name in pairs)
    by_split: dict[str, Counter[str]] = {split: Counter() for split in dict.fromkeys(split_of.values())}
    for (split, name), count in Counter(zip(map(split_of.__getitem__, samples), names, strict=True)).items():
        by_split[split][name] = count
    per_image = Counter(every.sample.tolist())
    density = np.array([per_image[one["_id"]] for one in labelled])
    ratio = {one["_id"]: _ratio(one.get("metadata") or {}) for one in labelled}
    width, height = objects.xywh[:, 2], np.maximum(objects.xywh[:, 3], 1e-9)
    aspects = width / height * np.array([ratio[one] for one in samples])
    findings = [
        *about_images(documents, labelled, per_image, split_of),
        *about_classes(counts, by_split, pairs),
        *about_labels(every, gt_field),
        *about_boxes(objects, gt_field),
    ]
    return HealthReport(
        dataset=view._dataset.name,
        findings=worst_first(findings),
        gt_field=gt_field,
        samples=len(documents),
        labelled=len(labelled),
        objects=dict(counts.most_common()),
        images=dict(images.most_common()),
        by_split={split: dict(some) for split, some in by_split.items()},
        density=density,
        sizes=objects.xywh[:, 2:],
        aspects=aspects,
        places=cover(objects.xywh),
        duration_s=time.perf_counter() - begin,
    )


def cover(xywh: np.ndarray, grid: int = GRID) -> np.ndarray:
    """How many boxes cover each cell of an image, ``(grid, grid)``; rows from the top.

    Each box adds to four corners of a table whose running sums are the answer (summed-area table; F. Crow, 1984).

    Args:
        xywh: Relative boxes ``(k, 4)``.
        grid: Cells each way.

    Example:
        >>> cover(np.array([[0, 0, 1, 0.5]]), 2).tolist()
        [[1, 1], [0, 0]]
    """
    low = np.clip(np.floor(xywh[:, :2] * grid + 1e-9), 0, grid - 1).astype(int)
    high = np.clip(np.ceil((xywh[:, :2] + xywh[:, 2:]) * grid - 1e-9), low + 1, grid).astype(int)
    table = np.zeros((grid + 1, grid + 1), int)
    for rows, columns, sign in ((low, low, 1), (low, high, -1), (high, low, -1), (high, high, 1)):
        np.add.at(table, (rows[:, 1], columns[:, 0]), sign)
    return np.asarray(table.cumsum(axis=0).cumsum(axis=1)[:grid, :grid])


def _ratio(metadata: Mapping[str, Any]) -> float:
    return float(metadata.get("width") or 1) / float(metadata.get("height") or 1)
