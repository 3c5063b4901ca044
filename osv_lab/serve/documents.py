"""The shapes of answers, and of requests that change what is served.

Only the OpenAPI document and the routes behind the framework need them; what predicts starts without.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class LoadRequest(BaseModel):
    """A model to load beside the others."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"ref": "next.onnx", "name": "next"}]}
    )

    ref: str = Field(min_length=1, max_length=1000, description="One of ``available`` in /models.")
    name: str = Field(
        min_length=1,
        max_length=64,
        description="What requests call it: letters, digits, dots and dashes.",
        json_schema_extra={"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$"},
    )


class SwapRequest(BaseModel):
    """A model to put in another's place."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"ref": "next.onnx"}]})

    ref: str | None = Field(
        default=None,
        min_length=1,
        max_length=1000,
        description="One of ``available`` in /models; when absent its own reference is loaded again, which an "
        "alias may have moved from.",
    )
    name: str | None = Field(default=None, max_length=64, description="Which one; the default one when absent.")


class UnloadRequest(BaseModel):
    """A model to forget."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "next"}]})

    name: str = Field(min_length=1, max_length=64)


class ChangeAnswer(BaseModel):
    """The model that answers from now on."""

    name: str
    model: ModelName


class Corner(BaseModel):
    """A point in pixels of the upright image."""

    x: float
    y: float


class Keypoint(Corner):
    """A point of an object and how sure the model is of it, 0 to 1."""

    confidence: float


class BoxCorners(BaseModel):
    """A box in pixels of the upright image: ``x1, y1`` top left, ``x2, y2`` bottom right."""

    x1: float
    y1: float
    x2: float
    y2: float


class Detection(BaseModel):
    """One object."""

    model_config = ConfigDict(populate_by_name=True)

    class_name: str = Field(alias="class")
    class_id: int
    confidence: float
    box: BoxCorners
    points: list[Corner] | None = Field(default=None, description="Outline, of a segmentation model.")
    keypoints: list[Keypoint] | None = Field(default=None, description="Of a pose model.")
    corners: list[Corner] | None = Field(default=None, description="Rotated rectangle, of an oriented-box model.")


class ImageSize(BaseModel):
    """Size of the upright image in pixels."""

    width: int
    height: int


class ModelName(BaseModel):
    """Which model answered: its reference, task, and the SHA-256 of its file."""

    ref: str
    task: str
    digest: str | None = None


class ErrorDetail(BaseModel):
    """What was wrong, what was found, what to do about it."""

    what: str
    found: str
    fix: str


class ErrorAnswer(BaseModel):
    """The body of every answer that is not a success."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "what": "the image is too large",
                        "found": "12000 x 12000 = 144,000,000 pixels, the limit is 40,000,000",
                        "fix": "make it smaller, or raise max_pixels",
                    }
                }
            ]
        }
    )
    error: ErrorDetail


_EXAMPLE: dict[str, Any] = {
    "model": {"ref": "models:/parts@champion", "task": "detect", "digest": "9f86d081884c7d65"},
    "image": {"width": 640, "height": 480},
    "predictions": [
        {
            "class": "washer",
            "class_id": 0,
            "confidence": 0.91,
            "box": {"x1": 12.0, "y1": 30.5, "x2": 96.0, "y2": 118.25},
        }
    ],
    "timing_ms": {"read": 0.4, "decode": 1.9, "predict": 21.3, "total": 24.0},
}


class PredictAnswer(BaseModel):
    """What was found in one image, most confident first."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    model: ModelName
    image: ImageSize
    predictions: list[Detection]
    timing_ms: dict[str, float]


class BatchItem(BaseModel):
    """One image of a batch: its predictions, or why it has none."""

    index: int
    image: ImageSize | None = None
    predictions: list[Detection] | None = None
    error: ErrorDetail | None = None


class BatchAnswer(BaseModel):
    """One result per image, in the order of the request."""

    model: ModelName
    results: list[BatchItem]
    timing_ms: dict[str, float]


class DriftBin(BaseModel):
    """The bin of a feature that moved most, and its share of the values."""

    bin: str
    reference: float
    now: float


class DriftFeature(BaseModel):
    """How far one feature has moved."""

    feature: str
    psi: float = Field(description="Population stability index: below 0.1 nothing changed, above 0.25 much did.")
    by_chance: float | None = Field(description="What it exceeds once in a thousand where nothing changed.")
    state: str = Field(description="drifted, changed, stable, or too few images.")
    images: int
    reference_images: int
    moved_most: DriftBin


class ModelDrift(BaseModel):
    """The newest answers of one model against its reference."""

    model: str
    digest: str
    dataset: str
    split: str
    images: int
    window: int
    min_images: int
    drifted: list[str]
    features: list[DriftFeature]


class DriftAnswer(BaseModel):
    """The models that have a drift reference and have answered."""

    models: list[ModelDrift]
