"""Take media out of every version, here and on the remotes, for good, and prove it.

A version that held one of them stays, without it: its record names a new folder and digest, and says how many samples
were erased and what its digest was. Each record changes in one step. What there is to do is written down first, so that
a killed erasure is finished by the next call.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osv_lab.core.errors import CheckFailedError, InvalidDataError, UsageError
from osv_lab.core.files import sweep_drafts, write_atomic
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report
from osv_lab.core.settings import load_settings
from osv_lab.core.words import counted
from osv_lab.store.versions import remote as remotes
from osv_lab.store.versions.content import Entry, write_entry
from osv_lab.store.versions.create import counts
from osv_lab.store.versions.manifest import INDEX, SAMPLES, Manifest, open_manifest, write_manifest
from osv_lab.store.versions.model import DatasetVersion
from osv_lab.store.versions.objects import Objects, folder_of
from osv_lab.store.versions.places import Remote, open_remote
from osv_lab.store.versions.registry import list_versions, register
from osv_lab.store.versions.shards import Place, members, without

_JOURNAL = "erasing.json"


@dataclass(frozen=True)
class EraseReport(Report):
    """What an erasure did, and the proof.

    Attributes:
        media: Digests asked for, and of what versions had made of them (augmented copies, tiles, mosaics).
        versions: Samples erased per version.
        shards: How many shards were written anew.
        removed: Stored files removed per place (``here``, or the address of a remote).
        looked_at: Manifests and shards read afterwards, in which none of ``media`` is.
        copies: Media files removed that had been unpacked from versions.
    """

    media: tuple[str, ...]
    versions: Mapping[str, int]
    shards: int
    removed: Mapping[str, int]
    looked_at: int
    copies: int

    def rows(self) -> list[Mapping[str, Any]]:
        rows: list[Mapping[str, Any]]
        rows = [{"what": "samples erased", "where": ref, "count": count} for ref, count in self.versions.items()]
        rows += [{"what": "stored files removed", "where": place, "count": n} for place, n in self.removed.items()]
        rows.append({"what": "unpacked media removed", "where": "here", "count": self.copies})
        rows.append(
            {"what": "manifests and shards searched, none found", "where": "here", "count": self.looked_at}
        )
        return rows

    def summary(self) -> str:
        erased = counted(sum(self.versions.values()), "sample")
        searched = counted(self.looked_at, "manifest and shard", "manifests and shards")
        return (
            f"{erased} erased from {counted(len(self.versions), 'version')}, "
            f"{counted(self.shards, 'shard')} written anew; "
            f"{searched} searched afterwards: none of {len(self.media):,} media is left"
        )


@dataclass
class _Journal:
    """What an erasure is about: media to erase, files that may have held them, versions, and what was done."""

    media: list[str] = dataclasses.field(default_factory=list)
    suspects: list[str] = dataclasses.field(default_factory=list)
    versions: dict[str, int] = dataclasses.field(default_factory=dict)
    brought: list[str] = dataclasses.field(default_factory=list)
    names: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    shards: int = 0
    copies: int = 0


def erase(media: Iterable[str], *, everywhere: bool = True, progress: Progress = silent) -> EraseReport:
    """Erase media from every version.

    Args:
        media: SHA-256 digests of media files. Whatever versions made of them goes with them.
        everywhere: Also from every remote that this lab has pushed to. What only a remote has is brought here for it.
        progress: Told about versions and files.

    Returns:
        What was done. The datasets of the store are not touched, but for the lab's own copies of versions.

    Raises:
        UsageError: not a digest.
        UnavailableError: a remote does not answer. What is here is erased; the next call goes on with the remote.
        CheckFailedError: something was found afterwards.

    Example:
        >>> from osv_lab.core.digests import file_digest
        >>> from osv_lab.store.versions import create_version
        >>> version = create_version(dataset)
        >>> erase([file_digest(dataset.first().filepath)]).summary()
        '1 sample erased from 1 version, 1 shard written anew; ... none of 1 media is left'
    """
    wanted = sorted({_checked(digest) for digest in media})
    objects = Objects()
    with objects.changing():
        sweep_drafts(objects.root / _JOURNAL)
        journal = _read_journal(objects)
        journal.media = sorted({*journal.media, *wanted})
        _write_journal(objects, journal)
    there = remotes.pushed_to(objects) if everywhere else []
    for place in there:
        _bring(objects, journal, place, progress)
    with objects.changing():
        _plan(objects, journal)
        _write_journal(objects, journal)
        removed = {"here": _erase_here(objects, journal, progress)}
        looked_at = _prove(objects, set(journal.media))
    for place in there:
        with open_remote(place["remote"], place["options"]) as opened:
            removed[opened.url] = _erase_there(objects, opened, journal, progress)
    with objects.changing():
        for ref in journal.brought:
            dataset, _, name = ref.rpartition("@")
            objects.record(dataset, name).unlink(missing_ok=True)
        objects.collect()
        (objects.root / _JOURNAL).unlink(missing_ok=True)
    erased = {ref: count for ref, count in journal.versions.items() if count}
    return EraseReport(tuple(journal.media), erased, journal.shards, removed, looked_at, journal.copies)


def unfinished() -> bool:
    """Whether an erasure was begun and not finished; calling :func:`erase` with nothing finishes it."""
    return (Objects().root / _JOURNAL).exists()


def _checked(digest: str) -> str:
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise UsageError("not the digest of a media file", repr(digest), "give SHA-256 in hexadecimal")
    return digest


def _read_journal(objects: Objects) -> _Journal:
    with contextlib.suppress(FileNotFoundError):
        return _Journal(**json.loads((objects.root / _JOURNAL).read_text("utf-8")))
    return _Journal()


def _write_journal(objects: Objects, journal: _Journal) -> None:
    write_atomic(objects.root / _JOURNAL, json.dumps(dataclasses.asdict(journal)))


def _bring(objects: Objects, journal: _Journal, place: Mapping[str, Any], progress: Progress) -> None:
    """Pull the versions that only a remote has: their shards cannot be searched or rewritten there."""
    here = {version.ref for version in list_versions().versions}
    for version in remotes.list_remote(place["remote"], options=place["options"]).versions:
        if version.ref not in here:
            with objects.changing():
                journal.brought = sorted({*journal.brought, version.ref})
                _write_journal(objects, journal)
            remotes.pull(version.ref, place["remote"], options=place["options"], progress=progress)


def _plan(objects: Objects, journal: _Journal) -> None:
    """Complete the list of media by what was made of them, and note which files hold any of them."""
    media = set(journal.media)
    manifests = {version.ref: open_manifest(objects, version.tree) for version in list_versions().versions}
    for ref, manifest in manifests.items():
        for _, entry in manifest.entries():
            if _made_of(entry, media):
                journal.names.setdefault(ref, []).append(entry.name)
    for ref, manifest in manifests.items():
        names = set(journal.names.get(ref, ()))
        media |= {entry.media for _, entry in manifest.entries() if entry.name in names} if names else set()
    journal.media = sorted(media)
    suspects = set(journal.suspects)
    for version in list_versions().versions:
        files = objects.tree(version.tree)
        bad = {oid for path, oid in files.items() if path.endswith(".tar") and _holds(objects, oid, media)}
        rows = sum(_made_of(entry, media) for _, entry in manifests[version.ref].entries())
        if bad or rows:
            suspects |= {version.tree, files[SAMPLES], files[INDEX], *bad}
            journal.versions[version.ref] = rows
    journal.suspects = sorted(suspects)


def _made_of(entry: Entry, media: set[str]) -> bool:
    return not media.isdisjoint({entry.media, entry.origin, *entry.also})


def _holds(objects: Objects, oid: str, media: set[str]) -> bool:
    return any(member in media for member, _ in members(objects.path(oid)))


def _erase_here(objects: Objects, journal: _Journal, progress: Progress) -> int:
    media, suspects = set(journal.media), set(journal.suspects)
    new: dict[str, dict[str, Place]] = {}
    affected = [version for version in list_versions().versions if version.tree in suspects]
    for done, version in enumerate(affected):
        progress("erase", done, len(affected))
        manifest = open_manifest(objects, version.tree)
        for oid in set(manifest.shards) & suspects - set(new):
            new[oid] = without(objects, oid, media.__contains__)[1]
            journal.shards += 1
        _rewrite(objects, version, manifest, media, new)
    progress("erase", len(affected), len(affected))
    _drop_copies(journal)
    return len(objects.collect())


def _rewrite(
    objects: Objects,
    version: DatasetVersion,
    manifest: Manifest,
    media: set[str],
    new: Mapping[str, Mapping[str, Place]],
) -> None:
    lines: list[tuple[Entry, bytes]] = []
    places: dict[str, Place] = {}
    erased = 0
    for row, entry in manifest.entries():
        if _made_of(entry, media):
            erased += 1
            continue
        old = manifest.place(row)
        places[entry.media] = new[old.oid][entry.media] if old.oid in new else old
        lines.append((entry, write_entry(entry)))
    tree, digest, size = write_manifest(objects, lines, places)
    former = (*version.former, *([version.digest] if digest != version.digest else []))
    changed = dataclasses.replace(
        version,
        digest=digest,
        tree=tree.oid,
        size_bytes=size,
        erased=version.erased + erased,
        former=former,
        **counts(entry for entry, _ in lines),
    )
    register(objects, changed, replace=True)


def _drop_copies(journal: _Journal) -> None:
    """Media unpacked from versions, and the lab's own copies of the versions that had them."""
    top = load_settings().media_dir / "versions"
    for ref, names in journal.names.items():
        dataset = ref.rpartition("@")[0]
        for folder in (*top.glob(f"{_literal(ref)}-*"), *top.glob(f"{_literal(dataset)}-*")):
            for name in names:
                file = folder / Path(name).name
                if file.is_file():
                    file.unlink()
                    journal.copies += 1
    affected = [ref for ref, names in journal.names.items() if names]
    if affected:
        from osv_lab.store.database import connect

        fo = connect()
        for ref in affected:
            if fo.dataset_exists(ref):
                fo.delete_dataset(ref)


