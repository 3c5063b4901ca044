"""One connection to a CVAT server: the SDK's session and uploads, a deadline on every call, errors in one line."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from osv_lab.annotate.settings import CvatSettings
from osv_lab.core.errors import (
    InvalidDataError,
    NotFoundError,
    OsvError,
    UnavailableError,
    UsageError,
    require_extra,
)
from osv_lab.core.progress import Progress, silent

logger = logging.getLogger(__name__)

CONNECT_S = 5.0
DEADLINE_S = 120.0
"""How long the server may be silent within one call; uploads are sent in parts, so that this is enough for each."""
PROCESSING_S = 1800.0
"""How long the server may work on uploaded data."""
PART_BYTES = 16 << 20
PAGE = 100


class Connection:
    """A logged-in session.

    The SDK sends the requests and uploads; bodies are plain JSON here, since its models drop fields that the other
    side's version knows, and building them costs more than the request. Several threads may call at once.

    Args:
        settings: Where and who.
        deadline_s: Seconds that the server may be silent in one call.

    Raises:
        UnavailableError: the server does not answer, or is no CVAT server.
        UsageError: the credentials are refused, or there is no such organisation.

    Example:
        >>> from osv_lab.annotate.settings import cvat_settings
        >>> with Connection(cvat_settings()) as connection:
        ...     connection.get("/api/users/self")["username"]
        'admin'
    """

    def __init__(self, settings: CvatSettings, *, deadline_s: float = DEADLINE_S) -> None:
        try:
            import cvat_sdk
            from cvat_sdk.core.client import AccessTokenCredentials, Client, PasswordCredentials
        except ImportError as error:
            raise require_extra("cvat_sdk", "annotate") from error
        self.settings = settings
        self.deadline_s = deadline_s
        self.calls = 0
        quiet = logging.getLogger("osv_lab.annotate.sdk")
        # The SDK logs whole tracebacks of uploads that it is about to repeat.
        quiet.setLevel(logging.CRITICAL)
        self._client = Client(settings.url, logger=quiet, check_server_version=False)
        self._client.organization_slug = settings.organization
        self._bound_calls()
        with self._errors():
            # The server is asked what it is before it is told any secret.
            self.version = self._about()
            if settings.token:
                self._client.login(AccessTokenCredentials(settings.token))
            else:
                self._client.login(PasswordCredentials(settings.username, settings.password))
        # A wrong token logs in without an error; the first call is refused.
        self.user: Mapping[str, Any] = self.get("/api/users/self")
        if settings.organization:
            self._check_organization()
        ours = ".".join(cvat_sdk.__version__.split(".")[:2]) if hasattr(cvat_sdk, "__version__") else ""
        if ours and not self.version.startswith(f"{ours}."):
            logger.warning("the CVAT server is %s, cvat-sdk is made for %s", self.version, ours)

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """The JSON answer of a GET."""
        return self.call("GET", path, query)

    def pages(self, path: str, query: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """All items of a list; the server gives them page by page."""
        number = 1
        while True:
            answer = self.get(path, {**(query or {}), "page_size": PAGE, "page": number})
            yield from answer["results"]
            if not answer.get("next"):
                return
            number += 1

    def content(self, path: str, query: Mapping[str, Any] | None = None) -> bytes:
        """The bytes of a GET: a frame, say."""
        return bytes(self._request("GET", path, query, None).data)

    def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """One request with a JSON body, or the bytes of a content type that ``headers`` name.

        Returns:
            The parsed answer, or ``None`` for an empty one.

        Raises:
            UsageError: 400, 401 or 403: the server refuses.
            NotFoundError: 404.
            UnavailableError: no answer in time, or 500 and above.
        """
        answer = self._request(method, path, query, body, headers)
        if not answer.data:
            return None
        try:
            return json.loads(answer.data)
        except ValueError:
            raise UnavailableError(
                "the server's answer is not CVAT's", f"{method} {path}", "check the address"
            ) from None

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Any,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        from cvat_sdk.core.helpers import make_request_headers

        url = f"{self.settings.url}{path}"
        if query:
            url += "?" + urlencode(query)
        every = {**make_request_headers(self._client.api_client), **(headers or {})}
        with self._errors():
            return self._client.api_client.rest_client.request(method, url, headers=every, body=body)

    def upload(
        self, task: int, files: Sequence[Path], options: Mapping[str, Any], progress: Progress = silent
    ) -> None:
        """Give a task its media, each file in chunks that go on where they were cut, and wait until it is there.

        Raises:
            InvalidDataError: the server cannot use the files.
            UnavailableError: it did not take or process them in time.
        """
        from cvat_sdk.core.progress import BaseProgressReporter
        from cvat_sdk.core.uploading import DataUploader

        class Reporter(BaseProgressReporter):  # type: ignore[misc]
            done = 0
            total = 0

            def start2(self, total: int, **options: Any) -> None:
                super().start2(total, **options)
                self.total = total

            def advance(self, delta: int) -> None:
                self.done += delta
                progress("upload", self.done >> 20, self.total >> 20)

        uploader = DataUploader(self._client, max_request_size=PART_BYTES)
        with self._errors():
            answer = uploader.upload_files(
                f"{self.settings.url}/api/tasks/{task}/data/", list(files), pbar=Reporter(), **options
            )
        self.wait(self.request_of(json.loads(answer.data), task))

    @staticmethod
    def request_of(answer: Any, task: int) -> str:
        """The request that the server answered an upload with, for :meth:`wait`."""
        request = (answer or {}).get("rq_id")
        if not request:
            raise UnavailableError(
                "the server did not say what became of the upload", f"task {task}", "send again"
            )
        return str(request)

    def wait(self, request: str) -> None:
        """Wait until the server is done with a request.

        Raises:
            InvalidDataError: it cannot use the files.
            UnavailableError: it did not finish in time.
        """
        start = time.monotonic()
        while True:
            answer = self.get(f"/api/requests/{request}")
            if answer["status"] == "finished":
                return
            if answer["status"] == "failed":
                reason = str(answer.get("message") or "").strip().splitlines()
                raise InvalidDataError("CVAT could not use the files", reason[-1][:300] if reason else "no reason")
            waited = time.monotonic() - start
            if waited > PROCESSING_S:
                raise UnavailableError(
                    "CVAT did not finish with the upload", f"in {PROCESSING_S:.0f} s", "send again"
                )
            # Little is lost by not looking, however long it takes, and few calls are made.
            time.sleep(min(max(waited / 4, 0.05), 2.0))

    def close(self) -> None:
        """End the session."""
        with contextlib.suppress(Exception):
            self._client.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _about(self) -> str:
        answer = self._client.api_client.rest_client.request("GET", f"{self.settings.url}/api/server/about")
        try:
            return str(json.loads(answer.data)["version"])
        except (ValueError, KeyError, TypeError):
            raise UnavailableError(
                "there is no CVAT server at this address", self.settings.url, "check the address"
            ) from None

    def _check_organization(self) -> None:
        slugs = [one["slug"] for one in self.pages("/api/organizations", {"org": ""})]
        if self.settings.organization not in slugs:
            raise UsageError(
                "no such organisation, or we are not in it",
                repr(self.settings.organization),
                "use one of: " + ", ".join(slugs) if slugs else 'use "" for your own workspace',
            )

    def _bound_calls(self) -> None:
        """Give every request of the SDK, its uploads too, a deadline; repeat only what never reached the server."""
        import urllib3

        rest = self._client.api_client.rest_client
        rest.pool_manager.connection_pool_kw["retries"] = urllib3.Retry(
            total=2, connect=2, read=False, status=0, redirect=2, other=0, backoff_factor=0.2
        )
        plain_request = rest.request
        counting = threading.Lock()

        def request(*args: Any, **options: Any) -> Any:
            options["_request_timeout"] = options.get("_request_timeout") or (CONNECT_S, self.deadline_s)
            with counting:
                self.calls += 1
            return plain_request(*args, **options)

        rest.request = request

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        import urllib3
        from cvat_sdk.api_client.exceptions import ApiException
        from cvat_sdk.core.exceptions import CvatSdkException

        try:
            yield
        except OsvError:
            raise
        except ApiException as error:
            raise _refusal(error, self.settings) from None
        except (urllib3.exceptions.MaxRetryError, urllib3.exceptions.NewConnectionError):
            raise UnavailableError(
                "the CVAT server does not answer", self.settings.url, "start it, then run the same again"
            ) from None
        except urllib3.exceptions.ReadTimeoutError:
            raise UnavailableError(
                "the CVAT server is silent",
                f"{self.settings.url}, {self.deadline_s:g} s",
                "run the same again later",
            ) from None
        except (urllib3.exceptions.HTTPError, OSError):
            raise UnavailableError(
                "the connection to the CVAT server broke", self.settings.url, "run the same again"
            ) from None
        except CvatSdkException as error:
            raise UnavailableError("the upload to CVAT failed", str(error)[:200], "run the same again") from None


def _refusal(error: Any, settings: CvatSettings) -> OsvError:
    """What the server's status means, in one line; of its answer only what it says of our request."""
    status = int(error.status or 0)
    if status == 401:
        return UsageError("CVAT does not accept the credentials", settings.url, "check the token or the password")
    if status == 403:
        fix = "a token needs write access, a user the right to change this"
        return UsageError("CVAT does not allow this", f"{settings.url} {_reason(error)}".strip(), fix)
    if status == 404:
        return NotFoundError("CVAT does not have this", _reason(error) or settings.url)
    if status >= 500:
        return UnavailableError("the CVAT server failed", f"status {status}", "run the same again; see its log")
    if status == 0:
        return UnavailableError("no secure connection to the CVAT server", settings.url, "check its certificate")
    reason = _reason(error)
    if "credentials" in reason:
        return UsageError("CVAT does not accept the credentials", settings.url, "check the user and the password")
    return UsageError("CVAT refuses the request", f"status {status} {reason}".strip())


def _reason(error: Any) -> str:
    body = error.body.decode("utf-8", "replace") if isinstance(error.body, bytes) else str(error.body or "")
    with contextlib.suppress(ValueError):
        answer = json.loads(body)
        if isinstance(answer, dict):
            body = "; ".join(str(value) for value in answer.values())
    return " ".join(body.split())[:200] if "<html" not in body.lower() else ""
