"""Where the CVAT server is and who we are: precedence, refusals, and that no secret shows."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from osv_lab.annotate.settings import FILE, CvatSettings, check_url, cvat_settings, save_settings
from osv_lab.core.errors import InvalidDataError, NotFoundError, OsvError, UsageError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OSV_HOME", str(tmp_path))
    for name in ("URL", "USER", "PASSWORD", "TOKEN", "ORGANIZATION"):
        monkeypatch.delenv(f"OSV_CVAT_{name}", raising=False)
    return tmp_path


def test_what_is_given_comes_before_the_environment_and_that_before_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save_settings(CvatSettings("http://file", token="t-file", organization="o-file"))
    assert cvat_settings().url == "http://file"
    monkeypatch.setenv("OSV_CVAT_URL", "http://env")
    monkeypatch.setenv("OSV_CVAT_USER", "ann")
    monkeypatch.setenv("OSV_CVAT_PASSWORD", "p-env")
    found = cvat_settings()
    assert (found.url, found.username, found.password, found.token) == ("http://env", "ann", "p-env", "")
    found = cvat_settings("http://given/", token="t-given", organization="")
    assert (found.url, found.password, found.token, found.organization) == ("http://given", "", "t-given", "")


def test_the_file_is_its_owners_only(home: Path) -> None:
    path = save_settings(CvatSettings("http://host", "ann", 'pass"\\word'))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert cvat_settings().password == 'pass"\\word'
    assert [file.name for file in home.iterdir()] == [FILE]
    path.chmod(0o640)
    with pytest.raises(InvalidDataError, match="chmod 600"):
        cvat_settings()


def test_no_secret_is_shown(home: Path) -> None:
    assert "hunter2" not in repr(CvatSettings("http://host", "ann", "hunter2", "hunter2"))
    (home / FILE).touch(0o600)
    for text in ("password = hunter2", 'passwort = "hunter2"', 'token = ["hunter2"]'):
        (home / FILE).write_text(text)
        with pytest.raises(OsvError) as caught:
            cvat_settings()
        assert "hunter2" not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize("url", ["localhost:8080", "cvat.example.org", "ftp://host", "http://", ""])
def test_an_address_needs_its_scheme(url: str) -> None:
    with pytest.raises(UsageError, match="scheme"):
        check_url(url)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        check_url("https://ann:secret@host")
    assert "secret" not in str(caught.value)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFoundError, match="OSV_CVAT_URL"):
        cvat_settings()
    with pytest.raises(NotFoundError, match="OSV_CVAT_TOKEN"):
        cvat_settings("http://host")
    with pytest.raises(UsageError, match="both"):
        cvat_settings("http://host", ("ann", "x"), token="y")
