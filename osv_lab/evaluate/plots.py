"""What reports look like as plotly figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from osv_lab.evaluate.confusion import ConfusionMatrix
    from osv_lab.evaluate.detection import EvaluationReport
    from osv_lab.evaluate.error_budget import ErrorBudget
    from osv_lab.evaluate.slices import SliceReport
    from osv_lab.evaluate.thresholds import Thresholds

_CURVES = {"precision": "#2874a6", "recall": "#d68910", "F1": "#1e8449"}


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
    colours = ["#c0392b" if one in report.significant() else "#5b8ff9" for one in shown]
    figure = go.Figure(
        go.Scatter(
            x=values,
            y=[f"{one.name} ({one.images})" for one in shown],
            mode="markers",
            marker={"color": colours, "size": 9},
            error_x={
                "type": "data",
                "color": "#8a8f98",
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


def thresholds_figure(thresholds: Thresholds) -> Any:
    """Precision, recall and F1 against the threshold, a panel per class, the chosen threshold as a line."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    order = sorted(range(len(thresholds.curves)), key=lambda row: -thresholds.curves[row].objects)[:12]
    columns = min(3, len(order)) or 1
    rows = -(-len(order) // columns) or 1
    titles = [f"{thresholds.classes[row].name} at {thresholds.classes[row].confidence:g}" for row in order]
    figure = make_subplots(
        rows, columns, subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.04,
        vertical_spacing=0.35 / rows,
    )  # fmt: skip
    for place, number in enumerate(order):
        curve, chosen = thresholds.curves[number], thresholds.classes[number]
        at = {"row": place // columns + 1, "col": place % columns + 1}
        shown = np.unique(np.linspace(0, len(curve.cuts) - 1, 400).round().astype(int))
        x = curve.cuts[shown]
        for name, values in (("precision", curve.precision), ("recall", curve.recall), ("F1", curve.f1)):
            line = {"color": _CURVES[name], "width": 3 if name == "F1" else 1.5, "shape": "vh"}
            figure.add_trace(
                go.Scatter(
                    x=x, y=values[shown], name=name, line=line, mode="lines", legendgroup=name,
                    showlegend=place == 0, hovertemplate=f"{name} %{{y:.3f}} at %{{x:.3f}}<extra></extra>",
                ),
                **at,
            )  # fmt: skip
        low, high = chosen.confidence_interval
        if low == low:
            figure.add_vrect(x0=low, x1=high, fillcolor="#7f8c8d", opacity=0.18, line_width=0, **at)
        figure.add_vline(x=chosen.confidence, line={"color": "#34495e", "dash": "dot"}, **at)
    figure.update_xaxes(range=[0, 1])
    figure.update_yaxes(range=[0, 1.02])
    figure.update_layout(
        title=f"{thresholds.pred_field}: thresholds for {thresholds.objective} "
        "(dotted; grey: where other images would put it)",
        template="plotly_white",
        height=160 + 260 * rows,
        legend={"orientation": "h", "y": -0.08},
    )
    return figure


def curve_figure(thresholds: Thresholds, name: str, confidence: float | None = None) -> Any:
    """One class's precision, recall and F1 against the threshold, all three under the cursor.

    Args:
        thresholds: The thresholds.
        name: The class.
        confidence: Where to put the line; by default at the class's threshold.

    Raises:
        UsageError: no such class.
    """
    import plotly.graph_objects as go

    curve = thresholds.curve(name)
    chosen = next(one for one in thresholds.classes if one.name == name)
    shown = np.unique(np.linspace(0, len(curve.cuts) - 1, 400).round().astype(int))
    figure = go.Figure()
    for label, values in (("precision", curve.precision), ("recall", curve.recall), ("F1", curve.f1)):
        line = {"color": _CURVES[label], "width": 3 if label == "F1" else 1.5, "shape": "vh"}
        figure.add_scatter(
            x=curve.cuts[shown], y=values[shown], name=label, line=line, mode="lines",
            hovertemplate=f"{label} %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
    low, high = chosen.confidence_interval
    if low == low:
        figure.add_vrect(x0=low, x1=high, fillcolor="#7f8c8d", opacity=0.18, line_width=0)
    figure.add_vline(x=chosen.confidence, line={"color": "#8a8f98", "dash": "dot"})
    if confidence is not None:
        figure.add_vline(x=confidence, line={"color": "#ff6d04", "width": 2})
    figure.update_xaxes(range=[0, 1], title="confidence threshold", showspikes=True, spikemode="across")
    figure.update_yaxes(range=[0, 1.02])
    return figure.update_layout(
        hovermode="x unified",
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.18},
        template="plotly_white",
    )
