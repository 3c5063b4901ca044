"""Erase samples from a lab: every dataset, version, remote, spool, training folder and artifact that has their media.

What there is to do is written down first (``erasing-samples.json`` in the lab's folder) and every step can be done
again, so that a killed erasure is finished by the next call. Afterwards every place is searched once more.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.core.digests import file_digest
from osv_lab.core.errors import CheckFailedError, UsageError
from osv_lab.core.files import sweep_drafts, write_atomic
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report
from osv_lab.core.settings import load_settings
from osv_lab.core.words import counted
from osv_lab.store import versions
from osv_lab.store.database import connect, database_errors
from osv_lab.store.schema import changing_alone
from osv_lab.store.track_journal import forget_samples

if TYPE_CHECKING:
    import fiftyone as fo

_JOURNAL = "erasing-samples.json"
_LINES = frozenset({".txt", ".jsonl", ".log", ".csv"})
_TEXT = _LINES | {".json", ".yaml", ".yml", ".html", ".md"}
_PICTURES = frozenset({".jpg", ".jpeg", ".png"})


@dataclass(frozen=True)
class ErasePlace:
    """One place that was searched.

    Attributes:
        place: What it is.
        before: Samples, files or lines found there at first.
        after: How many at the end; as many as before where nothing was to be removed.
        note: What to know, for instance the files that were left.
    """

    place: str
    before: int
    after: int
    note: str = ""


@dataclass(frozen=True)
class EraseReport(Report):
    """The result of :func:`erase`.

    Attributes:
        media: SHA-256 of the media erased.
        done: Whether anything was removed; false for a look at what would be.
        places: Every place searched, what was there before and after.
        outside: Media files outside the lab's folder that were left, which its owner has to remove.
    """

    media: tuple[str, ...]
    done: bool
    places: tuple[ErasePlace, ...]
    outside: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """6 where something is left after an erasure, files outside included."""
        return 6 if self.done and (self.outside or any(one.after for one in self.places)) else 0

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per place, then one per file outside the lab that is still there."""
        outside = [ErasePlace("file outside the lab", 1, 1, one) for one in self.outside]
        return [dataclasses.asdict(one) for one in (*self.places, *outside)]

    def summary(self) -> str:
        """The counts in one line."""
        found, left = sum(one.before for one in self.places), sum(one.after for one in self.places)
        if not self.done:
            return f"{len(self.media):,} media in {counted(found, 'place')}; nothing was removed: erase with --yes"
        outside = f"; {counted(len(self.outside), 'file')} outside the lab left to you" if self.outside else ""
        return f"{len(self.media):,} media erased from {counted(found, 'place')}, {left:,} left{outside}"


@dataclass
class _Journal:
    """What an erasure is about and what was there when it began."""

    media: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    samples: dict[str, list[str]] = field(default_factory=dict)
    copies: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    remove_outside: bool = False
    words: list[str] = field(default_factory=list)
    mentions: int = 0


def erase(
    samples: fo.SampleCollection | None = None,
    *,
    dry_run: bool = False,
    outside: bool = False,
    everywhere: bool = True,
    progress: Progress = silent,
) -> EraseReport:
    """Erase samples and all that the lab has of their media, and search for what is left.

    Samples of all datasets that hold the same bytes go. So do byte-equal files in the lab's folder (media, captures,
    data of training runs with their label files), versions here and on every remote they were pushed to, lines of logs
    and lists that name them, and pictures of training runs that show many images at once and cannot be taken apart.

    Args:
        samples: A dataset's view. ``None`` finishes an erasure that was interrupted.
        dry_run: Only look.
        outside: Also remove the samples' media files outside the lab's folder; else the report names them.
        everywhere: Also from remotes; see :func:`osv_lab.store.versions.erase`.
        progress: Told about places.

    Returns:
        Every place with what was found before and after.

    Raises:
        UsageError: no samples, and no erasure to finish.
        CheckFailedError: a sample's file is gone and its digest is not known.
        UnavailableError: the database or a remote does not answer. Calling it again goes on.

    Example:
        >>> erase(dataset.limit(2), dry_run=True).summary()
        '2 media in 2 places; nothing was removed: erase with --yes'
    """
    connect()
    path = load_settings().home / _JOURNAL
    with changing_alone(f"erasing {path}"), database_errors():
        sweep_drafts(path)
        journal = _Journal(**json.loads(path.read_text("utf-8"))) if path.exists() else None
        if samples is not None:
            planned = _plan(samples, outside, progress)
            journal = planned if journal is None else _joined(journal, planned)
        if journal is None or not journal.media:
            raise UsageError("there is nothing to erase", "no samples, and no erasure to finish", "give a view")
        if dry_run:
            return _report(journal, None, False)
        write_atomic(path, json.dumps(dataclasses.asdict(journal)))
        _remove(journal)
        progress("erase", 1, 3)
        from_versions = versions.erase(journal.media, everywhere=everywhere, progress=progress)
        progress("erase", 2, 3)
        # What tells where the rest is goes last.
        _delete_samples(journal)
        report = _report(journal, from_versions, True)
        progress("erase", 3, 3)
        if not any(one.after for one in report.places):
            path.unlink()
        return report


