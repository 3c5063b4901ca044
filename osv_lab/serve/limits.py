"""How much a request may ask of a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """Which URLs the server fetches, and how much of them.

    Attributes:
        allow: ``True``: any host with public addresses. ``False``: none. A sequence: only these hosts (``host`` or
            ``host:port``). A listed IP address is itself vouched for; a listed name must resolve to public addresses
            or to those of ``networks``.
        networks: Networks (``10.0.0.0/8``) that are not public and where a listed name may resolve to all the same.
            Link-local addresses and those of cloud metadata services are refused in any case.
        max_bytes: Largest body.
        timeout_s: Longest time for everything together: name, connection, redirects, body.
        max_redirects: How many redirects are followed.
    """

    allow: bool | Sequence[str] = True
    networks: Sequence[str] = ()
    max_bytes: int = 20 * 2**20
    timeout_s: float = 10.0
    max_redirects: int = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a request may ask of the server.

    Attributes:
        max_image_bytes: Largest encoded image.
        max_pixels: Largest decoded image, width times height; checked in the header, before decoding.
        max_batch: Most images in one batch request.
        max_batch_bytes: Largest body of a batch request.
        body_timeout_s: Longest time for a body to arrive, so that a slow client does not keep its place for ever.
        max_streams: Most open streams, and most who follow sources.
        stream_idle_s: A stream without a frame for so long is closed.
        fetch: Which URLs are fetched.
    """

    max_image_bytes: int = 20 * 2**20
    max_pixels: int = 40_000_000
    max_batch: int = 64
    max_batch_bytes: int = 128 * 2**20
    body_timeout_s: float = 30.0
    max_streams: int = 16
    stream_idle_s: float = 60.0
    fetch: FetchPolicy = field(default_factory=FetchPolicy)

    @property
    def max_body_bytes(self) -> int:
        """Largest body of a request with one image: the image as base64, and room for the rest."""
        return self.max_image_bytes * 4 // 3 + 2**16
