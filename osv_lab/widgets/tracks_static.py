"""The track inspector as a picture: one frame with its boxes, and a lane per identity."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np

from osv_lab.core.html import escaped
from osv_lab.widgets.colours import colour_of

if TYPE_CHECKING:
    from osv_lab.evaluate.track_timeline import TrackTimeline
    from osv_lab.store.convert.tracks import LabelledTracks

WIDTH, LANE, GUTTER, MAX_LANES = 720, 11, 92, 60


def static_tracks(
    timeline: TrackTimeline, tracks: LabelledTracks, picture: bytes, frame: int, size: tuple[int, int]
) -> str:
    """HTML with an SVG drawing; needs no script.

    Args:
        timeline: The lanes.
        tracks: The boxes.
        picture: A JPEG file of the frame, may be empty.
        frame: Its number.
        size: ``(width, height)`` of the clip's frames, pixels.
    """
    height = round(WIDTH * size[1] / max(1, size[0]))
    lines = timeline.lines[:MAX_LANES]
    left = len(timeline.lines) - len(lines)
    inside = [_picture(picture, height), *_boxes(tracks, frame, WIDTH / max(1, size[0]))]
    across = (WIDTH - GUTTER) / max(1, timeline.frames)
    for row, line in enumerate(lines):
        top = height + 8 + row * LANE
        name = escaped(f"{line.label} {line.identity}")
        inside.append(f"<text x='0' y='{top + 9}' font-size='9' fill='currentColor'>{name}</text>")
        inside += [
            f"<rect x='{GUTTER + (first - 1) * across:.1f}' y='{top + 1}' height='{LANE - 3}' "
            f"width='{max(1.0, (last - first + 1) * across):.1f}' fill='{colour_of(line.identity)}'/>"
            for first, last in line.runs.tolist()
        ]
    bottom = height + 8 + len(lines) * LANE
    at = GUTTER + (frame - 0.5) * across
    inside.append(f"<line x1='{at:.1f}' x2='{at:.1f}' y1='{height + 4}' y2='{bottom}' stroke='currentColor'/>")
    more = f"; {left} more tracks" if left > 0 else ""
    return (
        f"<svg viewBox='0 0 {WIDTH} {bottom + 4}' style='max-width:{WIDTH}px;width:100%;font-family:sans-serif'>"
        f"{''.join(inside)}</svg><p class='osv-static-note'>frame {frame}; {escaped(timeline.summary())}{more}</p>"
    )


def _picture(picture: bytes, height: int) -> str:
    if not picture:
        return f"<rect width='{WIDTH}' height='{height}' fill='none' stroke='currentColor' opacity='.3'/>"
    data = base64.b64encode(picture).decode()
    return f"<image width='{WIDTH}' height='{height}' href='data:image/jpeg;base64,{data}'/>"


def _boxes(tracks: LabelledTracks, frame: int, scale: float) -> list[str]:
    rows = np.flatnonzero(tracks.tracks.frame == frame)
    found = []
    for row in rows.tolist():
        x1, y1, x2, y2 = (float(value) * scale for value in tracks.tracks.xyxy[row])
        identity = int(tracks.index[row])
        colour = colour_of(identity)
        found.append(
            f"<rect x='{x1:.1f}' y='{y1:.1f}' width='{x2 - x1:.1f}' height='{y2 - y1:.1f}' fill='none' "
            f"stroke='{colour}' stroke-width='2'/><text x='{x1:.1f}' y='{max(9.0, y1 - 3):.1f}' font-size='11' "
            f"fill='{colour}'>{identity}</text>"
        )
    return found
