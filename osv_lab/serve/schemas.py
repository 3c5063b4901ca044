"""The shapes of requests and answers. Names follow what users of Roboflow and Ultralytics read every day."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from osv_lab.core.errors import OsvError, nearest
from osv_lab.serve.errors import RequestError, error_body, shortened
from osv_lab.serve.inputs import check_json
from osv_lab.serve.slot import Thresholds

if TYPE_CHECKING:
    import numpy as np
    import supervision as sv

    from osv_lab.detect.detector import Found

# One blue pixel, as an image that a reader of the documentation can send.
_PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9"
    "awAAAABJRU5ErkJggg=="
)

OptionsKind = TypeVar("OptionsKind", bound="Options")
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Options(BaseModel):
    """What may be chosen about predictions: JSON keys, form fields or query parameters of these names.

    A model whose sidecar holds thresholds has those where a request names none.
    """

    model_config = ConfigDict(extra="forbid")

    confidence_threshold: Share = Field(default=0.25, description="Drop detections scored below this, 0 to 1.")
    iou_threshold: Share = Field(
        default=0.7, description="Of two boxes of one class that overlap by more than this, keep the better."
    )
    max_detections: int = Field(default=300, ge=1, le=10_000, description="Most detections in one image.")
    classes: list[str | int] | None = Field(
        default=None, max_length=10_000, description="Keep only these classes, by name or id. All when absent."
    )

    model: str | None = Field(
        default=None,
        max_length=64,
        description="Name of the loaded model that answers; the default one when absent.",
    )

    def thresholds(self, defaults: Thresholds | None = None) -> Thresholds:
        """The same, as a model takes it; what the request does not name is ``defaults``'."""
        own, given = defaults or Thresholds(), self.model_fields_set
        return Thresholds(
            self.confidence_threshold if "confidence_threshold" in given else own.confidence,
            self.iou_threshold if "iou_threshold" in given else own.iou,
            self.max_detections if "max_detections" in given else own.max_detections,
            None if self.classes is None else tuple(self.classes),
        )


class OneImageOptions(Options):
    """What may be chosen about the predictions of one image, and what they come as."""

    format: Literal["json", "image"] = Field(
        default="json",
        description="What the answer is: 'json', or the 'image' with what was found drawn onto it: JPEG, or PNG where "
        "the Accept header says image/png. Without this field the Accept header decides.",
    )


Asked = TypeVar("Asked", bound=Options)


class PredictRequest(OneImageOptions):
    """One image and how to look at it."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"image_url": _PIXEL, "confidence_threshold": 0.5}]}
    )

    image_url: str = Field(description="An http(s) URL, a data URI (data:image/jpeg;base64,...), or bare base64.")


class BatchRequest(Options):
    """Several images, looked at alike."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"images": [_PIXEL, _PIXEL], "confidence_threshold": 0.5}]},
    )

    images: list[str] = Field(min_length=1, description="Each as image_url of /predict.")
    batch_size: int = Field(default=8, ge=1, le=64, description="Most images that go through the model together.")


