"""Fetching by URL: what is reached, what is never reached, and how long and how much at most."""

from __future__ import annotations

import http.server
import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from osv_lab.serve import fetch
from osv_lab.serve.errors import RequestError
from osv_lab.serve.fetch import FetchPolicy, fetch_image, is_public

PICTURE = b"\x89PNG\r\n\x1a\n" + b"x" * 100


class Site(http.server.BaseHTTPRequestHandler):
    """Answers by path; remembers who asked for what."""

    seen: ClassVar[list[tuple[str, str]]] = []

    def do_GET(self) -> None:
        self.seen.append((self.headers["Host"], self.path))
        answers: dict[str, Any] = {
            "/a.png": (200, {"Content-Type": "image/png"}, PICTURE),
            "/bytes": (200, {"Content-Type": "binary/octet-stream"}, PICTURE),
            "/page": (200, {"Content-Type": "text/html"}, b"<html>"),
            "/untyped": (200, {}, PICTURE),
            "/gzip": (200, {"Content-Type": "image/png", "Content-Encoding": "gzip"}, PICTURE),
            "/gone": (404, {"Content-Type": "image/png"}, b""),
            "/short": (200, {"Content-Type": "image/png", "Content-Length": "5000"}, PICTURE),
            "/huge": (200, {"Content-Type": "image/png", "Content-Length": "99999999999"}, b""),
            "/unsized": (200, {"Content-Type": "image/png"}, b"x" * 200_000),
            "/once": (302, {"Location": "/a.png"}, b""),
            "/loop": (302, {"Location": "/loop"}, b""),
            "/away": (302, {"Location": "http://169.254.169.254/latest/meta-data/"}, b""),
            "/file": (302, {"Location": "file:///etc/passwd"}, b""),
            "/inside": (302, {"Location": f"http://127.0.0.1:{self.server.server_port}/a.png"}, b""),  # type: ignore[attr-defined]
        }
        if self.path == "/drip":
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.end_headers()
            try:
                for _ in range(200):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.05)
            except OSError:
                return
            return
        status, headers, body = answers[self.path]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    Site.seen = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def trusting(site: str, **options: Any) -> FetchPolicy:
    return FetchPolicy(allow=[site], max_bytes=100_000, **options)


def refused(url: str, policy: FetchPolicy) -> RequestError:
    with pytest.raises(RequestError) as caught:
        fetch_image(url, policy)
    return caught.value


def test_an_image_bytes_and_a_redirect(site: str) -> None:
    for path in ("/a.png", "/bytes", "/once"):
        assert fetch_image(f"http://{site}{path}", trusting(site)) == PICTURE
    assert Site.seen[0] == (site, "/a.png")


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/page", 415, "text/html"),
        ("/untyped", 415, "no content type"),
        ("/gzip", 415, "compressed"),
        ("/gone", 422, "HTTP 404"),
        ("/short", 422, "ended after"),
        ("/huge", 413, "99,999,999,999"),
        ("/unsized", 413, "more than 100,000"),
        ("/loop", 422, "redirects too often"),
        ("/file", 400, "another scheme"),
    ],
)
def test_answers_that_are_no_use(site: str, path: str, status: int, reason: str) -> None:
    error = refused(f"http://{site}{path}", trusting(site))
    assert error.status == status
    assert reason in str(error)


def test_a_drip_ends_at_the_time_limit(site: str) -> None:
    error = refused(f"http://{site}/drip", trusting(site, timeout_s=0.6))
    assert error.status == 422
    assert "within 0.6 s" in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "http://{site}/a.png",
        "http://localhost:{port}/a.png",
        "http://LOCALHOST:{port}/a.png",
        "http://localhost.:{port}/a.png",
        "http://2130706433:{port}/a.png",
        "http://0x7f000001:{port}/a.png",
        "http://0177.0.0.1:{port}/a.png",
        "http://127.1:{port}/a.png",
        "http://0.0.0.0:{port}/a.png",
        "http://0:{port}/a.png",
        "http://[::1]:{port}/a.png",
        "http://[::]:{port}/a.png",
        "http://[::ffff:127.0.0.1]:{port}/a.png",
        "http://[::ffff:7f00:1]:{port}/a.png",
        "http://[64:ff9b::7f00:1]:{port}/a.png",
        "http://[fe80::1]:{port}/a.png",
        "http://①②⑦.0.0.1:{port}/a.png",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://172.16.0.1/",
        "http://192.168.1.1/",
        "http://100.64.0.1/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://user:secret@{site}/a.png",
        "http://example.com@{site}/a.png",
        "http://{site}#@example.com/a.png",
        "http:///a.png",
        "http://",
        "http://[::1/a.png",
        "http://{host}:99999/a.png",
        "http://{site}/a b.png",
        "http://{site}/a\r\nHost: evil",
        "http://" + "a" * 70 + ".com/",
        "http://..../",
        "http://xn--/a.png",
        "https://{host}:0/",
        "//{site}/a.png",
    ],
)
def test_nothing_here_is_reached(site: str, url: str) -> None:
    host, port = site.split(":")
    error = refused(url.format(site=site, host=host, port=port), FetchPolicy(timeout_s=2))
    assert error.status in (400, 422)
    assert error.what
    assert not Site.seen


