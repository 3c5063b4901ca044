"""Zip archives: nothing escapes, nothing explodes, twice is once."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from osv_lab.core.errors import InvalidDataError
from osv_lab.store.archive import extract, safe_name


def make_zip(path: Path, entries: dict[str, bytes], **links: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
        for name, target in links.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, target)
    return path


def files_under(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name",
    [
        "../up.jpg",
        "a/../../up.jpg",
        "/etc/absolute.jpg",
        "//server/share.jpg",
        "\\\\server\\share.jpg",
        "C:\\windows.jpg",
        "c:relative.jpg",
        "a\\..\\..\\up.jpg",
        "..",
        "",
        "a\0b",
    ],
)
def test_names_that_lead_out_are_none(name: str) -> None:
    assert safe_name(name) is None


def test_no_entry_escapes_and_each_is_named(tmp_path: Path) -> None:
    evil = {"../up.jpg": b"1", "/absolute.jpg": b"2", "C:\\drive.jpg": b"3", "a\\..\\..\\up2.jpg": b"4"}
    archive = make_zip(tmp_path / "evil.zip", {"good/a.jpg": b"good", **evil}, link="/etc/passwd")
    home = tmp_path / "deep" / "home"

    folder, problems = extract(archive, home)

    assert files_under(folder) - {".osv-left-out"} == {"good/a.jpg"}
    assert {path.name for path in tmp_path.rglob("*.jpg")} == {"a.jpg"}
    assert len(problems) == 5
    assert sum("leads out" in problem.what for problem in problems) == 4
    assert sum("a link" in problem.what for problem in problems) == 1


def test_extracting_twice_is_extracting_once(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a.jpg": b"1", "sub/b.jpg": b"2"})
    first, _ = extract(archive, tmp_path / "out")
    (first / "a.jpg").write_bytes(b"changed by the user")
    second, _ = extract(archive, tmp_path / "out")

    assert first == second
    assert (first / "a.jpg").read_bytes() == b"changed by the user"
    assert [path.name for path in (tmp_path / "out").iterdir()] == [first.name]


def test_zip_bombs_are_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "bomb.zip", {"bomb.bin": bytes(80 << 20)})

    with pytest.raises(InvalidDataError, match=r"zip bomb.*bomb\.bin"):
        extract(archive, tmp_path / "out")


def test_an_entry_that_is_larger_than_it_says_is_cut_off_and_named(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "liar.zip", {"liar.jpg": b"x" * 1000, "good.jpg": b"good"})
    data = archive.read_bytes()
    archive.write_bytes(data.replace((1000).to_bytes(4, "little"), (10).to_bytes(4, "little")))

    folder, problems = extract(archive, tmp_path / "out")

    assert files_under(folder) - {".osv-left-out"} == {"good.jpg"}
    assert [problem.file for problem in problems] == ["liar.jpg"]
    assert extract(archive, tmp_path / "out")[1] == problems


def test_damaged_and_doubled_entries_are_named_and_the_rest_is_extracted(tmp_path: Path) -> None:
    archive = make_zip(
        tmp_path / "a.zip", {"bad.jpg": bytes(range(256)) * 8, "good.jpg": b"good", "GOOD.jpg": b"no"}
    )
    data = bytearray(archive.read_bytes())
    data[60] ^= 0xFF
    archive.write_bytes(data)

    folder, problems = extract(archive, tmp_path / "out")

    assert files_under(folder) - {".osv-left-out"} == {"good.jpg"}
    assert {problem.file for problem in problems} == {"bad.jpg", "GOOD.jpg"}


def test_what_is_not_a_zip_is_an_error_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\3\4 and nothing more")

    with pytest.raises(InvalidDataError, match="not a readable zip"):
        extract(tmp_path / "a.zip", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_names_too_long_for_a_file_system_are_shortened(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"é" * 200 + ".jpg": b"1"})
    folder, problems = extract(archive, tmp_path / "out")

    assert problems == []
    assert {Path(name).suffix for name in files_under(folder)} == {".jpg", ""}
