"""Curves of calibration and robustness as plotly figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from osv_lab.evaluate.calibration import CalibrationReport
    from osv_lab.evaluate.robustness import RobustnessReport


def calibration_figure(report: CalibrationReport) -> Any:
    """Precision of each bin against its mean score; what is right lies on the diagonal. Points grow with the bin."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    known = [one for one in report.classes[1:] if one.detections]
    shown = sorted(known, key=lambda one: -one.detections)[:8]
    panels = [report.classes[0], *shown] if len(shown) > 1 else list(report.classes[:1])
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    titles = [f"{one.name}: error {one.ece:.3f}" for one in panels]
    figure = make_subplots(
        rows,
        columns,
        subplot_titles=titles,
        shared_yaxes=True,
        horizontal_spacing=0.05,
        vertical_spacing=0.3 / rows,
    )
    for place, one in enumerate(panels):
        at = {"row": place // columns + 1, "col": place % columns + 1}
        bins = [bin for bin in one.bins if bin.count]
        most = max((bin.count for bin in bins), default=1)
        figure.add_trace(
            go.Scatter(
                x=[0, 1], y=[0, 1], mode="lines", line={"color": "#95a5a6", "dash": "dot"}, hoverinfo="skip"
            ),
            **at,
        )
        figure.add_trace(
            go.Scatter(
                x=[bin.confidence for bin in bins],
                y=[bin.precision for bin in bins],
                mode="lines+markers",
                cliponaxis=False,
                line={"color": "#2874a6"},
                marker={"size": [6 + 18 * (bin.count / most) ** 0.5 for bin in bins]},
                customdata=[bin.count for bin in bins],
                hovertemplate="score %{x:.2f}, precision %{y:.2f}, %{customdata} detections<extra></extra>",
            ),
            **at,
        )
    figure.update_xaxes(range=[0, 1], title_text="score")
    figure.update_yaxes(range=[0, 1.02])
    figure.update_yaxes(title_text="precision", col=1)
    figure.update_layout(
        title=f"{report.pred_field}: precision by score (under the dotted line: overconfident)",
        template="plotly_white",
        showlegend=False,
        height=140 + 300 * rows,
    )
    return figure


def robustness_figure(report: RobustnessReport) -> Any:
    """mAP50-95 against severity, a line per corruption."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for kind in dict.fromkeys(one.corruption for one in report.steps):
        steps = report.of(kind)
        figure.add_scatter(
            x=[one.severity for one in steps],
            y=[one.map50_95 for one in steps],
            name=kind,
            mode="lines+markers",
            hovertemplate=f"{kind} %{{x}}: %{{y:.3f}}<extra></extra>",
        )
    figure.update_xaxes(title_text="severity (0: as they are)", dtick=1)
    figure.update_yaxes(title_text="mAP50-95", rangemode="tozero")
    figure.update_layout(
        title=f"{report.detector.rsplit('/', 1)[-1]} on {report.images} images: {report.relative:.0%} of its mAP "
        "is left on average",
        template="plotly_white",
    )
    return figure
