"""Fetching an image that a request names by URL, without becoming a way into the network the server stands in.

Rules, applied to the URL and again to every redirect: http or https, no credentials, every address the name
resolves to is public (not private, loopback, link-local, carrier-grade, multicast, reserved, or a form of IPv6
that embeds one of those) or in a network the operator opened to the hosts on the list, never one where clouds
keep their credentials, and the connection goes to an address that was checked, so an answer of the name server
that changes in between changes nothing. Proxy settings of the environment are not used. The body has a size
limit, the whole exchange a time limit, and the type must be an image's.
"""

from __future__ import annotations

import http.client
import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from osv_lab.serve.errors import RequestError
from osv_lab.serve.limits import FetchPolicy as FetchPolicy

_REDIRECTS = {301, 302, 303, 307, 308}
# Object stores hand images out as plain bytes when nobody told them better.
_OTHER_TYPES = {"application/octet-stream", "binary/octet-stream"}
# Amazon's in IPv6, Alibaba's, Oracle's; the others' are link-local.
_METADATA = {ipaddress.ip_address(text) for text in ("fd00:ec2::254", "100.100.100.200", "192.0.0.192")}
# Special by the IANA registries, and taken for global by Pythons before 3.11.10.
_SPECIAL = [ipaddress.ip_network(text) for text in ("192.0.0.0/24", "64:ff9b:1::/48", "3fff::/20", "5f00::/16")]
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def fetch_image(url: str, policy: FetchPolicy) -> bytes:
    """The bytes behind an http(s) URL.

    Raises:
        RequestError: 400 for a URL that is malformed or not allowed, 413 for a body that is too large, 415 for one
            that is no image, 422 when the other side does not deliver.
    """
    deadline = time.monotonic() + policy.timeout_s
    for _ in range(policy.max_redirects + 1):
        target = _Target.parse(url)
        address = _checked_address(target, policy, deadline)
        redirect, body = _get(target, address, policy, deadline)
        if redirect is None:
            return body
        url = urljoin(url, redirect)
    raise RequestError(422, "image_url redirects too often", url, "give the final address")


def is_public(address: Address) -> bool:
    """Whether an address is one of the open internet, embedded IPv4 addresses included.

    Example:
        >>> is_public(ipaddress.ip_address("8.8.8.8")), is_public(ipaddress.ip_address("::ffff:127.0.0.1"))
        (True, False)
    """
    if isinstance(address, ipaddress.IPv6Address):
        embedded = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            embedded.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if any(inner is not None and not is_public(inner) for inner in embedded):
            return False
        if address.is_site_local:
            return False
    if any(address in network for network in _SPECIAL):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


