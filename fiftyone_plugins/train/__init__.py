"""Train models, watch them learn, and let them predict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from osv_lab.app.kept import kept
from osv_lab.app.operators import About, Ask, LabOperator
from osv_lab.app.panels import LabPanel, Page, PanelAbout
from osv_lab.app.places import allowed_path

TRAIN = "@osv/train/train"
RESUME = "@osv/train/resume_training"
BUSY_MS, IDLE_MS = 2000, 5000
MOST_RUNS = 30
_FIELDS = ("task", "model", "epochs", "imgsz", "batch")
_START_HELP = "An architecture, or weights to go on from: models:/name@alias, or a .pt file of the lab"


class Train(LabOperator):
    about = About(
        name="train",
        label="Train a model",
        description="Train on the dataset's train split, validate on its val split; tracked in MLflow, resumable",
        jobs="always",
        changes="nothing",
    )

    def form(self, form: Any) -> None:
        from osv_lab.app.models import start_choices
        from osv_lab.train.recipe import Recipe
        from osv_lab.train.survey import survey, tasks_of

        # Called at every keystroke: the dataset is looked through once.
        dataset = form.ctx.dataset
        tasks = kept(dataset, lambda: tasks_of(dataset), "tasks")
        task = form.choice("task", "Task", tasks, help="What the dataset's labels can teach")
        data = form.check("task", lambda: kept(dataset, lambda: survey(dataset, task), "survey", task))
        if data is not None:
            form.note("data", data.summary())
            for number, text in enumerate((*data.warnings, *data.notes)):
                form.note(f"warning_{number}", text, "warning")
        start = form.choice("model", "Start from", start_choices(task), "yolo11n", free=True, help=_START_HELP)
        if start and not start.startswith("models:/") and ("/" in start or Path(start).exists()):
            form.check("model", allowed_path, start, dataset)
        form.number("epochs", "Epochs", 50, low=1, high=10_000, whole=True)
        size = (data.imgsz if data else None) or 640
        form.number("imgsz", "Image size", size, low=32, high=4096, whole=True, help="Pixels, a multiple of 32")
        form.number("batch", "Batch", 16, low=1, high=1024, whole=True, help="Images per step")
        form.text("dataset_version", "Freeze the data as version", help="Such as v1; empty does not freeze")
        form.text("more", "Further settings", many=True, help="One per line, such as mosaic: 0.5")
        settings = form.check("more", _settings, form)
        if settings is not None:
            form.check(_blamed(form, settings), Recipe.from_dict, settings)

    def run(self, ask: Ask) -> Any:
        from osv_lab.train.recipe import Recipe
        from osv_lab.train.trainer import train

        recipe = Recipe.from_dict(_settings(ask))
        version = ask["dataset_version"].strip() or None
        return train(ask.dataset, recipe, dataset_version=version, progress=ask.progress)


class ResumeTraining(LabOperator):
    about = About(
        name="resume_training",
        label="Resume a training",
        description="Go on with a run that was stopped or killed, from its last whole epoch",
        jobs="always",
        changes="nothing",
    )

    def form(self, form: Any) -> None:
        open_runs = [run for _, run in _runs(form.ctx) if run.status != "finished"]
        if not open_runs:
            form.note("none", "Every run of this dataset is finished.", "warning")
        form.choice(
            "run", "Run", {run.name: f"{run.name}: {run.status}, {run.epochs} epochs" for run in open_runs}
        )

    def run(self, ask: Ask) -> Any:
        from osv_lab.train.trainer import train

        return train(None, resume=ask["run"], progress=ask.progress)


class Predict(LabOperator):
    about = About(
        name="predict",
        label="Predict",
        description="Write a model's predictions into a field",
        changes="dataset",
    )

    def form(self, form: Any) -> None:
        form.target()
        form.model("model")
        form.text("field", "Field to write", "predictions", required=True)
        help = "0 to 1; empty: the model's own thresholds, else 0.25. 0.05 and lower for evaluations."
        form.number("confidence", "Least confidence", low=0, high=1, help=help)
        form.switch("overwrite", "Predict again", help="Also samples that this model has predicted already")

    def run(self, ask: Ask) -> Any:
        from osv_lab.detect import load_detector
        from osv_lab.store.predict import predict

        options = {"confidence": ask["confidence"], "overwrite": ask["overwrite"], "progress": ask.progress}
        return predict(ask.view, load_detector(ask["model"]), ask["field"].strip(), **options)


class Training(LabPanel):
    about = PanelAbout(
        name="training",
        label="Training",
        help="The dataset's training runs and how they learn. Choose a run to see its curves.",
        category="analyze",
    )

    def draw(self, ctx: Any, page: Page) -> None:
        runs, job = _runs(ctx), _job_of(ctx)
        page.every(BUSY_MS if job else IDLE_MS, self.look)
        bar = page.row("bar")
        bar.button("train", "Train a model", self.on_train, main=True, icon="model_training")
        if job is not None:
            params = {"job": job.id}
            bar.button("stop", "Stop", self.on_stop, icon="stop", params=params, title="Can be resumed")
            page.text("job", f"**{job.label}**: {job.state}")
            page.progress("share", job.progress, job.said)
        if not runs:
            if job is None:
                more = "Train one, and it appears here while it learns."
                page.note("empty", "No model was trained on this dataset yet.", more=more)
            return
        folder, chosen = next((pair for pair in runs if pair[1].name == ctx.panel.get_state("run")), runs[0])
        if job is None and chosen.status != "finished":
            params = {"run": chosen.name}
            bar.button("resume", f"Resume {chosen.name}", self.on_resume, icon="play_arrow", params=params)
        report = folder.report()
        page.text("chosen", f"**{report.name}**: {report.summary().partition(': ')[2]}")
        if report.history:
            page.plot("curves", report.plot(), height_px=300)
        ctx.panel.set_state("names", [run.name for _, run in runs[:MOST_RUNS]])
        page.table("runs", [_row(run) for _, run in runs[:MOST_RUNS]], on_row=self.on_run)

    def on_train(self, ctx: Any) -> None:
        ctx.prompt(TRAIN)

    def on_resume(self, ctx: Any) -> None:
        ctx.prompt(RESUME, params={"run": ctx.params["run"]})

    def on_stop(self, ctx: Any) -> None:
        from osv_lab.jobs import cancel

        cancel(ctx.params["job"])

    def on_run(self, ctx: Any) -> None:
        ctx.panel.set_state("run", ctx.panel.get_state("names")[ctx.params["row"]])

    def look(self, ctx: Any) -> None:
        """The timer: what is there is drawn anew."""


def _settings(values: Any) -> dict[str, Any]:
    """A form's values as one flat recipe."""
    import yaml

    from osv_lab.core.errors import InvalidDataError

    given = getattr(values, "values", values)
    try:
        more = yaml.safe_load(given["more"] or "") or {}
    except yaml.YAMLError as error:
        raise InvalidDataError("the further settings are not YAML", str(error).replace("\n", " ")) from None
    if not isinstance(more, dict):
        raise InvalidDataError("further settings are lines of name: value", repr(given["more"]))
    if own := [name for name in _FIELDS if name in more]:
        # A model that is named here would pass by what the form allows to be read.
        raise InvalidDataError("the form has a field for this", own[0], "set it there")
    return {**{name: given[name] for name in _FIELDS}, **more}


