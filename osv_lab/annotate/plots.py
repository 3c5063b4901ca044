"""What the reports on annotators look like as plotly figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from osv_lab.annotate.outcomes import KINDS

if TYPE_CHECKING:
    from osv_lab.annotate.agreement import AgreementReport
    from osv_lab.annotate.yields import YieldReport

COLOURS = {
    "accepted": "#2e8b57",
    "described": "#8fbc8f",
    "moved": "#e0a030",
    "relabelled": "#8e6bbf",
    "removed": "#c0392b",
    "added": "#4a7fb5",
}


def yield_figure(report: YieldReport) -> Any:
    """Left: what became of each class's objects, as counts. Right: how far objects were moved, as IoU."""
    from plotly.subplots import make_subplots

    classes = [row["class"] for row in report.rows() if row["class"] != "all"]
    moved = [one.iou for one in report.outcomes if one.kind == "moved" and one.iou is not None]
    figure = make_subplots(
        cols=2,
        column_widths=[0.68, 0.32],
        horizontal_spacing=0.1,
        subplot_titles=["what became of each class", f"IoU of the {len(moved):,} that were moved"],
    )
    rows = {row["class"]: row for row in report.rows()}
    for kind in KINDS:
        counts = [rows[name][kind] for name in classes]
        if any(counts):
            figure.add_bar(
                y=classes,
                x=counts,
                name=kind,
                orientation="h",
                marker_color=COLOURS[kind],
                text=[f"{count:,}" if count else "" for count in counts],
                textposition="inside",
                insidetextanchor="middle",
                textangle=0,
                col=1,
                row=1,
            )
    figure.add_histogram(
        x=moved,
        xbins={"start": 0, "end": 1.0001, "size": 0.05},
        marker_color=COLOURS["moved"],
        showlegend=False,
        col=2,
        row=1,
    )
    figure.update_layout(
        barmode="stack",
        title=report.summary(),
        title_font_size=14,
        template="plotly_white",
        height=220 + 60 * len(classes),
        legend={"orientation": "h", "y": -0.22, "traceorder": "normal"},
        bargap=0.25,
        margin={"t": 90, "b": 90},
    )
    figure.update_yaxes(autorange="reversed", automargin=True, col=1, row=1)
    figure.update_xaxes(title_text="objects", col=1, row=1)
    figure.update_xaxes(range=[0, 1], title_text="IoU, as sent with as it came back", col=2, row=1)
    return figure


def agreement_figure(report: AgreementReport) -> Any:
    """How often the class that one annotator gave met the class that another gave, or nothing."""
    import plotly.graph_objects as go

    from osv_lab.annotate.agreement import NOTHING

    names = sorted({name for pair in report.confusions for name in pair} - {NOTHING})
    names += [NOTHING] if any(NOTHING in pair for pair in report.confusions) else []
    counts = [[report.confusions.get((a, b), 0) for b in names] for a in names]
    totals = [sum(row) or 1 for row in counts]
    shares = [[count / total for count in row] for row, total in zip(counts, totals, strict=True)]
    figure = go.Figure(
        go.Heatmap(
            x=names,
            y=names,
            z=shares,
            zmin=0,
            zmax=1,
            colorscale="Blues",
            text=[[f"{count:,}" if count else "" for count in row] for row in counts],
            texttemplate="%{text}",
            colorbar={"title": "share of row"},
        )
    )
    figure.update_layout(
        title=report.summary(),
        title_font_size=14,
        template="plotly_white",
        xaxis_title="another annotator",
        yaxis_title="one annotator",
        height=260 + 50 * len(names),
    )
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure
