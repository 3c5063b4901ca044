"""The pipeline behind mosec, whose workers are spawned and so need the class in a module."""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path
from typing import Any

import mosec

sys.path.insert(0, str(Path(__file__).parent))

from servers import pipeline

MODEL = "BENCHMARK_MODEL"
"""Environment variable with the model's path: mosec makes the workers itself, without arguments."""


class Predict(mosec.Worker):  # type: ignore[misc]
    """JSON with base64 in, predictions out."""

    def __init__(self) -> None:
        super().__init__()
        self.run = pipeline(os.environ[MODEL], threads=1)

    def forward(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"predictions": self.run(base64.b64decode(data["image_url"]))}
