"""Curate's operators."""

from __future__ import annotations

from typing import Any

from fiftyone.operators import types

from osv_lab.app.form import Form
from osv_lab.app.operators import About, Ask, LabOperator


class Ingest(LabOperator):
    about = About(
        name="ingest",
        label="Ingest images and labels",
        description="Read a folder, an annotation file, a video or a zip, in any known format, into a dataset",
    )

    def form(self, form: Form) -> None:
        from osv_lab.store.formats import FORMATS

        form.path("source", "Source", help="A folder, an annotation file, a video, or a zip, where forms may read")
        known = form.ctx.dataset.name if form.ctx.dataset is not None else ""
        form.text("dataset", "Dataset", known, help="Added to, or made", required=True)
        formats = {"auto": "recognise it"} | {name: one.about for name, one in FORMATS.items()}
        form.choice("format", "Format", formats, "auto")
        form.text(
            "split", "Split", help="Empty: as the source says. train: all of it. train=0.8,val=0.2: by shares"
        )
        form.check("split", self._split, form.values["split"])
        form.text("tags", "Tags", help="For every new sample, separated by commas")
        duplicates = {"skip": "leave it as it is", "update": "replace its labels"}
        form.choice("on_duplicate", "What is there already", duplicates, "skip")

    def run(self, ask: Ask) -> Any:
        from osv_lab.app.places import allowed_path
        from osv_lab.store.ingest import ingest

        source = allowed_path(ask["source"], ask.dataset)
        tags = [tag.strip() for tag in ask["tags"].split(",") if tag.strip()]
        options = {"format": ask["format"], "tags": tags, "on_duplicate": ask["on_duplicate"]}
        return ingest(source, ask["dataset"], split=self._split(ask["split"]), progress=ask.progress, **options)

    def view(self, ask: Ask, result: Any) -> Any:
        from osv_lab.store.catalogue import open_dataset

        return (
            None
            if ask.dataset is not None and ask.dataset.name == ask["dataset"]
            else open_dataset(ask["dataset"])
        )

    @staticmethod
    def _split(text: str) -> Any:
        from osv_lab.store.splits import parse_split

        return parse_split(text or None)


class Quality(LabOperator):
    about = About(
        name="quality",
        label="Find bad images and duplicates",
        description="Unreadable, dark, bright, blurred or odd images, duplicates, and leaks between splits",
    )

    def form(self, form: Form) -> None:
        form.target()
        help = "Correlation of two pictures after the best shift and scale"
        form.number("least_similarity", "Least similarity of near duplicates", 0.9, low=0, high=1, help=help)
        form.switch("save", "Save a view of each finding", True, help="As quality_blurry, quality_leak, ...")

    def run(self, ask: Ask) -> Any:
        from osv_lab.curate.quality import quality

        report = quality(ask.view, least_similarity=ask["least_similarity"], progress=ask.progress)
        if ask["save"]:
            report.save_views("quality")
        return report


class FindLabelErrors(LabOperator):
    about = About(
        name="find_label_errors",
        label="Find label errors",
        description="Rank the labels that are probably missing, spurious, of the wrong class or badly placed",
    )

    def form(self, form: Form) -> None:
        form.target()
        form.label_field(
            "pred_field", "Predictions", "predictions", help="Best out of fold, down to confidence 0.05"
        )
        form.label_field("gt_field", "Labels to judge", "ground_truth")
        form.text(
            "key", "Field and saved view to write", "label_errors", help="The panel Label errors walks through it"
        )
        form.number("limit", "Most suggestions", 1000, low=1, whole=True)

    def run(self, ask: Ask) -> Any:
        from osv_lab.curate.label_errors import find_label_errors

        fields = ask["pred_field"], ask["gt_field"]
        return find_label_errors(ask.view, *fields, key=ask["key"], limit=ask["limit"], progress=ask.progress)


class AnnotateLabelErrors(LabOperator):
    about = About(
        name="annotate_label_errors",
        label="Send label errors to CVAT",
        description="The samples that a review of label errors set aside for annotators, as one CVAT task",
    )

    def form(self, form: Form) -> None:
        keys = sorted(form.ctx.dataset.info.get("label_errors_of", {}))
        form.choice("key", "Label errors", keys)
        form.text("run", "Name of the run", "label-errors", required=True)
        if not keys:
            form.note("none", "No label errors were looked for yet: Find label errors does.", "warning")

    def run(self, ask: Ask) -> Any:
        from osv_lab.annotate import AnnotationLoop
        from osv_lab.curate.review import LabelReview

        review = LabelReview(ask.dataset, ask["key"])
        view = ask.dataset.select(review.view("to_annotate").values("id"))
        with AnnotationLoop(ask.dataset, progress=ask.progress) as loop:
            return loop.send(view, ask["run"], review.label_field)


class Select(LabOperator):
    about = About(
        name="select",
        label="Select what to label next",
        description="The images most worth labelling: by uncertainty, diversity, class need, or their mix",
    )

    def form(self, form: Form) -> None:
        form.target()
        form.number("n", "How many", 50, low=1, whole=True)
        strategies = {
            "mix": "a mix of all",
            "uncertainty": "where the model is unsure",
            "diversity": "what looks unlike the rest",
            "class_need": "classes that are short of labels",
        }
        strategy = form.choice("strategy", "By", strategies, "mix")
        if strategy != "diversity":
            form.label_field("pred_field", "Predictions", "predictions")
        form.text("tag", "Tag them", help="Empty: no tag")

    def run(self, ask: Ask) -> Any:
        from osv_lab.curate.select import select

        field = ask.values.get("pred_field") or "predictions"
        report = select(ask.view, ask["n"], ask["strategy"], pred_field=field, progress=ask.progress)
        if ask["tag"]:
            report.view().tag_samples(ask["tag"])
        return report

    def view(self, ask: Ask, result: Any) -> Any:
        return result.view()


class Query(LabOperator):
    about = About(
        name="query",
        label="Query samples",
        description="The samples that match, such as class:RBC>=10 conf<0.4 -tag:reviewed split:train",
        jobs="never",
        changes="nothing",
        risk="low",
    )

    def form(self, form: Form) -> None:
        from osv_lab.curate.query import query

        text = form.text("query", "Query", help="All must hold: class:RBC>=10 conf<0.4 -tag:reviewed split:train")
        if text:
            form.check("query", query, form.ctx.dataset, text)

    def run(self, ask: Ask) -> Any:
        from osv_lab.curate.query import query

        ask.kept = query(ask.dataset, ask["query"]) if ask["query"] else ask.dataset.view()
        return f"{len(ask.kept):,} of {len(ask.dataset):,} samples match"

    def view(self, ask: Ask, result: Any) -> Any:
        return ask.kept

    def resolve_placement(self, ctx: Any) -> Any:
        button = types.Button(label="Query samples", icon="/icon.svg", prompt=True)
        return types.Placement(types.Places.SAMPLES_GRID_SECONDARY_ACTIONS, button)
