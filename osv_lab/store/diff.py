"""What changed from one version of a dataset to another, in samples and objects.

Versions keep an index with a digest per sample, so samples that are equal are never read: the work grows with the
change. Objects of a changed sample are paired, each once, in this order: equal ones; the same place and another class;
the same class and the largest overlap; another class and the largest overlap. What is left was removed or added.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from osv_lab.core.errors import UsageError, nearest
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report
from osv_lab.store.diff_objects import (
    OBJECT_CHANGES,
    ChangedObject,
    ObjectChange,
    change_name,
    compare_labels,
    label_text,
)
from osv_lab.store.records import Label
from osv_lab.store.versions.content import Entry
from osv_lab.store.versions.manifest import Manifest, Row, open_manifest
from osv_lab.store.versions.model import DatasetVersion
from osv_lab.store.versions.objects import Objects
from osv_lab.store.versions.registry import find_version

if TYPE_CHECKING:
    import fiftyone as fo

SampleChange: TypeAlias = Literal["added", "removed", "resplit", "replaced", "changed"]

SAMPLE_CHANGES: tuple[SampleChange, ...] = ("added", "removed", "resplit", "replaced", "changed")


@dataclass(frozen=True, slots=True)
class ChangedSample:
    """One sample that differs.

    Attributes:
        name: Its media file's name.
        changes: ``added``, ``removed``, or one or more of ``resplit``, ``replaced`` (other pixels from the same source)
            and ``changed`` (its objects, or whether it is labelled at all).
        splits: Its split before and after.
        objects: The objects that differ; all objects of a sample that was added or removed.
    """

    name: str
    changes: tuple[SampleChange, ...]
    splits: tuple[str | None, str | None]
    objects: tuple[ChangedObject, ...]
    rows: tuple[Row | None, Row | None] = field(repr=False, compare=False)


@dataclass(frozen=True)
class VersionDiff(Report):
    """What changed from version ``a`` to version ``b``.

    Attributes:
        a: The first version's reference.
        b: The second's.
        iou: The least overlap at which two objects count as the same one.
        samples: How many samples changed in each way; one can be ``resplit`` and ``changed``.
        objects: How many objects changed in each way, per class (the class after, for relabelled ``old → new``).
        changed: The samples that differ, by name.
        equal: How many samples are the same.
    """

    a: str
    b: str
    iou: float
    samples: Mapping[SampleChange, int]
    objects: Mapping[ObjectChange, Mapping[str, int]]
    changed: tuple[ChangedSample, ...] = field(repr=False)
    equal: int

    def rows(self) -> list[Mapping[str, Any]]:
        classes = sorted({name for counted in self.objects.values() for name in counted})
        rows = [
            {"of": name, **{change: self.objects[change].get(name, 0) for change in OBJECT_CHANGES}}
            for name in classes
        ]
        totals: dict[str, int] = {change: sum(self.objects[change].values()) for change in OBJECT_CHANGES}
        samples: dict[str, int] = {change: self.samples.get(change, 0) for change in SAMPLE_CHANGES}
        return [{"of": "samples", **samples}, {"of": "objects", **totals}, *rows]

    def summary(self) -> str:
        if not self.changed:
            return f"{self.a} and {self.b} are equal: {self.equal:,} samples"
        samples = ", ".join(f"{count:,} {change}" for change, count in self.samples.items() if count)
        totals = {change: sum(counted.values()) for change, counted in self.objects.items()}
        objects = ", ".join(f"{count:,} {change}" for change, count in totals.items() if count) or "none"
        return f"{self.a} → {self.b}: samples {samples}, {self.equal:,} equal; objects {objects}"

    def view(self, change: str | None = None, *, progress: Progress = silent) -> fo.DatasetView:
        """The samples that differ, to look at in the App, each with its labels ``before`` and ``after`` and a field
        ``changes`` that has a box with a ``change`` for every object that differs.

        Args:
            change: Only objects of this change, and their samples; ``"resplit"`` and the like: only samples of this.
            progress: Told about samples.

        Raises:
            UsageError: no such change.
        """
        from osv_lab.store.diff_view import view_of

        allowed = {*OBJECT_CHANGES, *SAMPLE_CHANGES}
        if change is not None and change not in allowed:
            raise UsageError("unknown change", repr(change), nearest(change, allowed))
        return view_of(self, change, progress)


def diff_versions(a: str | DatasetVersion, b: str | DatasetVersion, iou: float = 0.5) -> VersionDiff:
    """Compare two versions.

    Args:
        a: The first version, or its reference.
        b: The second.
        iou: The least overlap, 0 to 1, at which two objects count as the same one, moved or relabelled. Below it one
            was removed and another added.

    Raises:
        NotFoundError: there is no such version.
        UsageError: ``iou`` is out of range.

    Example:
        >>> from osv_lab.store.versions import create_version
        >>> before = create_version(dataset)
        >>> dataset.delete_samples(dataset.first())
        >>> print(diff_versions(before, create_version(dataset)).summary())
        cells@v1 → cells@v2: samples 1 removed, 19 equal; objects 2 removed
    """
    if not 0 < iou <= 1:
        raise UsageError("'iou' must be above 0 and at most 1", iou)
    first, second = find_version(a), find_version(b)
    objects = Objects()
    old, new = open_manifest(objects, first.tree), open_manifest(objects, second.tree)
    pairs, equal = _unequal(old, new)
    changed = sorted(_changed(old, new, pairs, iou), key=lambda sample: sample.name)
    samples = Counter(change for sample in changed for change in sample.changes)
    counted: dict[ObjectChange, Counter[str]] = {change: Counter() for change in OBJECT_CHANGES}
    for sample in changed:
        counted_in(sample.objects, counted)
    return VersionDiff(
        a=first.ref,
        b=second.ref,
        iou=iou,
        samples={change: samples[change] for change in SAMPLE_CHANGES},
        objects={change: dict(sorted(found.items())) for change, found in counted.items()},
        changed=tuple(changed),
        equal=equal,
    )


def counted_in(objects: Iterable[ChangedObject], counted: Mapping[ObjectChange, Counter[str]]) -> None:
    """Count objects per change and class."""
    for found in objects:
        counted[found.change][change_name(found)] += 1


def _unequal(old: Manifest, new: Manifest) -> tuple[list[tuple[Row | None, Row | None]], int]:
    """Rows of samples that differ, paired by what the sample is; and how many are equal."""
    left: dict[bytes, list[Row]] = defaultdict(list)
    right: dict[bytes, list[Row]] = defaultdict(list)
    # Rows begin with ident and key, and both indexes are sorted by them: equal samples need no more than this.
    common = Counter(old.keys())
    common &= Counter(new.keys())
    for manifest, unequal in ((old, left), (new, right)):
        seen: Counter[bytes] = Counter()
        for number, key in enumerate(manifest.keys()):
            seen[key] += 1
            if seen[key] > common[key]:
                row = manifest.row(number)
                unequal[row.ident].append(row)
    pairs: list[tuple[Row | None, Row | None]] = []
    for ident in sorted({*left, *right}):
        before, after = left.get(ident, []), right.get(ident, [])
        pairs += itertools.zip_longest(before, after)
    return pairs, common.total()


def _changed(
    old: Manifest, new: Manifest, pairs: Sequence[tuple[Row | None, Row | None]], iou: float
) -> Iterator[ChangedSample]:
    befores = old.entries([row for row, _ in pairs if row is not None])
    afters = new.entries([row for _, row in pairs if row is not None])
    for rows in pairs:
        before = next(befores)[1] if rows[0] is not None else None
        after = next(afters)[1] if rows[1] is not None else None
        entry = after or before
        assert entry is not None
        objects = tuple(_objects(before, after, iou))
        yield ChangedSample(
            name=entry.name,
            changes=_sample_changes(before, after),
            splits=(before.split if before else None, after.split if after else None),
            objects=objects,
            rows=rows,
        )


def _sample_changes(before: Entry | None, after: Entry | None) -> tuple[SampleChange, ...]:
    if before is None or after is None:
        return ("added",) if before is None else ("removed",)
    changes: list[SampleChange] = []
    if before.split != after.split:
        changes.append("resplit")
    if before.media != after.media:
        changes.append("replaced")
    if _said(before) != _said(after):
        changes.append("changed")
    return tuple(changes)


def _said(entry: Entry) -> Any:
    """All that an entry says of labels, comparable."""
    labels = {name: sorted(map(label_text, some)) for name, some in entry.labels.items()}
    frames = {
        (name, number): sorted(map(label_text, some))
        for name, numbers in (entry.frames or {}).items()
        for number, some in numbers.items()
        if some
    }
    return entry.labelled, labels, frames


def _objects(before: Entry | None, after: Entry | None, iou: float) -> Iterator[ChangedObject]:
    for (name, frame), (old, new) in _by_place(before, after).items():
        yield from compare_labels(old, new, iou, name, frame)


def _by_place(
    before: Entry | None, after: Entry | None
) -> dict[tuple[str, int | None], tuple[list[Label], list[Label]]]:
    """The labels of both versions per field and frame."""
    found: dict[tuple[str, int | None], tuple[list[Label], list[Label]]] = {}
    for side, entry in enumerate((before, after)):
        if entry is not None:
            for name, labels in entry.labels.items():
                found.setdefault((name, None), ([], []))[side].extend(labels)
            for name, frames in (entry.frames or {}).items():
                for number, labels in frames.items():
                    found.setdefault((name, number), ([], []))[side].extend(labels)
    return found