def unfinished() -> bool:
    """Whether an erasure was begun and not finished; :func:`erase` without samples finishes it."""
    return (load_settings().home / _JOURNAL).exists()


def _plan(samples: fo.SampleCollection, outside: bool, progress: Progress) -> _Journal:
    fo = connect()
    ids, paths = samples.values(["id", "filepath"])
    stated = samples.values("content_digest") if samples.has_field("content_digest") else [None] * len(ids)
    media: set[str] = set()
    for at, (path, digest) in enumerate(zip(paths, stated, strict=True)):
        if digest is None and not Path(path).is_file():
            raise CheckFailedError(
                "a sample's file is gone and its digest is not known", path, "delete the sample"
            )
        media.add(digest or file_digest(path))
        progress("look for media", at + 1, len(ids))
    journal = _Journal(sorted(media), remove_outside=outside)
    files: set[str] = set()
    for name in fo.list_datasets():
        dataset = fo.load_dataset(name)
        match: list[dict[str, Any]] = [{"filepath": {"$in": list(paths)}}]
        match.append({"content_digest": {"$in": journal.media}})
        fields = dict.fromkeys(["filepath", *dataset.app_config.media_fields], 1)
        found = list(dataset._sample_collection.find({"$or": match}, fields))
        if found:
            journal.samples[name] = [str(one["_id"]) for one in found]
            files |= {one[key] for one in found for key in fields if isinstance(one.get(key), str)}
    journal.sizes = sorted({Path(one).stat().st_size for one in files if Path(one).is_file()})
    home = load_settings().home
    copies = {str(one) for one in _equal_files(journal)}
    # Thumbnails and the like: made of the media, therefore not byte-equal.
    copies |= {one for one in files if Path(one).is_file() and Path(one).resolve().is_relative_to(home)}
    journal.outside = sorted(one for one in files if Path(one).is_file() and one not in copies)
    journal.copies = sorted({*copies, *(str(one) for copy in copies for one in _beside(Path(copy)))})
    journal.pictures = sorted(str(one) for one in _pictures(journal.copies))
    ids_of = [one for found in journal.samples.values() for one in found]
    journal.words = sorted({*journal.media, *ids_of, *files, *copies})
    journal.mentions = sum(_mentioned(one, journal.words) for one in _texts())
    return journal


def _joined(old: _Journal, new: _Journal) -> _Journal:
    """Both erasures as one."""
    both: dict[str, Any] = {}
    for item in dataclasses.fields(_Journal):
        a, b = getattr(old, item.name), getattr(new, item.name)
        if isinstance(a, list):
            both[item.name] = sorted({*a, *b})
        elif isinstance(a, dict):
            both[item.name] = {name: sorted({*a.get(name, ()), *b.get(name, ())}) for name in {*a, *b}}
        else:
            both[item.name] = max(a, b)
    return _Journal(**both)


def _lab_files() -> Iterator[Path]:
    """Files of the lab but those of versions, which have an erasure of their own."""
    home = load_settings().home
    for path in home.rglob("*") if home.is_dir() else ():
        inside = path.relative_to(home).parts[0]
        if inside not in ("versions", "versions-remote", _JOURNAL) and path.is_file() and not path.is_symlink():
            yield path


