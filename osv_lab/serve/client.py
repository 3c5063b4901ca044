"""Asking a server from Python, one call after the other or many at once.

Example:
    >>> with Client(server.url) as client:
    ...     found = client.predict("photo.jpg", confidence_threshold=0.5)
    >>> found.to_supervision().data["class_name"].tolist()
    ['RBC', 'WBC']
    >>> async def ask(photos):
    ...     async with AsyncClient(server.url) as client:
    ...         return await asyncio.gather(*map(client.predict, photos))
    >>> [len(found.predictions) for found in asyncio.run(ask(["photo.jpg", "photo.jpg"]))]
    [2, 2]
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from osv_lab.core.errors import require_extra
from osv_lab.serve.asking import (
    Asking,
    Image,
    PredictOptions,
    batch_body,
    check_batch_size,
    chosen,
    groups,
    image_url,
    predictions,
)
from osv_lab.serve.prediction import Prediction
from osv_lab.serve.streaming import Frame, StreamOptions, astream, stream

if TYPE_CHECKING:
    import httpx

__all__ = ["AsyncClient", "Client", "Prediction"]


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
        self._asking = Asking.of(url, retries, longest_wait_s)
        self.url = self._asking.url
        self._key, self._timeout_s = key, timeout_s
        self._http = httpx.Client(**self._asking.connection(key, timeout_s))

    def predict(
        self,
        image: Image,
        **options: Unpack[PredictOptions],
    ) -> Prediction:
        """Find objects in one image.

        Args:
            image: A path, an http(s) URL or data URI, an encoded image's bytes, or BGR uint8 pixels ``(h, w, 3)``.
            **options: See :class:`~osv_lab.serve.asking.PredictOptions`.

        Raises:
            NotFoundError: no such file.
            InvalidDataError: the server refuses the image or the request, and says why.
            UsageError: the key is missing or wrong.
            UnavailableError: no server there, or it is busy.
        """
        body = {"image_url": image_url(image), **chosen(options)}
        answer = self._ask("POST", "/predict", body)
        return Prediction.of(answer, answer)

    def predict_batch(
        self,
        images: Sequence[Image],
        batch_size: int = 8,
        **options: Unpack[PredictOptions],
    ) -> list[Prediction]:
        """Find objects in many images: one :class:`Prediction` each, in order; a bad image has its ``error`` set.

        Args:
            images: As for :meth:`predict`.
            batch_size: Images per request and per run of the model, 1 to 64.
            **options: See :class:`~osv_lab.serve.asking.PredictOptions`.

        Raises:
            UsageError, UnavailableError, InvalidDataError: as for :meth:`predict`, where the whole request failed.
        """
        check_batch_size(batch_size)
        asked = chosen(options)
        found: list[Prediction] = []
        for group in groups(images, batch_size):
            body = batch_body(group, batch_size, asked)
            found += predictions(group, self._ask("POST", "/predict/batch", body) if body else {"results": []})
        return found

    def stream(
        self, frames: Iterable[Frame], *, live: bool = False, **options: Unpack[StreamOptions]
    ) -> Iterator[Prediction]:
        """Find and follow objects in frames over one connection, one :class:`Prediction` after the other.

        Args:
            frames: Paths, encoded images' bytes, or BGR uint8 pixels ``(h, w, 3)``, which go as JPEG.
            live: Send frames as they come, from a thread, for a camera that does not wait: of those that came while
                one was looked at only the newest is answered, and ``dropped`` has the others' numbers. Otherwise
                the next frame is taken when there is room for it, and every one is answered.
            **options: See :class:`~osv_lab.serve.streaming.StreamOptions`. Nothing is asked again: a connection that
                broke is another stream, with other identities.

        Yields:
            What was found, with ``frame``, ``timestamp_s`` and ``track_id`` in ``predictions``; a frame that cannot be
            used has its ``error`` set.

        Raises:
            UsageError, UnavailableError, InvalidDataError: as for :meth:`predict`, where the stream cannot go on.

        Example:
            >>> with Client(server.url) as client:
            ...     for found in client.stream(["photo.jpg", "photo.jpg"], frame_rate=25):
            ...         print(found.frame, [one["track_id"] for one in found.predictions])
            1 [1, 2]
            2 [1, 2]
        """
        return stream(self._asking, self._key, frames, live, self._timeout_s, options)

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

    def drift(self) -> list[dict[str, Any]]:
        """What each model sees against what it was trained on, where it has a reference."""
        states: list[dict[str, Any]] = self._ask("GET", "/drift")["models"]
        return states

    def metrics(self) -> str:
        """The server's counters, in Prometheus' text format."""
        return self._asking.succeeded(self._answer("GET", "/metrics")).text

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self._asking.understood(self._answer(method, path, body))

    def _answer(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> httpx.Response | httpx.TransportError:
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
        return answer


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
        self._asking = Asking.of(url, retries, longest_wait_s)
        self.url = self._asking.url
        self._key, self._timeout_s = key, timeout_s
        self._http = httpx.AsyncClient(**self._asking.connection(key, timeout_s))

    async def predict(
        self,
        image: Image,
        **options: Unpack[PredictOptions],
    ) -> Prediction:
        """As :meth:`Client.predict`."""
        body = {"image_url": await asyncio.to_thread(image_url, image), **chosen(options)}
        answer = await self._ask("POST", "/predict", body)
        return Prediction.of(answer, answer)

    async def predict_batch(
        self,
        images: Sequence[Image],
        batch_size: int = 8,
        **options: Unpack[PredictOptions],
    ) -> list[Prediction]:
        """As :meth:`Client.predict_batch`; one request after the other, so that it never holds more than two."""
        check_batch_size(batch_size)
        asked = chosen(options)
        parts = groups(images, batch_size)
        found: list[Prediction] = []
        while (group := await asyncio.to_thread(next, parts, None)) is not None:
            body = batch_body(group, batch_size, asked)
            found += predictions(
                group, await self._ask("POST", "/predict/batch", body) if body else {"results": []}
            )
        return found

    def stream(
        self,
        frames: Iterable[Frame] | AsyncIterable[Frame],
        *,
        live: bool = False,
        **options: Unpack[StreamOptions],
    ) -> AsyncIterator[Prediction]:
        """As :meth:`Client.stream`; ``frames`` may come asynchronously."""
        return astream(self._asking, self._key, frames, live, self._timeout_s, options)

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


def _httpx() -> Any:
    try:
        import httpx
    except ModuleNotFoundError:
        raise require_extra("httpx", "server") from None
    return httpx
