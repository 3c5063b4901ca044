"""What every stage of a lab stands on: its name, its dataset, and which model is meant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import NotFoundError, UsageError
from osv_lab.core.progress import Progress, silent

if TYPE_CHECKING:
    from osv_lab.detect.detector import Detector
    from osv_lab.train.trainer import TrainingRun


class LabBase:
    """A lab's name, dataset and progress; the stages are mixed in beside it."""

    def __init__(self, name: str, *, progress: Progress = silent) -> None:
        if not name or not name.strip():
            raise UsageError("a lab needs a name", repr(name), 'try Lab("my_project")')
        self.name = name
        self.dataset_name = name
        self.progress = progress

    def __repr__(self) -> str:
        return f"Lab({self.name!r}, dataset={self.dataset_name!r})"

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

    def detector(self, model: str | Path | None = None, **options: Any) -> Detector:
        """A detector by reference; by default the deployed one (``models:/<name>@champion``)."""
        from osv_lab.detect import load_detector

        return load_detector(self._reference(model), **options)

    def latest_run(self) -> TrainingRun | None:
        """The lab's newest finished training run, or ``None``."""
        from osv_lab.train.run import latest_run

        return latest_run(self.name)

    def _version(self, name: str) -> str:
        return name if "@" in name else f"{self.dataset_name}@{name}"

    def _exists(self) -> bool:
        from osv_lab.store.catalogue import dataset_exists

        return dataset_exists(self.dataset_name)

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
        run = self.latest_run()
        if run is None:
            raise NotFoundError(
                "no training run in this lab to take weights from",
                str(model or self.name),
                "run lab.train() first",
            )
        return str(run.last if str(model) == "last.pt" else run.weights)

    def _run_of(self, weights: str) -> TrainingRun | None:
        run = self.latest_run()
        return run if run is not None and weights in {str(run.weights), str(run.last)} else None
