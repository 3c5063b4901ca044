"""From a mark of one of the health plots to the samples behind it."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import NotFoundError, UsageError, nearest

if TYPE_CHECKING:
    from osv_lab.curate.health import HealthReport


def part(report: HealthReport, plot: str, x: Any, y: Any = None, trace: str = "") -> Any:
    """The samples that a mark of a plot stands for, with those of their labels only that it is about.

    Args:
        report: The report.
        plot: One of :data:`osv_lab.curate.health.PLOTS`.
        x: The mark's place across: a class, a number of objects, a width, or a column.
        y: Its place up, where the plot has one.
        trace: The name of what it belongs to: a split.

    Raises:
        NotFoundError: no plot is called so.
        UsageError: a place that is no number, in a plot over numbers.
    """
    from fiftyone import ViewField

    from osv_lab.curate.health import GRID, PLOTS, SIZE_BINS
    from osv_lab.store.catalogue import open_dataset

    if plot not in PLOTS:
        raise NotFoundError("no such plot", repr(plot), nearest(plot, PLOTS))
    if plot not in ("classes", "splits"):
        for place in (x,) if plot == "density" else (x, y):
            if not isinstance(place, Real) or not math.isfinite(place):
                raise UsageError(f"a mark of the plot '{plot}' is at a number", repr(place))
    dataset, field = open_dataset(report.dataset), report.gt_field
    box = ViewField("bounding_box")
    if plot == "classes":
        return dataset.filter_labels(field, ViewField("label") == str(x))
    if plot == "splits":
        among = dataset.match_tags(trace) if trace in report.by_split and trace else dataset
        return among.filter_labels(field, ViewField("label") == str(x))
    if plot == "density":
        begin, step = int(x), report.density_step()
        # The middle of a bar is what a browser tells of it.
        begin -= begin % step
        count = (ViewField(f"{field}.detections") != None).if_else(  # noqa: E711
            ViewField(f"{field}.detections").length(), 0
        )
        return dataset.match((count >= begin) & (count < begin + step))
    if plot == "sizes":
        half = 0.5 / SIZE_BINS + 1e-9
        near = (box[2] >= x - half) & (box[2] <= x + half) & (box[3] >= y - half) & (box[3] <= y + half)
        return dataset.filter_labels(field, near)
    across, up = (float(x) + 0.5) / GRID, (float(y) + 0.5) / GRID
    covers = (box[0] <= across) & (box[0] + box[2] >= across) & (box[1] <= up) & (box[1] + box[3] >= up)
    return dataset.filter_labels(field, covers)
