"""Tracks, lines and zones drawn onto frames, with supervision's annotators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from osv_lab.detect.draw import COLOURS
from osv_lab.track.source import Image
from osv_lab.track.zones import Line, Zone, ZoneEvent

if TYPE_CHECKING:
    import supervision as sv

_TRACE_S = 1.5
_LINE, _ZONE = "#FFD400", "#FFFFFF"


class Drawer:
    """Draws boxes with ``#identity class``, the way they came, and zones with their counts.

    Args:
        size: (width, height) of the frames: lines and letters follow it.
        frame_rate: Frames per second that are drawn.
        areas: Lines and zones.
        trace_s: Length of the way shown, in seconds; 0 shows none.
    """

    def __init__(
        self,
        size: tuple[int, int],
        frame_rate: float,
        areas: Sequence[Line | Zone] = (),
        *,
        trace_s: float = _TRACE_S,
    ) -> None:
        import supervision as sv

        by_track, palette = sv.ColorLookup.TRACK, sv.ColorPalette.from_hex(list(COLOURS))
        self._thickness = sv.calculate_optimal_line_thickness(size)
        self._scale = sv.calculate_optimal_text_scale(size)
        self._box = sv.BoxAnnotator(palette, color_lookup=by_track, thickness=self._thickness)
        self._label = sv.LabelAnnotator(
            palette,
            color_lookup=by_track,
            text_color=sv.Color.BLACK,
            text_scale=self._scale,
            text_padding=max(2, round(8 * self._scale)),
            smart_position=True,
        )
        length = round(trace_s * frame_rate)
        self._trace = None
        if length > 1:
            self._trace = sv.TraceAnnotator(
                palette,
                position=sv.Position.CENTER,
                trace_length=length,
                thickness=self._thickness,
                color_lookup=by_track,
            )
        self.trace_length = length if length > 1 else 0
        self._areas = areas
        self._counts: Counter[tuple[str, str]] = Counter()

    def remember(self, tracks: sv.Detections) -> None:
        """Take a frame that is not drawn into the traces."""
        if self._trace is not None:
            self._trace.trace.put(tracks)

    def count(self, events: Iterable[ZoneEvent]) -> None:
        """Take events into the counts shown."""
        self._counts.update((event.zone, event.what) for event in events)

    def draw(self, image: Image, tracks: sv.Detections) -> Image:
        """Draw onto ``image`` itself, and return it."""
        for area in self._areas:
            image = self._draw_edge(image, area)
        if self._trace is not None:
            image = self._trace.annotate(image, tracks)
        if len(tracks):
            image = self._box.annotate(image, tracks)
            image = self._label.annotate(image, tracks, labels=labels(tracks))
        for area in self._areas:
            image = self._write_counts(image, area)
        return image

    def _draw_edge(self, image: Image, area: Line | Zone) -> Image:
        import supervision as sv

        points = [sv.Point(float(x), float(y)) for x, y in _corners(area)]
        colour = sv.Color.from_hex(_LINE if isinstance(area, Line) else _ZONE)
        for start, end in pairwise(points):
            image = sv.draw_line(image, start, end, colour, thickness=self._thickness)
        return image

    def _write_counts(self, image: Image, area: Line | Zone) -> Image:
        import supervision as sv

        counts = {what: self._counts[area.name, what] for what in ("in", "out", "enter", "leave")}
        if isinstance(area, Line):
            text, colour = f"{area.name}  in {counts['in']}  out {counts['out']}", sv.Color.from_hex(_LINE)
        else:
            inside = counts["enter"] - counts["leave"]
            text, colour = f"{area.name}  {inside} inside  {counts['enter']} so far", sv.Color.from_hex(_ZONE)
        # At a line's beginning or a zone's upper edge, where least is covered, and inside the picture.
        corners = np.array(_corners(area), dtype=float)
        if isinstance(area, Line):
            place = 0.85 * corners[0] + 0.15 * corners[1]
        else:
            place = np.array([corners[:-1, 0].mean(), corners[:, 1].min()])
        limit = np.array([image.shape[1], image.shape[0]], dtype=float)
        place = np.clip(place, (0.15, 0.05) * limit, (0.85, 0.95) * limit)
        drawn = sv.draw_text(
            image,
            text,
            sv.Point(float(place[0]), float(place[1])),
            text_color=sv.Color.BLACK,
            text_scale=self._scale,
            text_padding=max(2, round(8 * self._scale)),
            background_color=colour,
        )
        return np.asarray(drawn)


def _corners(area: Line | Zone) -> list[tuple[float, float]]:
    """The points of what is drawn; a polygon ends where it begins."""
    return [area.start, area.end] if isinstance(area, Line) else [*area.polygon, area.polygon[0]]


def labels(tracks: sv.Detections) -> list[str]:
    """``#identity class`` of each track."""
    names = tracks.data.get("class_name")
    if names is None:
        return [f"#{identity}" for identity in tracks.tracker_id]
    return [f"#{identity} {name}" for identity, name in zip(tracks.tracker_id, names, strict=True)]