def _equal_files(journal: _Journal) -> Iterator[Path]:
    """Files of the lab that have the bytes of one of the media; captures by name, since their name is the digest."""
    sizes, media = set(journal.sizes), set(journal.media)
    for path in _lab_files():
        if path.stem in media or (_size(path) in sizes and _digest(path) in media):
            yield path


def _size(path: Path) -> int:
    """Bytes of a file; -1 for one that is gone: a server's or a database's file may go at any time."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except FileNotFoundError:
        return ""


def _beside(copy: Path) -> Iterator[Path]:
    """The label file of an image in a YOLO data set, and the cache of all labels."""
    parts = list(copy.parts)
    if "images" in parts:
        at = len(parts) - 1 - parts[::-1].index("images")
        parts[at] = "labels"
        label = Path(*parts).with_suffix(".txt")
        yield from (one for one in (label, label.parent.with_suffix(".cache")) if one.is_file())


def _pictures(copies: Sequence[str]) -> Iterator[Path]:
    """Pictures of training runs that had one of the media: mosaics of batches, which cannot be taken apart."""
    settings = load_settings()
    for run in settings.runs_dir.rglob("run.json") if settings.runs_dir.is_dir() else ():
        if not any(Path(copy).is_relative_to(run.parent) for copy in copies):
            continue
        data = run.parent / "data"
        yield from (
            one for one in run.parent.rglob("*") if one.suffix in _PICTURES - {".png"} and data not in one.parents
        )
        run_id = str(json.loads(run.read_text("utf-8")).get("run_id") or "")
        if run_id and settings.artifacts_dir.is_dir():
            for folder in settings.artifacts_dir.rglob(run_id):
                yield from (one for one in folder.rglob("*") if one.suffix in _PICTURES - {".png"})


def _texts() -> Iterator[Path]:
    return (one for one in _lab_files() if one.suffix in _TEXT and _size(one) < 1 << 26)


def _mentioned(path: Path, words: Sequence[str]) -> bool:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return False
    return any(word.encode("utf-8", "surrogateescape") in data for word in words)


def _remove(journal: _Journal) -> None:
    """Files, then lines that name them."""
    unwanted = [*journal.copies, *journal.pictures, *(journal.outside if journal.remove_outside else ())]
    for name in [*unwanted, *(str(one) for one in _equal_files(journal))]:
        Path(name).unlink(missing_ok=True)
    words = [word.encode("utf-8", "surrogateescape") for word in journal.words]
    for path in list(_texts()):
        if path.suffix in _LINES and _mentioned(path, journal.words):
            lines = path.read_bytes().splitlines(keepends=True)
            write_atomic(path, b"".join(line for line in lines if not any(word in line for word in words)))


def _delete_samples(journal: _Journal) -> None:
    fo = connect()
    for name in list(journal.samples):
        if fo.dataset_exists(name):
            dataset = fo.load_dataset(name)
            forget_samples(dataset, journal.samples[name])
            dataset.delete_samples(journal.samples[name])


def _report(journal: _Journal, from_versions: versions.EraseReport | None, done: bool) -> EraseReport:
    """Search every place again."""
    fo = connect()
    copies = [one for one in journal.copies if Path(one).exists()]
    places = []
    for name, ids in sorted(journal.samples.items()):
        left = len(fo.load_dataset(name).select(ids)) if fo.dataset_exists(name) else 0
        places.append(ErasePlace(f"samples of dataset '{name}'", len(ids), left))
    equal = {str(one) for one in _equal_files(journal)} | set(copies)
    places.append(ErasePlace("files in the lab", len(journal.copies), len(equal), ", ".join(sorted(equal)[:5])))
    pictures = [one for one in journal.pictures if Path(one).exists()]
    places.append(ErasePlace("pictures of training runs", len(journal.pictures), len(pictures)))
    naming = [str(one) for one in _texts() if _mentioned(one, journal.words)]
    places.append(ErasePlace("texts that name them", journal.mentions, len(naming), ", ".join(naming[:5])))
    if from_versions is None:
        places.append(ErasePlace("samples of versions", 0, 0, "versions and remotes are searched when it is done"))
    else:
        note = f"{from_versions.looked_at:,} manifests and shards searched afterwards"
        places.append(ErasePlace("samples of versions", sum(from_versions.versions.values()), 0, note))
    outside = tuple(one for one in journal.outside if Path(one).exists())
    return EraseReport(tuple(journal.media), done, tuple(places), outside)
