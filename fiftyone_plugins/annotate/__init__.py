"""Let a detector propose labels, send samples to CVAT, and bring the labels back."""

from __future__ import annotations

import functools
from typing import Any

from osv_lab.app.operators import About, Ask, LabOperator
from osv_lab.app.panels import LabPanel, Page, PanelAbout

SEND = "@osv/annotate/send"
PULL = "@osv/annotate/pull"
LABELS = ("Detections", "Polylines", "Keypoints", "Classification", "Classifications")
DEADLINE_S = 20
SHOWN = 20
LOOK_MS = 4000


class Autolabel(LabOperator):
    about = About(
        name="autolabel",
        label="Propose labels",
        description="A detector proposes labels and says which to trust; what people made is never touched",
    )

    def form(self, form: Any) -> None:
        form.target()
        form.model("model")
        form.label_field("field", "Field to write", "ground_truth", kinds=LABELS, new=True)
        form.number("threshold", "Propose from", 0.25, low=0, high=1, help="Confidence, 0 to 1")
        form.number("trust", "Trust from", 0.6, low=0, high=1, help="Below it a person should look")
        form.text(
            "ontology",
            "Classes to labels",
            many=True,
            help="One per line, such as erythrocyte: RBC; dirt: null drops a class",
        )
        form.check("ontology", _ontology, form.values["ontology"])

    def run(self, ask: Ask) -> Any:
        from osv_lab.annotate.autolabel import autolabel

        levels = {"thresholds": ask["threshold"], "trust": ask["trust"], "progress": ask.progress}
        return autolabel(ask.view, ask["model"], ask["field"], _ontology(ask["ontology"]), **levels)


class Send(LabOperator):
    about = About(
        name="send",
        label="Send to CVAT",
        description="Samples and their labels become a task in CVAT; all of it, or after an error nothing",
        changes="nothing",
    )

    def form(self, form: Any) -> None:
        from osv_lab.annotate.settings import cvat_settings

        form.target()
        key = form.text("key", "Name of this run", required=True, help="Such as first_batch")
        if key and (settings := form.check("key", cvat_settings)):
            form.note("server", f"To {settings.url}")
        form.label_field("field", "Labels to send, and to bring back", "ground_truth", kinds=LABELS, frames=True)
        classes = list(
            form.ctx.dataset.classes.get(form.values["field"]) or form.ctx.dataset.default_classes or ()
        )
        if classes:
            form.several("classes", "Only these classes", classes, help="Empty: all")
        form.number("segment_size", "Images per job", low=1, whole=True, help="Empty: one job")
        form.text("assignees", "Annotators", help="User names, separated by commas; jobs go to them in turn")
        form.text("reviewers", "Reviewers", help="Likewise")

    def run(self, ask: Ask) -> Any:
        people = {name: _names(ask[name]) for name in ("assignees", "reviewers")}
        with _loop(ask.dataset, ask.progress) as loop:
            return loop.send(
                ask.view,
                ask["key"].strip(),
                ask["field"],
                ask.values.get("classes") or None,
                segment_size=ask["segment_size"],
                **people,
            )


class Pull(LabOperator):
    about = About(
        name="pull",
        label="Bring labels back from CVAT",
        description="Merge what annotators did with what changed here; conflicts are kept open, with both versions",
    )

    def form(self, form: Any) -> None:
        runs = _runs(form.ctx.dataset)
        if not runs:
            form.note("none", "Nothing of this dataset was sent yet.", "warning")
        form.choice("key", "Run", [run["key"] for run in runs])
        choices = {
            "review": "keep ours, and leave it open for review",
            "ours": "ours wins",
            "theirs": "theirs wins",
        }
        form.choice("conflict", "Where both sides changed a label", choices, "review")

    def run(self, ask: Ask) -> Any:
        with _loop(ask.dataset, ask.progress) as loop:
            return loop.pull(ask["key"], ask["conflict"])


