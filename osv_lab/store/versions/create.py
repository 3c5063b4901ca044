"""Freeze a view: read it, split it, make what its steps make, pack the media, and name it last."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.core.digests import file_digest
from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError
from osv_lab.core.progress import Progress, silent, tracked
from osv_lab.core.settings import SEED, SPLITS
from osv_lab.store import splits as splitting
from osv_lab.store.bulk_read import Content, iter_contents
from osv_lab.store.documents import CONTAINERS
from osv_lab.store.memory import collecting_only_new
from osv_lab.store.transforms.catalogue import Chosen, Steps, parse_steps
from osv_lab.store.transforms.labels import renamed
from osv_lab.store.versions.assign import assign_splits
from osv_lab.store.versions.content import Entry, entry_of, write_entry
from osv_lab.store.versions.generate import Generator
from osv_lab.store.versions.manifest import open_manifest, write_manifest
from osv_lab.store.versions.model import DatasetVersion
from osv_lab.store.versions.objects import Objects
from osv_lab.store.versions.registry import list_versions, next_name, register
from osv_lab.store.versions.shards import Packer, Place

if TYPE_CHECKING:
    import fiftyone as fo


def create_version(
    view: fo.SampleCollection,
    name: str | None = None,
    splits: Mapping[str, float] | Sequence[float] | None = None,
    group_by: str | None = None,
    preprocess: Steps = (),
    augment: Steps = (),
    multiplier: int = 1,
    seed: int = SEED,
    *,
    fields: Sequence[str] | str | None = None,
    progress: Progress = silent,
) -> DatasetVersion:
    """Freeze a view's media, splits and labels under a name.

    Media that an earlier version of the dataset has are not stored or read again. A process that is killed leaves the
    store as it was.

    Args:
        view: A dataset or view of images or videos.
        name: Such as ``v1``; by default the next of ``v1``, ``v2``, ...
        splits: Ratios (``(0.8, 0.1, 0.1)``, ``{"train": 0.7, "val": 0.3}``) to split anew by, stratified by class;
            by default the samples' split tags.
        group_by: A sample field, such as a patient: no value of it is in two splits. Without ``splits`` this is
            checked.
        preprocess: Steps for every image, in order, by Roboflow's names and parameters:
            ``{"auto-orient": True, "resize": {"width": 640, "height": 640, "format": "Fit within"}}``. See
            :mod:`osv_lab.store.transforms`.
        augment: Steps for the copies of training images, in order.
        multiplier: How many images come of each training image: itself, and ``multiplier - 1`` augmented copies.
        seed: Where every random choice starts from.
        fields: Label fields; by default the ground truth fields of ingested data, or the only label field.
        progress: Told about samples.

    Raises:
        UsageError: an argument cannot be used, or the name is taken.
        NotFoundError: there is no such field.
        InvalidDataError: the view is empty, media are missing or not what they were, or a group is in two splits.

    Example:
        >>> version = create_version(dataset, splits=(0.8, 0.1, 0.1), group_by="patient")
        >>> version.summary()
        'cells@v1 ...: 20 samples (16 train, 2 val, 2 test), 30 labels'
    """
    from osv_lab.store.database import connect
    from osv_lab.store.export import _fields

    connect()
    dataset = getattr(view, "_root_dataset", None) or view
    if view.media_type not in ("image", "video"):
        raise UsageError("only images and videos have versions", f"'{dataset.name}' holds {view.media_type}")
    before, after = parse_steps(preprocess, "preprocess"), parse_steps(augment, "augment")
    if multiplier < 1 or bool(after) != (multiplier > 1):
        raise UsageError(
            "augment and multiplier go together",
            f"{len(after)} steps, multiplier={multiplier}",
            "give augment steps and multiplier=2 for one augmented copy of each training image",
        )
    if view.media_type == "video" and (before or after):
        raise UsageError(
            "steps are for images", f"'{dataset.name}' holds videos", "leave preprocess and augment out"
        )
    chosen = _fields(view, fields)
    objects = Objects()
    with objects.changing(), collecting_only_new():
        name = next_name(dataset.name, name)
        contents = list(tracked(iter_contents(view, chosen), "read", progress, len(view)))
        if not contents:
            raise InvalidDataError("there is nothing to freeze", "the view is empty", "ingest images first")
        media = _media_digests(contents, progress)
        found = assign_splits(contents, media, splits, group_by, seed)
        names = _file_names(contents, media)
        sources = [
            (entry_of(content, *of), Path(content.filepath))
            for content, of in zip(contents, zip(media, found, names, strict=True), strict=True)
        ]
        # Shards have the same bytes whatever order the samples came in.
        sources.sort(key=lambda source: (source[0].origin, source[0].name))
        skeletons = {field: _skeleton(dataset, field) for field in chosen}
        lines: list[tuple[Entry, bytes]] = []
        generator = Generator(sources, before, after, multiplier, seed, skeletons)
        with Packer(objects, _known(objects, dataset.name)) as packer:
            for entry, data in tracked(generator, "pack", progress, generator.total):
                packer.add(entry.media, Path(entry.name).suffix.lower(), data)
                lines.append((entry, write_entry(entry)))
        if not lines:
            raise InvalidDataError("there is nothing to freeze", "the steps left no image", "look at filter-null")
        tree, digest, size = write_manifest(objects, lines, packer.places)
        version = DatasetVersion(
            dataset=dataset.name,
            name=name,
            digest=digest,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            media=view.media_type,
            fields={field: _container(view, field) for field in chosen},
            class_list=_class_list(dataset, chosen, before),
            skeletons={field: names for field, names in skeletons.items() if names},
            recipe={
                "splits": splitting.check_ratios(splits) if splits is not None else None,
                "group_by": group_by,
                "preprocess": [step.to_plain() for step in before],
                "augment": [step.to_plain() for step in after],
                "multiplier": multiplier,
                "seed": seed,
            },
            size_bytes=size,
            tree=tree.oid,
            **counts(entry for entry, _ in lines),
        )
        register(objects, version)
        objects.collect()
    return version


def view_entries(view: fo.SampleCollection, fields: Sequence[str]) -> list[Entry]:
    """What a version of a view without steps would consist of, its splits as tagged."""
    contents = list(iter_contents(view, fields))
    media = _media_digests(contents, silent)
    entries = []
    for content, digest in zip(contents, media, strict=True):
        split = next((split for split in SPLITS if split in content.tags), None)
        entries.append(entry_of(content, digest, split, ""))
        write_entry(entries[-1])
    return entries


def counts(entries: Iterable[Entry]) -> dict[str, Any]:
    """What a version counts of its samples: ``samples``, ``labels``, ``splits``, ``classes``."""
    in_split: Counter[str] = Counter()
    of_class: Counter[str] = Counter()
    for entry in entries:
        in_split[entry.split or "none"] += 1
        of_class.update(label.label for label in entry.all_labels())
    return {
        "samples": sum(in_split.values()),
        "labels": sum(of_class.values()),
        "splits": {split: in_split[split] for split in (*SPLITS, "none") if in_split[split]},
        "classes": dict(sorted(of_class.items())),
    }


def _media_digests(contents: Sequence[Content], progress: Progress) -> list[str]:
    """Digests as ingest stored them; files of a dataset that was made elsewhere are read."""
    digests, missing = [], []
    for content in tracked(contents, "digest", progress):
        try:
            digests.append(content.digest or file_digest(content.filepath))
        except OSError as error:
            missing.append(f"{content.filepath} ({error.strerror})")
    if missing:
        more = f" and {len(missing) - 5:,} more" if len(missing) > 5 else ""
        raise InvalidDataError(
            f"{len(missing):,} media files cannot be read",
            ", ".join(missing[:5]) + more,
            "bring them back, or leave these samples out of the view",
        )
    return digests


def _known(objects: Objects, dataset: str) -> dict[str, Place]:
    """Where media are that earlier versions of the dataset packed."""
    places: dict[str, Place] = {}
    for version in list_versions(dataset).versions:
        try:
            manifest = open_manifest(objects, version.tree)
        except (NotFoundError, InvalidDataError):
            continue
        here = {oid for oid in manifest.shards if objects.path(oid).is_file()}
        places |= {media: place for media, place in manifest.places().items() if place.oid in here}
    return places


def _file_names(contents: Sequence[Content], media: Sequence[str]) -> list[str]:
    """A file name for each sample: its own, with part of its digest where two have the same."""
    plain = [safe_name(Path(content.filepath).name) for content in contents]
    # Names that differ in case only are one on some file systems.
    times = Counter(name.lower() for name in plain)
    names, taken = [], set(times)
    for name, digest in zip(plain, media, strict=True):
        if times[name.lower()] > 1:
            stem, suffix = Path(name).stem, Path(name).suffix
            name, number = f"{stem}-{digest[:12]}{suffix}", 1
            while name.lower() in taken:
                number += 1
                name = f"{stem}-{digest[:12]}-{number}{suffix}"
            taken.add(name.lower())
        names.append(name)
    return names


def safe_name(name: str) -> str:
    """A name that is one file in one folder on any system.

    Example:
        >>> safe_name("a/../b.jpg"), safe_name(".."), safe_name("photo 1.jpg")
        ('a_.._b.jpg', '_', 'photo 1.jpg')
    """
    clean = "".join("_" if c in '/\\:*?"<>|' or ord(c) < 32 else c for c in name).strip().strip(".")
    clean = clean.encode("utf-8", "backslashreplace").decode().replace("\\", "_")
    return clean[-200:] or "_"


def _container(view: Any, field: str) -> str:
    """The FiftyOne class that the field has in a dataset made of the version: a lone detection becomes a list."""
    kind = str(view.get_field(field).document_type.__name__)
    return f"{kind}s" if f"{kind}s" in CONTAINERS and kind != "Classification" else kind


def _class_list(dataset: Any, fields: Iterable[str], steps: Sequence[Chosen]) -> tuple[str, ...]:
    """The dataset's classes by id, as the steps rename them."""
    listed = next((dataset.classes[field] for field in fields if dataset.classes.get(field)), None)
    names = [renamed(name, steps) for name in listed or dataset.default_classes or ()]
    return tuple(dict.fromkeys(name for name in names if name))


def _skeleton(dataset: Any, field: str) -> tuple[str, ...]:
    skeleton = dataset.skeletons.get(field) or dataset.skeletons.get(field.removeprefix("frames."))
    skeleton = skeleton or dataset.default_skeleton
    return tuple(skeleton.labels or ()) if skeleton is not None else ()
