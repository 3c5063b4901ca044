"""The facade: one object for one project, each method a few lines over a function of a room."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import CheckFailedError, NotFoundError, UnavailableError, UsageError
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report

if TYPE_CHECKING:
    import numpy as np
    import supervision as sv

    from osv_lab.curate.health import HealthReport
    from osv_lab.curate.label_errors import LabelErrorReport
    from osv_lab.curate.quality import QualityReport
    from osv_lab.curate.select import SelectReport
    from osv_lab.detect.detector import Detector
    from osv_lab.detect.export import Artifact
    from osv_lab.detect.parity import ParityReport
    from osv_lab.evaluate.detection import EvaluationReport
    from osv_lab.evaluate.suspicious import SuspicionReport
    from osv_lab.evaluate.track_report import TrackReport
    from osv_lab.serve.client import Prediction
    from osv_lab.serve.run import ServerHandle
    from osv_lab.store.captures import CaptureReport
    from osv_lab.store.diff import VersionDiff
    from osv_lab.store.drift import DriftReport
    from osv_lab.store.ingest_report import IngestReport
    from osv_lab.store.predict import PredictReport
    from osv_lab.store.track_run import TrackingReport
    from osv_lab.store.versions import DatasetVersion, VersionList
    from osv_lab.train.trainer import TrainingRun


@dataclass(frozen=True)
class Deployment(Report):
    """A model that was picked: where it is, what it was checked against, and how to serve it.

    Attributes:
        ref: The registered reference (``models:/name@champion``), good wherever a path is.
        version: The registered version.
        artifact: The exported file.
        parity: How the exported file compares with the weights on the validation view; ``None`` where the
            dataset has no validation samples to compare on, or the model came as ONNX.
    """

    ref: str
    version: str
    artifact: Artifact
    parity: ParityReport | None = None

    def rows(self) -> list[Mapping[str, Any]]:
        return [
            {"": "model", "value": f"{self.ref} (version {self.version})"},
            {"": "artifact", "value": str(self.artifact.path)},
            {
                "": "parity",
                "value": self.parity.summary() if self.parity else "not checked: nothing to compare",
            },
            {"": "serve it", "value": f"osv serve {self.ref}"},
        ]

    def summary(self) -> str:
        return f"deployed {self.ref}"


class Lab:
    """One project: a FiftyOne dataset, its training runs, and the model it serves.

    Args:
        name: The project's name. Also the name of its dataset and of its registered model, unless told otherwise.

    Example:
        >>> lab = Lab("my_project")
        >>> lab.upload_data("./images")                        # doctest: +SKIP
        >>> run = lab.train("yolov8n", epochs=20)              # doctest: +SKIP
        >>> lab.deploy(run.weights)                            # doctest: +SKIP
        >>> lab.server.run_server(port=8000)                   # doctest: +SKIP
    """

    def __init__(self, name: str, *, progress: Progress = silent) -> None:
        if not name or not name.strip():
            raise UsageError("a lab needs a name", repr(name), 'try Lab("my_project")')
        self.name = name
        self.dataset_name = name
        self.progress = progress
        self.server = LabServer(self)

    def __repr__(self) -> str:
        return f"Lab({self.name!r}, dataset={self.dataset_name!r})"

    # -- data -----------------------------------------------------------------------------------------------

    @property
    def dataset(self) -> Any:
        """The project's ``fiftyone.Dataset``.

        Raises:
            NotFoundError: nothing was uploaded under this name yet.
        """
        from osv_lab.store.catalogue import open_dataset

        return open_dataset(self.dataset_name)

    def view(self, split: str | None = None) -> Any:
        """The dataset, or the samples of one split, as a FiftyOne view."""
        return self.dataset.match_tags(split) if split else self.dataset.view()

    def upload_data(self, source: str | Path, dataset: str | None = None, **options: Any) -> IngestReport:
        """Ingest a folder, file or zip into a dataset, which becomes the lab's dataset.

        Args:
            source: A folder of images, with or without labels in any known format, a video, or a zip of these.
            dataset: The dataset's name; the lab's own name by default.
            options: As for :func:`osv_lab.store.ingest.ingest` (``format``, ``split``, ``tags``, ``on_duplicate``).
        """
        from osv_lab.store.ingest import ingest

        report = ingest(source, dataset or self.dataset_name, progress=self.progress, **options)
        self.dataset_name = dataset or self.dataset_name
        return report

    def health(self, gt_field: str = "ground_truth", *, split: str | None = None) -> HealthReport:
        """Look at the labels as a whole: counts, balance, splits, boxes that cannot be."""
        from osv_lab.curate.health import health

        return health(self.view(split), gt_field)

    def quality(self, *, split: str | None = None, **options: Any) -> QualityReport:
        """Find broken, dark, blurred and odd images, duplicates, and leaks between splits."""
        from osv_lab.curate.quality import quality

        return quality(self.view(split), progress=self.progress, **options)

    def find_label_errors(
        self, pred_field: str = "predictions", *, split: str | None = None, **options: Any
    ) -> LabelErrorReport:
        """Rank the labels that are probably wrong; the App shows them as ``label_errors``."""
        from osv_lab.curate.label_errors import find_label_errors

        return find_label_errors(self.view(split), pred_field, progress=self.progress, **options)

    def select(self, n: int, strategy: str = "mix", *, split: str | None = None, **options: Any) -> SelectReport:
        """Pick the images most worth labelling: by uncertainty, diversity, class need, or their mix."""
        from osv_lab.curate.select import select

        return select(self.view(split), n, strategy, progress=self.progress, **options)

    def query(self, text: str, **options: Any) -> Any:
        """The samples that match ``"class:RBC>=10 conf<0.4 -tag:reviewed split:train"``, as a FiftyOne view."""
        from osv_lab.curate.query import query

        return query(self.dataset, text, **options)

    def import_captures(
        self, spool: str | Path | None = None, dataset: str | None = None, **options: Any
    ) -> CaptureReport:
        """Bring what a server captured (``capture="random=0.01,near=0.1"``) into the lab's dataset, once.

        The App shows it as the saved view ``captured``, with the server's answers in ``served_predictions``.
        """
        from osv_lab.store.captures import import_captures

        return import_captures(spool, dataset or self.dataset_name, progress=self.progress, **options)

    # -- versions -------------------------------------------------------------------------------------------

    def create_version(self, name: str | None = None, *, view: Any = None, **options: Any) -> DatasetVersion:
        """Freeze the dataset, or a view of it; options as for :func:`osv_lab.store.versions.create_version`."""
        from osv_lab.store.versions import create_version

        return create_version(self.view() if view is None else view, name, progress=self.progress, **options)

    def versions(self) -> VersionList:
        """The versions of the lab's dataset."""
        from osv_lab.store.versions import list_versions

        return list_versions(self.dataset_name)

    def load_version(self, name: str, dataset: str | None = None) -> Any:
        """A version as a FiftyOne view, or as a fresh dataset of a name of its own."""
        from osv_lab.store.versions import load_version

        return load_version(self._version(name), dataset, progress=self.progress)

    def diff_versions(self, a: str, b: str, iou: float = 0.5) -> VersionDiff:
        """What changed from one version to another, with a view of each kind of change."""
        from osv_lab.store.diff import diff_versions

        return diff_versions(self._version(a), self._version(b), iou)

    def push_version(self, name: str, remote: str | None = None, **options: Any) -> DatasetVersion:
        """Bring a version to a DVC remote: a folder, ``s3://``, ..."""
        from osv_lab.store.versions import push

        return push(self._version(name), remote, options=options, progress=self.progress)

    def pull_version(self, name: str, remote: str | None = None, **options: Any) -> DatasetVersion:
        """Bring a version from a DVC remote, every byte checked."""
        from osv_lab.store.versions import pull

        return pull(self._version(name), remote, options=options, progress=self.progress)

    def restore_version(self, name: str, *, overwrite: bool = False) -> Any:
        """Make the dataset again as it was in a version."""
        from osv_lab.store.versions import restore

        return restore(self._version(name), overwrite=overwrite, progress=self.progress)

    def _version(self, name: str) -> str:
        return name if "@" in name else f"{self.dataset_name}@{name}"

    def annotate(self, *args: Any, **options: Any) -> Any:
        """Not here yet: the CVAT loop (send, status, pull) comes with the annotation room."""
        raise UnavailableError(
            "the annotation loop is not part of this version",
            "osv_lab.annotate (CVAT: send, status, pull, three-way merge) is the room that will hold it",
            "until then label elsewhere and bring labels in with lab.upload_data(..., on_duplicate='update')",
        )

    # -- models ---------------------------------------------------------------------------------------------

    def train(
        self,
        model: str | Path | None = None,
        *,
        dataset_version: str | None = None,
        version: str | None = None,
        resume: bool | str = False,
        **settings: Any,
    ) -> TrainingRun:
        """Train a model on the lab's dataset and track the run in MLflow.

        Args:
            model: A ``.pt`` file to start from, a ``.yaml`` architecture to train from scratch, or an architecture's
                name ("yolov8n"), which takes its published weights where they can be had and otherwise starts from
                scratch and says so. "yolo11n" by default.
            dataset_version: A name for exactly this data ("v1"). The first use freezes it as a version; when the
                data has changed since, a further use is refused.
            version: Train on this frozen version, whatever the dataset has become since.
            resume: Continue the newest unfinished run, or the run of this name. Settings need not be repeated.
            settings: The rest of the :class:`~osv_lab.train.recipe.Recipe`: ``epochs``, ``imgsz``, ``batch``, ...
        """
        from osv_lab.train.recipe import Recipe
        from osv_lab.train.trainer import train

        if model is not None:
            settings["model"] = str(model)
        recipe = None if resume and not settings else Recipe.from_dict({"model": "yolo11n", **settings})
        return train(
            self._version(version) if version else self.dataset,
            recipe,
            dataset_version=dataset_version,
            resume=resume,
            experiment=self.name,
            progress=self.progress,
        )

    def evaluate(
        self, pred_field: str = "predictions", *, split: str | None = "test", key: str = "eval", **options: Any
    ) -> EvaluationReport:
        """Evaluate a predictions field of one split; the App's Model Evaluation panel shows it under ``key``."""
        from osv_lab.evaluate.detection import evaluate

        return evaluate(self.view(split), pred_field, key=key, progress=self.progress, **options)

    def predict(
        self,
        model: str | Path | None = None,
        field: str = "predictions",
        *,
        split: str | None = None,
        **options: Any,
    ) -> PredictReport:
        """Write a model's predictions on the dataset (or one split) into a field; by default the deployed model's."""
        from osv_lab.store.predict import predict

        return predict(self.view(split), self.detector(model), field, progress=self.progress, **options)

    def track(
        self,
        model: str | Path | None = None,
        tracker: str | Mapping[str, Any] = "botsort",
        field: str = "tracks",
        *,
        split: str | None = None,
        from_field: str | None = None,
        **options: Any,
    ) -> TrackingReport:
        """Follow objects through the videos (or image sequences) with a model, by default the deployed one.

        ``from_field="frames.detections"`` tracks detections that are there already, without a model.
        """
        from osv_lab.store.tracks import track

        detector = None if from_field and model is None else self.detector(model)
        options |= {"from_field": from_field, "progress": self.progress}
        return track(self.view(split), detector, tracker, field, **options)

    def evaluate_tracks(
        self,
        pred_field: str = "frames.tracks",
        *,
        split: str | None = None,
        key: str = "track_eval",
        **options: Any,
    ) -> TrackReport:
        """Compare tracks with true ones; the App lists every mistake with its frames as ``<key>_events``."""
        from osv_lab.evaluate.tracking import evaluate_tracks

        return evaluate_tracks(self.view(split), pred_field, key=key, progress=self.progress, **options)

    def suspicious_tracks(
        self, field: str = "frames.tracks", *, split: str | None = None, key: str = "suspicious", **options: Any
    ) -> SuspicionReport:
        """Find where tracks probably went wrong, without truth; the App lists it as ``<key>_events``."""
        from osv_lab.evaluate.suspicious import suspicious

        return suspicious(self.view(split), field, key, progress=self.progress, **options)

    def detector(self, model: str | Path | None = None, **options: Any) -> Detector:
        """A detector by reference; by default the deployed one (``models:/<name>@champion``)."""
        from osv_lab.detect import load_detector

        return load_detector(self._reference(model), **options)

    def drift(self, model: str | Path | None = None, **options: Any) -> DriftReport:
        """Compare captured samples with what the deployed model's answers usually look like.

        ``report.view()`` holds the samples that have become more frequent. ``deploy`` makes the reference.
        """
        from osv_lab.store.drift import drift

        return drift(self.dataset, self._reference(model), **options)

    def export(self, model: str | Path | None = None, format: str = "onnx", **options: Any) -> Artifact:
        """Export a model for serving; by default the weights of the newest training run."""
        from osv_lab.detect.export import export_model

        return export_model(self._weights(model), format=format, **options)

    def deploy(
        self, model: str | Path | None = None, *, alias: str = "champion", split: str = "val", **options: Any
    ) -> Deployment:
        """Export a model to ONNX, verify the export on the validation split, register it and give it an alias.

        A model that is ONNX already is registered as it is: there is nothing to compare it with.

        What its answers look like on that split is written beside it, so that the server can tell drift.

        Args:
            model: Weights by path or reference. ``None``, "best.pt" or "last.pt" (where no such file is here) mean
                those of the lab's newest training run.
            alias: The alias that will point at the new version.
            split: The split to verify on.
            options: As for :func:`osv_lab.detect.export.export_model`.

        Raises:
            CheckFailedError: the exported file does not answer as the weights do; nothing is registered.
        """
        from osv_lab.detect.reference import resolve_model
        from osv_lab.evaluate.verify import verify
        from osv_lab.store.drift import make_reference
        from osv_lab.train.registry import register

        weights = self._weights(model)
        run = self._run_of(weights)
        artifact = self.export(weights, **options)
        parity = None
        if self._exists() and len(validation := self.view(split)):
            if artifact.path != resolve_model(weights):
                parity = verify(artifact, validation, original=weights, progress=self.progress)
            if parity is not None and not parity.passed:
                raise CheckFailedError(
                    "the exported model does not answer as the weights do, so it was not registered",
                    parity.summary(),
                    "look at the report with osv_lab.evaluate.verify.verify(), or export with other options",
                )
            if validation.media_type == "image":
                make_reference(artifact.path, validation, split=split, progress=self.progress)
        version = register(artifact, self.name, run_id=run.run_id if run else None, alias=alias, parity=parity)
        return Deployment(
            ref=f"models:/{self.name}@{alias}", version=str(version.version), artifact=artifact, parity=parity
        )

    def predict_batch(
        self,
        images: Sequence[np.ndarray | str | Path],
        batch_size: int = 8,
        *,
        model: str | Path | None = None,
        confidence: float = 0.25,
        iou: float = 0.7,
    ) -> list[sv.Detections]:
        """Detections of images in their order, by the deployed model.

        Args:
            images: BGR uint8 arrays ``(h, w, 3)``, or paths.
            batch_size: Images per run of the network.
            model: Another model than the deployed one.
            confidence: Lowest score kept, 0 to 1.
            iou: Overlap above which the weaker of two boxes of a class is dropped, 0 to 1.

        Returns:
            One ``supervision.Detections`` per image.
        """
        from osv_lab.detect.images import read_image

        if batch_size < 1:
            raise UsageError("batch_size must be at least 1", batch_size)
        detector = self._loaded(model)
        found: list[sv.Detections] = []
        for start in range(0, len(images), batch_size):
            batch = [
                read_image(i) if isinstance(i, (str, Path)) else i for i in images[start : start + batch_size]
            ]
            found += detector.predict(batch, confidence=confidence, iou=iou)
            self.progress("predict", len(found), len(images))
        return found

    # -- looking --------------------------------------------------------------------------------------------

    def app(self, **options: Any) -> Any:
        """Open the FiftyOne App on the lab's dataset and return its session."""
        from osv_lab.app import open_app

        return open_app(self.dataset_name, **options)

    # -- which model ----------------------------------------------------------------------------------------

    def _exists(self) -> bool:
        from osv_lab.store.catalogue import dataset_exists

        return dataset_exists(self.dataset_name)

    def _loaded(self, model: str | Path | None) -> Detector:
        """The detector of a reference, kept for the next call."""
        reference = self._reference(model)
        from osv_lab.detect.reference import resolve_model

        # The alias may have moved since: what is kept is known by the file it came from.
        path = resolve_model(reference)
        if getattr(self, "_kept", (None, None))[0] != path:
            from osv_lab.detect import load_detector

            self._kept = (path, load_detector(path))
        return self._kept[1]

    def _reference(self, model: str | Path | None) -> str:
        if model is not None:
            return str(model)
        from osv_lab.train.registry import has_alias

        if not has_alias(self.name, "champion"):
            raise NotFoundError(
                "no model is deployed in this lab", f"models:/{self.name}@champion", "run lab.deploy() first"
            )
        return f"models:/{self.name}@champion"

    def _weights(self, model: str | Path | None) -> str:
        """A path or reference to export: as given, or from the newest finished run."""
        if model is not None and (str(model) not in {"best.pt", "last.pt"} or Path(model).exists()):
            return str(model)
        from osv_lab.train.trainer import latest_run

        run = latest_run(experiment=self.name)
        if run is None:
            raise NotFoundError(
                "no training run in this lab to take weights from",
                str(model or self.name),
                "run lab.train() first",
            )
        return str(run.last if str(model) == "last.pt" else run.weights)

    def _run_of(self, weights: str) -> TrainingRun | None:
        from osv_lab.train.trainer import latest_run

        run = latest_run(experiment=self.name)
        return run if run is not None and weights in {str(run.weights), str(run.last)} else None


