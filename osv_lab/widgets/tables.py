"""Pictures that the kernel draws for files: lines as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from osv_lab.core.html import escaped
from osv_lab.widgets.colours import colour_of

WIDTH, HEIGHT, LEFT, BOTTOM = 520, 210, 40, 30
MOST_POINTS = 300


def svg_lines(lines: Sequence[tuple[str, Any, Any, float | None]], x_label: str, y_label: str) -> str:
    """Lines over a common x as SVG.

    Args:
        lines: Name, x, y (NaN where there is none) and a value of x to mark, of each.
        x_label: What x is.
        y_label: What y is.
    """
    known = [(np.asarray(x, float), np.asarray(y, float)) for _, x, y, _ in lines]
    xs = np.concatenate([x for x, _ in known]) if known else np.zeros(1)
    ys = np.concatenate([y[np.isfinite(y)] for _, y in known]) if known else np.zeros(1)
    if not len(xs) or not len(ys):
        return ""
    x0, x1, y0, y1 = float(xs.min()), float(xs.max()), min(0.0, float(ys.min())), float(ys.max())
    across, up = (WIDTH - LEFT - 10) / max(x1 - x0, 1e-9), (HEIGHT - BOTTOM - 24) / max(y1 - y0, 1e-9)

    def px(value: float) -> float:
        return LEFT + (value - x0) * across

    def py(value: float) -> float:
        return HEIGHT - BOTTOM - (value - y0) * up

    drawn, left = [], LEFT
    for number, (name, x, y, at) in enumerate(lines):
        x, y = np.asarray(x, float), np.asarray(y, float)
        rows = np.flatnonzero(np.isfinite(y))
        rows = (
            rows[np.unique(np.linspace(0, max(len(rows) - 1, 0), MOST_POINTS).astype(int))] if len(rows) else rows
        )
        points = " ".join(f"{px(x[row]):.1f},{py(y[row]):.1f}" for row in rows)
        colour = colour_of(number)
        drawn.append(f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='2'/>")
        if len(rows) == 1:  # no line to see
            drawn.append(f"<circle cx='{px(x[rows[0]]):.1f}' cy='{py(y[rows[0]]):.1f}' r='4' fill='{colour}'/>")
        drawn.append(f"<text x='{left}' y='12' font-size='11' fill='{colour}'>{escaped(name)}</text>")
        left += 16 + 7 * len(name)
        if at is not None:
            drawn.append(
                f"<line x1='{px(at):.1f}' x2='{px(at):.1f}' y1='20' y2='{HEIGHT - BOTTOM}' stroke='{colour}' "
                "stroke-dasharray='4 3'/>"
            )
    axis = (
        f"<path d='M{LEFT} 20V{HEIGHT - BOTTOM}H{WIDTH - 10}' fill='none' stroke='currentColor' opacity='.4'/>"
        f"<g font-size='10' fill='currentColor'><g text-anchor='end'>"
        f"<text x='{LEFT - 4}' y='{HEIGHT - BOTTOM}'>{y0:.3g}</text><text x='{LEFT - 4}' y='30'>{y1:.3g}</text>"
        f"<text x='{WIDTH - 10}' y='{HEIGHT - 14}'>{x1:.3g}</text></g>"
        f"<text x='{LEFT}' y='{HEIGHT - 14}'>{x0:.3g}</text><text x='{WIDTH / 2}' y='{HEIGHT - 2}' "
        f"text-anchor='middle'>{escaped(y_label)} by {escaped(x_label)}</text></g>"
    )
    return (
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' style='max-width:{WIDTH}px;width:100%'>{axis}{''.join(drawn)}</svg>"
    )