def _literal(name: str) -> str:
    import glob

    return glob.escape(folder_of(name))


def _prove(objects: Objects, media: set[str]) -> int:
    """Search every manifest and shard that is left; how many.

    Raises:
        CheckFailedError: one of the media is still there.
    """
    looked_at = 0
    for version in list_versions().versions:
        for path, oid in objects.tree(version.tree).items():
            looked_at += 1
            if path.endswith(".tar"):
                found = _holds(objects, oid, media)
            else:
                data = objects.path(oid).read_bytes()
                found = any(digest.encode() in data or bytes.fromhex(digest) in data for digest in media)
            if found:
                raise CheckFailedError(
                    "media is left after an erasure", f"{version.ref}, {path}", "erase it again"
                )
    return looked_at


def _erase_there(objects: Objects, there: Remote, journal: _Journal, progress: Progress) -> int:
    """Bring the rewritten versions to a remote, then remove there what they replace."""
    kept: set[str] = set()
    for version in list(there.versions()):
        with objects.changing():
            here = {known.ref: known for known in list_versions().versions}.get(version.ref)
            if here is None or version.digest not in (here.digest, *here.former):
                # Another version of this name than the one here: not ours to replace, but it must not hold them.
                raise InvalidDataError(
                    "a remote has a version that was never here",
                    f"{version.ref} on {there.url}",
                    "pull and erase it",
                )
            kept |= {here.tree, *objects.tree(here.tree).values()}
            if version.tree != here.tree:
                remotes.send_files(objects, there, here, progress)
                there.write(objects.record(here.dataset, here.name), there.record(here.dataset, here.name))
    removed = _sweep(there)
    for oid in sorted(set(journal.suspects) - kept):
        path = there.path(oid)
        if there.size(path) is not None:
            there.remove(path)
            removed += 1
        if there.size(path) is not None:
            raise CheckFailedError(
                "a file could not be removed from a remote", f"{path} on {there.url}", "remove it"
            )
    return removed


def _sweep(there: Remote) -> int:
    """Remove what killed pushes left half written in a folder. (On S3 such parts are invisible; a lifecycle rule of the
    bucket ends them.)"""
    if there.fs.protocol != "local" or not there.fs.exists(there.files):
        return 0
    left = [path for path in there.fs.find(there.files) if path.endswith(".tmp")]
    for path in left:
        there.remove(path)
    return len(left)


def finish(progress: Progress = silent) -> EraseReport | None:
    """Finish an erasure that was interrupted, if there is one."""
    return erase((), progress=progress) if unfinished() else None
