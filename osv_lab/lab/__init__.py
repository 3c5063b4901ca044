"""The facade: one object for one project, each method a few lines over a function of a room."""

from __future__ import annotations

from typing import Any

from osv_lab.core.progress import Progress, silent
from osv_lab.lab.annotate import AnnotateStage
from osv_lab.lab.data import DataStage
from osv_lab.lab.evaluation import EvaluationStage
from osv_lab.lab.models import ModelStage
from osv_lab.lab.picking import PickStage
from osv_lab.lab.serving import Deployment, LabServer, ServingStage
from osv_lab.lab.tracks import TrackStage
from osv_lab.lab.versions import VersionStage

__all__ = ["Deployment", "Lab", "LabServer"]


class Lab(
    DataStage, VersionStage, AnnotateStage, ModelStage, EvaluationStage, PickStage, TrackStage, ServingStage
):
    """One project: a FiftyOne dataset, its training runs, and the model it serves.

    Args:
        name: The project's name. Also the name of its dataset and of its registered model, unless told otherwise.

    Example:
        >>> lab = Lab("my_project")
        >>> lab.upload_data("./images").summary()
        "20 files of images into 'my_project': 20 added; ..."
        >>> run = lab.train("yolov8n", epochs=20)                  # doctest: +SKIP
        >>> lab.deploy("best.onnx").summary()
        'deployed models:/my_project@champion'
        >>> lab.server.run_server(port=8000)                       # doctest: +SKIP
    """

    def __init__(self, name: str, *, progress: Progress = silent) -> None:
        super().__init__(name, progress=progress)
        self.server = LabServer(self)

    def app(self, **options: Any) -> Any:
        """Open the FiftyOne App on the lab's dataset and return its session; options as for ``osv_lab.app.open_app``.

        An App that runs at the address already (``osv up`` starts one) is joined.
        """
        from osv_lab.app import open_app

        return open_app(self.dataset_name, **{"join": True, **options})
