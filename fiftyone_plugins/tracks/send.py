"""The operator that sends what surrounds events, and nothing else of the video, to annotators."""

from __future__ import annotations

from typing import Any

from osv_lab.app.operators import About, Ask, LabOperator

DEADLINE_S = 20


class SendEvents(LabOperator):
    about = About(
        name="send_events",
        label="Send track events to CVAT",
        description="Only the frames around switches, gaps and other events of one video, each stretch as a task",
        changes="nothing",
    )

    def form(self, form: Any) -> None:
        from osv_lab.annotate.settings import cvat_settings

        form.text("clip", "Video", help="Its name, or the id of its sample; may stay empty if there is one")
        form.label_field("field", "Tracks", "frames.tracks", frames=True)
        timeline = form.check("clip", _timeline, form.ctx.dataset, form.values)
        counts = timeline.kinds() if timeline is not None else {}
        kinds = {kind: f"{kind.replace('_', ' ')} ({count})" for kind, count in counts.items()}
        form.several("kinds", "Events", kinds, help="Empty: all")
        form.number("around", "Frames before and after", 25, low=0, whole=True)
        key = form.text("key", "Name of this run", required=True, help="Such as switches")
        if timeline is not None:
            windows = form.check("kinds", _windows, timeline, form.values)
            if windows is not None:
                form.note("windows", _told(windows, timeline.frames))
        if key and (settings := form.check("key", cvat_settings)):
            form.note("server", f"To {settings.url}")
        form.text("assignees", "Annotators", help="User names, separated by commas; jobs go to them in turn")

    def run(self, ask: Ask) -> Any:
        from osv_lab.annotate import AnnotationLoop
        from osv_lab.store.clips import clip_view

        windows = _windows(_timeline(ask.dataset, ask.values), ask.values)
        names = [name.strip() for name in ask["assignees"].split(",") if name.strip()]
        view = clip_view(ask.dataset, ask["clip"] or None)
        with AnnotationLoop(ask.dataset, deadline_s=DEADLINE_S, progress=ask.progress) as loop:
            return loop.send(view, ask["key"].strip(), ask["field"], windows=windows, assignees=names)


def _timeline(dataset: Any, values: Any) -> Any:
    from osv_lab.evaluate.track_timeline import track_timeline
    from osv_lab.store.clips import clip_view

    return track_timeline(clip_view(dataset, values["clip"] or None), values["field"] or "")


def _windows(timeline: Any, values: Any) -> Any:
    return timeline.windows(values["kinds"] or None, values["around"])


def _told(windows: Any, frames: int) -> str:
    (ranges,) = windows.values()
    sent = sum(last - first + 1 for first, last in ranges)
    return f"{len(ranges)} {'stretch' if len(ranges) == 1 else 'stretches'}, {sent:,} of {frames:,} frames"
