"""The track inspector: a timeline per identity, marks of what happened, and the edits that mend it."""

from __future__ import annotations

from typing import Any

from osv_lab.app.form import label_fields
from osv_lab.app.panels import LabPanel, Page, PanelAbout

_ALL = "all"
_MOST_CLIPS = 200
_AFTER_S = 2.0


class TrackInspector(LabPanel):
    about = PanelAbout(
        name="track_inspector",
        label="Track inspector",
        help="A lane per identity, marks of what happened on top. A click opens the video at that frame.",
        category="analyze",
    )

    def draw(self, ctx: Any, page: Page) -> None:
        where = _Where(ctx)
        if where.refused:
            page.note("nothing", where.refused, "notice")
            return
        timeline = where.timeline()
        self._choices(ctx, page, where, timeline)
        self._head(page, timeline)
        self._chosen(page, where, timeline)
        self._journal(page, where, timeline)
        from osv_lab.evaluate.track_timeline_plot import MOST_LANES, timeline_figure

        figure = timeline_figure(timeline, where.kinds(timeline), where.page, where.event(timeline))
        page.plot("timeline", figure, on_click=self.on_point, height_px=int(figure.layout.height))
        if len(timeline.lines) > MOST_LANES:
            self._pages(page, where, len(timeline.lines), MOST_LANES)

    def _choices(self, ctx: Any, page: Page, where: _Where, timeline: Any) -> None:
        row = page.row("choices")
        row.choice("clip", "Video", where.clips, where.clip, self.on_clip)
        row.choice("field", "Tracks", where.fields, where.field, self.on_field)
        kinds = {kind: f"{kind.replace('_', ' ')} ({count})" for kind, count in timeline.kinds().items()}
        kinds = {_ALL: f"all ({len(timeline.events)})", **kinds}
        row.choice("kind", "Events", kinds, where.kind if where.kind in kinds else _ALL, self.on_kind)

    def _head(self, page: Page, timeline: Any) -> None:
        told = [f"**{len(timeline.lines)} tracks** in {timeline.frames:,} frames"]
        for key, scores in timeline.scores.items():
            told += [f"{key}: " + ", ".join(f"{n} {v:.3f}" for n, v in scores.items() if n != "IDSW")]
            told += [f"**{int(scores['IDSW'])} identity switches**"] if "IDSW" in scores else []
        page.text("summary", " · ".join(told))
        if not timeline.keys:
            page.note("unlooked", "Nobody has looked for mistakes in these tracks yet.")
            row = page.row("look")
            row.button("find", "Find suspicious tracks", self.on_find, main=True)
            row.button("evaluate", "Evaluate against truth", self.on_evaluate)
        if timeline.stale:
            row = page.row("stale")
            row.text("told", f"Older than the last edit: *{', '.join(timeline.stale)}*")
            row.button("again", "Look again", self.on_again, icon="refresh", params={"keys": list(timeline.stale)})

    def _chosen(self, page: Page, where: _Where, timeline: Any) -> None:
        from osv_lab.evaluate.track_mends import mends

        row = page.row("chosen")
        event = where.event(timeline)
        if event is not None:
            page_of = row
            page_of.text("event", f"**{event.words()}**")
            for number, mend in enumerate(mends(timeline, event)):
                given = {"kind": mend.kind, "args": list(mend.args)}
                label = mend.words().capitalize()
                row.button(f"mend_{number}", label, self.on_mend, main=number == 0, params=given)
        elif where.track is not None:
            row.text("event", f"**Track {where.track}, frame {where.frame}**")
            given = {"kind": "split", "args": [where.track, where.frame]}
            row.button("split", f"Split at {where.frame}", self.on_mend, params=given)
            row.button("delete", "Delete", self.on_mend, params={"kind": "delete", "args": [where.track]})
        else:
            row.text("event", "Click a mark or a lane: the video opens at that frame.")
        row.button("other", "Edit…", self.on_other, icon="edit")

    def _journal(self, page: Page, where: _Where, timeline: Any) -> None:
        edits = where.editor().edits()
        row = page.row("journal")
        for name, edit, method in (("undo", edits.undoable, self.on_undo), ("redo", edits.redoable, self.on_redo)):
            label = f"{name.capitalize()}: {edit.words}" if edit else name.capitalize()
            row.button(name, label, method, icon=name, disabled=edit is None)
        if timeline.events:
            row.button("send", "Send to CVAT…", self.on_send, icon="send", title="The frames around events")

    def _pages(self, page: Page, where: _Where, lines: int, most: int) -> None:
        row = page.row("pages")
        last = (lines - 1) // most
        row.button("before", "Before", self.on_page, params={"page": where.page - 1}, disabled=where.page <= 0)
        shown = f"tracks {where.page * most + 1} to {min(lines, where.page * most + most)} of {lines}"
        row.text("shown", f"{shown}, those with most events first")
        row.button("after", "After", self.on_page, params={"page": where.page + 1}, disabled=where.page >= last)

    def on_clip(self, ctx: Any) -> None:
        self._choose(ctx, "clip_id")

    def on_field(self, ctx: Any) -> None:
        self._choose(ctx, "tracks")

    def on_kind(self, ctx: Any) -> None:
        self._choose(ctx, "events")

    def _choose(self, ctx: Any, name: str) -> None:
        """Remember what a dropdown says; the App tells of it also when nobody chose."""
        value = ctx.params.get("value")
        if value is not None and value != ctx.panel.state.get(name):
            ctx.panel.state.set(name, value)
            if name != "events":
                _forget(ctx)
            ctx.panel.state.page = 0

    def on_page(self, ctx: Any) -> None:
        ctx.panel.state.page = ctx.params["page"]

    def on_point(self, ctx: Any) -> None:
        kind, _, rest = str(ctx.params.get("id") or "").partition(":")
        where = _Where(ctx)
        state = ctx.panel.state
        if kind == "event":
            event = where.timeline().events[int(rest)]
            state.event, state.track = (
                [event.key, event.kind, event.first_frame, event.last_frame, *event.tracks],
                None,
            )
            _seek(ctx, where, event.first_frame, event.last_frame)
        elif kind == "track":
            track, frame = map(int, rest.split(":"))
            state.event, state.track, state.frame = None, track, frame
            _seek(ctx, where, frame, frame)

    def on_change_view(self, ctx: Any) -> None:
        """The clip that was asked for is there: open it. The App calls this more than once."""
        state = ctx.panel.state
        if state.seeking:
            state.seeking = None
            if sample := ctx.view.limit(1).values("id"):
                ctx.ops.open_sample(id=sample[0])

    def on_change_dataset(self, ctx: Any) -> None:
        _forget(ctx)

    def on_mend(self, ctx: Any) -> None:
        from osv_lab.evaluate.track_mends import Mend

        edit = Mend(ctx.params["kind"], tuple(ctx.params["args"])).do(_Where(ctx).editor())
        self._edited(ctx, edit)

    def on_undo(self, ctx: Any) -> None:
        self._edited(ctx, _Where(ctx).editor().undo())

    def on_redo(self, ctx: Any) -> None:
        self._edited(ctx, _Where(ctx).editor().redo())

    def _edited(self, ctx: Any, edit: Any) -> None:
        # What was clicked is mended, or no longer as it was.
        ctx.panel.state.event, ctx.panel.state.track = None, None
        ctx.ops.notify(edit.summary(), variant="success")
        ctx.ops.reload_samples()

    def on_other(self, ctx: Any) -> None:
        where = _Where(ctx)
        state = ctx.panel.state
        given = {"clip": where.clip, "field": where.field}
        if state.event:
            tracks = state.event[4:]
            given |= {"frame": state.event[3], **dict(zip(("track", "other"), tracks, strict=False))}
        elif where.track is not None:
            given |= {"action": "split", "track": where.track, "frame": where.frame}
        ctx.prompt("@osv/tracks/edit_tracks", params=given, on_success=self.osv_again)

    def on_send(self, ctx: Any) -> None:
        where = _Where(ctx)
        given = {"clip": where.clip, "field": where.field, "kinds": where.kinds(where.timeline()) or []}
        ctx.prompt("@osv/tracks/send_events", params=given)

    def on_find(self, ctx: Any) -> None:
        ctx.prompt("@osv/tracks/find_suspicious", params={"field": _Where(ctx).field}, on_success=self.osv_again)

    def on_evaluate(self, ctx: Any) -> None:
        ctx.prompt(
            "@osv/tracks/evaluate_tracks", params={"pred_field": _Where(ctx).field}, on_success=self.osv_again
        )

    def on_again(self, ctx: Any) -> None:
        from osv_lab.evaluate.track_again import look_again

        for key in ctx.params["keys"]:
            ctx.ops.notify(look_again(ctx.dataset, key).summary(), variant="success")
        _forget(ctx)
        ctx.ops.reload_samples()


