"""The operator that edits tracks; its form says what the edit would do while it is being filled in."""

from __future__ import annotations

from typing import Any

from osv_lab.app.operators import About, Ask, LabOperator

_ACTIONS = {
    "swap": "Swap two tracks from a frame on",
    "merge": "Merge one track into another",
    "split": "Split a track at a frame",
    "relabel": "Give a track another class",
    "delete": "Delete a track",
}
_TAKES = {
    "swap": ("track", "other", "frame"),
    "merge": ("track", "other"),
    "split": ("track", "frame"),
    "relabel": ("track", "label"),
    "delete": ("track",),
}


class EditTracks(LabOperator):
    about = About(
        name="edit_tracks",
        label="Edit a track",
        description="Swap, merge, split, relabel or delete, with undo in the track inspector",
        jobs="never",
        changes="samples",
    )

    def form(self, form: Any) -> None:
        form.text("clip", "Video", help="Its name, or the id of its sample; may stay empty if there is one")
        form.label_field("field", "Tracks", "frames.tracks", frames=True)
        action = form.choice("action", "What to do", _ACTIONS, "swap")
        takes = _TAKES.get(action, ())
        form.number("track", "Track", low=0, whole=True)
        if "other" in takes:
            form.number("other", "Other track", low=0, whole=True)
        if "frame" in takes:
            form.number("frame", "From frame", low=1, whole=True)
        if "label" in takes:
            form.text("label", "Class")
        if action in ("relabel", "delete"):
            form.number("first", "First frame", low=1, whole=True, help="Both empty: all of the track")
            form.number("last", "Last frame", low=1, whole=True)
        if action == "merge":
            form.switch("drop", "Drop the other's box where both have one in a frame")
        if takes and all(form.values[name] not in (None, "") for name in takes):
            edit = form.check("track", _edit, form.ctx.dataset, form.values, "preview")
            if edit is not None:
                where = f"frames {edit.first_frame} to {edit.last_frame}"
                form.note("preview", f"{edit.words}: {edit.labels:,} boxes in {where}", "notice")

    def run(self, ask: Ask) -> Any:
        return _edit(ask.dataset, ask.values)


def _edit(dataset: Any, values: Any, how: str = "") -> Any:
    """The edit that the form's values say, or its preview."""
    from osv_lab.core.errors import UsageError
    from osv_lab.store.clips import clip_view
    from osv_lab.store.track_edits import TrackEditor

    takes = _TAKES[values["action"]]
    missing = [name for name in takes if values.get(name) in (None, "")]
    if missing:
        raise UsageError(f"a {values['action']} needs more", f"no {', '.join(missing)}")
    editor = TrackEditor(clip_view(dataset, values.get("clip") or None), values["field"])
    args = [values[name] if name == "label" else int(values[name]) for name in takes]
    options: dict[str, Any] = {}
    if values.get("first") is not None or values.get("last") is not None:
        options["frames"] = int(values.get("first") or 1), int(values.get("last") or 1 << 31)
    if values.get("drop"):
        options["overlapping"] = "drop"
    if how == "preview":
        return editor.preview(values["action"], *args, **options)
    return getattr(editor, values["action"])(*args, **options)
