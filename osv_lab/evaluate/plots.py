"""What reports look like as plotly figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from osv_lab.evaluate.confusion import ConfusionMatrix
    from osv_lab.evaluate.detection import EvaluationReport
    from osv_lab.evaluate.error_budget import ErrorBudget
    from osv_lab.evaluate.slices import SliceReport


def budget_figure(budget: ErrorBudget) -> Any:
    """Bars of the mAP that mending each type brings, stacked by class."""
    import plotly.graph_objects as go

    kinds = [one.kind for one in budget.shares if one.by == "all"]
    names = sorted({one.group for one in budget.shares if one.by == "class"})
    figure = go.Figure()
    for name in names:
        own = {one.kind: one for one in budget.shares if one.by == "class" and one.group == name}
        gains = [own[kind].gain if kind in own else 0.0 for kind in kinds]
        counts = [own[kind].count if kind in own else 0 for kind in kinds]
        figure.add_bar(
            x=kinds, y=gains, name=name, customdata=counts, hovertemplate="%{y:+.3f}, %{customdata} errors"
        )
    figure.update_layout(
        barmode="relative",
        title=f"{budget.pred_field}: what mending each error brings (mAP{budget.iou * 100:.0f} {budget.mean_ap:.3f})",
        xaxis_title="error",
        yaxis_title="mAP gained",
        template="plotly_white",
    )
    return figure


def slices_figure(report: SliceReport) -> Any:
    """Each slice's metric with its interval, worst on top, beside a line for all images."""
    import plotly.graph_objects as go

    shown = [one for one in report.slices if one.values[report.metric] == one.values[report.metric]][:30]
    values = [one.values[report.metric] for one in shown]
    low, high = zip(*(one.intervals[report.metric] for one in shown), strict=True) if shown else ((), ())
    colours = ["#c0392b" if one in report.significant() else "#34495e" for one in shown]
    figure = go.Figure(
        go.Scatter(
            x=values,
            y=[f"{one.name} ({one.images})" for one in shown],
            mode="markers",
            marker={"color": colours, "size": 9},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [b - v for b, v in zip(high, values, strict=True)],
                "arrayminus": [v - a for a, v in zip(low, values, strict=True)],
            },
        )
    )
    figure.add_vline(x=report.overall.values[report.metric], line_dash="dot")
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(
        title=f"{report.pred_field}: {report.metric} by slice, worst first (red: worse beyond chance)",
        xaxis_title=f"{report.metric}, with 95 % intervals",
        template="plotly_white",
        height=140 + 26 * len(shown),
    )
    return figure


def scores_figure(report: EvaluationReport) -> Any:
    """Bars of AP, precision and recall by class."""
    import plotly.graph_objects as go

    names = [one.name for one in report.classes]
    columns = {"mAP50": "ap50", "mAP50-95": "ap", "precision": "precision", "recall": "recall"}
    figure = go.Figure(
        [
            go.Bar(
                x=names,
                y=[getattr(one, column) for one in report.classes],
                name=title,
                customdata=[one.support for one in report.classes],
                hovertemplate="%{y:.3f}, %{customdata:,} objects",
            )
            for title, column in columns.items()
        ]
    )
    at = f"precision and recall at confidence {report.confidence:.2f}, IoU {report.iou:g}"
    figure.update_layout(barmode="group", title=f"{report.key}: {at}", template="plotly_white")
    return figure.update_yaxes(range=[0, 1])


def confusion_figure(matrix: ConfusionMatrix) -> Any:
    """Counts by class, coloured by their share of the row; the cell of no object and no prediction is left out."""
    import plotly.graph_objects as go

    counts = matrix.counts.astype(float)
    counts[-1, -1] = float("nan")
    total = matrix.counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(total, 1)
    figure = go.Figure(
        go.Heatmap(
            z=shares,
            x=list(matrix.labels),
            y=list(matrix.labels),
            text=matrix.counts,
            texttemplate="%{text:,}",
            colorscale="Blues",
            zmin=0,
            zmax=1,
            colorbar={"title": "of row"},
            hovertemplate="%{y} found as %{x}: %{text:,} (%{z:.1%} of the row)<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed", title="object")
    return figure.update_layout(title=matrix.summary(), xaxis_title="found as", template="plotly_white")
