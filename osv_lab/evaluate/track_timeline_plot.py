"""A timeline of tracks drawn with plotly: a lane per kind of event on top, a lane per identity below."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from osv_lab.evaluate.track_timeline import TimelineEvent, TrackLine, TrackTimeline

LANE_PX = 17
MOST_LANES = 40
_POINTS = 160
"""Of a lane: about so many points can be clicked at."""

_SYMBOLS = {
    "switch": "x", "swap": "x", "merge": "star-triangle-down", "fragmentation": "line-ns-open", "gap": "circle-open",
    "teleport": "diamond", "class_flip": "hexagram", "flicker": "asterisk-open", "short": "triangle-right",
}  # fmt: skip
_MARK_COLOURS = ("#e4572e", "#f3a712", "#2e86ab", "#a23b72", "#3c896d", "#7768ae", "#c44536", "#5f6f52")
_LANE_COLOURS = ("#5b8ff9", "#61ddaa", "#f6bd16", "#7262fd", "#78d3f8", "#f6903d", "#9661bc", "#f08bb4")


def lanes(timeline: TrackTimeline, events: Sequence[TimelineEvent] | None = None) -> list[TrackLine]:
    """The identities in the order in which they are shown: those with most events first."""
    counts: dict[int, int] = {}
    for event in timeline.events if events is None else events:
        for identity in event.tracks:
            counts[identity] = counts.get(identity, 0) + 1
    return sorted(timeline.lines, key=lambda line: -counts.get(line.identity, 0))


def timeline_figure(
    timeline: TrackTimeline,
    kinds: Collection[str] | None = None,
    page: int = 0,
    chosen: TimelineEvent | None = None,
) -> Any:
    """The timeline as a plotly figure. Points have ids: ``event:<number>`` and ``track:<identity>:<frame>``.

    Args:
        timeline: What to draw.
        kinds: Only events of these kinds; by default all.
        page: Which :data:`MOST_LANES` identities, from 0, in the order of :func:`lanes`.
        chosen: An event whose frames stand out.
    """
    import plotly.graph_objects as go

    shown = [k for k, event in enumerate(timeline.events) if kinds is None or event.kind in kinds]
    names = [kind for kind in timeline.kinds() if kinds is None or kind in kinds]
    some = lanes(timeline, [timeline.events[k] for k in shown])[page * MOST_LANES : (page + 1) * MOST_LANES]
    place = {line.identity: len(names) + k for k, line in enumerate(some)}
    figure = go.Figure()
    for number, line in enumerate(some):
        _add_lane(figure, line, place[line.identity], _LANE_COLOURS[number % len(_LANE_COLOURS)])
    for number, kind in enumerate(names):
        own = [k for k in shown if timeline.events[k].kind == kind]
        figure.add_scatter(
            x=[timeline.events[k].last_frame for k in own],
            y=[number] * len(own),
            mode="markers",
            name=kind,
            ids=[f"event:{k}" for k in own],
            text=[timeline.events[k].words() for k in own],
            hovertemplate="%{text}<extra></extra>",
            marker={
                "symbol": _SYMBOLS.get(kind, "circle"),
                "color": _MARK_COLOURS[number % len(_MARK_COLOURS)],
                "size": 11,
                "line": {"width": 2, "color": _MARK_COLOURS[number % len(_MARK_COLOURS)]},
            },
        )
    if chosen is not None:
        figure.add_vrect(
            x0=chosen.first_frame - 0.5,
            x1=chosen.last_frame + 0.5,
            fillcolor="#ff6d04",
            opacity=0.25,
            line={"color": "#ff6d04", "width": 1},
        )
    if names:
        figure.add_hline(y=len(names) - 0.5, line={"color": "#8a8f98", "width": 1, "dash": "dot"})
    ticks = [*(kind.replace("_", " ") for kind in names), *(f"{line.label} {line.identity}" for line in some)]
    figure.update_yaxes(
        tickvals=list(range(len(ticks))),
        ticktext=ticks,
        range=[len(ticks) - 0.4, -0.6],
        showgrid=False,
        zeroline=False,
        automargin=True,
        fixedrange=True,
        tickfont={"size": 11},
    )
    figure.update_xaxes(range=[0, timeline.frames + 1], title="frame", zeroline=False, automargin=True)
    figure.update_layout(
        showlegend=False,
        hovermode="closest",
        height=70 + LANE_PX * max(len(ticks), 4),
        margin={"l": 60, "r": 10, "t": 10, "b": 40},
    )
    return figure


def _add_lane(figure: Any, line: TrackLine, place: int, colour: str) -> None:
    """One identity's runs as thick lines, with points along them to click at."""
    step = max(1, int(line.runs[:, 1].max() - line.runs[:, 0].min()) // _POINTS)
    frames: list[int | None] = []
    for first, last in line.runs.tolist():
        frames += [*np.unique(np.append(np.arange(first, last, step), last)).tolist(), None]
    figure.add_scatter(
        x=frames,
        y=[None if frame is None else place for frame in frames],
        mode="lines+markers",
        name=f"{line.label} {line.identity}",
        ids=["" if frame is None else f"track:{line.identity}:{frame}" for frame in frames],
        line={"width": 7, "color": colour},
        marker={"size": 7, "color": colour, "symbol": "square"},
        hovertemplate=f"{line.label} {line.identity}, frame %{{x}}<extra></extra>",
        connectgaps=False,
    )
