"""The merge of shapes and tags."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from osv_lab.annotate.changes import Change, Conflict, Key, Note, Resolution, Scope, key_of
from osv_lab.annotate.identity import identify
from osv_lab.annotate.objects import KINDS, Shape, Value
from osv_lab.annotate.overlap import pair_additions
from osv_lab.annotate.properties import by_a_person, same, values_of, without_defaults
from osv_lab.annotate.threeway import Collected, after_verdict, as_base, judge

EXISTENCE = ("existence",)


def merge_shapes(
    base: Sequence[Shape],
    theirs: Sequence[Shape],
    ours: Sequence[Shape],
    conflict: Resolution,
    *,
    scope: Scope | None,
    labels: Collection[str] | None,
    defaults: Mapping[str, Mapping[str, Value]] | None,
    into: Collected,
) -> None:
    """Merge the shapes within ``scope``; see :func:`osv_lab.annotate.merge.merge`."""

    def inside(shape: Shape) -> bool:
        return scope is None or scope.holds(shape.sample, shape.frame)

    before = {key_of(shape): shape for shape in base if inside(shape)}
    into.base += [shape for shape in base if not inside(shape)]
    here = {key_of(shape): shape for shape in ours if inside(shape)}
    there = []
    for shape in theirs:
        if inside(shape):
            if shape.kind in KINDS:
                there.append(shape)
            else:
                into.notes.append(Note("unknown shape", shape))
    versions, additions, notes = identify(before, there)
    into.notes += notes
    if labels is not None:
        into.notes += [Note("unknown label", shape) for shape in there if shape.label not in labels]
    merging = _Merging(conflict, defaults, into)
    for key, shape in before.items():
        merging.known(key, shape, versions.get(key, ()), here.get(key))
    merging.added(additions, {key: shape for key, shape in here.items() if key not in before})


class _Merging:
    def __init__(
        self, conflict: Resolution, defaults: Mapping[str, Mapping[str, Value]] | None, into: Collected
    ) -> None:
        self._conflict: Resolution = conflict
        self._defaults = defaults
        self._into = into

    def known(self, key: Key, base: Shape, versions: Sequence[Shape], ours: Shape | None) -> None:
        """One object that both sides had when they last agreed."""
        into = self._into
        theirs = [without_defaults(shape, base, self._defaults) for shape in versions]
        touched = [shape for shape in theirs if not same(base, shape)]
        if not theirs:
            self._deleted_there(key, base, ours)
        elif ours is None:
            self._deleted_here(key, base, theirs[0], touched)
        elif not touched:
            into.base.append(replace(theirs[0], uid=key[2], job=None))
            into.counts["untouched" if same(base, ours) else "edited here"] += 1
        else:
            self._both(key, base, theirs, ours)

    def _deleted_there(self, key: Key, base: Shape, ours: Shape | None) -> None:
        into = self._into
        if ours is None:
            into.counts["deleted"] += 1
            return
        changed = not same(base, ours)
        into.counts["conflicts" if changed else "deleted"] += 1
        delete = not changed or self._conflict == "theirs"
        if changed:
            into.conflicts.append(
                Conflict(
                    key[2], key[0], EXISTENCE, base, None, ours, "theirs" if self._conflict == "theirs" else "ours"
                )
            )
        if delete:
            into.changes.append(Change("delete", key[2], ours, None, EXISTENCE))
        elif self._conflict == "review":
            into.base.append(base)

    def _deleted_here(self, key: Key, base: Shape, theirs: Shape, touched: Sequence[Shape]) -> None:
        into = self._into
        if not touched:
            into.counts["deleted here"] += 1
            into.base.append(replace(theirs, uid=key[2], job=None))
            return
        there = touched[0]
        into.counts["conflicts"] += 1
        again = self._conflict == "theirs"
        kept = "theirs" if again else "ours"
        into.conflicts.append(
            Conflict(key[2], key[0], EXISTENCE, base, there, None, kept, others=tuple(touched[1:]))  # type: ignore[arg-type]
        )
        if again:
            after = by_a_person(replace(there, uid=key[2], job=None), there.source)
            into.changes.append(Change("add", key[2], None, after, EXISTENCE))
        into.base.append(base if self._conflict == "review" else replace(there, uid=key[2], job=None))

    def _both(self, key: Key, base: Shape | None, theirs: Sequence[Shape], ours: Shape) -> None:
        into = self._into
        verdict = judge(
            values_of(base) if base is not None else None,
            [values_of(shape) for shape in theirs],
            values_of(ours),
            self._conflict,
        )
        if verdict.conflicts:
            into.conflicts.append(
                Conflict(
                    key[2],
                    key[0],
                    tuple(verdict.conflicts),
                    base,
                    theirs[0],
                    ours,
                    "theirs" if self._conflict == "theirs" else "ours",
                    others=tuple(theirs[1:]),
                )
            )
        if verdict.taken:
            after = after_verdict(ours, verdict, theirs[0].source)
            into.changes.append(Change("update", key[2], ours, after, tuple(verdict.taken)))
        if base is not None:
            into.base.append(as_base(theirs[0], key[2], verdict.base))
            into.counts["conflicts" if verdict.conflicts else "both" if verdict.ours else "edited"] += 1

    def added(self, additions: Sequence[Shape], here: Mapping[Key, Shape]) -> None:
        """Objects that one side has and the base has not."""
        into = self._into
        clean = [without_defaults(shape, None, self._defaults) for shape in additions]
        again = [shape for shape in clean if key_of(shape) in here]
        known = {key_of(shape) for shape in again}
        fresh = [shape for shape in clean if key_of(shape) not in known]
        for shape in again:
            # Written by a pull that did not come to record it.
            self._both(key_of(shape), None, [shape], here[key_of(shape)])
            into.base.append(replace(shape, job=None))
            into.counts["added"] += 1
        mine = [shape for key, shape in here.items() if key not in known]
        twins, near = pair_additions(fresh, mine)
        into.notes += near
        for shape in fresh:
            twin = twins.get(key_of(shape))
            if twin is not None:
                into.base.append(replace(shape, uid=twin.uid, job=None))
                into.counts["both"] += 1
            else:
                after = replace(shape, job=None)
                after = after if shape.source == "auto" else by_a_person(after, shape.source)
                into.changes.append(Change("add", key_of(shape)[2], None, after, EXISTENCE))
                into.base.append(replace(shape, job=None))
                into.counts["added"] += 1
        into.counts["added here"] += len(mine) - len(twins)
