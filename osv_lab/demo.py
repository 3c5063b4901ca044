"""``osv demo``: the whole loop on one data set, from a folder to an HTTP answer."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import CheckFailedError, InvalidDataError, NotFoundError, UsageError
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report
from osv_lab.core.settings import load_settings
from osv_lab.core.words import counted
from osv_lab.lab import Lab

if TYPE_CHECKING:
    from osv_lab.evaluate.detection import EvaluationReport
    from osv_lab.store.ingest_report import IngestReport


FINE_TUNING: Mapping[str, Any] = {"optimizer": "AdamW", "lr0": 0.0005, "warmup_epochs": 0, "mosaic": 0.0}
"""For weights that are trained already: Ultralytics' defaults begin with steps large enough to undo them."""


@dataclass(frozen=True)
class Step:
    """One stage of the demo: what happened, where it is, and how long it took in seconds."""

    stage: str
    result: str
    where: str
    seconds: float


@dataclass(frozen=True)
class DemoReport(Report):
    """What a run of the demo did.

    Attributes:
        dataset: The FiftyOne dataset.
        steps: The stages in order.
        ingested: The ingest report as plain values: what became of each file and label.
        metrics: mAP50 and mAP50-95 on the test split: ``given`` (the weights as given, if any), ``trained`` and
            ``deployed``.
        deployed: The registered reference.
        answer: The server's answer about one image.
        app: The command that opens the App on the dataset.
    """

    dataset: str
    steps: tuple[Step, ...]
    ingested: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, float]]
    deployed: str
    answer: Mapping[str, Any]
    app: str

    def rows(self) -> list[Mapping[str, Any]]:
        return [
            {"stage": s.stage, "what happened": s.result, "where it is": s.where, "seconds": round(s.seconds, 1)}
            for s in self.steps
        ]

    def summary(self) -> str:
        total = sum(step.seconds for step in self.steps)
        found = len(self.answer.get("predictions", ()))
        score = self.metrics["deployed"]["map50"]
        objects = counted(found, "object")
        return (
            f"done in {total:.0f} s: mAP50 {score:.3f} on the test split, and the server found {objects} "
            f"in one image. Look at it: {self.app}"
        )


class _Steps:
    """Collects the demo's steps and how long each took."""

    def __init__(self) -> None:
        self.done: list[Step] = []
        self._since = time.monotonic()

    def add(self, stage: str, result: str, where: object = "") -> None:
        now = time.monotonic()
        self.done.append(Step(stage, result, str(where), now - self._since))
        self._since = now


def demo(
    source: str | Path | None = None,
    weights: str | Path | None = None,
    epochs: int | None = None,
    name: str | None = None,
    *,
    download: bool = False,
    progress: Progress = silent,
) -> DemoReport:
    """Ingest, split, train, predict, evaluate, export, verify, register, serve, and ask the server about one image.

    Running it again continues: data that is there is not added twice.

    Args:
        source: Your images and labels. ``None`` renders a synthetic set with known truth.
        weights: A ``.pt`` to fine-tune from. ``None`` trains from random weights.
        epochs: Training epochs; by default as many as the synthetic set needs, or 20 on your own data.
        name: Name of the dataset and of the registered model.
        download: With no ``source``: fetch a small open data set instead of rendering one. The only thing here that
            opens a connection to another machine.
        progress: Told how far each stage is.

    Raises:
        OsvError: a stage failed; it says which and what to do.
    """
    from osv_lab.store.synthetic import DEMO

    if weights is not None and not Path(weights).exists():
        raise NotFoundError("no such weights file", repr(str(weights)), "give a .pt file by its path")
    steps = _Steps()
    settings: dict[str, Any] = {}
    if source is None:
        source, what = _own_source(download, progress)
        name = name or ("demo-open" if download else "demo")
        if not download:
            settings = {"epochs": DEMO.epochs, "imgsz": DEMO.imgsz, "batch": DEMO.batch, **DEMO.train_args}
        steps.add("source", what, source)
    elif not Path(source).exists():
        raise NotFoundError("no such source", repr(str(source)), "give a folder, file or zip")
    name = name or _name_of(Path(source))
    lab = Lab(name, progress=progress)

    ingested = lab.upload_data(source)
    counts = lab.dataset.count_sample_tags()
    steps.add("ingest", ingested.summary(), f"dataset '{name}'")
    _require_splits(lab, counts, ingested)

    metrics: dict[str, dict[str, float]] = {}
    if weights is not None:
        metrics["given"] = _metrics(_evaluate(lab, weights, "predictions_given", "eval_given"))
        steps.add("given weights", _scores(metrics["given"]), "field 'predictions_given'")
        settings = {**settings, **FINE_TUNING, "imgsz": _trained_size(lab, weights)}

    settings["epochs"] = epochs or settings.get("epochs", 20)
    run = lab.train(weights or DEMO.model, **settings)
    steps.add("train", run.summary(), run.folder)
    evaluation = _evaluate(lab, run.weights, "predictions", "eval")
    metrics["trained"] = _metrics(evaluation)
    at = _evaluate_confident(lab, evaluation.confidence)
    found = f"{_scores(metrics['trained'])} on the test split; {at}"
    steps.add("evaluate", found, "App: Model Evaluation, 'eval' and 'eval_confident'")

    # One epoch on top of a finished model can make it worse: what is served is what is better on the val split.
    better: str | Path = run.weights
    if weights is not None and _validation(lab, weights) > _validation(lab, run.weights):
        better = weights
    metrics["deployed"] = metrics["given" if better is weights else "trained"]
    deployment = lab.deploy(better)
    chosen = "the given weights" if better is weights else "the trained weights"
    assert deployment.parity is not None
    exported = f"{chosen} as ONNX, {deployment.parity.summary()}; registered as version {deployment.version}"
    steps.add("deploy", exported, f"{deployment.ref}, {deployment.artifact.path}")

    image = Path(lab.view("test").first().filepath)
    answer, url = _ask(lab, image)
    found = ", ".join(f"{p['class']} {p['confidence']:.2f}" for p in answer["predictions"][:3])
    steps.add(
        "serve", f"POST {url}/predict found {counted(len(answer['predictions']), 'object')} ({found} …)", image
    )
    return DemoReport(
        dataset=name,
        steps=tuple(steps.done),
        ingested=ingested.to_dict(),
        metrics=metrics,
        deployed=deployment.ref,
        answer=answer,
        app=f"osv app {name} --view confident",
    )


