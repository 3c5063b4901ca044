"""What both clients do alike: what they send, when they ask again, and what an answer means."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from osv_lab.core.errors import InvalidDataError, NotFoundError, OsvError, UnavailableError, UsageError, nearest
from osv_lab.serve.prediction import Prediction

if TYPE_CHECKING:
    import httpx

Image = str | Path | bytes | np.ndarray

_GROUP_BYTES = 64 * 2**20
"""Most base64 in one batch request; servers accept twice that unless told otherwise."""


class PredictOptions(TypedDict, total=False):
    """What may be chosen about predictions; what is left out, or ``None``, is the model's default.

    Attributes:
        confidence_threshold: Drop detections scored below this, 0 to 1.
        iou_threshold: Overlap above which only the better of two boxes is kept, 0 to 1.
        max_detections: Most detections.
        classes: Only these, by name or id.
        model: Name of the loaded model that is asked; the server's default one when left out.
    """

    confidence_threshold: float | None
    iou_threshold: float | None
    max_detections: int | None
    classes: Sequence[str | int] | None
    model: str | None


def chosen(options: PredictOptions) -> dict[str, Any]:
    """Options as a request has them.

    Raises:
        UsageError: there is no such option.
    """
    for name in options:
        if name not in PredictOptions.__annotations__:
            raise UsageError(
                "predictions have no option", repr(name), nearest(name, PredictOptions.__annotations__)
            )
    given = {name: value for name, value in options.items() if value is not None}
    if options.get("classes") is not None:
        given["classes"] = list(options["classes"] or ())
    return given


@dataclass(frozen=True, slots=True)
class Asking:
    """What both clients do alike: when to ask again, and what an answer means."""

    url: str
    retries: int
    longest_wait_s: float

    @classmethod
    def of(cls, url: str, retries: int, longest_wait_s: float) -> Asking:
        """Raises :class:`UsageError` for what is no http(s) URL, or retries below 0."""
        if not url.startswith(("http://", "https://")):
            raise UsageError("a server is asked by URL", repr(url), "write http://127.0.0.1:8000")
        if retries < 0:
            raise UsageError("retries must be at least 0", retries)
        return cls(url.rstrip("/"), retries, longest_wait_s)

    def connection(self, key: str | None, timeout_s: float) -> dict[str, Any]:
        """What an ``httpx`` client is made with."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # A server on this machine is asked directly, whatever proxy the environment names.
        return {"base_url": self.url, "headers": headers, "timeout": timeout_s, "trust_env": False}

    def wait_before_another(self, attempt: int, answer: httpx.Response | httpx.TransportError) -> float | None:
        """Seconds to wait before asking again; ``None`` where this answer is the last."""
        import httpx

        if attempt >= self.retries or isinstance(answer, httpx.TimeoutException | httpx.UnsupportedProtocol):
            return None
        # Not all at once again: up to a quarter more.
        own: float = 0.25 * 2**attempt * random.uniform(1, 1.25)
        if isinstance(answer, httpx.TransportError):
            return min(own, self.longest_wait_s)
        if answer.status_code != 503:
            return None
        said = answer.headers.get("Retry-After", "")
        wait = float(said) if said.isdecimal() else own
        return wait if wait <= self.longest_wait_s else None

    def understood(self, answer: httpx.Response | httpx.TransportError) -> dict[str, Any]:
        """The body of a success; every other answer is raised as the error it means."""
        good = self.succeeded(answer)
        return self._body(good.status_code, good.content)

    def succeeded(self, answer: httpx.Response | httpx.TransportError) -> httpx.Response:
        """A success; every other answer is raised as the error it means."""
        import httpx

        if isinstance(answer, httpx.TimeoutException):
            raise UnavailableError("the server did not answer in time", self.url, "raise timeout_s")
        if isinstance(answer, httpx.TransportError):
            raise UnavailableError("no server answers", f"{self.url} ({answer})", "start one: osv serve <model>")
        if answer.status_code != 200:
            raise self.refused(answer.status_code, answer.content)
        return answer

    def refused(self, status: int, body: bytes) -> OsvError:
        """The error that an answer other than a success means."""
        return _error(status, self._body(status, body).get("error") or {"what": f"HTTP {status}"})

    def _body(self, status: int, body: bytes) -> dict[str, Any]:
        try:
            content = json.loads(body)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise UnavailableError(
                "this is not an OpenSupervision Lab server", f"{self.url} answers {status}", "check the URL"
            )
        return content


def _error(status: int, error: Mapping[str, str]) -> OsvError:
    kinds: dict[int, type[OsvError]] = {
        401: UsageError,
        403: UsageError,
        404: NotFoundError,
        503: UnavailableError,
    }
    kind = kinds.get(status, InvalidDataError if status < 500 else UnavailableError)
    return kind(error["what"], error.get("found", ""), error.get("fix", ""))


def check_batch_size(batch_size: int) -> None:
    """Raises :class:`UsageError` for what no server takes."""
    if not 1 <= batch_size <= 64:
        raise UsageError("batch_size must lie between 1 and 64", batch_size)


def batch_body(
    group: Sequence[str | OsvError], batch_size: int, options: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The request for those images of a group that can be sent; none where there are none."""
    urls = [one for one in group if isinstance(one, str)]
    return {"images": urls, "batch_size": batch_size, **options} if urls else None


def predictions(group: Sequence[str | OsvError], answer: Mapping[str, Any]) -> list[Prediction]:
    """One prediction per image of a group, in its order."""
    results = iter(answer["results"])
    return [
        Prediction.failed(one.what, one.found, one.fix)
        if isinstance(one, OsvError)
        else Prediction.of(next(results), answer)
        for one in group
    ]


def groups(images: Sequence[Image], batch_size: int) -> Iterator[list[str | OsvError]]:
    """Images as ``image_url``, in groups that fit into one request; what cannot be read is its error."""
    group: list[str | OsvError] = []
    size = 0
    for image in images:
        one = _image_url_or_error(image)
        length = len(one) if isinstance(one, str) else 0
        if group and (len(group) == batch_size or size + length > _GROUP_BYTES):
            yield group
            group, size = [], 0
        group.append(one)
        size += length
    if group:
        yield group


def _image_url_or_error(image: Image) -> str | OsvError:
    try:
        return image_url(image)
    except OsvError as error:
        return error


def image_url(image: Image) -> str:
    """An image as ``image_url``: URLs as they are, everything else as base64; pixels go as PNG, without loss."""
    if isinstance(image, str) and image.startswith(("http://", "https://", "data:")):
        return image
    if isinstance(image, (str, Path)):
        try:
            data = Path(image).read_bytes()
        except FileNotFoundError:
            raise NotFoundError("no such image", repr(str(image)), "give a path, URL, bytes or array") from None
        except (OSError, ValueError) as error:
            raise InvalidDataError("the image cannot be read", f"{str(image)[:200]!r} ({error})") from None
    elif isinstance(image, np.ndarray):
        data = _png(image)
    else:
        data = bytes(image)
    return base64.b64encode(data).decode("ascii")


def _png(image: np.ndarray) -> bytes:
    import cv2

    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UsageError(
            "an image must be BGR uint8 (h, w, 3)", f"{image.dtype} {image.shape}", "convert it first"
        )
    done, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise InvalidDataError("the image cannot be encoded", f"{image.shape}")
    return data.tobytes()
