"""Follow objects through videos, find where identities went wrong, and mend them."""

from __future__ import annotations

from typing import Any

from osv_lab.app.operators import About, Ask, LabOperator

from .edit import EditTracks
from .inspector import TrackInspector
from .send import SendEvents

_TRACKERS = {"botsort": "BoT-SORT", "bytetrack": "ByteTrack", "deepsort": "DeepSORT"}


class Track(LabOperator):
    about = About(
        name="track",
        label="Track objects",
        description="Follow the objects of videos or image sequences, with a model or from detections that are there",
    )

    def form(self, form: Any) -> None:
        form.target()
        form.choice("source", "Detections", {"model": "of a model", "field": "of a field"}, "model")
        if form.values["source"] == "model":
            form.model("model")
            form.number("confidence", "Least confidence", 0.1, low=0, high=1, help="Trackers use unsure ones")
        else:
            form.label_field("from_field", "Field with detections", "frames.detections", frames=True)
        form.choice("tracker", "Tracker", _TRACKERS)
        form.text("field", "Field to write", "tracks", help="Made if it is not there")
        form.text("classes", "Classes", help="Separated by commas; all by default")
        form.switch("refine", "Fill gaps and smooth afterwards")
        form.switch("overwrite", "Replace what the field holds", help="Also tracks that a person has edited")

    def run(self, ask: Ask) -> Any:
        from osv_lab.store.tracks import track

        detections = (
            {"detector": ask["model"], "confidence": ask["confidence"]}
            if ask["source"] == "model"
            else {"from_field": ask["from_field"]}
        )
        return track(
            ask.view,
            tracker=ask["tracker"],
            field=ask["field"],
            classes=[name.strip() for name in ask["classes"].split(",") if name.strip()] or None,
            refine=ask["refine"],
            overwrite=ask["overwrite"],
            progress=ask.progress,
            **detections,
        )


class EvaluateTracks(LabOperator):
    about = About(
        name="evaluate_tracks",
        label="Evaluate tracks",
        description="HOTA, MOTA, IDF1, each true track's own HOTA, and every mistake with its frames",
    )

    def form(self, form: Any) -> None:
        form.target()
        form.label_field("pred_field", "Tracks", "frames.tracks", frames=True)
        form.label_field("gt_field", "True tracks", "frames.ground_truth", frames=True)
        form.number("iou", "Least IoU of a match", 0.5, low=0.05, high=1, help="HOTA averages over 0.05 to 0.95")
        form.switch("per_class", "Class by class", help="By default a box matches whatever its class")
        form.text("key", "Name of the evaluation", "track_eval", required=True)

    def run(self, ask: Ask) -> Any:
        from osv_lab.evaluate.tracking import evaluate_tracks

        options = {name: ask[name] for name in ("iou", "per_class", "key")}
        return evaluate_tracks(ask.view, ask["pred_field"], ask["gt_field"], progress=ask.progress, **options)


class FindSuspicious(LabOperator):
    about = About(
        name="find_suspicious",
        label="Find suspicious tracks",
        description="Without truth: teleports, swaps, flicker, class flips, doubles and stubs, with reasons",
    )

    def form(self, form: Any) -> None:
        form.target()
        form.label_field("field", "Tracks", "frames.tracks", frames=True)
        form.number("least_length", "Least boxes of a track", 5, low=1, whole=True)
        form.text("key", "Name of what is found", "suspicious", required=True)

    def run(self, ask: Ask) -> Any:
        from osv_lab.evaluate.suspicious import suspicious

        return suspicious(
            ask.view, ask["field"], ask["key"], least_length=ask["least_length"], progress=ask.progress
        )


class LookAgain(LabOperator):
    about = About(
        name="look_again",
        label="Evaluate edited tracks again",
        description="Run an evaluation of tracks again as it was, on the same clips",
    )

    def form(self, form: Any) -> None:
        from osv_lab.evaluate.track_fields import track_runs

        runs = [run.key for run in track_runs(form.ctx.dataset)]
        if not runs:
            form.note("none", "No tracks were evaluated yet.", "warning")
        form.choice("key", "Evaluation", runs)

    def run(self, ask: Ask) -> Any:
        from osv_lab.evaluate.track_again import look_again

        return look_again(ask.dataset, ask["key"], progress=ask.progress)


def register(plugin: Any) -> None:
    plugin.register(Track)
    plugin.register(EvaluateTracks)
    plugin.register(FindSuspicious)
    plugin.register(EditTracks)
    plugin.register(LookAgain)
    plugin.register(SendEvents)
    plugin.register(TrackInspector)
