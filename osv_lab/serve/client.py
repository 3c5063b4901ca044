"""Asking a server from Python, one call after the other or many at once.

Example:
    >>> with Client("http://127.0.0.1:8000") as client:                       # doctest: +SKIP
    ...     found = client.predict("photo.jpg", confidence_threshold=0.5)
    ...     detections = found.to_supervision()
    >>> async with AsyncClient("http://127.0.0.1:8000") as client:            # doctest: +SKIP
    ...     found = await asyncio.gather(*map(client.predict, photos))
"""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import (
    InvalidDataError,
    NotFoundError,
    OsvError,
    UnavailableError,
    UsageError,
    require_extra,
)
from osv_lab.core.report import Report

if TYPE_CHECKING:
    import httpx
    import supervision as sv


_GROUP_BYTES = 64 * 2**20
"""Most base64 in one batch request; servers accept twice that unless told otherwise."""


@dataclass(frozen=True)
class Prediction(Report):
    """What the server found in one image.

    Attributes:
        predictions: One mapping per object: ``class``, ``class_id``, ``confidence``, ``box`` (``x1 y1 x2 y2`` in
            pixels), and ``points``, ``keypoints`` or ``corners`` where the model gives them.
        width: Of the upright image, in pixels; 0 where there is an error.
        height: Likewise.
        model: ``ref``, ``task`` and ``digest`` of the model that answered.
        timing_ms: What the server spent its time on.
        error: Why this image of a batch has no predictions (``what``, ``found``, ``fix``), else ``None``.
    """

    predictions: tuple[Mapping[str, Any], ...]
    width: int
    height: int
    model: Mapping[str, Any] = field(default_factory=dict)
    timing_ms: Mapping[str, float] = field(default_factory=dict)
    error: Mapping[str, str] | None = None

    def __len__(self) -> int:
        return len(self.predictions)

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per object."""
        return [{"class": one["class"], "confidence": one["confidence"], **one["box"]} for one in self.predictions]

    def summary(self) -> str:
        """How many objects, or what went wrong."""
        if self.error is not None:
            return f"no predictions: {self.error['what']}: {self.error['found']}"
        return f"{len(self)} objects in an image of {self.width} x {self.height}"

    def to_supervision(self) -> sv.Detections:
        """The boxes as ``supervision.Detections``, with ``data["class_name"]``, keypoints and oriented corners.

        Raises:
            InvalidDataError: the image had an error instead of predictions.
        """
        import supervision as sv

        if self.error is not None:
            raise InvalidDataError(self.error["what"], self.error["found"], self.error["fix"])
        boxes = [[one["box"][name] for name in ("x1", "y1", "x2", "y2")] for one in self.predictions]
        data: dict[str, Any] = {"class_name": np.array([one["class"] for one in self.predictions], dtype=str)}
        for name, key, axes in (
            ("keypoints", "keypoints", ("x", "y", "confidence")),
            ("corners", "xyxyxyxy", ("x", "y")),
        ):
            if self.predictions and all(one.get(name) for one in self.predictions):
                points = [[[point[axis] for axis in axes] for point in one[name]] for one in self.predictions]
                data[key] = np.array(points, np.float32)
        return sv.Detections(
            xyxy=np.array(boxes, np.float32).reshape(-1, 4),
            confidence=np.array([one["confidence"] for one in self.predictions], np.float32),
            class_id=np.array([one["class_id"] for one in self.predictions], int),
            data=data,
        )


class Client:
    """A connection to one server, kept open between requests; usable as a context manager.

    A prediction changes nothing on the server, so it is asked again where the server said that it is busy (503) or
    the connection failed: after the seconds of ``Retry-After``, else after a quarter of a second and twice as long
    each time. Whatever else a server says is final.

    Args:
        url: Where the server is, as ``http://127.0.0.1:8000``.
        key: Its bearer key, if it wants one.
        timeout_s: Longest wait for an answer.
        retries: How many times more to ask.
        longest_wait_s: Where a server wants to be left alone for longer than this, it is not asked again.

    Raises:
        UsageError: ``url`` is no http(s) URL, or ``retries`` is below 0.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout_s: float = 60.0,
        retries: int = 3,
        longest_wait_s: float = 10.0,
    ) -> None:
        httpx = _httpx()
        self._asking = _Asking.of(url, retries, longest_wait_s)
        self.url = self._asking.url
        self._http = httpx.Client(**self._asking.options(key, timeout_s))

    def predict(
        self,
        image: str | Path | bytes | np.ndarray,
        *,
        confidence_threshold: float | None = None,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
        classes: Sequence[str | int] | None = None,
    ) -> Prediction:
        """Find objects in one image.

        Args:
            image: A path, an http(s) URL or data URI, an encoded image's bytes, or BGR uint8 pixels ``(h, w, 3)``.
            confidence_threshold: Drop detections scored below this; the server's default when ``None``.
            iou_threshold: Overlap above which only the better of two boxes is kept.
            max_detections: Most detections.
            classes: Only these, by name or id.

        Raises:
            NotFoundError: no such file.
            InvalidDataError: the server refuses the image or the request, and says why.
            UsageError: the key is missing or wrong.
            UnavailableError: no server there, or it is busy.
        """
        options = _options(confidence_threshold, iou_threshold, max_detections, classes)
        body = {"image_url": _image_url(image), **options}
        answer = self._ask("POST", "/predict", body)
        return _prediction(answer, answer)

    def predict_batch(
        self,
        images: Sequence[str | Path | bytes | np.ndarray],
        batch_size: int = 8,
        *,
        confidence_threshold: float | None = None,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
        classes: Sequence[str | int] | None = None,
    ) -> list[Prediction]:
        """Find objects in many images: one :class:`Prediction` each, in order; a bad image has its ``error`` set.

        Args:
            images: As for :meth:`predict`.
            batch_size: Images per request and per run of the model, 1 to 64.

        Raises:
            UsageError, UnavailableError, InvalidDataError: as for :meth:`predict`, where the whole request failed.
        """
        _check_batch_size(batch_size)
        options = _options(confidence_threshold, iou_threshold, max_detections, classes)
        return [
            one for group in _groups(images, batch_size) for one in self._one_group(group, batch_size, options)
        ]

    def health(self) -> bool:
        """Whether the server is alive and ready for predictions."""
        import httpx

        try:
            return bool(self._http.get("/ready").status_code == 200)
        except httpx.TransportError:
            return False

    def models(self) -> list[dict[str, Any]]:
        """What the server serves: reference, classes, provider, input size, digest."""
        listed: list[dict[str, Any]] = self._ask("GET", "/models")["models"]
        return listed

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _one_group(
        self, group: Sequence[str | OsvError], batch_size: int, options: Mapping[str, Any]
    ) -> list[Prediction]:
        body = _batch_body(group, batch_size, options)
        return _predictions(group, self._ask("POST", "/predict/batch", body) if body else {"results": []})

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        import httpx

        for attempt in range(self._asking.retries + 1):
            answer: httpx.Response | httpx.TransportError
            try:
                answer = self._http.request(method, path, json=body)
            except httpx.TransportError as error:
                answer = error
            wait = self._asking.wait_before_another(attempt, answer)
            if wait is None:
                break
            time.sleep(wait)
        return self._asking.understood(answer)


