"""An erased image is in no version, no shard, no manifest and no remote any more, nor is what was made of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from osv_lab.core.errors import UsageError
from osv_lab.store.versions import (
    create_version,
    erase,
    find_version,
    list_versions,
    load_version,
    pull,
    push,
    rebuild,
    verify,
)
from osv_lab.store.versions.erase import unfinished
from osv_lab.store.versions.manifest import open_manifest
from osv_lab.store.versions.objects import Objects


def files_with(folders: list[Path], needle: bytes) -> list[Path]:
    """Files of any kind that hold some bytes."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in files if needle in path.read_bytes()]


def test_nothing_of_it_is_left(small: Any, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = tmp_path / "remote"
    victim = small.match_tags("train").first()
    photo = Path(victim.filepath).read_bytes()
    first = create_version(small)
    mosaic = create_version(
        small,
        preprocess={"resize": {"width": 96, "height": 96}},
        augment={"mosaic": True, "flip": {"horizontal": True}},
        multiplier=3,
    )
    small.delete_samples([victim.id])
    without = create_version(small)
    for version in (first, mosaic, without):
        push(version, str(remote))
    load_version(first)
    # A push that was killed in the middle of a file.
    (next(iter((remote / "files" / "md5").iterdir())) / ".half.tmp").write_bytes(photo)
    places = [home, remote]
    assert files_with(places, photo[-4000:])
    manifest = open_manifest(Objects(), mosaic.tree)
    of_it = [entry for _, entry in manifest.entries() if victim.content_digest in {entry.origin, *entry.also}]
    assert any(victim.content_digest in entry.also for entry in of_it)

    report = erase([victim.content_digest])
    assert report.versions == {first.ref: 1, mosaic.ref: len(of_it)}
    assert report.looked_at > 0 and report.copies >= 1 and set(report.removed) == {"here", str(remote)}
    assert all(report.removed.values())
    for made in report.media:
        assert not files_with(places, made.encode()) and not files_with(places, bytes.fromhex(made))
    assert not files_with(places, photo[-4000:])
    assert report.to_frame() is not None and "none of" in report.summary() and not unfinished()

    after = {version.ref: version for version in list_versions(small.name).versions}
    assert after[first.ref].samples == 11 and after[first.ref].former == (first.digest,)
    # What never held it has the digest it had, though a shard it shares was written anew.
    assert after[without.ref].digest == without.digest and after[without.ref].erased == 0
    assert all(verify(ref).problems == () for ref in after)
    monkeypatch.setenv("OSV_HOME", str(tmp_path / "elsewhere"))
    for ref, version in after.items():
        assert pull(ref, str(remote)) == version and verify(ref).problems == ()


def test_what_only_a_remote_has_is_erased_too(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from osv_lab.store.versions import delete

    remote = tmp_path / "remote"
    victim = small.first()
    photo = Path(victim.filepath).read_bytes()
    version = create_version(small)
    push(version, str(remote))
    delete(version)
    report = erase([victim.content_digest])
    assert report.versions == {version.ref: 1}
    assert not files_with([remote], photo[-4000:]) and not files_with([remote], victim.content_digest.encode())
    assert list_versions(small.name).versions == ()
    assert pull(version.ref, str(remote)).samples == 11


def test_what_no_version_has(small: Any, tmp_path: Path) -> None:
    version = create_version(small)
    report = erase(["0" * 64])
    assert report.versions == {} and report.shards == 0
    assert find_version(version.ref) == version
    assert len(list((rebuild(version, tmp_path / "out") / "media").iterdir())) == 12
    with pytest.raises(UsageError, match="not the digest"):
        erase(["photo.jpg"])


def test_an_erasure_that_was_stopped_is_finished_by_the_next(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Any]
) -> None:
    from osv_lab.store.versions import erase as module

    victim = small.first()
    versions = [create_version(small), create_version(small, "other", splits=(0.5, 0.5))]
    remote = tmp_path / "remote"
    push(versions[0], str(remote))
    original = __import__("importlib").import_module("osv_lab.store.versions.erase")
    register, calls = original.register, []

    def stop(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return register(*args, **options)

    monkeypatch.setattr(original, "register", stop)
    with pytest.raises(KeyboardInterrupt):
        module([victim.content_digest])
    monkeypatch.setattr(original, "register", register)
    assert unfinished()
    assert sorted(version.samples for version in list_versions(small.name).versions) == [11, 12]
    assert all(verify(version).problems == () for version in list_versions(small.name).versions)
    report = erase(())
    assert not unfinished() and report.versions == {version.ref: 1 for version in versions}
    assert not files_with([remote, tmp_path / "home"], victim.content_digest.encode())
