"""Who may ask a server, and what it may fetch."""

from __future__ import annotations

import functools
import http.server
import threading
from pathlib import Path

import httpx
import pytest
from server_requests import IMAGE, RAW, model, post

from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.serve.client import Client
from osv_lab.serve.limits import FetchPolicy, Limits
from osv_lab.serve.run import start_server

__all__ = ["model"]


def test_the_key(model: Path) -> None:
    with start_server(model, key="s3cret") as handle:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Basic s3cret"},
            {"Authorization": "s3cret"},
        ):
            response = post(handle, content=IMAGE, headers={**RAW, **headers})
            assert response.status_code == 401
            assert "s3cret" not in response.text
            assert httpx.get(handle.url + "/models", headers=headers, trust_env=False).status_code == 401
        for path in ("/health", "/ready", "/", "/docs"):
            assert httpx.get(handle.url + path, trust_env=False).status_code == 200
        with Client(handle.url, key="s3cret") as client:
            assert len(client.predict(IMAGE)) == 1
        with Client(handle.url, key="other") as client, pytest.raises(UsageError, match="key"):
            client.predict(IMAGE)


def test_images_by_url(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(IMAGE)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=site.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{site.server_port}/a.png"
    try:
        with (
            start_server(model, allow_urls=[f"127.0.0.1:{site.server_port}"]) as handle,
            Client(handle.url) as client,
        ):
            assert len(client.predict(url)) == 1
            with pytest.raises(InvalidDataError, match="404"):
                client.predict(url.replace("a.png", "b.png"))
        limits = Limits(fetch=FetchPolicy(allow=False))
        refused = pytest.raises(InvalidDataError, match="does not fetch URLs")
        with start_server(model, limits=limits) as handle, Client(handle.url) as client, refused:
            client.predict(url)
    finally:
        site.shutdown()
        site.server_close()