class AsyncClient:
    """:class:`Client` for asyncio: the same arguments, errors and answers; calls may run at the same time.

    Args:
        url: Where the server is, as ``http://127.0.0.1:8000``.
        key: Its bearer key, if it wants one.
        timeout_s: Longest wait for an answer.
        retries: How many times more to ask where the server is busy or the connection failed.
        longest_wait_s: Where a server wants to be left alone for longer than this, it is not asked again.

    Raises:
        UsageError: ``url`` is no http(s) URL, or ``retries`` is below 0.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout_s: float = 60.0,
        retries: int = 3,
        longest_wait_s: float = 10.0,
    ) -> None:
        httpx = _httpx()
        self._asking = _Asking.of(url, retries, longest_wait_s)
        self.url = self._asking.url
        self._http = httpx.AsyncClient(**self._asking.options(key, timeout_s))

    async def predict(
        self,
        image: str | Path | bytes | np.ndarray,
        *,
        confidence_threshold: float | None = None,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
        classes: Sequence[str | int] | None = None,
    ) -> Prediction:
        """As :meth:`Client.predict`."""
        options = _options(confidence_threshold, iou_threshold, max_detections, classes)
        body = {"image_url": await asyncio.to_thread(_image_url, image), **options}
        answer = await self._ask("POST", "/predict", body)
        return _prediction(answer, answer)

    async def predict_batch(
        self,
        images: Sequence[str | Path | bytes | np.ndarray],
        batch_size: int = 8,
        *,
        confidence_threshold: float | None = None,
        iou_threshold: float | None = None,
        max_detections: int | None = None,
        classes: Sequence[str | int] | None = None,
    ) -> list[Prediction]:
        """As :meth:`Client.predict_batch`; one request after the other, so that it never holds more than two."""
        _check_batch_size(batch_size)
        options = _options(confidence_threshold, iou_threshold, max_detections, classes)
        groups = _groups(images, batch_size)
        found: list[Prediction] = []
        while (group := await asyncio.to_thread(next, groups, None)) is not None:
            body = _batch_body(group, batch_size, options)
            answer = await self._ask("POST", "/predict/batch", body) if body else {"results": []}
            found += _predictions(group, answer)
        return found

    async def health(self) -> bool:
        """Whether the server is alive and ready for predictions."""
        import httpx

        try:
            return bool((await self._http.get("/ready")).status_code == 200)
        except httpx.TransportError:
            return False

    async def models(self) -> list[dict[str, Any]]:
        """As :meth:`Client.models`."""
        listed: list[dict[str, Any]] = (await self._ask("GET", "/models"))["models"]
        return listed

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        import httpx

        for attempt in range(self._asking.retries + 1):
            answer: httpx.Response | httpx.TransportError
            try:
                answer = await self._http.request(method, path, json=body)
            except httpx.TransportError as error:
                answer = error
            wait = self._asking.wait_before_another(attempt, answer)
            if wait is None:
                break
            await asyncio.sleep(wait)
        return self._asking.understood(answer)


@dataclass(frozen=True, slots=True)
class _Asking:
    """What both clients do alike: when to ask again, and what an answer means."""

    url: str
    retries: int
    longest_wait_s: float

    @classmethod
    def of(cls, url: str, retries: int, longest_wait_s: float) -> _Asking:
        if not url.startswith(("http://", "https://")):
            raise UsageError("a server is asked by URL", repr(url), "write http://127.0.0.1:8000")
        if retries < 0:
            raise UsageError("retries must be at least 0", retries)
        return cls(url.rstrip("/"), retries, longest_wait_s)

    def options(self, key: str | None, timeout_s: float) -> dict[str, Any]:
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
        import httpx

        if isinstance(answer, httpx.TimeoutException):
            raise UnavailableError("the server did not answer in time", self.url, "raise timeout_s")
        if isinstance(answer, httpx.TransportError):
            raise UnavailableError("no server answers", f"{self.url} ({answer})", "start one: osv serve <model>")
        try:
            body: dict[str, Any] = answer.json()
        except ValueError:
            raise UnavailableError(
                "this is not an OpenSupervision Lab server",
                f"{self.url} answers {answer.status_code}",
                "check the URL",
            ) from None
        if answer.status_code == 200:
            return body
        raise _error(answer.status_code, body.get("error") or {"what": f"HTTP {answer.status_code}"})


def _httpx() -> Any:
    try:
        import httpx
    except ModuleNotFoundError:
        raise require_extra("httpx", "server") from None
    return httpx


def _check_batch_size(batch_size: int) -> None:
    if not 1 <= batch_size <= 64:
        raise UsageError("batch_size must lie between 1 and 64", batch_size)


def _batch_body(
    group: Sequence[str | OsvError], batch_size: int, options: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The request for those images of a group that can be sent; none where there are none."""
    urls = [one for one in group if isinstance(one, str)]
    return {"images": urls, "batch_size": batch_size, **options} if urls else None


