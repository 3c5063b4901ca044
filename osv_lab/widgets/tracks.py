"""The track inspector: a video with its tracks, a lane per identity, what happened where, and edits with undo.

The page gets all boxes once, as one array, and pictures of frames as it needs them, over the widget's own connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from osv_lab.core.errors import OsvError, UsageError
from osv_lab.store.clips import Clip, clip_view, clips_of
from osv_lab.store.track_edits import TrackEditor
from osv_lab.store.tracks import labelled_tracks
from osv_lab.widgets.base import Answer, LabWidget, action
from osv_lab.widgets.frames import WIDTH, ClipFrames
from osv_lab.widgets.front import script, style
from osv_lab.widgets.link import Selection
from osv_lab.widgets.tracks_static import static_tracks

if TYPE_CHECKING:
    import fiftyone as fo

    from osv_lab.evaluate.track_timeline import TimelineEvent, TrackTimeline
    from osv_lab.store.convert.tracks import LabelledTracks
    from osv_lab.store.track_journal import TrackEdit

MAX_FRAMES_ASKED = 64


class TrackInspector(LabWidget):
    """Look at the tracks of a clip, and mend them.

    Play, step and scrub; jump from event to event; click a box or a lane to choose an identity, with Ctrl a second one;
    then split, merge, swap, relabel or delete, with undo over sessions
    (:class:`~osv_lab.store.track_edits.TrackEditor`).

    Args:
        where: A video, a view of clips, or a dataset; with several clips the page offers them.
        field: The tracks; for videos with or without ``frames.``.
        clip: The name of the clip to begin with.
        width: Pictures are at most this wide, in pixels.
        link: A session of the App: labels selected there are found here, and events open there.
        key: See :class:`~osv_lab.widgets.base.LabWidget`.

    Attributes:
        frame: The frame that the page shows.
        chosen: The identities that are chosen, at most two.

    Example:
        >>> inspector = TrackInspector(videos.first(), "frames.tracks")     # shown where a cell ends with it
        >>> inspector.load()
        >>> inspector.frame, inspector.editor.field
        (1, 'tracks')
    """

    heading = "Tracks"
    _esm = script(
        "track_boxes.js", "track_pictures.js", "track_stage.js", "track_lanes.js", "track_edit.js", "tracks.js"
    )
    _css = style("tracks.css")

    frame = traitlets.Int(1).tag(sync=True)
    chosen = traitlets.List().tag(sync=True)

    def __init__(
        self,
        where: fo.SampleCollection | fo.Sample,
        field: str = "frames.tracks",
        *,
        clip: str | None = None,
        width: int = WIDTH,
        link: Any = None,
        key: str | None = None,
    ) -> None:
        collection = where if hasattr(where, "view") else where._dataset.select(where.id)
        self._view = collection.view()
        self._field, self._name, self._width = field, clip, width
        self._revision = 0
        self._frames: ClipFrames | None = None
        self._tracks: LabelledTracks | None = None
        self._editor: TrackEditor | None = None
        self._timeline: TrackTimeline | None = None
        super().__init__(f"{self._view._dataset.name}, {field}", link=link, key=key)

    @property
    def editor(self) -> TrackEditor:
        """What edits the clip that is shown."""
        if self._editor is None:
            self.load()
        if self._editor is None:
            raise UsageError("no clip is shown", str(self.told.get("what", "")))
        return self._editor

    @property
    def timeline(self) -> TrackTimeline:
        """The tracks and events that are shown, as a report."""
        if self._timeline is None:
            self.editor  # noqa: B018 - loads
        assert self._timeline is not None
        return self._timeline

    # -- loading --------------------------------------------------------------------------------------------

    def _load(self) -> None:
        clips = clips_of(self._view)
        if not clips:
            self.say("empty", "No clip in this view", "", "ingest a video, or choose another view")
            return
        names = [clip.name for clip in clips]
        if self._name not in names:
            self._name = names[0]
        self._open(clips[names.index(self._name)], names)

    def _open(self, clip: Clip, names: Sequence[str]) -> None:
        self._release()
        self.progress("open the clip", 1, 3)
        where = clip_view(self._view, clip.name)
        self._editor = TrackEditor(where, self._field)
        self._clip, self._where = clip, where
        self.progress("read the tracks", 2, 3)
        why, keys = "", list[int]()
        try:
            self._frames = ClipFrames(clip, self._width)
            keys = self._frames.keys
        except OsvError as error:
            why = f"no pictures: {error}"
        self.data = {"clips": list(names), "clip": clip.name, "pictures": why, "keys": keys, **self._read()}
        self.frame = min(max(1, self.frame), max(1, self.data["frames"]))

    def _read(self) -> dict[str, Any]:
        """Tracks, events and edits as they are in the store now."""
        from osv_lab.evaluate.track_timeline import track_timeline

        editor = self.editor
        self._tracks = labelled_tracks(self._where, self._clip, editor.field)
        timeline = self._timeline = track_timeline(self._where, self._field)
        edits = editor.edits()
        self._revision += 1
        names = [line.label for line in timeline.lines]
        return {
            "revision": self._revision,
            "field": timeline.field,
            "frames": timeline.frames,
            "rate": timeline.frame_rate or 25.0,
            "size": list(self._clip.size()),
            "lines": [
                {
                    "id": line.identity,
                    "label": line.label,
                    "runs": np.asarray(line.runs).reshape(-1).tolist(),
                    "boxes": line.boxes,
                }
                for line in timeline.lines
            ],
            "events": [_event(event) for event in timeline.events],
            "stale": list(timeline.stale),
            "classes": sorted(set(names)),
            "undo": _words(edits.undoable),
            "redo": _words(edits.redoable),
            "summary": timeline.summary(),
        }

    # -- what the page asks ---------------------------------------------------------------------------------

    @action
    def boxes(self) -> Answer:
        """All boxes as one float32 array of seven columns: frame, identity, x, y, w, h (relative), confidence."""
        tracks = self._tracks
        if tracks is None:
            return {"rows": 0, "revision": self._revision}, [b""]
        found = tracks.tracks
        width, height = self._clip.size()
        x1, y1, x2, y2 = found.xyxy.T
        columns = (
            found.frame, tracks.index, x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height, found.confidence,
        )  # fmt: skip
        packed = np.ascontiguousarray(np.stack(columns), dtype="<f4").tobytes()
        return {"rows": len(found), "revision": self._revision}, [packed]

    @action
    def pictures(self, numbers: Sequence[int]) -> Answer:
        """JPEG pictures of some frames; an empty one where there is none."""
        wanted = [int(number) for number in list(numbers)[:MAX_FRAMES_ASKED]]
        if self._frames is None:
            return {"numbers": []}, []
        return {"numbers": wanted}, self._frames.jpegs(wanted)

    @action
    def switch(self, clip: str) -> Answer:
        """Show another clip."""
        clips = {one.name: one for one in clips_of(self._view)}
        if clip not in clips:
            raise UsageError("no such clip", repr(clip))
        self._name, self.frame, self.chosen = clip, 1, []
        self._open(clips[clip], list(clips))
        return None

    @action
    def edit(
        self,
        kind: str,
        tracks: Sequence[int] = (),
        frame: int = 0,
        label: str = "",
        drop: bool = False,
    ) -> Answer:
        """Edit identities: ``merge``, ``split``, ``swap``, ``relabel``, ``delete``, ``undo`` or ``redo``."""
        editor = self.editor
        match kind, [int(track) for track in tracks]:
            case "merge", [one, two]:
                done = editor.merge(one, two, overlapping="drop" if drop else "refuse")
            case "swap", [one, two]:
                done = editor.swap(one, two, int(frame))
            case "split", [one]:
                done = editor.split(one, int(frame))
            case "relabel", [one]:
                done = editor.relabel(one, label.strip())
            case "delete", [one]:
                done = editor.delete(one)
            case "undo", []:
                done = editor.undo()
            case "redo", []:
                done = editor.redo()
            case _:
                raise UsageError("no such edit of so many tracks", f"{kind} of {len(tracks)}")
        self.data = {**self.data, **self._read()}
        left = {line["id"] for line in self.data["lines"]}
        self.chosen = [track for track in self.chosen if track in left]
        verb = {"undo": "taken back: ", "redo": "done again: "}.get(kind, "")
        return {"note": f"{verb}{done.words}"}

    @action
    def reveal(self, event: int = -1) -> Answer:
        """Open an event in the App, or the clip."""
        events = self.timeline.events
        found = events[event] if 0 <= event < len(events) else None
        dataset = self._view._dataset
        if found is not None and found.id and self._clip.video:
            return self.show(dataset.to_clips(f"{found.key}_events").select(found.id))
        return self.show(self._where)

    def select(self, selection: Selection) -> None:
        """Go to the label that was selected in the App."""
        super().select(selection)
        tracks = self._tracks
        if tracks is None or not selection.labels:
            return
        rows = np.flatnonzero(np.isin(tracks.label_id, list(selection.labels)))
        if len(rows):
            row = int(rows[-1])
            with self.hold_sync():
                self.chosen = list(dict.fromkeys(tracks.index[rows].tolist()))[-2:]
                self.frame = selection.frame or int(tracks.tracks.frame[row])

    # -- life -----------------------------------------------------------------------------------------------

    def _release(self) -> None:
        if self._frames is not None:
            self._frames.close()
        self._frames = None

    def _static(self) -> str:
        if self._tracks is None:
            return ""
        picture = self._frames.jpegs([self.frame])[0] if self._frames is not None else b""
        return static_tracks(self.timeline, self._tracks, picture, self.frame, self._clip.size())


def _event(event: TimelineEvent) -> dict[str, Any]:
    return {
        "kind": event.kind,
        "first": event.first_frame,
        "last": event.last_frame,
        "tracks": list(event.tracks),
        "words": event.words(),
        "key": event.key,
        "score": event.score,
    }


def _words(edit: TrackEdit | None) -> str:
    return "" if edit is None else edit.words