@pytest.mark.parametrize("path", ["/inside", "/away"])
def test_redirects_are_checked_like_the_first_url(site: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A public host (played by the test's own, taken for public once) redirects to where it must not."""
    answers = iter([True, False])
    monkeypatch.setattr(fetch, "is_public", lambda address: next(answers))
    error = refused(f"http://{site}{path}", FetchPolicy())
    assert error.status == 400
    assert "not public" in error.what
    assert [seen for _, seen in Site.seen] == [path]


def test_a_name_that_changes_its_address_is_asked_once(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection goes to the address that was checked, whatever the name says a moment later."""
    port = int(site.split(":")[1])
    asked = []

    def resolve(host: str, *args: Any, **options: Any) -> list[Any]:
        asked.append(host)
        address = "93.184.215.14" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    connected = []

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    refused(f"http://rebind.example:{port}/a.png", FetchPolicy())
    assert asked == ["rebind.example"]
    assert connected == [("93.184.215.14", port)]


def test_one_forbidden_address_among_several_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [(2, 1, 6, "", ("93.184.215.14", 80)), (2, 1, 6, "", ("10.0.0.8", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: entries)
    assert "10.0.0.8" in str(refused("http://mixed.example/a.png", FetchPolicy()))


def test_only_listed_hosts(site: str) -> None:
    host = site.split(":")[0]
    assert fetch_image(f"http://{site}/a.png", FetchPolicy(allow=[host])) == PICTURE
    assert "allow list" in str(refused("http://example.com/a.png", FetchPolicy(allow=[host])))
    assert "allow list" in str(refused(f"http://{site}/a.png", FetchPolicy(allow=[f"{host}:1"])))
    assert "allow list" in str(refused(f"http://{site}/away", FetchPolicy(allow=[site])))


def resolving(monkeypatch: pytest.MonkeyPatch, **names: str) -> None:
    """Each name (underscores for dots) has one address."""

    def resolve(host: str, port: int, *args: Any, **options: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (names.get(host.replace(".", "_"), host), port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def test_a_listed_name_reaches_private_addresses_only_where_its_network_is_open(
    site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = site.split(":")[1]
    resolving(monkeypatch, store_lan="127.0.0.1", other_lan="127.0.0.1")
    url = f"http://store.lan:{port}/a.png"
    assert "not public" in str(refused(url, FetchPolicy(allow=["store.lan"])))
    assert "not public" in str(refused(url, FetchPolicy(allow=["store.lan"], networks=["10.0.0.0/8"])))
    assert "allow list" in str(refused(url, FetchPolicy(allow=["other.lan"], networks=["127.0.0.0/8"])))
    assert not Site.seen
    for host in ("store.lan", "STORE.lan."):
        assert fetch_image(url, FetchPolicy(allow=[host], networks=["127.0.0.0/8"])) == PICTURE
    assert (
        fetch_image(url.replace("lan", "LAN.", 1), FetchPolicy(allow=["store.lan"], networks=["127.0.0.0/8"]))
        == PICTURE
    )


@pytest.mark.parametrize("address", ["169.254.169.254", "100.100.100.200", "192.0.0.192", "169.254.1.1"])
def test_credentials_of_the_cloud_are_out_of_reach_whatever_is_listed(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, store_lan=address)
    everything = ["0.0.0.0/0", "::/0"]
    assert refused("http://store.lan/", FetchPolicy(allow=["store.lan"], networks=everything)).status == 400
    assert refused(f"http://{address}/", FetchPolicy(allow=[address], networks=everything)).status == 400


def test_proxies_of_the_environment_are_not_asked(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert fetch_image(f"http://{site}/a.png", trusting(site)) == PICTURE


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:8.8.8.8"]
)
def test_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "169.254.169.254",
        "fd00:ec2::254",
        "fc00::1",
        "2002:7f00:1::",
        "ff02::1",
        "fec0::1",
        "::",
        "192.0.2.1",
        "192.0.0.192",
        "64:ff9b:1::7f00:1",
    ],
)
def test_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