def _own_source(download: bool, progress: Progress) -> tuple[Path, str]:
    from osv_lab.store.opendata import fetch_open_dataset
    from osv_lab.store.synthetic import DEMO, render_dataset

    folder = load_settings().home / "demo"
    if download:
        path = fetch_open_dataset(folder / "open", progress=progress)
        return path, "downloaded a small open data set"
    counts = {"train": DEMO.n_train, "val": DEMO.n_val, "test": DEMO.n_test}
    rendered = render_dataset(folder / "parts", counts, DEMO.size, progress=progress)
    return rendered.folder, rendered.summary()


def _name_of(source: Path) -> str:
    """A dataset name from a path: ``BCCD Dataset.zip`` becomes ``bccd-dataset``."""
    name = re.sub(r"[^a-z0-9]+", "-", source.resolve().stem.lower()).strip("-")
    return name or "demo"


def _require_splits(lab: Lab, counts: Mapping[str, int], ingested: IngestReport) -> None:
    missing = [split for split in ("train", "val", "test") if not counts.get(split)]
    if missing:
        raise InvalidDataError(
            f"the dataset '{lab.name}' has no {' and no '.join(missing)} samples",
            f"{dict(counts)}; {ingested.summary()}",
            "give at least ten labelled images, or splits of your own",
        )
    if not lab.dataset.get_field("ground_truth"):
        raise UsageError(
            "the demo trains detectors and found no boxes in the source",
            ", ".join(lab.dataset.get_field_schema()),
            "see the README for training other tasks",
        )


def _evaluate(lab: Lab, weights: str | Path, field: str, key: str) -> EvaluationReport:
    """Weights on the test split, with predictions down to a score of 0.001, as average precision is defined."""
    lab.predict(weights, field, split="test", confidence=0.001, iou=0.7)
    return lab.evaluate(field, split="test", key=key)


def _metrics(report: EvaluationReport) -> dict[str, float]:
    return {"map50": report.map50, "map50_95": report.map50_95}


def _evaluate_confident(lab: Lab, confidence: float) -> str:
    """Evaluate what one would act on: predictions from the confidence of the best F1 on, kept as a saved view.

    Average precision counts predictions down to a score of 0.001, thousands of them; nobody wants to look at those.
    """
    from fiftyone import ViewField

    from osv_lab.evaluate.detection import evaluate

    confidence = round(confidence, 2)
    confident = ViewField("confidence") >= confidence
    view = lab.view("test").filter_labels("predictions", confident, only_matches=False)
    lab.dataset.save_view(
        "confident", view, description=f"test split, predictions from {confidence}", overwrite=True
    )
    report = evaluate(view, "predictions", key="eval_confident", confidence=confidence)
    every = report.rows()[0]
    return f"precision {every['precision']:.2f}, recall {every['recall']:.2f} from a confidence of {confidence}"


def _scores(metrics: Mapping[str, float]) -> str:
    return f"mAP50 {metrics['map50']:.3f}, mAP50-95 {metrics['map50_95']:.3f}"


def _validation(lab: Lab, weights: str | Path) -> float:
    """mAP50-95 on the val split, without writing anything to the dataset."""
    from osv_lab.evaluate.verify import score

    return score(lab.view("val"), lab.detector(weights)).map50_95


def _trained_size(lab: Lab, weights: str | Path) -> int:
    """The image size the weights were trained at, in pixels."""
    return int(max(lab.detector(weights).describe()["input_size"]))


def _ask(lab: Lab, image: Path) -> tuple[dict[str, Any], str]:
    """Start a server, ask it about one image as another program would, and stop it."""
    import httpx

    encoded = base64.b64encode(image.read_bytes()).decode()
    handle = lab.server.start(port=0)
    try:
        body = {"image_url": encoded, "confidence_threshold": 0.5}
        response = httpx.post(f"{handle.url}/predict", json=body, timeout=60)
    finally:
        lab.server.stop()
    if response.status_code != 200:
        raise CheckFailedError(
            "the server did not answer the prediction", f"{response.status_code} {response.text[:300]}"
        )
    answer: dict[str, Any] = response.json()
    return answer, handle.url