class LoadRequest(BaseModel):
    """A model to load beside the others."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"ref": "next.onnx", "name": "next"}]}
    )

    ref: str = Field(min_length=1, max_length=1000, description="One of ``available`` in /models.")
    name: str = Field(min_length=1, max_length=64, description="What requests call it.")


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


def parse_json(kind: type[BaseModel], body: bytes) -> Any:
    """A JSON body as a request model; a number in quotes is not a number.

    Raises:
        RequestError: 400 for what is not JSON, 422 for what is not such a request.
    """
    check_json(body)
    try:
        return kind.model_validate_json(body or b"null", strict=True)
    except ValidationError as error:
        raise _explained(kind, error) from None


def parse_fields(fields: Mapping[str, list[str]], kind: type[OptionsKind]) -> OptionsKind:
    """Form fields or query parameters as options of a kind; ``classes`` may be repeated or separated by commas.

    Raises:
        RequestError: 422, naming the field.
    """
    values: dict[str, Any] = {name: texts[-1] for name, texts in fields.items()}
    if "classes" in fields:
        names = [name.strip() for text in fields["classes"] for name in text.split(",") if name.strip()]
        values["classes"] = [int(name) if name.isdecimal() and len(name) < 10 else name for name in names]
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise _explained(kind, error) from None


def with_query(request: Asked, query: Mapping[str, list[str]], kind: type[Options]) -> Asked:
    """A JSON request with the options of its query, which are of a kind; what stands in both, the body says.

    Raises:
        RequestError: 422, naming the query parameter.
    """
    if not query:
        return request
    asked = parse_fields(query, kind)
    further = asked.model_fields_set - request.model_fields_set
    return request.model_copy(update={name: getattr(asked, name) for name in further})


def detections_json(detections: sv.Detections | Found) -> list[dict[str, Any]]:
    """Detections as the ``predictions`` of an answer: plain values, pixels to a hundredth, scores to four places."""
    names = detections.data.get("class_name")
    keypoints, corners = detections.data.get("keypoints"), detections.data.get("xyxyxyxy")
    found = []
    for index, (x1, y1, x2, y2) in enumerate(_plain(detections.xyxy, decimals=2)):
        class_id = int(detections.class_id[index]) if detections.class_id is not None else -1
        score = float(detections.confidence[index]) if detections.confidence is not None else 1.0
        one: dict[str, Any] = {
            "class": str(names[index]) if names is not None else str(class_id),
            "class_id": class_id,
            "confidence": round(score, 4),
            "box": {"x1": x1, "y1": y1, "x2": x2, "y2": y2},
        }
        if detections.mask is not None:
            one["points"] = _outline(detections.mask[index])
        if keypoints is not None:
            one["keypoints"] = [
                {"x": x, "y": y, "confidence": c} for x, y, c in _plain(keypoints[index], decimals=3)
            ]
        if corners is not None:
            one["corners"] = [{"x": x, "y": y} for x, y in _plain(corners[index], decimals=2)]
        found.append(one)
    return found


def item_json(index: int, image: np.ndarray | None, outcome: sv.Detections | Found | OsvError) -> dict[str, Any]:
    """One result of a batch."""
    if isinstance(outcome, OsvError):
        return {"index": index, **error_body(outcome)}
    assert image is not None
    return {"index": index, "image": size_json(image), "predictions": detections_json(outcome)}


def size_json(image: np.ndarray) -> dict[str, int]:
    """Width and height of an image ``(h, w, 3)``."""
    return {"width": int(image.shape[1]), "height": int(image.shape[0])}


def _plain(points: np.ndarray, decimals: int) -> list[list[float]]:
    import numpy as np

    rounded: list[list[float]] = np.nan_to_num(points.astype(float)).round(decimals).tolist()
    return rounded


def _outline(mask: np.ndarray) -> list[dict[str, float]]:
    """The outline of the largest piece of a mask."""
    import cv2
    import numpy as np

    pieces, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1)
    if not pieces:
        return []
    return [{"x": float(x), "y": float(y)} for x, y in max(pieces, key=cv2.contourArea)[:, 0].tolist()]


def _explained(kind: type[BaseModel], error: ValidationError) -> RequestError:
    """The first thing wrong with a request, in our words where they are clearer."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(step) for step in first["loc"])
    if first["type"] == "json_invalid":
        return RequestError(
            400, "the body is not JSON", first["msg"], "check quotes, commas and the character set"
        )
    if first["type"] == "extra_forbidden":
        return RequestError(
            422, "the request has an unknown field", where, nearest(shortened(where, 40), kind.model_fields)
        )
    if first["type"] == "missing":
        return RequestError(422, f"the request has no {where}", "", f"add {where}; see /docs")
    if not where:
        return RequestError(422, "the body is not a JSON object", first["msg"], "see /docs for an example")
    return RequestError(422, f"{where} cannot be used", f"{first['input']!r}", first["msg"])