def _predictions(group: Sequence[str | OsvError], answer: Mapping[str, Any]) -> list[Prediction]:
    """One prediction per image of a group, in its order."""
    results = iter(answer["results"])
    return [
        _failed(one.what, one.found, one.fix) if isinstance(one, OsvError) else _prediction(next(results), answer)
        for one in group
    ]


def _error(status: int, error: Mapping[str, str]) -> OsvError:
    kinds: dict[int, type[OsvError]] = {
        401: UsageError,
        403: UsageError,
        404: NotFoundError,
        503: UnavailableError,
    }
    kind = kinds.get(status, InvalidDataError if status < 500 else UnavailableError)
    return kind(error["what"], error.get("found", ""), error.get("fix", ""))


def _prediction(result: Mapping[str, Any], answer: Mapping[str, Any]) -> Prediction:
    if error := result.get("error"):
        return _failed(error["what"], error["found"], error["fix"])
    size = result["image"]
    return Prediction(
        tuple(result["predictions"]), size["width"], size["height"], answer["model"], answer["timing_ms"]
    )


def _failed(what: str, found: str, fix: str) -> Prediction:
    return Prediction((), 0, 0, error={"what": what, "found": found, "fix": fix})


def _options(
    confidence_threshold: float | None,
    iou_threshold: float | None,
    max_detections: int | None,
    classes: Sequence[str | int] | None,
) -> dict[str, Any]:
    given = {
        "confidence_threshold": confidence_threshold,
        "iou_threshold": iou_threshold,
        "max_detections": max_detections,
        "classes": None if classes is None else list(classes),
    }
    return {name: value for name, value in given.items() if value is not None}


def _groups(images: Sequence[str | Path | bytes | np.ndarray], batch_size: int) -> Iterator[list[str | OsvError]]:
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


def _image_url_or_error(image: str | Path | bytes | np.ndarray) -> str | OsvError:
    try:
        return _image_url(image)
    except OsvError as error:
        return error


def _image_url(image: str | Path | bytes | np.ndarray) -> str:
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
