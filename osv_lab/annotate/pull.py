"""Bringing labels back: a three-way merge of what was sent, what is on the server, and what the dataset holds now.

The dataset is written first and the record of what both sides agreed on last. So a pull that is killed is repeated: the
merge finds its own changes in the dataset and makes no second ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from osv_lab.annotate.apply import label_writes
from osv_lab.annotate.changes import Conflict, Merge, Note, Resolution, Scope
from osv_lab.annotate.codec import normal
from osv_lab.annotate.conflicts import remember
from osv_lab.annotate.connection import Connection
from osv_lab.annotate.documents import HOLDS, shapes_of
from osv_lab.annotate.doubles import without_doubles
from osv_lab.annotate.merge import merge
from osv_lab.annotate.objects import Annotations, Shape, Track
from osv_lab.annotate.properties import without_defaults
from osv_lab.annotate.read import There, read_finished, without_removed
from osv_lab.annotate.records import Run, Runs, place_name
from osv_lab.annotate.settle import ATTEMPTS, without_settled
from osv_lab.annotate.tracks import with_open
from osv_lab.annotate.workflow import check_done
from osv_lab.core.errors import UnavailableError, UsageError
from osv_lab.core.report import Report
from osv_lab.store.annotation_store import known_samples, read_samples, replace_labels

if TYPE_CHECKING:
    import fiftyone as fo


@dataclass(frozen=True)
class SyncReport(Report):
    """What a pull did.

    Attributes:
        key: The run's key.
        jobs_pulled: Finished jobs whose labels were merged.
        jobs_open: Jobs that were left for later.
        counts: Labels by what happened: ``untouched``, ``edited``, ``added`` and ``deleted`` on the server,
            ``edited here``, ``added here`` and ``deleted here``, ``both`` (changed on both sides without
            conflict), ``conflicts``.
        changed: Samples, or frames of videos, that were written.
        conflicts: Sample ids and classes of conflicts, and what they are about.
        conflicts_view: The saved view of the samples with open conflicts, ``None`` without any.
        theirs_field: The field that has the server's version of labels in conflict, ``None`` without any.
        problems: What could not be taken over, and what a person should know of.
    """

    key: str
    jobs_pulled: int
    jobs_open: int
    counts: Mapping[str, int]
    changed: int
    conflicts: tuple[str, ...] = ()
    conflicts_view: str | None = None
    theirs_field: str | None = None
    problems: tuple[str, ...] = ()
    dataset: Any = field(default=None, repr=False, compare=False)

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per count."""
        return [{"labels": name, "count": count} for name, count in self.counts.items()]

    def summary(self) -> str:
        """One line."""
        counts = self.counts
        text = (
            f"{counts['edited']} edited, {counts['added']} added, {counts['deleted']} deleted, "
            f"{counts['untouched']} untouched; {self.jobs_pulled} jobs pulled, {self.jobs_open} open"
        )
        if self.conflicts:
            where = f"saved view '{self.conflicts_view}'" if self.conflicts_view else "settled"
            text += f"; {len(self.conflicts)} conflicts: {where}"
        return f"{text}; {len(self.problems)} notes, first: {self.problems[0]}" if self.problems else text

    def view(self) -> Any:
        """The samples with conflicts, as a FiftyOne view."""
        if self.conflicts_view is None:
            return self.dataset.select([])
        return self.dataset.load_saved_view(self.conflicts_view)


def pull(
    cvat: Connection, dataset: fo.Dataset, key: str, conflict: Resolution = "review", done: str | None = None
) -> SyncReport:
    """Merge what annotators did into the dataset; see :meth:`osv_lab.annotate.AnnotationLoop.pull`."""
    if done is not None:
        check_done(done)
    runs = Runs(dataset)
    with runs.alone(key):
        run = runs.get(key)
        if run.phase != "sent":
            raise UsageError(f"'{key}' was interrupted while {run.phase}", fix="run the same send or cancel again")
        base = runs.base(key)
        there = read_finished(cvat, runs, run, base, done or run.done)
        base, removed = without_removed(base, there)
        holdable, notes = _holdable(there.shapes, base, run.container)
        there = replace(there, shapes=holdable)
        merged, scope, counts = _merge_into(dataset, runs, run, base, there, conflict)
        merged = replace(merged, notes=(*there.notes, *notes, *merged.notes))
        places = [place_name(*place) for _, place in there.places if scope.holds(*place)]
        runs.put_returned(key, _as_set(there, base, run), there.places)
        runs.put_some(
            key, counted={}, jobs=there.jobs, pulled=datetime.now(UTC).isoformat(timespec="milliseconds")
        )
        runs.put_base(key, merged.base.shapes, places)
        _keep_tracks(runs, run, there, merged, settled=conflict != "review")
        view, theirs = remember(dataset, runs, run, merged.conflicts, scope, settled=conflict != "review")
    return SyncReport(
        key,
        there.pulled,
        there.open,
        {name: merged.counts.get(name, 0) for name in COUNTS},
        counts,
        told(_about(conflict) for conflict in merged.conflicts),
        view,
        theirs,
        (*removed, *there.problems, *told((_words(note), note.theirs) for note in merged.notes)),
        dataset,
    )


COUNTS = (
    "untouched",
    "edited",
    "added",
    "deleted",
    "both",
    "conflicts",
    "edited here",
    "added here",
    "deleted here",
)


