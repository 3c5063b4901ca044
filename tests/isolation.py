"""A folder for one test session, and the environment that keeps everything in it.

Import it before anything imports FiftyOne, Ultralytics or MLflow: they read these once.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

SESSION = Path(tempfile.mkdtemp(prefix="osv-tests-"))

os.environ["OSV_HOME"] = str(SESSION / "home")
os.environ["YOLO_CONFIG_DIR"] = str(SESSION / "ultralytics")
os.environ["FIFTYONE_DATABASE_DIR"] = str(SESSION / "mongo")
os.environ["FIFTYONE_DEFAULT_DATASET_DIR"] = str(SESSION / "fiftyone")
os.environ["FIFTYONE_MODEL_ZOO_DIR"] = str(SESSION / "zoo")
os.environ["FIFTYONE_CONFIG_PATH"] = str(SESSION / "fiftyone-config.json")
os.environ["FIFTYONE_SHOW_PROGRESS_BARS"] = "false"
for _elsewhere in ("MLFLOW_TRACKING_URI", "FIFTYONE_DATABASE_URI"):
    os.environ.pop(_elsewhere, None)
