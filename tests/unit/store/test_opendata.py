"""The one download the demo may make: pinned, checked, refused when it is something else."""

from __future__ import annotations

import datetime
import functools
import http.server
import ipaddress
import shutil
import ssl
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import shared_data

from osv_lab.core.errors import InvalidDataError, NotFoundError, UnavailableError
from osv_lab.store import opendata
from osv_lab.store.opendata import OPEN_DATASETS, OpenDataset, fetch_open_dataset, tree_digest


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """An HTTPS server on loopback whose certificate this process trusts: its address, and the folder it serves."""
    folder = tmp_path / "site"
    folder.mkdir()
    certificate = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    handler = functools.partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("NO_PROXY", "*")
    yield f"https://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True


def _certificate(folder: Path) -> Path:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


def publish(site: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, **changes: object) -> Path:
    """Put a small data set on the site and make it known as ``small``; returns its archive."""
    url, folder = site
    data = folder / "small-1" / "data"
    data.mkdir(parents=True)
    (data / "a.txt").write_text("one")
    (data / "b.txt").write_text("two")
    archive = folder / "small.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in data.iterdir():
            file.write(path, path.relative_to(folder))
    digest, files = tree_digest(data)
    shutil.rmtree(folder / "small-1")
    values = {"url": f"{url}/small.zip", "root": "small-1/data", "digest": digest, "files": files}
    values |= {"max_bytes": 10_000, "licence": "none"} | changes
    monkeypatch.setattr(opendata, "OPEN_DATASETS", {**OPEN_DATASETS, "small": OpenDataset(**values)})  # type: ignore[arg-type]
    return archive


def test_download_once(site: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = publish(site, monkeypatch)
    root = fetch_open_dataset(tmp_path / "mine", "small")
    assert sorted(path.name for path in root.iterdir()) == ["a.txt", "b.txt"]
    archive.unlink()
    assert fetch_open_dataset(tmp_path / "mine", "small") == root


def test_a_changed_set_is_refused(site: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(site, monkeypatch, digest="0" * 64)
    with pytest.raises(InvalidDataError, match="not the data set that was expected"):
        fetch_open_dataset(tmp_path / "mine", "small")
    assert not list((tmp_path / "mine").glob("*.zip"))


def test_a_large_answer_is_cut_off(
    site: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(site, monkeypatch, max_bytes=100)
    with pytest.raises(InvalidDataError, match="larger than the data set"):
        fetch_open_dataset(tmp_path / "mine", "small")


def test_something_that_is_no_zip(site: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(site, monkeypatch).write_text("<html>please log in</html>")
    with pytest.raises(InvalidDataError, match="zip"):
        fetch_open_dataset(tmp_path / "mine", "small")


def test_missing_plain_and_untrusted(
    site: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(site, monkeypatch, url=f"{site[0]}/gone.zip")
    with pytest.raises(UnavailableError, match="leave --download out"):
        fetch_open_dataset(tmp_path / "mine", "small")
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(UnavailableError, match=r"(?i)certificate"):
        fetch_open_dataset(tmp_path / "mine", "small")


def test_plain_http_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = OpenDataset("http://127.0.0.1:9/x.zip", "x", "0", 1, 10, "none")
    monkeypatch.setattr(opendata, "OPEN_DATASETS", {"plain": plain})
    with pytest.raises(UnavailableError, match="HTTPS only"):
        fetch_open_dataset(tmp_path, "plain")


def test_no_network_and_no_such_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = OpenDataset("https://127.0.0.1:9/x.zip", "x", "0", 1, 10, "none")
    monkeypatch.setattr(opendata, "OPEN_DATASETS", {"closed": closed})
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(UnavailableError, match="cannot be downloaded"):
        fetch_open_dataset(tmp_path, "closed")
    with pytest.raises(NotFoundError, match="did you mean 'closed'"):
        fetch_open_dataset(tmp_path, "closd")


def test_the_pinned_digest_is_that_of_the_real_set(tmp_path: Path) -> None:
    bccd = OPEN_DATASETS["bccd"]
    assert bccd.url.startswith("https://")
    real = shared_data()
    if real is not None:
        assert tree_digest(real / "bccd" / "BCCD") == (bccd.digest, bccd.files)
