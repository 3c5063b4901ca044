"""Where the lab keeps its things. Read from the environment when asked, never at import."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

SEED = 51
"""The seed that every random choice of the library starts from unless told otherwise."""

SPLITS = ("train", "val", "test")
"""The names of the splits. In the store a split is a sample tag."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Folders and addresses of one lab.

    Attributes:
        home: The lab's folder (``OSV_HOME``, default ``~/.osv_lab``). Media that the lab had to copy,
            training runs, the MLflow database and the server's model cache live under it.
        tracking_uri: MLflow's tracking and registry address (``MLFLOW_TRACKING_URI``, default an SQLite file
            under ``home``).
        import_roots: Folders besides the lab's own that a form in the App may read from (``OSV_IMPORT_ROOTS``,
            separated as ``PATH`` is). None by default.
    """

    home: Path
    tracking_uri: str
    import_roots: tuple[Path, ...] = ()

    @property
    def media_dir(self) -> Path:
        """Media the lab had to copy: zip contents, names that are not UTF-8."""
        return self.home / "media"

    @property
    def runs_dir(self) -> Path:
        """Training runs, one folder each."""
        return self.home / "runs"

    @property
    def artifacts_dir(self) -> Path:
        """MLflow's artifacts, when its store is the lab's own SQLite file."""
        return self.home / "mlartifacts"

    @property
    def captures_dir(self) -> Path:
        """Images that a server captured, until the store has them."""
        return self.home / "captures"

    @property
    def models_dir(self) -> Path:
        """Exported and downloaded models."""
        return self.home / "models"

    @property
    def exports_dir(self) -> Path:
        """Datasets that forms in the App wrote out."""
        return self.home / "exports"

    @property
    def jobs_dir(self) -> Path:
        """Logs of jobs."""
        return self.home / "jobs"


def load_settings() -> Settings:
    """The settings as the environment has them now."""
    home = Path(os.environ.get("OSV_HOME") or Path.home() / ".osv_lab").expanduser().resolve()
    tracking_uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"
    roots = filter(None, os.environ.get("OSV_IMPORT_ROOTS", "").split(os.pathsep))
    return Settings(home, tracking_uri, tuple(Path(root).expanduser().resolve() for root in roots))
