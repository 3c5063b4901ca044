"""The pipeline behind LitServe, whose workers are spawned and so need the class in a module."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import litserve

sys.path.insert(0, str(Path(__file__).parent))

from servers import pipeline


class Api(litserve.LitAPI):  # type: ignore[misc]
    """JSON with base64 in, predictions out."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self.model = model

    def setup(self, device: str) -> None:
        self.run = pipeline(self.model, threads=1)

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe would look the type up
        return base64.b64decode(request["image_url"])

    def predict(self, data: bytes) -> list[Any]:
        return list(self.run(data))

    def encode_response(self, output: list[Any]) -> dict[str, Any]:
        return {"predictions": output}