@dataclass
class LabServer:
    """Serving for one lab: ``lab.server.run_server(port=8000)``."""

    lab: Lab
    handles: list[ServerHandle] = field(default_factory=list, repr=False)

    def run_server(
        self,
        port: int = 8000,
        host: str = "127.0.0.1",
        *,
        model: str | Path | None = None,
        block: bool | None = None,
        **options: Any,
    ) -> ServerHandle | None:
        """Serve the deployed model over HTTP.

        Args:
            port: TCP port; 0 takes a free one.
            host: Address to listen on. Loopback unless told otherwise.
            model: Another model than the deployed one.
            block: Serve until interrupted (a script's default) or in the background, returning a handle (the
                default in a notebook, whose cell would otherwise never end).
            options: As for :func:`osv_lab.serve.run.run_server`.
        """
        from osv_lab.serve.run import run_server

        if block is None:
            block = not _in_notebook()
        if block:
            run_server(self.lab._reference(model), host=host, port=port, **options)
            return None
        return self.start(port, host, model=model, **options)

    def start(
        self, port: int = 0, host: str = "127.0.0.1", *, model: str | Path | None = None, **options: Any
    ) -> ServerHandle:
        """Serve in the background; the handle has ``url`` and ``stop()``."""
        from osv_lab.serve.run import start_server

        handle = start_server(self.lab._reference(model), host=host, port=port, **options)
        self.handles.append(handle)
        return handle

    def stop(self) -> None:
        """Stop every server started in the background."""
        while self.handles:
            self.handles.pop().stop()

    def predict_batch(self, images: Sequence[Any], batch_size: int = 8, **options: Any) -> list[Prediction]:
        """Predict through HTTP on a server of this lab, one started for the call if none runs."""
        from osv_lab.serve.client import Client

        with contextlib.ExitStack() as stack:
            url = self.handles[-1].url if self.handles else stack.enter_context(self._temporary()).url
            with Client(url) as client:
                return client.predict_batch(images, batch_size=batch_size, **options)

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[ServerHandle]:
        handle = self.start()
        try:
            yield handle
        finally:
            self.handles.remove(handle)
            handle.stop()


def _in_notebook() -> bool:
    """Whether an IPython kernel (not a terminal) runs this code."""
    import sys

    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config
