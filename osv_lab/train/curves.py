"""How a training went, as a plotly figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

METRICS = ("mAP50", "mAP50-95", "precision", "recall", "top1", "top5")


def learning_curves(history: Sequence[Mapping[str, float]]) -> Any:
    """Losses and validation metrics by epoch, side by side.

    Args:
        history: One mapping per epoch, as in :class:`~osv_lab.train.run.TrainingRun`.

    Returns:
        A ``plotly.graph_objects.Figure``; without epochs an empty one.
    """
    import plotly.graph_objects as go

    names = list(dict.fromkeys(name for row in history for name in row))
    losses = [name for name in names if name.endswith("loss")]
    metrics = [name for name in names if name.rpartition("/")[2] in METRICS]
    figure = go.Figure()
    for axis, shown in (("", losses), ("2", metrics)):
        for name in shown:
            figure.add_scatter(
                x=[row["epoch"] for row in history],
                y=[row.get(name) for row in history],
                name=name.replace("_loss", " loss").replace("/", " "),
                mode="lines" if len(history) > 1 else "markers",
                line={"dash": "dot" if name.startswith("val") else "solid"},
                xaxis=f"x{axis}",
                yaxis=f"y{axis}",
                legend=f"legend{axis}",
            )
    figure.update_layout(
        template="plotly_white",
        xaxis={"domain": [0, 0.46], "title": "epoch"},
        xaxis2={"domain": [0.54, 1], "title": "epoch", "anchor": "y2"},
        yaxis={"title": "loss"},
        yaxis2={"range": [0, 1.02], "anchor": "x2"},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        legend2={"orientation": "h", "x": 0.54, "y": 1.02, "yanchor": "bottom"},
    )
    return figure