class Annotation(LabPanel):
    about = PanelAbout(
        name="annotation",
        label="Annotation",
        help="What was sent to CVAT, how far the annotators are, and what waits for your decision.",
    )

    def draw(self, ctx: Any, page: Page) -> None:
        runs = _runs(ctx.dataset)
        page.every(LOOK_MS, self.look)
        bar = page.row("bar")
        bar.button("send", "Send to CVAT", self.on_send, main=True, icon="send")
        if not runs:
            page.note(
                "empty",
                "Nothing of this dataset was sent yet.",
                more="Select samples, or a saved view, and send them.",
            )
            return
        key = self._key(ctx, runs)
        # What a click is about is what was on the page, whatever others send and settle meanwhile.
        ctx.panel.set_state("shown", {"key": key, "runs": [run["key"] for run in runs], "conflicts": []})
        bar.button("look", "Ask the server", self.on_look, icon="refresh")
        bar.button("pull", "Bring labels back", self.on_pull, icon="download")
        columns = {name: name for name in ("key", "phase", "field", "samples", "jobs", "conflicts")}
        page.table("runs", runs, columns, on_row=self.on_run)
        page.text("title", f"**{key}**")
        self._jobs(ctx, page)
        self._conflicts(ctx, page, key)
        self._yield(ctx, page, next(run for run in runs if run["key"] == key))

    def _jobs(self, ctx: Any, page: Page) -> None:
        told = ctx.panel.get_state("jobs")
        if told:
            page.text("said", told["summary"])
            columns = {
                name: name for name in ("stage", "state", "assignee", "frames", "edited", "added", "removed")
            }
            page.table("jobs", told["rows"][:SHOWN], columns)

    def _conflicts(self, ctx: Any, page: Page, key: str) -> None:
        from osv_lab.annotate.conflicts import open_conflicts

        found = open_conflicts(ctx.dataset, key)
        if not found.conflicts:
            return
        some = [{"object": one.object, "sample": one.sample} for one in found.conflicts[:SHOWN]]
        ctx.panel.set_state("shown", {**ctx.panel.get_state("shown"), "conflicts": some})
        page.note("conflicts_note", found.summary(), "warning", "Keep one version of each, or all at once")
        row = page.row("all")
        row.button("all_ours", "Keep all of ours", self.on_all, params={"keep": "ours"})
        row.button("all_theirs", "Take all of theirs", self.on_all, params={"keep": "theirs"})
        row.button("view", "Look at them", self.on_view, icon="visibility")
        page.table(
            "conflicts",
            list(found.rows())[:SHOWN],
            {name: name for name in ("about", "ours", "theirs")},
            actions=[
                ("ours", "Keep ours", "home", self.on_ours),
                ("theirs", "Take theirs", "cloud_download", self.on_theirs),
                ("one", "Look at it", "visibility", self.on_one),
            ],
        )

    def _yield(self, ctx: Any, page: Page, run: Any) -> None:
        from osv_lab.core.errors import NotFoundError

        try:
            said, figure = _yields(ctx.dataset.name, run["key"], run["pulled"])
        except NotFoundError:
            return
        page.text("yield_said", said)
        page.plot("yield", figure, height_px=280)

    def look(self, ctx: Any) -> None:
        """The timer: what is there is drawn anew; no server is asked."""

    def on_send(self, ctx: Any) -> None:
        ctx.prompt(SEND)

    def on_pull(self, ctx: Any) -> None:
        ctx.prompt(PULL, params={"key": _shown(ctx)["key"]})

    def on_run(self, ctx: Any) -> None:
        ctx.panel.set_state("key", _shown(ctx)["runs"][ctx.params["row"]])
        ctx.panel.set_state("jobs", None)

    def on_look(self, ctx: Any) -> None:
        from osv_lab.app.operators import told

        with _loop(ctx.dataset) as loop:
            ctx.panel.set_state("jobs", told(loop.status(_shown(ctx)["key"])))

    def on_ours(self, ctx: Any) -> None:
        self._settle(ctx, "ours", self._clicked(ctx)["object"])

    def on_theirs(self, ctx: Any) -> None:
        self._settle(ctx, "theirs", self._clicked(ctx)["object"])

    def on_all(self, ctx: Any) -> None:
        self._settle(ctx, ctx.params["keep"], None)

    def on_view(self, ctx: Any) -> None:
        from osv_lab.annotate.conflicts import open_conflicts

        ctx.ops.set_view(view=open_conflicts(ctx.dataset, _shown(ctx)["key"]).view())

    def on_one(self, ctx: Any) -> None:
        ctx.ops.set_view(view=ctx.dataset.select(self._clicked(ctx)["sample"]))

    def _settle(self, ctx: Any, keep: Any, name: str | None) -> None:
        from osv_lab.annotate.settle import resolve

        resolve(ctx.dataset, _shown(ctx)["key"], None if name is None else [name], keep)
        ctx.ops.reload_samples()

    def _clicked(self, ctx: Any) -> dict[str, str]:
        found: dict[str, str] = _shown(ctx)["conflicts"][ctx.params["row"]]
        return found

    def _key(self, ctx: Any, runs: list[Any]) -> str:
        keys = [run["key"] for run in runs]
        chosen = ctx.panel.get_state("key")
        return str(chosen if chosen in keys else keys[-1])


def _loop(dataset: Any, progress: Any = None) -> Any:
    from osv_lab.annotate import AnnotationLoop
    from osv_lab.core.progress import silent

    return AnnotationLoop(dataset, deadline_s=DEADLINE_S, progress=progress or silent)


def _shown(ctx: Any) -> dict[str, Any]:
    """What was on the page when it was last drawn: the run, the runs, and the conflicts in their rows."""
    found: dict[str, Any] = ctx.panel.get_state("shown")
    return found


def _runs(dataset: Any) -> list[Any]:
    """The dataset's runs; asks no server."""
    return list(_loop(dataset).list().runs)


@functools.lru_cache(maxsize=8)
def _yields(dataset: str, key: str, pulled: str) -> tuple[str, Any]:
    """What annotators made of a run, in words and as a figure; once per pull, not whenever the timer draws."""
    from osv_lab.annotate.yields import yield_of
    from osv_lab.store.catalogue import open_dataset

    report = yield_of(open_dataset(dataset), key)
    return report.summary(), report.plot().update_layout(title=None)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _ontology(text: str) -> Any:
    import yaml

    from osv_lab.core.errors import InvalidDataError

    try:
        found = yaml.safe_load(text or "")
    except yaml.YAMLError as error:
        raise InvalidDataError("the classes are not YAML", str(error).replace("\n", " ")) from None
    if found is not None and not isinstance(found, dict):
        raise InvalidDataError("the classes are lines of class: label", repr(text))
    return found or None


def register(plugin: Any) -> None:
    plugin.register(Autolabel)
    plugin.register(Send)
    plugin.register(Pull)
    plugin.register(Annotation)