@dataclass(frozen=True, slots=True)
class _Target:
    """The parts of a URL that a connection needs."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> _Target:
        if len(url) > 4096 or any(c.isspace() or not c.isprintable() for c in url):
            raise RequestError(400, "image_url is not a URL", url, "encode it, and keep it under 4096 characters")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
            host = host if ":" in host else host.encode("idna").decode("ascii").removesuffix(".")
        except ValueError as error:  # UnicodeError of a host that cannot be encoded is one too
            raise RequestError(400, "image_url is not a URL", f"{url} ({error})") from None
        if parts.scheme not in ("http", "https"):
            raise RequestError(400, "image_url leads to another scheme than http(s)", url, "use an http(s) URL")
        if not host or port == 0:
            raise RequestError(400, "image_url names no host", url, "use an http(s) URL with a host")
        if parts.username is not None or parts.password is not None:
            raise RequestError(400, "image_url carries credentials", "user:password@", "use a signed URL instead")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not path.isascii():
            raise RequestError(400, "image_url is not a URL", url, "percent-encode it")
        return cls(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), path)


def _checked_address(target: _Target, policy: FetchPolicy, deadline: float) -> str:
    if policy.allow is False:
        raise RequestError(
            400,
            "this server does not fetch URLs",
            target.host,
            "upload the file, or send it as base64 or a data URI; the operator can allow URLs",
        )
    if not isinstance(policy.allow, bool) and not _is_listed(target, policy.allow):
        raise RequestError(
            400,
            "the host of image_url is not on the allow list",
            target.host,
            "upload the file, or use a listed host",
        )
    addresses = _resolve(target, deadline)
    for text in addresses:
        if not _may_reach(ipaddress.ip_address(text.partition("%")[0]), target, policy):
            raise RequestError(
                400,
                "image_url leads to an address that is not public",
                text if target.host == text else f"{target.host} is {text}",
                "upload the file, or send it as base64 or a data URI",
            )
    return addresses[0]


def _is_listed(target: _Target, hosts: Sequence[str]) -> bool:
    return bool({target.host, f"{target.host}:{target.port}"} & {host.lower().rstrip(".") for host in hosts})


def _may_reach(address: Address, target: _Target, policy: FetchPolicy) -> bool:
    if is_public(address):
        return True
    if isinstance(policy.allow, bool):
        return False
    plain = address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address
    if plain.is_link_local or plain in _METADATA:
        return False
    return str(address) == target.host or any(plain in ipaddress.ip_network(one) for one in policy.networks)


def _resolve(target: _Target, deadline: float) -> list[str]:
    """Every address of a host. The system's resolver knows no time limit, so it is waited for from outside."""
    answers: queue.SimpleQueue[list[str] | OSError | UnicodeError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            answers.put([str(entry[4][0]) for entry in found])
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        raise RequestError(
            422, "image_url could not be fetched", f"no address for {target.host} in time"
        ) from None
    if isinstance(answer, Exception):
        raise RequestError(
            422,
            "image_url could not be fetched",
            f"no address for {target.host} ({answer})",
            "check the host name",
        )
    return answer


def _get(target: _Target, address: str, policy: FetchPolicy, deadline: float) -> tuple[str | None, bytes]:
    """One exchange: ``(redirect, b"")`` or ``(None, body)``."""
    headers = {"User-Agent": "osv-lab", "Accept": "image/*", "Accept-Encoding": "identity", "Connection": "close"}
    # Connected to the checked address, but speaking to the URL's host: in the Host header and in the certificate.
    connection = http.client.HTTPConnection(target.host, target.port)
    stop: threading.Timer | None = None
    try:
        remaining = max(0.01, deadline - time.monotonic())
        sock = connection.sock = socket.create_connection((address, target.port), timeout=remaining)
        if target.scheme == "https":
            context = ssl.create_default_context()
            sock = context.wrap_socket(sock, server_hostname=target.host, do_handshake_on_connect=False)
            connection = http.client.HTTPSConnection(target.host, target.port, context=context)
            connection.sock = sock
        # A socket's timeout is that of a single read, which a slow drip of bytes would never meet.
        stop = threading.Timer(max(0.01, deadline - time.monotonic()), _shut, [sock])
        stop.daemon = True
        stop.start()
        if isinstance(sock, ssl.SSLSocket):
            sock.do_handshake()
        connection.request("GET", target.path, headers=headers)
        response = connection.getresponse()
        if response.status in _REDIRECTS and (location := response.getheader("Location")):
            return location, b""
        body = _body(response, policy)
        if time.monotonic() >= deadline:
            raise TimeoutError
        return None, body
    except (OSError, http.client.HTTPException, ValueError) as error:
        late = time.monotonic() >= deadline - 0.05
        reason = (
            f"no complete answer within {policy.timeout_s:g} s" if late else str(error) or type(error).__name__
        )
        raise RequestError(422, "image_url could not be fetched", f"{target.host}: {reason}") from None
    finally:
        if stop is not None:
            stop.cancel()
        connection.close()


def _shut(sock: socket.socket | None) -> None:
    if sock is not None:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # closed in the meantime: the exchange was over


def _body(response: http.client.HTTPResponse, policy: FetchPolicy) -> bytes:
    if response.status != 200:
        raise RequestError(422, "image_url could not be fetched", f"HTTP {response.status}", "check the address")
    kind = (response.getheader("Content-Type") or "").partition(";")[0].strip().lower()
    if not kind.startswith("image/") and kind not in _OTHER_TYPES:
        raise RequestError(
            415, "image_url leads to no image", kind or "no content type", "give an image's address"
        )
    encoding = response.getheader("Content-Encoding", "identity").lower()
    if encoding != "identity":
        raise RequestError(415, "image_url answers compressed although asked not to", encoding)
    declared = response.getheader("Content-Length", "")
    expected = int(declared) if declared.isdecimal() else None
    if expected is not None and expected > policy.max_bytes:
        raise _too_large(f"{expected:,} bytes", policy)
    body = bytearray()
    while chunk := response.read(min(2**16, policy.max_bytes + 1 - len(body))):
        body += chunk
        if len(body) > policy.max_bytes:
            raise _too_large(f"more than {policy.max_bytes:,} bytes", policy)
    if expected is not None and len(body) < expected:
        raise ValueError(f"the answer ended after {len(body):,} of {expected:,} bytes")
    return bytes(body)


def _too_large(found: str, policy: FetchPolicy) -> RequestError:
    return RequestError(
        413, "the image behind image_url is too large", found, f"limit: {policy.max_bytes:,} bytes"
    )
