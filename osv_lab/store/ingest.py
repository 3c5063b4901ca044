"""Bring a folder, a file or a zip of images, videos and labels into a dataset, once.

The identity of a sample is the SHA-256 of its media file, and the database refuses a second sample with the same
one. So a second run adds nothing, a killed run is continued by running it again, a renamed copy is recognised, and
two runs at the same time do not double anything.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, get_args

from osv_lab.core.errors import InterruptedJobError, InvalidDataError, NotFoundError, UsageError, nearest
from osv_lab.core.progress import Progress, silent
from osv_lab.core.settings import SPLITS
from osv_lab.store import archive, bulk, bulk_read, splits
from osv_lab.store.database import connect, database_errors
from osv_lab.store.ingest_items import folders_named_like_media, media_folder, probed, shown
from osv_lab.store.ingest_report import FileLine, IngestReport
from osv_lab.store.ingest_run import IngestRun, OnDuplicate, Options
from osv_lab.store.memory import collecting_only_new
from osv_lab.store.records import Problem, Record, Source
from osv_lab.store.schema import changing_alone

if TYPE_CHECKING:
    import fiftyone as fo

Ratios: TypeAlias = Mapping[str, float] | Sequence[float]


def ingest(
    source: str | os.PathLike[str],
    dataset: str | fo.Dataset,
    format: str = "auto",
    split: str | Ratios | None = None,
    tags: Sequence[str] = (),
    on_duplicate: OnDuplicate = "skip",
    progress: Progress = silent,
) -> IngestReport:
    """Add images or videos and their labels to a dataset.

    Nothing that is wrong with one file stops the others: the report has a line for every file and every problem. Media
    stay where they are; only the contents of a zip, and files whose names are not UTF-8, are copied into the lab.

    Args:
        source: A folder, a file that describes a data set, a video, or a zip of any of these.
        dataset: A dataset or the name of one, which is made if need be.
        format: A name of :data:`osv_lab.store.formats.FORMATS`, or ``auto``.
        split: ``None``: as the source says, else made 80/10/10, seeded and stratified by class. A name
            (``"train"``): all of it. Ratios (``{"train": 0.7, "val": 0.3}``, ``(0.7, 0.3)``): made anew by these,
            whatever the source says. ``"none"``: no splits. A sample that has a split keeps it.
        tags: Further tags for the added samples.
        on_duplicate: What to do with content that the dataset has already. ``"skip"``: leave it and say so.
            ``"update"``: replace its labels by the source's. ``"error"``: raise, with nothing added.
        progress: Told about files.

    Returns:
        The report. Its counts add up: every file has one outcome, every label one fate.

    Raises:
        NotFoundError: there is no such source.
        UsageError: an argument cannot be used, or the dataset's fields hold something else.
        InvalidDataError: the source has no known format; or ``on_duplicate="error"`` and there are duplicates.
        UnavailableError: the database cannot be used.
        InterruptedJobError: the user stopped it. Running it again continues.

    Example:
        >>> report = ingest("images", "blood", tags=["today"])
        >>> print(report.summary())
        20 files of images into 'blood': 20 added; 0 labels read: none; 0 problems; train 16, val 2, test 2 (made here)
    """
    options = _options(split, tags, on_duplicate)
    path = Path(source).expanduser()
    if not path.exists():
        raise NotFoundError("no such file or folder", shown(path), "check the path of the data")
    connect()
    name = dataset if isinstance(dataset, str) else dataset.name
    extracted: list[Problem] = []
    root = path
    if archive.is_archive(path):
        root, extracted = archive.extract(path, media_folder(name), progress=progress)
    lines: list[FileLine] = []
    try:
        with database_errors(), collecting_only_new():
            if on_duplicate == "error":
                _refuse_duplicates(root, format, name, progress)
            opened, records = _open(root, format)
            run = IngestRun(load_or_make(dataset), opened, options, progress)
            lines = run.lines
            run.take(records)
            run.finish()
            return run.report(str(path), [*extracted, *(folders_named_like_media(root) if root.is_dir() else ())])
    except KeyboardInterrupt:
        done = f"{len(lines):,} files were done"
        raise InterruptedJobError("ingest was stopped", done, "run the same again: it continues") from None


def _options(split: str | Ratios | None, tags: Sequence[str], on_duplicate: OnDuplicate) -> Options:
    if on_duplicate not in get_args(OnDuplicate):
        raise UsageError("unknown on_duplicate", repr(on_duplicate), nearest(on_duplicate, get_args(OnDuplicate)))
    if isinstance(tags, str):
        raise UsageError("tags must be a list of names", repr(tags), f"give [{tags!r}]")
    if isinstance(split, str):
        if split not in (*SPLITS, "none"):
            raise UsageError("unknown split", repr(split), nearest(split, (*SPLITS, "none")))
        return Options(split, None, tuple(tags), on_duplicate)
    return Options(None, None if split is None else splits.check_ratios(split), tuple(tags), on_duplicate)


def _open(root: Path, format: str) -> tuple[Source, Iterator[Record]]:
    from osv_lab.store.formats import open_source

    return open_source(root, format)


def load_or_make(dataset: str | fo.Dataset) -> fo.Dataset:
    """A dataset or the one of a name, made if need be, that recognises content by its digest.

    Raises:
        UsageError: no name for a dataset, or it holds other media.
    """
    import fiftyone as fo

    if not isinstance(dataset, str):
        loaded = dataset
    else:
        with changing_alone(dataset):
            if fo.dataset_exists(dataset):
                loaded = fo.load_dataset(dataset)
            else:
                try:
                    loaded = fo.Dataset(dataset, persistent=True)
                except ValueError as error:
                    fix = "use letters, digits and hyphens"
                    raise UsageError("not a dataset name", f"{dataset!r} ({error})", fix) from None
    if loaded.media_type not in (None, "image", "video"):
        raise UsageError(
            "this dataset cannot take images or videos",
            f"'{loaded.name}' holds {loaded.media_type}",
            "choose another",
        )
    bulk.ensure_digest_index(loaded)
    return loaded


def _refuse_duplicates(root: Path, format: str, dataset: str, progress: Progress) -> None:
    """Read all of the source without writing, and raise when something in it is there already."""
    import fiftyone as fo

    opened, records = _open(root, format)
    first: dict[str, str] = {}
    doubled: list[str] = []
    for done, item in enumerate(probed(records, opened.root), start=1):
        if item.media is not None:
            other = first.setdefault(item.media.digest, item.name)
            if other != item.name:
                doubled.append(f"{item.name} (same content as {other})")
        progress("check", done, None)
    if fo.dataset_exists(dataset):
        digests = iter(first)
        while batch := list(itertools.islice(digests, 1000)):
            found = bulk_read.find_by_digest(fo.load_dataset(dataset), batch)
            doubled += [
                f"{first[digest]} (in the dataset as {stored.filepath})" for digest, stored in found.items()
            ]
    if doubled:
        shown = ", ".join(doubled[:5]) + (f" and {len(doubled) - 5:,} more" if len(doubled) > 5 else "")
        raise InvalidDataError(
            f"{len(doubled):,} files are duplicates",
            shown,
            "nothing was added; use on_duplicate='skip' or 'update'",
        )
