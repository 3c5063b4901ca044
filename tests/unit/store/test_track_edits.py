"""Tracks edited by hand: against a model of plain dictionaries, back and forth, over kills, beside other writers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from track_scenes import walk
from tracks_store_scenes import blank_video, clip_of

from osv_lab.core.errors import InvalidDataError, NotFoundError, OsvError, UsageError
from osv_lab.store import bulk_edits, track_journal
from osv_lab.store.bulk_tracks import read_frames
from osv_lab.store.track_edits import TrackEditor
from osv_lab.store.tracks import track, write_tracks
from osv_lab.track.tracks import Tracks

Labels = dict[int, list[dict[str, Any]]]
FRAMES = 12


def stored(dataset: Any, field: str = "tracks") -> Labels:
    """Every label document of the first clip, by frame."""
    return {number: list(labels) for number, labels in read_frames(dataset.view(), clip_of(dataset), field)}


@pytest.fixture
def video(fo: Any, dataset_name: str) -> Any:
    return fill(blank_video(fo, dataset_name, FRAMES))


def fill(dataset: Any) -> Any:
    """Identities 1 (frames 1 to 12), 2 (1 to 6), 3 (7 to 12), 4 (4 to 9, with a gap at 6); 3 is a bus."""
    rows = [(k, n) for k, lived in _LIVED.items() for n in lived]
    number, identity = [n for _, n in rows], [k for k, _ in rows]
    boxes = np.array([[20 * k, 10 + n, 20 * k + 10, 30 + n] for k, n in rows], float)
    classes = [1 if k == 3 else 0 for k in identity]
    tracks = Tracks(number, identity, boxes, np.full(len(rows), 0.8), classes)
    write_tracks(dataset.first(), tracks, class_names=["car", "bus"], overwrite=True)
    return dataset


_LIVED: dict[int, list[int]] = {
    1: list(range(1, 13)),
    2: list(range(1, 7)),
    3: list(range(7, 13)),
    4: [4, 5, 7, 8, 9],
}


def lives(dataset: Any) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for number, labels in stored(dataset).items():
        for label in labels:
            found.setdefault(label["index"], []).append(number)
    return found


def instances(dataset: Any) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for labels in stored(dataset).values():
        for label in labels:
            found.setdefault(label["index"], set()).add(str(label["instance"]["_id"]))
    return found


def test_a_switch_is_swapped_back(video: Any) -> None:
    editor = TrackEditor(video.first())
    edit = editor.swap(1, 2, 4)
    assert (edit.labels, edit.first_frame, edit.last_frame, edit.tracks) == (12, 4, 12, (1, 2))
    assert lives(video) == {**_LIVED, 1: _LIVED[2], 2: _LIVED[1]}
    x = {
        n: next(one["bounding_box"][0] for one in labels if one["index"] == 1)
        for n, labels in stored(video).items()
        if n < 7
    }
    assert (
        len({round(x[n], 6) for n in (1, 2, 3)}) == len({round(x[n], 6) for n in (4, 5, 6)}) == 1 and x[3] != x[4]
    )
    assert all(len(some) == 1 for some in instances(video).values())
    assert editor.swap(1, 2, 4).number == 2
    assert lives(video) == _LIVED


def test_an_edited_box_says_who_drew_it_and_who_mended_it(video: Any) -> None:
    TrackEditor(video.first(), "frames.tracks").relabel(2, "van", (2, 3))
    found = stored(video)
    changed = [one for labels in found.values() for one in labels if "osv_source" in one]
    assert [one["label"] for one in changed] == ["van", "van"]
    assert {one["osv_source"] for one in changed} == {"semi-auto"} and {one["confidence"] for one in changed} == {
        0.8
    }
    video.reload()
    assert video.distinct("frames.tracks.detections.osv_source") == ["semi-auto"], "the App sees it"


def test_merge_takes_over_identity_instance_and_class(video: Any) -> None:
    before = instances(video)
    edit = TrackEditor(video.first()).merge(2, 3)
    assert lives(video) == {1: _LIVED[1], 2: _LIVED[1], 4: _LIVED[4]}
    assert instances(video) == {k: before[k] for k in (1, 2, 4)}
    assert {one["label"] for labels in stored(video).values() for one in labels} == {"car"}
    assert edit.words == "3 merged into 2"


def test_tracks_side_by_side_are_not_merged_unless_the_second_gives_way(video: Any) -> None:
    editor = TrackEditor(video.first())
    before = stored(video)
    with pytest.raises(UsageError, match=r"1 and 4 are seen side by side.*5 frames, the first is 4"):
        editor.merge(1, 4)
    assert stored(video) == before and not editor.edits().edits
    assert "5 boxes of it dropped" in editor.merge(1, 4, overlapping="drop").words
    assert lives(video) == {k: _LIVED[k] for k in (1, 2, 3)}
    editor.undo()
    assert stored(video) == before


def test_split_gives_a_new_identity_and_instance(video: Any) -> None:
    edit = TrackEditor(video.first()).split(1, 8)
    assert edit.tracks == (1, 5)
    assert lives(video) == {**_LIVED, 1: list(range(1, 8)), 5: list(range(8, 13))}
    found = instances(video)
    assert all(len(some) == 1 for some in found.values()) and len(set.union(*found.values())) == 5


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda e: e.merge(1, 1), UsageError, "one track twice"),
        (lambda e: e.merge(1, 77), NotFoundError, "no track 77.*highest is 4"),
        (lambda e: e.split(2, 1), UsageError, "nothing to split off at 1.*lives from 1 to 6"),
        (lambda e: e.split(2, 7), UsageError, "nothing to split off at 7"),
        (lambda e: e.swap(1, 2, 13), UsageError, "end before frame 13"),
        (lambda e: e.swap(3, 4, 1), UsageError, "only exchange names"),
        (lambda e: e.relabel(1, " "), UsageError, "needs a name"),
        (lambda e: e.relabel(1, "car"), UsageError, "nothing would change"),
        (lambda e: e.delete(2, (8, 9)), UsageError, "no boxes in frames 8 to 9"),
        (lambda e: e.undo(), UsageError, "nothing to undo"),
        (lambda e: e.redo(), UsageError, "nothing to redo"),
    ],
)
def test_what_cannot_be_done_changes_nothing(
    video: Any, wrong: Callable[[TrackEditor], Any], error: type[OsvError], says: str
) -> None:
    before = stored(video)
    with pytest.raises(error, match=says):
        wrong(TrackEditor(video.first()))
    assert stored(video) == before


# The model: frame -> identity -> (box, label), edited the obvious way.
Model = dict[int, dict[int, tuple[tuple[float, ...], str]]]


def model_of(labels: Labels) -> Model:
    return {
        n: {one["index"]: (tuple(one["bounding_box"]), one["label"]) for one in some} for n, some in labels.items()
    }


def usual(model: Model, k: int, before: int = 99) -> str:
    names = [here[k][1] for n, here in sorted(model.items()) if k in here and n < before]
    return max(dict.fromkeys(names), key=names.count)


def by_hand(model: Model, step: tuple[Any, ...]) -> Model:
    """The model after an edit that the editor took."""
    kind, a, b, at, name = step
    after = copy.deepcopy(model)
    new = max(k for here in model.values() for k in here) + 1
    lived = {k: [n for n, here in model.items() if k in here] for k in (a, b)}
    for n, here in after.items():
        if kind == "merge" and b in here:
            here.setdefault(a, (here[b][0], usual(model, a)))
            del here[b]
        elif kind == "split" and a in here and n >= at:
            here[new] = here.pop(a)
        elif kind == "swap" and n >= at:
            one, two = here.pop(a, None), here.pop(b, None)
            for box, k in ((one, b), (two, a)):
                if box:
                    here[k] = (box[0], usual(model, k, at if min(lived[k]) < at else 99))
        elif kind == "relabel" and a in here and n >= at:
            here[a] = (here[a][0], name)
        elif kind == "delete" and a in here and n >= at:
            del here[a]
    return after


def take(editor: TrackEditor, step: tuple[Any, ...]) -> None:
    kind, a, b, at, name = step
    if kind == "merge":
        editor.merge(a, b, overlapping="drop")
    elif kind == "split":
        editor.split(a, at)
    elif kind == "swap":
        editor.swap(a, b, at)
    elif kind == "relabel":
        editor.relabel(a, name, (at, FRAMES))
    else:
        editor.delete(a, (at, FRAMES))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["merge", "split", "swap", "relabel", "delete", "undo", "redo"]),
        st.integers(1, 6),
        st.integers(1, 6),
        st.integers(1, FRAMES),
        st.sampled_from(["car", "bus", "van"]),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_edits_agree_with_the_obvious_model_and_undo_to_the_last_bit(
    video: Any, steps: list[tuple[Any, ...]]
) -> None:
    dataset = fill(video)
    past, future = [stored(dataset)], []
    for step in steps:
        # A new editor each time, as another session would have.
        editor = TrackEditor(dataset.first())
        try:
            if step[0] == "undo":
                editor.undo()
                future.append(past.pop())
            elif step[0] == "redo":
                editor.redo()
                past.append(future.pop())
            else:
                take(editor, step)
                past.append(stored(dataset))
                future.clear()
                assert model_of(past[-1]) == by_hand(model_of(past[-2]), step)
        except (UsageError, NotFoundError):
            pass
        found = stored(dataset)
        assert found == past[-1]
        assert all(len(some) == 1 for some in instances(dataset).values())
        for labels in found.values():
            assert len({one["index"] for one in labels}) == len(labels)
        assert [one.state for one in editor.edits().edits] == ["done"] * (len(past) - 1) + ["undone"] * len(future)
    editor = TrackEditor(dataset.first())
    for before in reversed(past[:-1]):
        editor.undo()
        assert stored(dataset) == before


@pytest.mark.parametrize("verb", ["do", "undo"])
@pytest.mark.parametrize("written", [0, 1, 3])
def test_an_interrupted_edit_is_finished_when_the_clip_is_opened(
    video: Any, monkeypatch: pytest.MonkeyPatch, verb: str, written: int
) -> None:
    before = stored(video)
    editor = TrackEditor(video.first())
    if verb == "undo":
        editor.merge(1, 4, overlapping="drop")
    changed = stored(video)
    apply = bulk_edits.apply_changes

    def dies(dataset: Any, clip: Any, field: str, changes: Any) -> None:
        apply(dataset, clip, field, list(changes)[:written])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(track_journal, "apply_changes", dies)
        with pytest.raises(KeyboardInterrupt):
            editor.undo() if verb == "undo" else editor.merge(1, 4, overlapping="drop")
    edits = TrackEditor(video.first()).edits()
    if verb == "undo":
        assert stored(video) == before and edits.redoable is not None and edits.undoable is None
    else:
        assert lives(video) == {k: _LIVED[k] for k in (1, 2, 3)} and edits.undoable is not None
        TrackEditor(video.first()).undo()
        assert stored(video) == changed == before


def test_what_others_changed_meanwhile_is_not_undone(fo: Any, video: Any) -> None:
    editor = TrackEditor(video.first())
    editor.relabel(2, "van")
    elsewhere = video.first()
    elsewhere.frames[1].tracks.detections[1].label = "truck"
    elsewhere.save()
    before = stored(video)
    with pytest.raises(InvalidDataError, match=r"changed since: 2 is van.*1 of 6 labels"):
        editor.undo()
    assert stored(video) == before
    # What they changed in other labels is no obstacle.
    other = TrackEditor(video.first())
    other.delete(4)
    elsewhere = video.first()
    elsewhere.frames[5].tracks.detections[0].label = "truck"
    elsewhere.save()
    other.undo()
    assert lives(video) == _LIVED and stored(video)[5][0]["label"] == "truck"


def test_trackers_leave_edited_tracks_alone(video: Any) -> None:
    editor = TrackEditor(video.first())
    editor.delete(4)
    tracks = walk(2, 10)
    with pytest.raises(UsageError, match="overwrite=True"):
        write_tracks(video.first(), tracks)
    with pytest.raises(UsageError, match="a person made or edited"):
        track(video, from_field="frames.tracks", field="frames.other") and track(
            video, from_field="frames.other", field="tracks"
        )
    editor.undo()
    write_tracks(video.first(), tracks)
    assert not editor.edits().edits, "the journal of tracks that are gone is gone"


def test_an_edit_made_while_a_tracker_runs_is_not_lost(video: Any) -> None:
    track(video, from_field="frames.tracks", field="other")
    edits = []

    def edit_once(*_: Any) -> None:
        if not edits:
            edits.append(TrackEditor(video.first()).delete(4))

    report = track(video, from_field="frames.other", field="tracks", progress=edit_once)
    assert [one.consequence for one in report.problems] == ["file skipped"]
    assert "a person made or edited" in report.problems[0].what
    assert lives(video) == {k: _LIVED[k] for k in (1, 2, 3)}
    kept = TrackEditor(video.first()).edits().undoable
    assert kept is not None and (kept.number, kept.words) == (edits[0].number, edits[0].words)
    again = track(video, from_field="frames.other", field="tracks", overwrite=True)
    assert not again.problems and not TrackEditor(video.first()).edits().edits


def test_classes_that_count_on_their_own(fo: Any, dataset_name: str) -> None:
    dataset = blank_video(fo, dataset_name, 4)
    sample = dataset.first()
    for number in range(1, 5):
        boxes = [
            fo.Detection(label=name, bounding_box=[0.1, 0.1, 0.2, 0.2], index=1) for name in ("car", "person")
        ]
        sample.frames[number]["gt"] = fo.Detections(detections=boxes)
    sample.save()
    editor = TrackEditor(dataset.first(), "frames.gt")
    with pytest.raises(UsageError, match=r"more than one 1: car, person; say \('car', 1\)"):
        editor.split(1, 3)
    with pytest.raises(UsageError, match="there is a person with this number"):
        editor.relabel(("car", 1), "person")
    edit = editor.split(("car", 1), 3)
    found = [(n, one["label"], one["index"]) for n, some in stored(dataset, "gt").items() for one in some]
    assert [row for row in found if row[1] == "car"] == [
        (1, "car", 1),
        (2, "car", 1),
        (3, "car", 2),
        (4, "car", 2),
    ]
    assert [row[2] for row in found if row[1] == "person"] == [1] * 4
    assert edit.words.startswith("car 1 split at frame 3")
    assert {one["osv_source"] for one in stored(dataset, "gt")[3] if one["label"] == "car"} == {"manual"}


def test_images_of_a_sequence(fo: Any, dataset_name: str) -> None:
    dataset = fo.Dataset(dataset_name)
    metadata = fo.ImageMetadata(width=100, height=100)
    dataset.add_samples(
        [
            fo.Sample(filepath=f"/nowhere/{name}/{n}.jpg", metadata=metadata, sequence=name, frame_number=n)
            for name in ("a", "b")
            for n in (1, 2, 3, 5)
        ]
    )
    boxes = Tracks([1, 2, 3, 5], [1] * 4, [[0, 0, 10, 10]] * 4)
    for name in ("a", "b"):
        write_tracks(dataset.match({"sequence": name}), boxes)
    # The view shows two images, the edit concerns the sequence.
    editor = TrackEditor(dataset.match({"sequence": "b", "frame_number": {"$lt": 3}}))
    editor.split(1, 3)
    rows = list(zip(*dataset.values(["sequence", "frame_number", "tracks.detections.index"]), strict=True))
    assert [(n, index) for name, n, index in rows if name == "b"] == [(1, [1]), (2, [1]), (3, [2]), (5, [2])]
    assert all(index == [1] for name, _, index in rows if name == "a")
    editor.delete(2)
    editor.undo()
    assert dataset.match({"sequence": "b"}).values("tracks.detections.index") == [[1], [1], [2], [2]]
    assert [one.number for one in editor.edits().edits] == [1, 2]
    erased = dataset.match({"sequence": "a"}).values("id")
    track_journal.forget_samples(dataset, erased[:1])
    assert editor.edits().edits, "the journal of another sequence stays"
    track_journal.forget_samples(dataset, dataset.match({"sequence": "b", "frame_number": 3}).values("id"))
    assert not editor.edits().edits
