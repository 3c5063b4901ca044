"""The shapes of requests for predictions.

Names follow what users of Roboflow and Ultralytics read every day.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from osv_lab.core.errors import nearest
from osv_lab.serve.errors import RequestError, shortened
from osv_lab.serve.inputs import check_json
from osv_lab.serve.served import Thresholds

# One blue pixel, as an image that a reader of the documentation can send.
_PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9"
    "awAAAABJRU5ErkJggg=="
)

OptionsKind = TypeVar("OptionsKind", bound="Options")
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 300.0 is a whole one, as 300 is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]


class Options(BaseModel):
    """What may be chosen about predictions: JSON keys, form fields or query parameters of these names.

    A model whose sidecar holds thresholds has those where a request names none.
    """

    model_config = ConfigDict(extra="forbid")

    confidence_threshold: Share = Field(default=0.25, description="Drop detections scored below this, 0 to 1.")
    iou_threshold: Share = Field(
        default=0.7, description="Of two boxes of one class that overlap by more than this, keep the better."
    )
    max_detections: Whole = Field(default=300, ge=1, le=10_000, description="Most detections in one image.")
    classes: list[str | Whole] | None = Field(
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

    image_url: str = Field(
        min_length=1, description="An http(s) URL, a data URI (data:image/jpeg;base64,...), or bare base64."
    )


class BatchRequest(Options):
    """Several images, looked at alike."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"images": [_PIXEL, _PIXEL], "confidence_threshold": 0.5}]},
    )

    images: list[str] = Field(min_length=1, description="Each as image_url of /predict.")
    batch_size: Whole = Field(
        default=8, ge=1, le=64, description="Most images that go through the model together."
    )


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
