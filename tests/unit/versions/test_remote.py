"""Push, pull and rebuild: a folder and a real S3 API; what is damaged there is named."""

from __future__ import annotations

import filecmp
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import server

from osv_lab.core.errors import CheckFailedError, NotFoundError, OsvError, UnavailableError, UsageError
from osv_lab.store.versions import (
    create_version,
    delete,
    find_version,
    list_remote,
    list_versions,
    pull,
    push,
    rebuild,
    verify,
)
from osv_lab.store.versions.objects import Objects


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def elsewhere(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Another machine: a lab with nothing in it."""
    monkeypatch.setenv("OSV_HOME", str(folder))


def test_rebuilt_from_a_folder_bit_for_bit(
    make: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make()
    originals = {Path(path).name: path for path in dataset.values("filepath")}
    version = create_version(dataset)
    remote = str(tmp_path / "remote")
    push(version, remote)
    here = digests(rebuild(version, tmp_path / "here"))

    elsewhere(monkeypatch, tmp_path / "empty")
    assert list_versions().versions == ()
    assert [found.ref for found in list_remote(remote).versions] == [version.ref]
    pulled = pull(version.ref, remote)
    assert pulled == version and verify(pulled).problems == ()
    there = rebuild(pulled, tmp_path / "there")
    assert digests(there) == here
    media = sorted((there / "media").iterdir())
    assert len(media) == len(originals)
    assert all(filecmp.cmp(file, originals[file.name], shallow=False) for file in media)


def test_a_second_version_sends_only_what_is_new(small: Any, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    push(create_version(small), str(remote))
    before = {path: path.stat().st_mtime_ns for path in remote.rglob("*") if path.is_file()}
    sample = small.first()
    sample.tags = ["val"]
    sample.save()
    push(create_version(small), str(remote))
    after = {path: path.stat().st_mtime_ns for path in remote.rglob("*") if path.is_file()}
    assert all(after[path] == time for path, time in before.items())
    # Its lines, index, listing and record.
    assert len(after) - len(before) == 4


def test_dvc_reads_what_is_written(
    small: Any, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvc.repo import Repo

    version = create_version(small)
    remote = str(tmp_path / "remote")
    push(version, remote)
    record = Objects().record(small.name, "v1")
    with Repo(str(home / "versions")) as project:
        project.checkout([str(record)])
    folder = record.with_suffix("")
    files = Objects().tree(version.tree)
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == set(files)
    assert {path: hashlib.md5((folder / path).read_bytes()).hexdigest() for path in files} == files

    # And DVC alone brings it from the remote.
    other = tmp_path / "other"
    elsewhere(monkeypatch, other)
    with Objects().changing():
        pass
    copy = Objects().record(small.name, "v1")
    copy.parent.mkdir(parents=True)
    copy.write_bytes(record.read_bytes())
    with Repo(
        str(other / "versions"), config={"remote": {"r": {"url": remote}}, "core": {"remote": "r"}}
    ) as project:
        project.pull([str(copy)])
    assert verify(version.ref).problems == ()


def test_a_damaged_file_on_the_remote_is_named(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = create_version(small)
    remote = tmp_path / "remote"
    push(version, str(remote))
    shard = next(oid for path, oid in Objects().tree(version.tree).items() if path.endswith(".tar"))
    file = remote / "files" / "md5" / shard[:2] / shard[2:]
    original = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(original[:2000] + b"\xff" + original[2001:])
    elsewhere(monkeypatch, tmp_path / "empty")
    with pytest.raises(CheckFailedError, match=rf"shards/00000.tar is damaged .*{shard[2:]}"):
        pull(version.ref, str(remote))
    assert list_versions().versions == ()
    file.unlink()
    with pytest.raises(CheckFailedError, match=r"shards/00000.tar is missing"):
        pull(version.ref, str(remote))
    file.write_bytes(original)
    assert pull(version.ref, str(remote)) == version


def test_a_cut_off_file_on_the_remote_is_sent_again(small: Any, tmp_path: Path) -> None:
    version = create_version(small)
    remote = tmp_path / "remote"
    push(version, str(remote))
    shard = next(oid for path, oid in Objects().tree(version.tree).items() if path.endswith(".tar"))
    file = remote / "files" / "md5" / shard[:2] / shard[2:]
    original = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(original[:1000])
    push(version, str(remote))
    assert file.read_bytes() == original


def test_two_versions_of_one_name(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = str(tmp_path / "remote")
    first = create_version(small)
    push(first, remote)
    delete(first)
    small.delete_samples([small.first().id])
    second = create_version(small)
    with pytest.raises(CheckFailedError, match="another"):
        push(second, remote)
    with pytest.raises(UsageError, match="another"):
        pull(second.ref, remote)
    with pytest.raises(NotFoundError, match="did you mean"):
        pull(f"{small.name}@v11", remote)
    delete(second)
    assert pull(first.ref, remote) == first == find_version(first.ref)


def test_a_remote_that_would_write_elsewhere(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest from a remote may say anything; nothing lands outside its folder."""
    from osv_lab.store.versions import registry
    from osv_lab.store.versions.content import write_entry
    from osv_lab.store.versions.manifest import open_manifest, write_manifest

    version = create_version(small)
    objects = Objects()
    manifest = open_manifest(objects, version.tree)
    lines = []
    for number, (_, entry) in enumerate(manifest.entries()):
        entry.name = "../../escaped.jpg" if number == 0 else entry.name
        lines.append((entry, write_entry(entry)))
    with objects.changing():
        tree, digest, _ = write_manifest(objects, lines, manifest.places())
        import dataclasses

        registry.register(objects, dataclasses.replace(version, name="evil", tree=tree.oid, digest=digest))
    with pytest.raises(OsvError, match="no file name"):
        rebuild(f"{small.name}@evil", tmp_path / "out" / "in")
    assert not list(tmp_path.rglob("escaped*"))


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an S3 API on loopback with one bucket, in which nothing is."""
    for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    url = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=url).create_bucket(Bucket="versions")
    yield url
    running.stop()


def test_through_s3(s3: str, make: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make()
    version = create_version(dataset)
    here = digests(rebuild(version, tmp_path / "here"))
    remote, options = "s3://versions/lab", {"endpointurl": s3}
    push(version, remote, options=options)
    elsewhere(monkeypatch, tmp_path / "empty")
    assert [found.ref for found in list_remote(remote, options=options).versions] == [version.ref]
    assert pull(version.ref, remote, options=options) == version
    assert digests(rebuild(version.ref, tmp_path / "there")) == here

    client = boto3.client("s3", endpoint_url=s3)
    shard = next(oid for path, oid in Objects().tree(version.tree).items() if path.endswith(".tar"))
    key = f"lab/files/md5/{shard[:2]}/{shard[2:]}"
    data = bytearray(client.get_object(Bucket="versions", Key=key)["Body"].read())
    data[-3000] ^= 1
    client.put_object(Bucket="versions", Key=key, Body=bytes(data))
    elsewhere(monkeypatch, tmp_path / "third")
    with pytest.raises(CheckFailedError, match=rf"shards/00000.tar is damaged .*{shard[2:]}"):
        pull(version.ref, remote, options=options)
    assert list_versions().versions == ()


def test_s3_that_cannot_be_used(s3: str, small: Any) -> None:
    version = create_version(small)
    with pytest.raises(UnavailableError):
        push(version, "s3://no-such-bucket/lab", options={"endpointurl": s3})
    with pytest.raises(UsageError, match="not a remote"):
        push(version, "nothing://bucket")
