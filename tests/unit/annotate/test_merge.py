"""The three-way merge of shapes: its rules one by one, and its laws over random edits on both sides."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osv_lab.annotate.changes import Scope, key_of
from osv_lab.annotate.merge import merge
from osv_lab.annotate.objects import Annotations, Shape
from osv_lab.annotate.properties import same
from osv_lab.core.errors import InvalidDataError, UsageError

SENT = Shape(
    "a", "s0", "box", "cat", (0.1, 0.2, 30.3, 40.4), confidence=0.7, model="m", source="auto", server_id=1
)
THERE = replace(SENT, confidence=None, model=None)


def of(*shapes: Shape) -> Annotations:
    return Annotations(shapes)


def moved(shape: Shape, by: float) -> Shape:
    return replace(shape, points=tuple(value + by for value in shape.points))


def test_untouched_stays_as_it_is() -> None:
    done = merge(of(SENT), of(moved(THERE, 1e-9)), of(SENT))
    assert done.changes == () and done.conflicts == () and done.counts["untouched"] == 1
    assert done.applied(of(SENT)).shapes[0] is SENT


def test_an_edit_there_makes_it_a_persons() -> None:
    (change,) = merge(of(SENT), of(moved(THERE, 3)), of(SENT)).changes
    assert isinstance(change.after, Shape)
    assert change.properties == ("geometry",) and change.after.points == moved(SENT, 3).points
    assert (change.after.source, change.after.confidence, change.after.model) == ("manual", None, None)


def test_edits_of_different_properties_are_both_kept() -> None:
    done = merge(of(SENT), of(moved(THERE, 3)), of(replace(SENT, label="dog")))
    assert not done.conflicts
    (shape,) = done.applied(of(replace(SENT, label="dog"))).shapes
    assert shape.label == "dog" and shape.points == moved(SENT, 3).points


@pytest.mark.parametrize(("conflict", "kept"), [("review", "dog"), ("ours", "dog"), ("theirs", "cow")])
def test_a_conflict_has_both_versions_and_is_settled_only_where_asked(conflict: str, kept: str) -> None:
    ours, theirs = replace(SENT, label="dog"), replace(THERE, label="cow")
    done = merge(of(SENT), of(theirs), of(ours), conflict)  # type: ignore[arg-type]
    (found,) = done.conflicts
    assert found.properties == ("label",) and (found.base, found.theirs, found.ours) == (SENT, theirs, ours)
    after = done.applied(of(ours))
    assert after.shapes[0].label == kept
    again = merge(done.base, of(theirs), after, conflict)  # type: ignore[arg-type]
    assert not again.changes and len(again.conflicts) == (conflict == "review")


def test_deletions() -> None:
    assert merge(of(SENT), of(), of(SENT)).changes[0].action == "delete"
    assert not merge(of(SENT), of(THERE), of()).changes
    edited = replace(SENT, label="dog")
    for theirs, ours in ((of(), of(edited)), (of(replace(THERE, label="cow")), of())):
        kept = merge(of(SENT), theirs, ours)
        assert kept.conflicts[0].properties == ("existence",) and not kept.changes
        taken = merge(of(SENT), theirs, ours, "theirs").applied(ours)
        assert len(taken) == len(theirs)


def test_additions_of_both_sides_that_are_one_box_are_one() -> None:
    drawn = replace(moved(THERE, 100), uid=None, server_id=9)
    here = replace(moved(SENT, 100.01), uid="mine")
    done = merge(of(), of(drawn), of(here))
    assert not done.changes and done.base.shapes[0].uid == "mine"
    near = replace(moved(SENT, 102), uid="mine")
    kept = merge(of(), of(drawn), of(near))
    assert [note.what for note in kept.notes] == ["near duplicate"] and len(kept.applied(of(near))) == 2


def test_a_copy_gets_an_identity_of_its_own() -> None:
    copy = replace(moved(THERE, 50), server_id=5)
    done = merge(of(SENT), of(copy, THERE), of(SENT))
    (change,) = done.changes
    assert change.action == "add" and change.uid != "a" and isinstance(change.after, Shape)
    assert change.after.points == copy.points and change.after.confidence is None
    assert [note.what for note in done.notes] == ["copied"]


def test_what_the_dataset_cannot_hold_is_noted() -> None:
    done = merge(of(), of(replace(THERE, uid=None, kind="ellipse", server_id=8)), of())
    assert [note.what for note in done.notes] == ["unknown shape"] and not done.changes
    strange = merge(of(), of(replace(THERE, uid=None, label="yak", server_id=8)), of(), labels={"cat"})
    assert strange.notes[0].what == "unknown label" and len(strange.changes) == 1


def test_filled_in_defaults_are_no_edits() -> None:
    filled = replace(THERE, attributes={"colour": "red"})
    assert not merge(of(SENT), of(filled), of(SENT), defaults={"cat": {"colour": "red"}}).changes
    assert merge(of(SENT), of(filled), of(SENT)).changes


def test_annotators_of_overlapping_jobs_who_disagree_are_a_conflict() -> None:
    theirs = of(replace(THERE, label="dog", job=1), replace(THERE, label="cow", job=2, server_id=2))
    done = merge(of(SENT), theirs, of(SENT))
    assert done.conflicts[0].others and not done.changes
    one = of(replace(THERE, job=1), replace(THERE, label="cow", job=2, server_id=2))
    assert merge(of(SENT), one, of(SENT)).applied(of(SENT)).shapes[0].label == "cow"


def test_what_cannot_be_merged_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown"):
        merge(of(), of(), of(), "mine")  # type: ignore[arg-type]
    with pytest.raises(InvalidDataError, match="no uid"):
        merge(of(replace(SENT, uid=None)), of(), of())
    with pytest.raises(InvalidDataError, match="one uid"):
        merge(of(), of(), of(SENT, SENT))


EDITS = st.sampled_from(["", "", "move", "label", "colour", "occluded", "delete"])


@st.composite
def histories(draw: st.DrawFn) -> tuple[Annotations, Annotations, Annotations]:
    """What was sent, and both sides after edits, additions and copies."""
    base, sides = [], ([], [])  # type: tuple[list[Shape], tuple[list[Shape], list[Shape]]]
    for number in range(draw(st.integers(0, 6))):
        sample = f"s{draw(st.integers(0, 2))}"
        sent = replace(moved(SENT, 1000.0 * number), uid=f"u{number}", sample=sample, server_id=number + 1)
        base.append(sent)
        for side in sides:
            edit, by = draw(EDITS), draw(st.integers(1, 2))
            now = sent if side is sides[1] else replace(sent, confidence=None, model=None)
            now = moved(now, by * 7.0) if edit == "move" else now
            now = replace(now, label=f"class{by}") if edit == "label" else now
            now = replace(now, attributes={"colour": by}) if edit == "colour" else now
            now = replace(now, occluded=True) if edit == "occluded" else now
            if edit != "delete":
                side.append(now)
        if draw(st.booleans()):
            copied = replace(moved(sent, 300), server_id=500 + number, sample=f"s{draw(st.integers(0, 2))}")
            sides[0].append(copied)
    for number in range(draw(st.integers(0, 3))):
        sides[0].append(replace(moved(THERE, 50000.0 + 1000 * number), uid=None, server_id=900 + number))
    for number in range(draw(st.integers(0, 3))):
        by = 50000.0 + 1000 * draw(st.integers(number * 3, number * 3 + 2))
        sides[1].append(replace(moved(SENT, by), uid=f"mine{number}", server_id=None))
    return (
        Annotations(tuple(base)),
        Annotations(tuple(draw(st.permutations(sides[0])))),
        Annotations(tuple(sides[1])),
    )


def contents(annotations: Annotations) -> Counter[str]:
    return Counter(
        repr((s.uid, s.sample, s.points, s.label, dict(s.attributes), s.occluded, s.confidence, s.source))
        for s in annotations.shapes
    )


@settings(max_examples=150, deadline=None)
@given(histories(), st.sampled_from(["review", "theirs", "ours"]))
def test_merging_twice_changes_nothing(history: tuple[Annotations, ...], conflict: str) -> None:
    base, theirs, ours = history
    done = merge(base, theirs, ours, conflict)  # type: ignore[arg-type]
    after = done.applied(ours)
    assert not merge(done.base, theirs, after, conflict).changes  # type: ignore[arg-type]
    assert not merge(base, theirs, after, conflict).changes, "a pull that was not recorded"  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(histories(), st.sampled_from(["review", "theirs", "ours"]))
def test_some_jobs_and_then_all_is_all_at_once(history: tuple[Annotations, ...], conflict: str) -> None:
    base, theirs, ours = history
    some = Scope({"s0": ((0, 0),), "s2": ((0, 0),)})
    first = merge(base, theirs, ours, conflict, scope=some)  # type: ignore[arg-type]
    here = first.applied(ours)
    then = merge(first.base, theirs, here, conflict).applied(here)  # type: ignore[arg-type]
    assert contents(then) == contents(merge(base, theirs, ours, conflict).applied(ours))  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(histories())
def test_nothing_is_lost_doubled_or_moved(history: tuple[Annotations, ...]) -> None:
    base, theirs, ours = history
    done = merge(base, theirs, ours)
    before, there, here = ({key_of(s): s for s in side.shapes if s.uid} for side in history)
    after = {key_of(s): s for s in done.applied(ours).shapes}
    assert len(after) == len(done.applied(ours))
    open_ones = {(found.sample, 0, found.uid) for found in done.conflicts}
    originals = {key_of(s): s for s in theirs.shapes if s.uid and (s.server_id or 0) < 500}
    for key, sent in before.items():
        mine, other = here.get(key), originals.get(key)
        if key in open_ones:
            assert (
                after.get(key) is None
                if mine is None
                else after[key].points in (mine.points, other and other.points)
            )
        elif other is None or mine is None:
            assert key in there or key not in after
        elif same(sent, other):
            assert after[key] is mine
        elif same(sent, mine):
            assert same(after[key], other) and after[key].confidence is None
    # Where the original is gone, a copy on its image is the original; then it may be in an open conflict.
    additions = [s for s in theirs.shapes if not s.uid or (s.server_id or 0) >= 500]
    added_here = [s for key, s in here.items() if key not in before]
    for wanted in (*additions, *added_here):
        found = [s for s in after.values() if s.points == wanted.points and s.sample == wanted.sample]
        gone = wanted.uid and key_of(wanted) not in originals and key_of(wanted) in before
        assert found or (gone and (key_of(wanted) in open_ones or key_of(wanted) not in here)), "lost"