class _Where:
    """What the panel is looking at: from its state, else the selection, else the first there is."""

    def __init__(self, ctx: Any) -> None:
        from osv_lab.core.errors import OsvError
        from osv_lab.store.clips import clips_of

        state = ctx.panel.state
        self.dataset, self._state = ctx.dataset, state
        self.clips: dict[str, str] = {}
        self.fields: list[str] = []
        self.refused = ""
        self._timeline: Any = None
        try:
            for clip in clips_of(ctx.dataset)[:_MOST_CLIPS]:
                self.clips[clip.sample_id] = clip.name
        except OsvError as error:
            self.refused = str(error)
            return
        frames = ctx.dataset.media_type == "video"
        self.fields = [
            name for name in label_fields(ctx.dataset, frames=True) if name.startswith("frames.") or not frames
        ]
        if not self.clips or not self.fields:
            self.refused = "There are no tracks: run “Track objects” first."
            return
        selected = next((sample for sample in ctx.selected or () if sample in self.clips), None)
        self.clip = state.clip_id if state.clip_id in self.clips else selected or next(iter(self.clips))
        usual = next((name for name in self.fields if name.endswith("tracks")), self.fields[0])
        self.field = state.tracks if state.tracks in self.fields else usual
        self.kind = state.events or _ALL
        self.page = int(state.page or 0)
        self.track, self.frame = state.track, state.frame

    def view(self) -> Any:
        from osv_lab.store.clips import clip_view

        return clip_view(self.dataset, self.clip)

    def samples(self) -> dict[int, str]:
        """The images of the sequence by frame number."""
        from osv_lab.store.clips import clips_of

        return dict(clips_of(self.view())[0].samples)

    def frame_rate(self) -> float:
        return float(self.view().values("metadata.frame_rate")[0] or 30)

    def timeline(self) -> Any:
        from osv_lab.evaluate.track_timeline import track_timeline

        if self._timeline is None:
            self._timeline = track_timeline(self.view(), self.field)
        return self._timeline

    def editor(self) -> Any:
        from osv_lab.store.track_edits import TrackEditor

        return TrackEditor(self.view(), self.field)

    def kinds(self, timeline: Any) -> list[str] | None:
        return [self.kind] if self.kind in timeline.kinds() else None

    def event(self, timeline: Any) -> Any:
        """The event that was clicked, if it is still there."""
        if not self._state.event:
            return None
        key, kind, first, last, *tracks = self._state.event
        wanted = (key, kind, first, last, tuple(tracks))
        told = ((e.key, e.kind, e.first_frame, e.last_frame, e.tracks) for e in timeline.events)
        return next((e for e, one in zip(timeline.events, told, strict=True) if one == wanted), None)


def _forget(ctx: Any) -> None:
    state = ctx.panel.state
    state.event, state.track, state.page = None, None, 0


def _seek(ctx: Any, where: _Where, first: int, last: int) -> None:
    """Show a clip that begins at a frame; :meth:`TrackInspector.on_change_view` opens it.

    FiftyOne's player cannot be told to go to a frame, but it opens a clip at its first.
    """
    if ctx.dataset.media_type != "video":
        samples = where.samples()
        ctx.ops.open_sample(id=samples[min(samples, key=lambda number: abs(number - last))])
        return
    until = min(where.timeline().frames, last + round(_AFTER_S * where.frame_rate()))
    span = [first, max(first, until)]
    if _shows(ctx.view, where.clip, span):
        ctx.ops.open_sample(id=ctx.view.first().id)
        return
    ctx.panel.state.seeking = True
    ctx.ops.set_view(view=ctx.dataset.select(where.clip).to_clips([[span]]))


def _shows(view: Any, clip: str, span: list[int]) -> bool:
    """Whether a view is nothing but these frames of a video: it is set again without a change that the App tells of."""
    return view.has_field("support") and list(view.values(["sample_id", "support"])) == [[clip], [span]]