def _blamed(form: Any, settings: dict[str, Any]) -> str:
    """The field whose value keeps the recipe from being one."""
    from osv_lab.core.errors import OsvError
    from osv_lab.train.recipe import Recipe

    try:
        Recipe.from_dict(settings)
    except OsvError as error:
        named = (name for name in ("imgsz", "epochs", "batch", "model") if f"'{name}'" in error.what)
        return next(named, "model" if "model" in error.what else "more")
    return "more"


def _job_of(ctx: Any) -> Any:
    """The training of this dataset that runs or waits, as a job."""
    from osv_lab.jobs import list_jobs

    jobs = list_jobs(ctx.dataset.name, limit=20).jobs
    return next((one for one in jobs if one.operator in (TRAIN, RESUME) and not one.over), None)


def _runs(ctx: Any) -> list[Any]:
    """The folders and states of the dataset's runs, the newest first; no curves are read for it."""
    from osv_lab.train.run import run_folders

    return [pair for pair in reversed(run_folders()) if pair[1].experiment == ctx.dataset.name]


def _row(run: Any) -> dict[str, Any]:
    metrics = {name: run.metrics.get(name) for name in ("mAP50", "mAP50-95")}
    data = f"{run.dataset}@{run.version}" if run.version else run.dataset
    return {"run": run.name, "status": run.status, "epochs": run.epochs, **metrics, "data": data}


def register(plugin: Any) -> None:
    plugin.register(Train)
    plugin.register(ResumeTraining)
    plugin.register(Predict)
    plugin.register(Training)
