"""Settling conflicts, one by one or all at once, without the server.

What was settled stays settled at the next pull, until somebody changes the object on the server again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from osv_lab.annotate.apply import label_writes
from osv_lab.annotate.changes import Change
from osv_lab.annotate.conflicts import EXISTENCE, ConflictReport, OpenConflict, keep_open, read_open
from osv_lab.annotate.documents import shapes_of
from osv_lab.annotate.identity import content
from osv_lab.annotate.objects import Annotations, Shape
from osv_lab.annotate.properties import SILENT, by_a_person, values_of, with_values
from osv_lab.annotate.records import Run, Runs
from osv_lab.core.errors import NotFoundError, UnavailableError, UsageError, nearest
from osv_lab.store.annotation_store import read_samples, replace_labels

if TYPE_CHECKING:
    import fiftyone as fo

Keep: TypeAlias = Literal["ours", "theirs"] | int
"""Which version: that of the dataset, that of the server, or by its place one of several on the server, from 0."""
ATTEMPTS = 8


def resolve(dataset: fo.Dataset, key: str, objects: Sequence[str] | None, keep: Keep) -> ConflictReport:
    """Settle conflicts; see :meth:`osv_lab.annotate.AnnotationLoop.resolve`."""
    if keep not in ("ours", "theirs") and not isinstance(keep, int):
        raise UsageError("keep is unknown", repr(keep), nearest(str(keep), ("ours", "theirs")))
    runs = Runs(dataset)
    with runs.alone(key):
        run = runs.get(key)
        chosen: list[OpenConflict] = []
        for _ in range(ATTEMPTS):
            every = read_open(dataset, runs, run)
            chosen = _chosen(every, objects)
            if not _write(dataset, run, chosen, keep):
                break
        else:
            raise UnavailableError("the dataset keeps changing while it is written", f"{ATTEMPTS} attempts")
        _agree(runs, run, chosen, keep)
        gone = {one.object for one in chosen}
        left = [one for one in every if one.object not in gone]
        view, theirs = keep_open(dataset, runs, run, left)
    return ConflictReport(key, tuple(left), len(chosen), view, theirs, dataset)


def without_settled(runs: Runs, run: Run, theirs: Sequence[Shape], base: Annotations) -> tuple[Shape, ...]:
    """The server's shapes, with the agreed version in place of several that were settled and are as they were then."""
    settled = runs.documents(run.key, "settled")
    if not settled:
        return tuple(theirs)
    agreed = {(shape.sample, shape.uid): shape for shape in base.shapes}
    versions: dict[tuple[str, str | None], list[Shape]] = {}
    for shape in theirs:
        versions.setdefault((shape.sample, shape.uid), []).append(shape)
    found: list[Shape] = []
    for key, some in versions.items():
        one = settled.get(f"{key[0]} {key[1]}")
        before = agreed.get(key)
        if one is None or before is None or one["versions"] != _contents(some):
            found += some
        else:
            found.append(replace(before, server_id=some[0].server_id, job=some[0].job))
    return tuple(found)


def _chosen(every: Sequence[OpenConflict], objects: Sequence[str] | None) -> list[OpenConflict]:
    if objects is None:
        return list(every)
    known = {one.object for one in every}
    for name in objects:
        if name not in known:
            raise NotFoundError(
                "this object is in no open conflict", repr(name), nearest(name, known) if known else "none is open"
            )
    return [one for one in every if one.object in objects]


def _write(dataset: fo.Dataset, run: Run, chosen: Sequence[OpenConflict], keep: Keep) -> int:
    """Bring the dataset to the kept versions; how many samples were changed by somebody meanwhile."""
    changes = [change for one in chosen if (change := _change(one, keep)) is not None]
    samples = read_samples(dataset, {change.sample for change in changes}, run.field)
    sizes = dict(zip(run.samples, run.sizes, strict=True))
    here = {
        (sample.id, shape.uid): shape
        for sample in samples
        for shape in shapes_of(sample, sizes[sample.id], run.owners.get(sample.id))
    }
    if any(here.get((change.sample, change.uid)) != change.before for change in changes):
        return 1
    return replace_labels(dataset, run.field, run.container, label_writes(dataset, run, samples, changes, sizes))


def _change(one: OpenConflict, keep: Keep) -> Change | None:
    if keep == "ours":
        return None
    there = _version(one, keep)
    if there is None:
        return Change("delete", one.object, one.ours, None, EXISTENCE) if one.ours is not None else None
    there = replace(there, uid=one.object, job=None)
    if one.ours is None:
        return Change("add", one.object, None, by_a_person(there, there.source), EXISTENCE)
    names = [name for name in one.properties if name not in EXISTENCE]
    values = values_of(there)
    after = with_values(one.ours, {**values_of(one.ours), **{name: values.get(name) for name in names}})
    if any(name not in SILENT for name in names):
        after = by_a_person(after, there.source)
    return Change("update", one.object, one.ours, after, tuple(names))


def _agree(runs: Runs, run: Run, chosen: Sequence[OpenConflict], keep: Keep) -> None:
    """What the server has of these objects is known now: the next merge compares with that."""
    samples = {one.sample for one in chosen}
    base = {(shape.sample, shape.uid): shape for shape in runs.base(run.key).of(samples).shapes}
    settled = runs.documents(run.key, "settled")
    for one in chosen:
        key = (one.sample, one.object)
        there = _version(one, keep)
        if there is None:
            base.pop(key, None)
        elif one.base is None or one.ours is None:
            base[key] = replace(there, uid=one.object, job=None)
        else:
            before, values = base.get(key, one.base), values_of(there)
            taken = {name: values.get(name) for name in one.properties}
            base[key] = replace(with_values(before, {**values_of(before), **taken}), server_id=there.server_id)
        if len(one.theirs) > 1:
            name = f"{one.sample} {one.object}"
            settled[name] = {"versions": _contents(one.theirs)}
    runs.put_base(run.key, base.values(), samples)
    runs.put_documents(run.key, "settled", settled)


def _version(one: OpenConflict, keep: Keep) -> Shape | None:
    number = keep if isinstance(keep, int) else 0
    if not one.theirs and not number:
        return None
    if not 0 <= number < len(one.theirs):
        raise UsageError("no such version on the server", number, f"{one.object} has {len(one.theirs)}, from 0")
    return one.theirs[number]


def _contents(shapes: Iterable[Shape]) -> list[str]:
    return sorted(map(content, shapes))
