"""How healthy a dataset is: counts, balance, sizes, places, splits; what stands out, in plain words, worst first."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import NotFoundError, UsageError, nearest
from osv_lab.core.settings import SPLITS
from osv_lab.curate.findings import Finding, FindingsReport, counted, worst_first
from osv_lab.store.bulk_documents import read_columns
from osv_lab.store.database import connect

if TYPE_CHECKING:
    import fiftyone as fo

GRID = 32
"""Cells across and down of the map of where objects are."""

SIZE_BINS, DENSITY_BARS = 50, 60
"""Cells each way of the plot of sizes, and the most bars of the plot of density."""

RARE = 30
"""With fewer objects a class can hardly be learned, nor its scores trusted."""

PLOTS = ("classes", "splits", "density", "sizes", "places")


@dataclass(frozen=True)
class HealthReport(FindingsReport):
    """The result of :func:`health`.

    Attributes:
        gt_field: The labels' field.
        samples: Images in the view.
        labelled: Images that somebody labelled; those without an object among them are background.
        objects: Objects of each class, most first.
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


@dataclass(frozen=True)
class _Objects:
    """All objects of a view as columns of one row each."""

    sample: np.ndarray
    label: np.ndarray
    name: np.ndarray
    xywh: np.ndarray


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
        >>> report = health(dataset)                             # doctest: +SKIP
        >>> report.view("outside")                               # doctest: +SKIP
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
    objects = _columns(labelled)
    split_of = {one["_id"]: next((tag for tag in one.get("tags") or () if tag in SPLITS), "") for one in documents}
    samples, names = objects.sample.tolist(), objects.name.tolist()
    counts = Counter(names)
    pairs = set(zip(samples, names, strict=True))
    images = Counter(name for _, name in pairs)
    by_split: dict[str, Counter[str]] = {split: Counter() for split in dict.fromkeys(split_of.values())}
    for (split, name), count in Counter(zip(map(split_of.__getitem__, samples), names, strict=True)).items():
        by_split[split][name] = count
    per_image = Counter(samples)
    density = np.array([per_image[one["_id"]] for one in labelled])
    ratio = {one["_id"]: _ratio(one.get("metadata") or {}) for one in labelled}
    width, height = objects.xywh[:, 2], np.maximum(objects.xywh[:, 3], 1e-9)
    aspects = width / height * np.array([ratio[one] for one in samples])
    findings = [
        *_about_images(documents, labelled, per_image, split_of),
        *_about_classes(counts, by_split, pairs),
        *_about_boxes(objects, gt_field),
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


def _columns(documents: Sequence[Mapping[str, Any]]) -> _Objects:
    def column(name: str) -> list[Any]:
        return list(itertools.chain.from_iterable(one[name] for one in documents))

    ids = np.array([one["_id"] for one in documents], object)
    return _Objects(
        np.repeat(ids, [len(one["label"]) for one in documents]),
        np.array(column("id"), object),
        np.array(column("label"), object),
        np.array(column("bounding_box"), float).reshape(-1, 4),
    )


def _ratio(metadata: Mapping[str, Any]) -> float:
    return float(metadata.get("width") or 1) / float(metadata.get("height") or 1)


def _about_images(
    documents: Sequence[Mapping[str, Any]],
    labelled: Sequence[Mapping[str, Any]],
    per_image: Mapping[str, int],
    split_of: Mapping[str, str],
) -> list[Finding]:
    findings = []
    known = {one["_id"] for one in labelled}
    unlabelled = tuple(one["_id"] for one in documents if one["_id"] not in known)
    if unlabelled:
        share = len(unlabelled) / len(documents)
        text = f"{counted(len(unlabelled), 'image')} ({share:.1%}) were never labelled; training leaves them out"
        findings.append(Finding("unlabelled", text, 0.3 + 0.5 * share, unlabelled))
    empty = tuple(one["_id"] for one in labelled if not per_image.get(one["_id"]))
    if empty:
        share = len(empty) / len(labelled)
        text = f"{counted(len(empty), 'image')} ({share:.1%}) are labelled as showing nothing: is that so?"
        findings.append(Finding("background", text, 0.1 + 0.6 * share, empty))
    counts = np.array([per_image.get(one["_id"], 0) for one in labelled], float)
    if len(counts) >= 20:
        middle = np.median(counts)
        spread = max(1.4826 * float(np.median(np.abs(counts - middle))), 1.0)
        crowded = np.flatnonzero(counts > middle + 6 * spread)
        if len(crowded):
            ids = tuple(labelled[place]["_id"] for place in crowded[np.argsort(-counts[crowded])])
            text = f"{counted(len(ids), 'image')} hold far more objects than the usual {middle:.0f}"
            findings.append(Finding("crowded", text, 0.2, ids))
    splits = Counter(split_of.values())
    if any(splits.get(split) for split in SPLITS):
        if nowhere := tuple(sample for sample, split in split_of.items() if not split):
            findings.append(Finding("no_split", f"{counted(len(nowhere), 'image')} are in no split", 0.4, nowhere))
        if not splits.get("val"):
            findings.append(Finding("no_val", "no image is in the split val, which training is steered by", 0.5))
    return findings


def _about_classes(
    counts: Counter[str], by_split: Mapping[str, Counter[str]], pairs: set[tuple[str, str]]
) -> list[Finding]:
    findings = []
    most = counts.most_common(1)[0] if counts else ("", 0)

    def showing(names: set[str]) -> tuple[str, ...]:
        return tuple(sorted({sample for sample, name in pairs if name in names}))

    rare = {name: count for name, count in counts.items() if count < RARE}
    if rare:
        told = ", ".join(f"{name} ({count})" for name, count in sorted(rare.items(), key=lambda one: one[1]))
        text = f"too few objects to learn or to score: {told}"
        findings.append(Finding("rare_classes", text, 0.7, showing(set(rare))))
    few = {name for name, count in counts.items() if name not in rare and count * 10 <= most[1]}
    if few:
        text = f"{most[0]} has ten times as many objects or more than {', '.join(sorted(few))}"
        findings.append(Finding("imbalance", text, 0.4, showing(few)))
    if len([split for split in by_split if split]) > 1:
        trained = by_split.get("train", Counter())
        for split, some in by_split.items():
            if split and split != "train" and (unseen := {name for name in some if not trained.get(name)}):
                text = f"{split} asks for classes that train never shows: {', '.join(sorted(unseen))}"
                findings.append(Finding(f"unseen_in_{split}", text, 0.9, showing(unseen)))
        lacking = {
            name
            for name in trained
            for split in ("val", "test")
            if split in by_split and not by_split[split][name]
        }
        if lacking:
            text = f"never in val or test, so never scored there: {', '.join(sorted(lacking))}"
            findings.append(Finding("unscored_classes", text, 0.6, showing(lacking)))
    folded: dict[str, set[str]] = {}
    for name in counts:
        folded.setdefault("".join(filter(str.isalnum, name.lower())), set()).add(name)
    if twins := [names for names in folded.values() if len(names) > 1]:
        told = "; ".join(" = ".join(sorted(names)) for names in twins)
        findings.append(
            Finding(
                "similar_names", f"classes that differ in spelling only: {told}", 0.8, showing(set().union(*twins))
            )
        )
    return findings


def _about_boxes(objects: _Objects, field_name: str) -> list[Finding]:
    x, y, w, h = objects.xywh.T
    slack = 1e-3
    outside = (x < -slack) | (y < -slack) | (x + w > 1 + slack) | (y + h > 1 + slack)
    empty = (w <= 0) | (h <= 0)
    tiny = ~empty & (w * h < 1e-5)
    whole = w * h > 0.95
    rows = list(
        zip(objects.sample.tolist(), objects.name.tolist(), *np.round(objects.xywh, 4).T.tolist(), strict=True)
    )
    times = Counter(rows)
    double = np.array([times[row] > 1 for row in rows], bool)
    kinds = (
        ("empty_boxes", empty, 0.8, "{} no area"),
        ("outside", outside, 0.6, "{} beyond the image"),
        ("double_boxes", double, 0.6, "{} there more than once"),
        ("tiny_boxes", tiny, 0.3, "{} smaller than a hundred-thousandth of the image"),
        ("whole_image", whole, 0.2, "{} the whole image"),
    )
    verbs = {
        "empty_boxes": "have",
        "outside": "reach",
        "double_boxes": "are",
        "tiny_boxes": "are",
        "whole_image": "cover",
    }
    findings = []
    for kind, where, severity, text in kinds:
        if where.any():
            samples = tuple(dict.fromkeys(objects.sample[where].tolist()))
            text = f"{counted(int(where.sum()), 'box', 'boxes')} {text.format(verbs[kind])}"
            labels = tuple(map(str, objects.label[where].tolist()))
            findings.append(Finding(kind, text, severity, samples, labels, field_name))
    return findings
