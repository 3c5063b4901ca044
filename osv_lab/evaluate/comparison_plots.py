"""A comparison drawn with plotly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from osv_lab.evaluate.outcomes import OBJECTS

if TYPE_CHECKING:
    from osv_lab.evaluate.comparison_report import ComparisonReport

BETTER, WORSE, UNSURE = "#1a9850", "#d73027", "#8a8f98"


def differences(report: ComparisonReport) -> Any:
    """Differences of the whole's metrics and of each slice's mAP50-95, with 95% intervals."""
    import plotly.graph_objects as go

    shown = [one for one in report.differences if one.kind == "all" or one.metric == "mAP50-95"]
    names = [
        f"<b>{one.metric}</b>" if one.kind == "all" else f"{one.name} <i>({one.objects:,} objects)</i>"
        for one in shown
    ]
    sure = [one.low > 0 or one.high < 0 for one in shown]
    colours = [
        (BETTER if one.difference > 0 else WORSE) if known else UNSURE
        for one, known in zip(shown, sure, strict=True)
    ]
    figure = go.Figure()
    for one, name, colour in zip(shown, names, colours, strict=True):
        told = f"{one.a:.3f} → {one.b:.3f} ({one.difference:+.3f})<br>p {one.p:.3f}, of all {one.p_adjusted:.3f}"
        bar = {
            "array": [one.high - one.difference], "arrayminus": [one.difference - one.low],
            "color": colour, "thickness": 2.5, "width": 5,
        }  # fmt: skip
        figure.add_scatter(
            x=[one.difference], y=[name], error_x=bar, mode="markers", showlegend=False,
            marker={"size": 11, "color": colour}, hovertemplate=f"{told}<extra>{one.name}</extra>",
        )  # fmt: skip
        figure.add_annotation(
            x=1.01, xref="paper", xanchor="left", y=name, text=f"{one.a:.3f} → {one.b:.3f}", showarrow=False,
            font={"color": colour, "size": 12},
        )  # fmt: skip
    figure.add_vline(x=0, line={"color": "#444", "width": 1})
    figure.update_yaxes(autorange="reversed", ticksuffix="  ")
    return figure.update_layout(
        title=f"{report.keys[1]} minus {report.keys[0]}, 95% intervals of {report.n_boot:,} resamples",
        xaxis_title="difference (right: better)",
        template="plotly_white",
        height=170 + 34 * len(shown),
        margin={"l": 10, "r": 120, "t": 60, "b": 50},
    )


def objects(report: ComparisonReport) -> Any:
    """Fixed and broken objects by class; what both find or miss is in the hover text."""
    import plotly.graph_objects as go

    names = [name for name in report.by_class["fixed"] if any(report.by_class[what][name] for what in OBJECTS)]
    figure = go.Figure()
    for what, colour, sign in (("fixed", BETTER, 1), ("broken", WORSE, -1)):
        counts = [report.by_class[what][name] for name in names]
        told = [f"{report.by_class['both_right'][n]} both right, {report.by_class['both_wrong'][n]} both wrong"
                for n in names]  # fmt: skip
        figure.add_bar(
            y=names, x=[sign * count for count in counts], name=what, orientation="h", marker_color=colour,
            text=[str(count) if count else "" for count in counts], textposition="outside",
            cliponaxis=False, hovertext=told,
        )  # fmt: skip
    figure.add_vline(x=0, line={"color": "#444", "width": 1})
    figure.update_yaxes(autorange="reversed", ticksuffix="  ")
    return figure.update_layout(
        title=f"Objects broken and fixed from {report.keys[0]} to {report.keys[1]}",
        xaxis_title="objects (left: broken, right: fixed)",
        barmode="relative",
        template="plotly_white",
        height=180 + 44 * len(names),
    )


PLOTS: Mapping[str, Callable[[ComparisonReport], Any]] = {"differences": differences, "objects": objects}
