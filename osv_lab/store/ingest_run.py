"""One ingest under way: batches of looked-at files become samples and report lines."""

from __future__ import annotations

import itertools
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from osv_lab.core.errors import InvalidDataError
from osv_lab.core.files import atomic_path
from osv_lab.core.progress import Progress
from osv_lab.core.settings import SPLITS
from osv_lab.store import bulk, bulk_read, splits
from osv_lab.store.bulk import NewSample, Writer
from osv_lab.store.bulk_read import Stored
from osv_lab.store.documents import same_labels
from osv_lab.store.ingest_items import Item, all_labels, is_utf8, media_folder, probed, shown
from osv_lab.store.ingest_report import FileLine, IngestReport, Outcome
from osv_lab.store.records import FIELDS, Label, Problem, Record, Source

if TYPE_CHECKING:
    import fiftyone as fo

OnDuplicate: TypeAlias = Literal["skip", "update", "error"]

BATCH = 256
"""Samples written at a time."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to ingest; see :func:`osv_lab.store.ingest.ingest`."""

    split: str | None
    ratios: Mapping[str, float] | None
    tags: tuple[str, ...]
    on_duplicate: OnDuplicate


class IngestRun:
    """Takes the records of one source into one dataset.

    Args:
        dataset: The dataset, its digest index in place.
        source: What the reader says about the source. Its problems are complete once the records are.
        options: How to ingest.
        progress: Told about files.
    """

    def __init__(self, dataset: fo.Dataset, source: Source, options: Options, progress: Progress) -> None:
        self.lines: list[FileLine] = []
        self._dataset = dataset
        self._source = source
        self._options = options
        self._progress = progress
        self._writer = Writer(dataset)
        self._problems: list[Problem] = []
        self._first: dict[bytes, str] = {}
        self._classes: dict[str, None] = {}
        self._source_has_splits = False
        self._splits_made = False
        # Samples of this source without a split, by digest: their line, id and class names.
        self._unsplit: dict[str, tuple[int, str, tuple[str, ...]]] = {}

    def take(self, records: Iterable[Record]) -> None:
        """Write all records, batch by batch."""
        items = probed(records, self._source.root)
        try:
            while batch := list(itertools.islice(items, BATCH)):
                self._choose_media_type(batch)
                self._take_batch(batch)
                self._progress("ingest", len(self.lines), None)
        finally:
            items.close()

    def finish(self) -> None:
        """Splits, class names and skeletons: what is known only when all records have been read."""
        if self._options.ratios is not None or (self._options.split is None and not self._source_has_splits):
            self._make_splits()
        known = dict.fromkeys(self._dataset.default_classes or ())
        known.update(dict.fromkeys([*self._source.classes, *self._classes]))
        if list(known) != self._dataset.default_classes:
            self._dataset.default_classes = list(known)
        self._remember_skeletons()
        about = {"format": self._source.format, "root": shown(self._source.root)}
        sources = self._dataset.info.get("sources", [])
        if about not in sources:
            self._dataset.info["sources"] = [*sources, about]
        self._dataset.save()
        self._writer.finish()

    def report(self, source: str, extracted: list[Problem]) -> IngestReport:
        """What was done."""
        counts = Counter(line.split for line in self.lines if line.split)
        loose = [*extracted, *self._source.problems]
        return IngestReport(
            dataset=self._dataset.name,
            source=shown(source),
            format=self._source.format,
            files=tuple(self.lines),
            problems=(*loose, *self._problems),
            orphans=sum(problem.consequence == "label dropped" for problem in loose),
            splits={name: counts[name] for name in SPLITS if counts[name]},
            splits_made=self._splits_made,
            classes=tuple(dict.fromkeys([*self._source.classes, *self._classes])),
            samples=len(self._dataset),
        )

    def _choose_media_type(self, batch: list[Item]) -> None:
        """A new dataset takes the media type that most of the first usable files have."""
        usable = [item.video for item in batch if item.media is not None]
        if self._dataset.media_type is None and usable:
            self._dataset.media_type = "video" if sum(usable) * 2 > len(usable) else "image"

    def _take_batch(self, batch: list[Item]) -> None:
        stored = self._stored(batch)
        new: list[tuple[int, Item]] = []
        known: list[tuple[int, Item]] = []
        repeated: list[tuple[int, Item]] = []
        for item in batch:
            position = len(self.lines)
            self._problems += item.record.problems
            self._source_has_splits |= item.record.split is not None
            if item.media is None:
                self._add_line(item, "broken", item.why_broken)
            elif item.video != (self._dataset.media_type == "video"):
                self._add_line(item, "skipped", self._other_media_type(item))
            else:
                digest = bytes.fromhex(item.media.digest)
                first = self._first.setdefault(digest, item.name)
                if first != item.name:
                    self._add_line(item, "skipped", f"same content as {first}")
                    repeated.append((position, item))
                else:
                    self._add_line(item, "added", "; ".join(item.media.notes))
                    self._check_size(item, item.media.width, item.media.height)
                    (known if item.media.digest in stored else new).append((position, item))
        self._insert(new)
        self._keep_or_update(known, stored)
        self._compare_repeated(repeated)

    def _add_line(self, item: Item, outcome: Outcome, why: str) -> None:
        self.lines.append(FileLine(item.name, outcome, why, len(item.labels), item.dropped))

    def _change_line(self, position: int, outcome: Outcome | None = None, why: str = "", split: str = "") -> None:
        line = self.lines[position]
        reasons = "; ".join(filter(None, [line.why, why]))
        self.lines[position] = replace(
            line, outcome=outcome or line.outcome, why=reasons, split=split or line.split
        )

    def _other_media_type(self, item: Item) -> str:
        holds = f"a dataset has one media type, and '{self._dataset.name}' holds {self._dataset.media_type}s"
        return f"{holds}: ingest {'videos' if item.video else 'images'} into a dataset of their own"

    def _check_size(self, item: Item, width: int, height: int) -> None:
        stated = item.record.size
        if stated is not None and stated != (width, height) and item.labels:
            turned = " (turned by its EXIF orientation?)" if stated == (height, width) else ""
            sizes = f"stated image size is {stated[0]}x{stated[1]}, the file has {width}x{height}"
            self._problems.append(Problem(item.name, f"{sizes}{turned}: check its labels", "", "label kept"))

    def _stored(self, batch: list[Item]) -> dict[str, Stored]:
        """What the dataset has of the batch's contents."""
        paths = {item.media.digest: bulk.absolute(item.record.path) for item in batch if item.media is not None}
        bulk.adopt(self._dataset, {path: digest for digest, path in paths.items() if is_utf8(path)})
        return bulk_read.find_by_digest(self._dataset, paths)

    def _insert(self, new: list[tuple[int, Item]]) -> None:
        samples = [self._sample(item) for _, item in new]
        try:
            ids = self._writer.insert(samples)
        except InvalidDataError:
            ids = [self._insert_one(position, sample) for (position, _), sample in zip(new, samples, strict=True)]
        for (position, item), sample, sample_id in zip(new, samples, ids, strict=True):
            if self.lines[position].outcome == "broken":
                continue
            if sample_id is None:
                self._change_line(position, "skipped", "another process added it at the same time")
                continue
            self._classes.update(dict.fromkeys(label.label for label in item.labels))
            split = next((tag for tag in sample.tags if tag in SPLITS), "")
            self._change_line(position, split=split)
            if not split:
                self._remember_unsplit(position, item, sample_id)

    def _insert_one(self, position: int, sample: NewSample) -> str | None:
        """Insert alone what a batch could not be inserted with."""
        try:
            sample_id = self._writer.insert([sample])[0]
        except InvalidDataError as error:
            self._change_line(position, "broken", f"{error.what}: {error.found}")
            return None
        if sample_id is None:
            # The batch got as far as this one before it failed.
            found = bulk_read.find_by_digest(self._dataset, [sample.digest]).get(sample.digest)
            sample_id = found.id if found and found.filepath == sample.filepath else None
        return sample_id

    def _sample(self, item: Item) -> NewSample:
        media, record = item.media, item.record
        assert media is not None
        split = self._options.split or (None if self._options.ratios is not None else record.split)
        tags = dict.fromkeys([*([split] if split and split != "none" else []), *record.tags, *self._options.tags])
        frames: dict[str, dict[int, list[Label]]] | None = None
        if item.video:
            frames = {}
            for number, labels in (record.frames or {}).items():
                for name, some in bulk.labels_by_field(labels).items():
                    frames.setdefault(name, {})[number] = some
        return NewSample(
            filepath=self._storable_path(record.path, media.digest),
            digest=media.digest,
            metadata=media.metadata,
            labels=bulk.labels_by_field(record.labels),
            frames=frames,
            tags=list(tags),
            labelled=record.labelled,
            values=record.fields,
        )

    def _storable_path(self, path: Path, digest: str) -> str:
        """The file's own path, or that of a copy named by its digest where the store cannot hold the name."""
        if is_utf8(path):
            return bulk.absolute(path)
        suffix = path.suffix if is_utf8(path.suffix) else ""
        copy = media_folder(self._dataset.name) / f"{digest}{suffix}"
        if not copy.exists():
            with atomic_path(copy) as temporary:
                shutil.copyfile(path, temporary)
        return str(copy)

    def _keep_or_update(self, known: list[tuple[int, Item]], stored: Mapping[str, Stored]) -> None:
        """Contents that the dataset had before this run."""
        have = self._labels_of(stored[item.media.digest].id for _, item in known if item.media)
        updates: dict[str, NewSample] = {}
        for position, item in known:
            assert item.media is not None
            old = stored[item.media.digest]
            self.lines[position] = replace(self.lines[position], outcome="skipped", why="")
            place = self._storable_path(item.record.path, item.media.digest)
            differ = item.record.labelled and not same_labels(item.labels, have.get(old.id, ()))
            moved = place != old.filepath and not os.path.exists(old.filepath)  # noqa: PTH110
            known_as = "" if place == old.filepath else f" as {old.filepath}"
            if moved:
                bulk.set_filepath(self._dataset, old.id, place)
                self._change_line(position, "updated", f"moved here from {old.filepath}")
            if differ and self._options.on_duplicate == "update":
                updates[old.id] = self._sample(item)
                self._change_line(position, "updated", "its labels were replaced")
            elif differ:
                self._change_line(
                    position,
                    why=f"already in the dataset{known_as}, with other labels (on_duplicate='update' takes these)",
                )
            elif not moved:
                self._change_line(position, why=f"already in the dataset{known_as}")
            split = next((tag for tag in old.tags if tag in SPLITS), "")
            self._change_line(position, split=split)
            self._classes.update(dict.fromkeys(label.label for label in item.labels))
            if not split:
                self._remember_unsplit(position, item, old.id)
        if updates:
            self._writer.replace_ground_truth(updates)

    def _compare_repeated(self, repeated: list[tuple[int, Item]]) -> None:
        """Say where two files of the source have the same pixels and different labels."""
        if not repeated:
            return
        stored = bulk_read.find_by_digest(self._dataset, {item.media.digest for _, item in repeated if item.media})
        have = self._labels_of(found.id for found in stored.values())
        for position, item in repeated:
            found = stored.get(item.media.digest) if item.media else None
            if found and item.record.labelled and not same_labels(item.labels, have.get(found.id, ())):
                self._change_line(position, why="but its labels differ; the first one's are in the dataset")

    def _labels_of(self, sample_ids: Iterable[str]) -> dict[str, list[Label]]:
        ids = list(sample_ids)
        if not ids:
            return {}
        fields = [*dict.fromkeys(FIELDS.values()), "ground_truth_classes"]
        records = bulk_read.iter_records(self._dataset.select(ids), fields)
        return {sample_id: all_labels(record) for sample_id, record in records}

    def _remember_unsplit(self, position: int, item: Item, sample_id: str) -> None:
        assert item.media is not None
        self._unsplit[item.media.digest] = (position, sample_id, tuple({label.label for label in item.labels}))

    def _make_splits(self) -> None:
        """Give every sample of the source that has no split one. A killed run leaves them to the next."""
        if not self._unsplit:
            return
        self._splits_made = True
        ratios = self._options.ratios or splits.DEFAULT_RATIOS
        content = {digest: names for digest, (_, _, names) in self._unsplit.items()}
        placed = splits.stratified(content, ratios, existing=bulk_read.split_content(self._dataset))
        members: dict[str, list[str]] = {}
        for digest, split in placed.items():
            position, sample_id, _ = self._unsplit[digest]
            members.setdefault(split, []).append(sample_id)
            self._change_line(position, split=split)
        for split, ids in members.items():
            self._writer.set_split(split, ids)

    def _remember_skeletons(self) -> None:
        import fiftyone as fo

        named = {names for names in self._source.skeletons.values() if names}
        if len(named) == 1 and FIELDS["keypoints"] not in self._dataset.skeletons:
            self._dataset.skeletons[FIELDS["keypoints"]] = fo.KeypointSkeleton(labels=list(named.pop()), edges=[])