def _merge_into(
    dataset: fo.Dataset, runs: Runs, run: Run, base: Annotations, there: There, conflict: Resolution
) -> tuple[Merge, Scope, int]:
    """Merge, write; again from the start where somebody else wrote meanwhile."""
    single, doubles = without_doubles(there.shapes, base)
    theirs = without_settled(runs, run, single, base)
    uids = {(shape.sample, shape.uid) for shape in base.shapes}
    types = there.schema.types(run.types)
    sizes = dict(zip(run.samples, run.sizes, strict=True))
    written = 0
    first: Merge | None = None
    for _ in range(ATTEMPTS):
        here = known_samples(dataset, {sample for _, (sample, _) in there.places})
        scope = Scope({sample: ranges for sample, ranges in there.scope.ranges.items() if sample in here})
        samples = [
            sample
            for sample in read_samples(dataset, sorted(here), run.field)
            if scope.holds(sample.id, sample.frame)
        ]
        ours = [
            shape
            for sample in samples
            for shape in (
                normal(one, types) for one in shapes_of(sample, sizes[sample.id], run.owners.get(sample.id))
            )
            if not run.chosen or shape.label in run.classes or (shape.sample, shape.uid) in uids
        ]
        merged = merge(
            base.of(here),
            Annotations(theirs).of(here),
            Annotations(tuple(ours)),
            conflict,
            scope=scope,
            labels=run.classes,
            defaults=there.schema.defaults(run.types),
        )
        merged = replace(merged, notes=(*doubles, *merged.notes))
        first = first or merged
        writes = label_writes(dataset, run, samples, merged.changes, sizes)
        lost = replace_labels(dataset, run.field, run.container, writes)
        written += len(writes) - lost
        if not lost:
            # A second attempt counts what the first one did as done; the report tells of all of it.
            return (merged if first is merged else replace(merged, counts=first.counts)), scope, written
    raise UnavailableError(
        "the dataset keeps changing while it is written", f"{ATTEMPTS} attempts", "pull again when others are done"
    )


def _keep_tracks(runs: Runs, run: Run, there: There, merged: Merge, *, settled: bool) -> None:
    """The tracks as both sides agree on them now; what is in conflict is compared as it is the next time."""
    open_ones = {one.uid: one.properties for one in merged.conflicts if not settled or one.others}
    for part, tracks in there.tracks.items():
        runs.put_tracks(run.key, part, with_open(tracks, there.shapes, open_ones))


def _as_set(there: There, base: Annotations, run: Run) -> list[Shape]:
    """The server's shapes with what people set, and without what CVAT filled in."""
    known = {(shape.sample, shape.uid): shape for shape in base.shapes}
    jobs = {place: job for job, place in there.places}
    defaults = there.schema.defaults(run.types)
    found = [without_defaults(shape, known.get((shape.sample, shape.uid)), defaults) for shape in there.shapes]
    return [
        shape if shape.job is not None else replace(shape, job=jobs.get((shape.sample, shape.frame)))
        for shape in found
    ]


def _holdable(theirs: Sequence[Shape], base: Annotations, container: str) -> tuple[tuple[Shape, ...], list[Note]]:
    """The server's shapes that the field can hold. A known object that became something else stays as it was."""
    kinds = HOLDS[container]
    known = {(shape.sample, shape.uid): shape for shape in base.shapes}
    found, notes = [], []
    for shape in theirs:
        before = known.get((shape.sample, shape.uid))
        if shape.kind in kinds:
            found.append(shape)
            continue
        if before is not None and before.kind == "oriented" and shape.kind == "box":
            # Turned back to no angle at all: still an oriented box.
            found.append(replace(shape, kind="oriented"))
            continue
        notes.append(Note("unknown shape", shape))
        if before is not None:
            found.append(replace(before, server_id=shape.server_id, job=shape.job))
    if container == "Classification":
        found, more = _one_tag_each(found, known)
        notes += more
    return tuple(found), notes


def _one_tag_each(
    theirs: Sequence[Shape], known: Mapping[tuple[str, str | None], Shape]
) -> tuple[list[Shape], list[Note]]:
    """A field of one classification per sample holds one tag: that of ours if it is still there, else the first."""
    found: dict[tuple[str, int], Shape] = {}
    known_first = sorted(theirs, key=lambda one: (one.sample, one.uid) not in known)
    others = [shape for shape in known_first if found.setdefault((shape.sample, shape.frame), shape) is not shape]
    return list(found.values()), [Note("second tag, left there", shape) for shape in others]


def _about(conflict: Conflict) -> tuple[str, Any]:
    one = conflict.ours or conflict.base or conflict.theirs
    label = str(one.label) if one is not None else "?"
    return f"sample {conflict.sample}: {label}, {', '.join(conflict.properties)}", one


def _words(note: Note) -> str:
    one = note.theirs
    if isinstance(one, Track):
        return f"{note.what}: track of {one.kind} '{one.label}'"
    return f"{note.what}: {one.kind} '{one.label}' on sample {one.sample}"


def told(lines: Iterable[tuple[str, Any]]) -> tuple[str, ...]:
    """Lines about objects; of those about a track's frames one, with the frames."""
    found: dict[tuple[str, Any], list[int]] = {}
    for number, (line, one) in enumerate(lines):
        track = getattr(one, "track", None)
        key = (line, track if track is not None else number)
        found.setdefault(key, []).append(getattr(one, "frame", 0))
    return tuple(
        line if not max(frames) else f"{line}, {_frames(sorted(frames))}" for (line, _), frames in found.items()
    )


def _frames(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"frame {numbers[0]}"
    return f"{len(numbers)} frames from {numbers[0]} to {numbers[-1]}"
