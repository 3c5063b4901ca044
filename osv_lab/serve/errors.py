"""What a request can get wrong, and the HTTP status that says so."""

from __future__ import annotations

from typing import Any

from osv_lab.core.errors import InvalidDataError, OsvError, UnavailableError, UsageError

_SHOWN = 200


class RequestError(OsvError):
    """A request the server does not answer with predictions.

    Args:
        status: The HTTP status: 400 malformed, 401 no key, 403 a key for something else, 408 too slow, 413 too
            large, 415 wrong kind, 422 cannot be used, 503 not now.
        what: What was wrong.
        found: What was found instead; shortened, since a client may have sent megabytes.
        fix: What to do about it.
        retry_after_s: After how many seconds it is worth another try, for 503.
    """

    def __init__(
        self, status: int, what: str, found: object = "", fix: str = "", *, retry_after_s: int | None = None
    ) -> None:
        super().__init__(what, shortened(str(found)), fix)
        self.status = status
        self.retry_after_s = retry_after_s


def shortened(text: str, limit: int = _SHOWN) -> str:
    """At most ``limit`` characters of a text, control characters escaped.

    Example:
        >>> shortened("abcdef", 3)
        'abc… (6 characters)'
    """
    clean = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:limit])
    return clean if len(text) <= limit else f"{clean}… ({len(text)} characters)"


def as_request_error(error: OsvError) -> RequestError:
    """An error of another room as an answer: what the client sent wrong is 4xx, what is missing here 503."""
    if isinstance(error, RequestError):
        return error
    # The decoder's one error for "not an image", "damaged" and "too large"; only the last has its own status.
    if isinstance(error, InvalidDataError):
        status = 413 if "too large" in error.what else 422
    elif isinstance(error, UsageError):
        status = 422
    elif isinstance(error, UnavailableError):
        status = 503
    else:
        status = 500
    return RequestError(status, error.what, error.found, error.fix)


def error_body(error: OsvError) -> dict[str, Any]:
    """The JSON body of an error: ``{"error": {"what", "found", "fix"}}``."""
    return {"error": {"what": error.what, "found": error.found, "fix": error.fix}}
