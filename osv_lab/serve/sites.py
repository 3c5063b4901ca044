"""Pages of other sites, which a browser lets open connections to this machine: not here.

A WebSocket is under no same-origin rule, and a page whose name is made to lead to loopback ("DNS rebinding") looks as
if it came from here. Nobody but a browser sends the headers looked at; other clients are not concerned.

Sources: https://www.rfc-editor.org/rfc/rfc6455#section-10.2, https://www.w3.org/TR/fetch-metadata/
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from osv_lab.serve.errors import RequestError

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

_PORTS = {"http": "80", "ws": "80", "https": "443", "wss": "443"}


def check_site(connection: HTTPConnection, *, keyed: bool) -> None:
    """Refuse what a page of another site asks.

    Args:
        keyed: Whether a key is asked for as well, which no other site's page has. Without one, a server that is
            reached over loopback must be addressed as this machine.

    Raises:
        RequestError: 403.
    """
    headers = connection.headers
    host, origin = headers.get("host", ""), headers.get("origin")
    if origin is not None:
        scheme, _, place = origin.partition("://")
        if not place or _full(place, scheme) != _full(host, scheme):
            raise _refused(origin)
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise _refused(origin or headers["sec-fetch-site"])
    reached = (connection.scope.get("server") or ("",))[0]
    if not keyed and _is_loopback(reached) and not (_is_address(_name(host)) or _name(host) == "localhost"):
        raise RequestError(
            403, "this server is not addressed as this machine", host, "write 127.0.0.1 or localhost, or set a key"
        )


def _refused(origin: str) -> RequestError:
    return RequestError(
        403, "pages of other sites may not ask this server", origin, "open the page from the server's own address"
    )


def _full(place: str, scheme: str) -> str:
    """Host and port, in lower case.

    >>> _full("Example.org", "https"), _full("[::1]:8000", "http")
    ('example.org:443', '[::1]:8000')
    """
    port = place.rpartition("]")[2].rpartition(":")[2]
    name = _name(place)
    shown = f"[{name}]" if ":" in name else name
    return f"{shown}:{port if port.isdecimal() else _PORTS.get(scheme.lower(), '')}"


def _name(place: str) -> str:
    """The host alone.

    >>> _name("[::1]:8000"), _name("LOCALHOST:80")
    ('::1', 'localhost')
    """
    if place.startswith("["):
        return place[1:].partition("]")[0].lower()
    return place.partition(":")[0].lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return _is_address(name) and ipaddress.ip_address(name).is_loopback
