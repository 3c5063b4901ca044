"""Forms touch the lab's folder, the dataset's and the stated roots, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from osv_lab.app.places import allowed_path, export_path
from osv_lab.core.errors import NotFoundError, UsageError
from osv_lab.core.settings import load_settings


@pytest.fixture(autouse=True)
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("home", "imports", "media", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_bytes(b"x")
    monkeypatch.setenv("OSV_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OSV_IMPORT_ROOTS", str(tmp_path / "imports"))


def test_what_may_be_read(tmp_path: Path, fo: Any) -> None:
    dataset = fo.Dataset()
    dataset.add_sample(fo.Sample(filepath=str(tmp_path / "media" / "a.jpg")))
    for name in ("home", "imports", "media"):
        assert allowed_path(f"{tmp_path}/{name}/a.jpg", dataset) == tmp_path / name / "a.jpg"
    dataset.delete()


@pytest.mark.parametrize("text", ["elsewhere/a.jpg", "home/../elsewhere/a.jpg", "homely", "", "/etc/passwd"])
def test_what_may_not(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="--import-root"):
        allowed_path(str(tmp_path / text) if text else "/", None)


@pytest.mark.parametrize("text", ["~no-such-person/a.jpg", "a\0.jpg"])
def test_what_is_no_path_is_said_to_be_none(text: str) -> None:
    with pytest.raises(UsageError, match="no path"):
        allowed_path(text)


def test_a_name_that_no_file_can_have_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        allowed_path(f"{tmp_path}/home/{'a' * 300}")


def test_a_link_is_followed_before_it_is_judged(tmp_path: Path) -> None:
    (tmp_path / "home" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError):
        allowed_path(str(tmp_path / "home" / "link" / "a.jpg"))
    with pytest.raises(NotFoundError):
        allowed_path(str(tmp_path / "home" / "no.jpg"))


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc/x", "a/../../x", "a\0"])
def test_an_export_stays_among_the_exports(name: str) -> None:
    with pytest.raises(UsageError):
        export_path(name)


def test_an_export_has_its_name() -> None:
    assert export_path("yolo v1") == load_settings().exports_dir / "yolo v1"
