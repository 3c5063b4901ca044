"""Training, predicting, evaluating."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import UsageError
from osv_lab.lab.base import LabBase

if TYPE_CHECKING:
    import numpy as np
    import supervision as sv

    from osv_lab.detect.confidence import AnyConfidence
    from osv_lab.detect.detector import Detector
    from osv_lab.evaluate.detection import EvaluationReport
    from osv_lab.store.predict import PredictReport
    from osv_lab.train.trainer import TrainingRun
    from osv_lab.train.tune_report import TuningReport


class ModelStage(LabBase):
    """Make models and try them."""

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

    def tune(
        self,
        space: Mapping[str, Any],
        n_trials: int = 20,
        objectives: Sequence[str] = ("accuracy", "latency"),
        *,
        version: str | None = None,
        name: str | None = None,
        gt_field: str = "ground_truth",
        **settings: Any,
    ) -> TuningReport:
        """Search recipe settings on the lab's dataset; the same call again goes on with a stopped tuning.

        Args:
            space: What varies, by recipe setting; see :func:`osv_lab.train.tune.tune`, as for the next two.
            n_trials: Trials in all.
            objectives: What to tune for.
            version: Tune on this frozen version.
            name: The tuning's name.
            gt_field: The label field.
            settings: The :class:`~osv_lab.train.recipe.Recipe` that every trial starts from; "yolo11n" by default.
        """
        from osv_lab.train.recipe import Recipe
        from osv_lab.train.tune import tune

        return tune(
            self._version(version) if version else self.dataset,
            Recipe.from_dict({"model": "yolo11n", **settings}),
            space,
            n_trials,
            objectives,
            name=name,
            gt_field=gt_field,
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

    def predict_batch(
        self,
        images: Sequence[np.ndarray | str | Path],
        batch_size: int = 8,
        *,
        model: str | Path | None = None,
        confidence: AnyConfidence | None = None,
        iou: float = 0.7,
    ) -> list[sv.Detections]:
        """Detections of images in their order, by the deployed model.

        Args:
            images: BGR uint8 arrays ``(h, w, 3)``, or paths.
            batch_size: Images per run of the network.
            model: Another model than the deployed one.
            confidence: Lowest score kept, 0 to 1; one for all classes or one per class name. By default the model's own
                thresholds where it has some, as on a server, else 0.25.
            iou: Overlap above which the weaker of two boxes of a class is dropped, 0 to 1.

        Returns:
            One ``supervision.Detections`` per image.
        """
        from osv_lab.detect.confidence import resolved
        from osv_lab.detect.images import read_image

        if batch_size < 1:
            raise UsageError("batch_size must be at least 1", batch_size)
        detector = self._loaded(model)
        limits = resolved(confidence, detector)
        found: list[sv.Detections] = []
        for start in range(0, len(images), batch_size):
            batch = [
                read_image(i) if isinstance(i, (str, Path)) else i for i in images[start : start + batch_size]
            ]
            found += detector.predict(batch, confidence=limits, iou=iou)
            self.progress("predict", len(found), len(images))
        return found

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
