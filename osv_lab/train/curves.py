"""How a training went, as a plotly figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

METRICS = ("mAP50", "mAP50-95", "precision", "recall", "top1", "top5")
_EPOCH: Mapping[str, Any] = {"text": "epoch", "font": {"size": 12}}


def learning_curves(history: Sequence[Mapping[str, float]]) -> Any:
    """Losses and validation metrics by epoch, side by side.

    Args:
        history: One mapping per epoch, as in :class:`~osv_lab.train.run.TrainingRun`.

    Returns:
        A ``plotly.graph_objects.Figure``; without epochs an empty one.
    """
    import plotly.graph_objects as go

    epochs = [row["epoch"] for row in history]
    figure = go.Figure()

    def draw(name: str, values: list[Any], axis: str, dash: str = "solid") -> None:
        mode = "lines" if len(epochs) > 1 else "markers"
        on = {"xaxis": f"x{axis}", "yaxis": f"y{axis}"}
        figure.add_scatter(x=epochs, y=values, name=name, mode=mode, line={"dash": dash}, **on)

    for split, dash in (("train", "solid"), ("val", "dot")):
        if any(_loss(row, split) is not None for row in history):
            draw(f"{split} loss", [_loss(row, split) for row in history], "", dash)
    for name in dict.fromkeys(name for row in history for name in row):
        if name.rpartition("/")[2] in METRICS:
            draw(name.replace("/", " "), [row.get(name) for row in history], "2")
    figure.update_layout(
        template="plotly_white",
        margin={"l": 50, "r": 10, "t": 60, "b": 40},
        xaxis={"domain": [0, 0.46], "title": _EPOCH},
        xaxis2={"domain": [0.54, 1], "title": _EPOCH, "anchor": "y2"},
        yaxis={"title": "loss", "rangemode": "tozero"},
        yaxis2={"range": [0, 1.02], "anchor": "x2"},
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.05, "yanchor": "bottom"},
    )
    return figure


def _loss(row: Mapping[str, float], split: str) -> float | None:
    """All terms of a split's loss together."""
    terms = [value for name, value in row.items() if name.startswith(f"{split}/") and name.endswith("loss")]
    return sum(terms) if terms else None
