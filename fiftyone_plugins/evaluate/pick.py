"""Promote a model with evidence, export it with parity, deploy it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from osv_lab.app.operators import About, Ask, LabOperator


class Promote(LabOperator):
    about = About(
        name="promote",
        label="Promote a model",
        description="Point an alias at a registered version if the evidence on these samples allows it",
        risk="high",
    )

    def form(self, form: Any) -> None:
        from osv_lab.train.aliases import parse_version

        form.note("who", "On labelled images that neither model has trained on, such as the test split.")
        form.target()
        model = form.model("model", "Candidate", help="A registered version: models:/name/3")
        if model:
            form.check("model", parse_version, model)
        form.text("over", "Alias", "champion")
        form.number("margin", "Largest fall of mAP50-95", 0.01, low=0, high=1)
        form.number("max_latency_ratio", "Most time, in times of the other's", 1.25, low=0)
        form.switch("strict", "Refuse where a slice has too few objects")
        if form.switch("force", "Promote whatever is found"):
            form.text("reason", "Why", required=True)

    def run(self, ask: Ask) -> Any:
        from osv_lab.evaluate.promotion import promote

        options = {name: ask[name] for name in ("margin", "max_latency_ratio", "strict", "force")}
        reason = ask.values.get("reason") or ""
        return promote(ask["model"], ask["over"], view=ask.view, reason=reason, progress=ask.progress, **options)

    def view(self, ask: Ask, verdict: Any) -> Any:
        broken = verdict.comparison is not None and verdict.comparison.objects["broken"]
        return verdict.view("broken") if broken and not verdict.promoted else None


class ExportModel(LabOperator):
    about = About(
        name="export_model",
        label="Export a model",
        description="Export for serving, and check on these samples that the file answers as the weights do",
        changes="nothing",
        risk="low",
    )

    def form(self, form: Any) -> None:
        from osv_lab.core.settings import load_settings
        from osv_lab.detect.export import FORMATS

        form.target()
        model = form.model("model") or ""
        format = form.choice("format", "Format", FORMATS)
        form.text("name", "Name of the file", help=f"In {load_settings().models_dir}; empty: {_name_of(model)}")
        if model and format in FORMATS:
            form.check("name", _file, form.values["name"], model, format)
        form.number("imgsz", "Input size in pixels", low=32, whole=True, help="Empty: what it was trained at")
        form.switch("half", "16-bit weights")
        form.switch("verify", "Check against the weights", True)

    def run(self, ask: Ask) -> Any:
        from osv_lab.detect.export import export_model
        from osv_lab.evaluate.verify import verify

        options = {
            "imgsz": ask["imgsz"],
            "half": ask["half"],
            "out": _file(ask["name"], ask["model"], ask["format"]),
        }
        artifact = export_model(ask["model"], ask["format"], **options)
        if not ask["verify"] or str(artifact.path) == ask["model"]:
            return artifact
        return verify(artifact, ask.view, original=ask["model"], progress=ask.progress)


def _name_of(model: str) -> str:
    """What an export is called: as the training run, the registered version or the file that it is of."""
    if model.startswith("models:/"):
        return re.sub(r"\W+", "-", model.removeprefix("models:/"))
    path = Path(model)
    return path.parent.parent.name if path.parent.name == "weights" else path.stem


def _file(name: str, model: str, format: str) -> Path:
    """Where an export of a model goes: among the lab's models, over no other model's."""
    from osv_lab.core.errors import UsageError
    from osv_lab.core.settings import load_settings
    from osv_lab.core.sidecars import read_sidecar
    from osv_lab.detect.export import SUFFIXES

    suffix = SUFFIXES[format]
    name = name.strip().removesuffix(suffix) or _name_of(model)
    if not re.fullmatch(r"[\w-][\w .@-]*", name):
        raise UsageError("not a name for a file", repr(name), "use letters, digits, '-', '_' and '.'")
    path = load_settings().models_dir / f"{name}{suffix}"
    if path.exists() and str(path) != model and read_sidecar(path).get("source_ref") != model:
        raise UsageError("another model has this name", str(path), "choose another name")
    return path


class Deploy(LabOperator):
    about = About(
        name="deploy",
        label="Deploy a model",
        description="Export, check on the validation split, register under this dataset's name and give it an alias",
        changes="nothing",
        risk="high",
    )

    def form(self, form: Any) -> None:
        form.model("model")
        form.text("alias", "Alias", "champion", help="What osv serve models:/name@alias loads")
        form.choice("split", "Split to check on", ("val", "test", "train"))
        form.note("serve", f"Serve it with: osv serve models:/{form.ctx.dataset.name}@{form.values['alias']}")

    def run(self, ask: Ask) -> Any:
        from osv_lab.lab import Lab

        lab = Lab(ask.dataset.name, progress=ask.progress)
        return lab.deploy(ask["model"], alias=ask["alias"], split=ask["split"])
