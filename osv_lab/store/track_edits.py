"""Mend tracks by hand: merge, split, swap, relabel and delete identities, with undo and redo over sessions.

    editor = TrackEditor(dataset.first(), "frames.tracks")
    editor.swap(3, 7, 120)      # an identity switch at frame 120, put right
    editor.merge(3, 12)         # 12 is 3, found again after it was lost
    editor.split(5, 200)        # from frame 200 on it is another object
    editor.undo()

An edit is whole or not there at all: it is journalled before it is done (:mod:`osv_lab.store.track_journal`), and one
that was interrupted is finished when the clip is next opened. Edited boxes say so in ``osv_source``, in CVAT's words:
``semi-auto`` where a model drew them, whose confidence stays, else ``manual``. A tracker does not overwrite edited
tracks unless it is told to.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from osv_lab.core.errors import NotFoundError, UsageError, nearest
from osv_lab.store.bulk_edits import (
    Identities,
    LabelChange,
    TrackedLabel,
    known_identities,
    read_identity_labels,
)
from osv_lab.store.bulk_tracks import check_field
from osv_lab.store.clips import SEQUENCE, clips_of
from osv_lab.store.convert.tracks import DETECTED
from osv_lab.store.documents import SOURCE, Document
from osv_lab.store.schema import LabelSchema
from osv_lab.store.track_journal import EditJournal, TrackEdit, TrackEdits, alone_at
from osv_lab.store.tracks import one_clip

if TYPE_CHECKING:
    import fiftyone as fo

Identity: TypeAlias = int | tuple[str, int]
"""A track's ``index``; with its class before it where classes count on their own, as ``("car", 3)``."""


KINDS = ("merge", "split", "swap", "relabel", "delete")


class TrackEditor:
    """Edits the tracks of one clip.

    Args:
        where: A video, or a view of one clip. Of a sequence of images all are edited, also those the view leaves out.
        field: A field of ``Detections`` with ``index``; for videos with or without ``frames.``.

    Raises:
        UsageError: not one clip, or a field of another kind.
        NotFoundError: no such field.

    Example:
        >>> editor = TrackEditor(videos.first(), "frames.tracks")
        >>> print(editor.swap(1, 2, 16).summary())
        cars: 1 and 2 swapped from frame 16, 30 boxes in frames.tracks
    """

    def __init__(self, where: fo.SampleCollection | fo.Sample, field: str = "tracks") -> None:
        view, clip = one_clip(where)
        self.dataset: fo.Dataset = view._dataset
        if not clip.video:
            import fiftyone as fo

            (clip,) = clips_of(self.dataset.match(fo.ViewField(SEQUENCE).to_string() == clip.name))
        self.clip = clip
        self.field = field.removeprefix("frames.")
        check_field(self.dataset, f"frames.{self.field}" if clip.video else self.field)
        self._schema = LabelSchema(self.dataset, frames=clip.video)
        self._only_look = False
        with self._alone():
            pass  # An edit that was interrupted is finished now.

    def merge(
        self, identity: Identity, other: Identity, *, overlapping: Literal["refuse", "drop"] = "refuse"
    ) -> TrackEdit:
        """Make two tracks one: the boxes of ``other`` join ``identity`` and take its class.

        Args:
            identity: The track that stays.
            other: The one that joins it.
            overlapping: What to do where both have a box in one frame: ``"refuse"`` the merge, or ``"drop"`` the box of
                ``other``.

        Raises:
            NotFoundError: no such track.
            UsageError: one track twice, or boxes of both in one frame.
        """

        def plan(edit: _Plan) -> str:
            stays, joins = edit.track(identity), edit.track(other)
            _two(stays, joins)
            taken = {label.number for label in stays}
            both = [label for label in joins if label.number in taken]
            if both and overlapping == "refuse":
                raise UsageError(
                    f"{_name(identity)} and {_name(other)} are seen side by side, so they are two objects",
                    f"{len(both):,} frames, the first is {both[0].number}",
                    "split one of them first, or drop the second's boxes there",
                )
            edit.join([label for label in joins if label.number not in taken], stays)
            edit.remove(both)
            dropped = f", {len(both):,} boxes of it dropped" if both else ""
            return f"{_name(other)} merged into {_name(identity)}{dropped}"

        return self._edit("merge", plan, identity, other)

    def split(self, identity: Identity, at_frame: int) -> TrackEdit:
        """Make one track two: its boxes from ``at_frame`` on get a new identity, the last of ``TrackEdit.tracks``.

        Raises:
            NotFoundError: no such track.
            UsageError: it has no boxes before that frame, or none from it on.
        """

        def plan(edit: _Plan) -> str:
            track = edit.track(identity)
            stays, goes = _cut(track, at_frame)
            if not stays or not goes:
                lived = f"it lives from {track[0].number} to {track[-1].number}"
                raise UsageError(f"{_name(identity)} has nothing to split off at {at_frame}", lived)
            new = edit.new_identity()
            edit.join(goes, stays, new, _instance_like(stays))
            return f"{_name(identity)} split at frame {at_frame}, from there on it is {new}"

        return self._edit("split", plan, identity)

    def swap(self, identity: Identity, other: Identity, from_frame: int) -> TrackEdit:
        """Exchange two tracks from a frame on, which mends an identity switch. Boxes take the class of what they join.

        Raises:
            NotFoundError: no such track.
            UsageError: one track twice, neither has boxes from that frame on, or it would only exchange their names.
        """

        def plan(edit: _Plan) -> str:
            one, two = edit.track(identity), edit.track(other)
            _two(one, two)
            (one_stays, one_goes), (two_stays, two_goes) = _cut(one, from_frame), _cut(two, from_frame)
            if not one_goes and not two_goes:
                raise UsageError("there is nothing to swap", f"both tracks end before frame {from_frame}")
            if not one_stays and not two_stays:
                raise UsageError("a swap would only exchange names", f"both tracks begin at {from_frame} or later")
            edit.join(one_goes, two_stays or two)
            edit.join(two_goes, one_stays or one)
            return f"{_name(identity)} and {_name(other)} swapped from frame {from_frame}"

        return self._edit("swap", plan, identity, other)

    def relabel(self, identity: Identity, label: str, frames: tuple[int, int] | None = None) -> TrackEdit:
        """Give a track, or its boxes from one frame to another, a class.

        Raises:
            NotFoundError: no such track.
            UsageError: no class name, no boxes in these frames, all are of this class, or the class has such an
                identity already where classes count on their own.
        """
        if not label.strip():
            raise UsageError("a class needs a name", repr(label))

        def plan(edit: _Plan) -> str:
            within = _within(edit.track(identity), frames, identity)
            changed = [one for one in within if one.document.get("label") != label]
            if not changed:
                raise UsageError("nothing would change", f"{_name(identity)} is {label} already")
            if edit.identities.shared and any(
                one.document.get("label") == label for one in edit.labels_of(changed[0].index)
            ):
                raise UsageError(
                    f"there is a {label} with this number", str(changed[0].index), "merge or split first"
                )
            edit.set(changed, label=label, **{DETECTED: None})
            return f"{_name(identity)} is {label}{_told(frames)}"

        return self._edit("relabel", plan, identity)

    def delete(self, identity: Identity, frames: tuple[int, int] | None = None) -> TrackEdit:
        """Delete a track, or its boxes from one frame to another.

        Raises:
            NotFoundError: no such track.
            UsageError: it has no boxes in these frames.
        """

        def plan(edit: _Plan) -> str:
            edit.remove(_within(edit.track(identity), frames, identity))
            return f"{_name(identity)} deleted{_told(frames)}"

        return self._edit("delete", plan, identity)

    def preview(self, kind: str, *args: Any, **options: Any) -> TrackEdit:
        """What an edit would do, without doing it: its ``state`` is ``preview``. Raises what the edit would.

        Args:
            kind: ``merge``, ``split``, ``swap``, ``relabel`` or ``delete``; then what that takes.
        """
        if kind not in KINDS:
            raise UsageError("no such edit", repr(kind), nearest(kind, KINDS))
        self._only_look = True
        try:
            found: TrackEdit = getattr(self, kind)(*args, **options)
        finally:
            self._only_look = False
        return found

    def undo(self) -> TrackEdit:
        """Take the newest edit back: the labels are what they were.

        Raises:
            UsageError: there is none.
            InvalidDataError: its labels were changed elsewhere since; nothing is written.
        """
        with self._alone() as journal:
            return journal.undo()

    def redo(self) -> TrackEdit:
        """Do again what was undone last. Raises as :meth:`undo` does."""
        with self._alone() as journal:
            return journal.redo()

    def edits(self) -> TrackEdits:
        """What was done to these tracks by hand, the oldest first."""
        with self._alone() as journal:
            return journal.list()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[EditJournal]:
        """The clip's journal, with nobody else at the clip and nothing left unfinished."""
        with alone_at(self.dataset, self.clip, self.field):
            journal = EditJournal(self.dataset, self.clip, self.field)
            journal.recover()
            yield journal

    def _edit(self, kind: str, plan: Callable[[_Plan], str], *identities: Identity) -> TrackEdit:
        if self._only_look:
            edit = _Plan(self, identities)
            words = plan(edit)
            return EditJournal(self.dataset, self.clip, self.field).preview(
                kind, words, edit.concerned, edit.frames, edit.changes
            )
        self._schema.declare(self.field, "Detections")
        self._schema.fit(self.field, {SOURCE: "manual"})
        with self._alone() as journal:
            edit = _Plan(self, identities)
            words = plan(edit)
            return journal.do(kind, words, edit.concerned, edit.frames, edit.changes)


class _Plan:
    """What an edit will change, worked out before anything is written."""

    def __init__(self, editor: TrackEditor, identities: Sequence[Identity]) -> None:
        self._editor = editor
        where = editor.dataset, editor.clip, editor.field
        self.identities: Identities = known_identities(*where)
        indices = sorted({_index(one) for one in identities})
        self._labels = read_identity_labels(*where, indices)
        self.concerned = list(dict.fromkeys(_index(one) for one in identities))
        self.changes: list[LabelChange] = []
        self.frames: list[int] = []

    def labels_of(self, index: int) -> list[TrackedLabel]:
        return [label for label in self._labels if label.index == index]

    def track(self, identity: Identity) -> list[TrackedLabel]:
        """The labels of an identity, in the order of frames; there is at least one."""
        found = self.labels_of(_index(identity))
        if isinstance(identity, tuple):
            found = [label for label in found if label.document.get("label") == identity[0]]
        elif (
            self.identities.shared
            and len(names := sorted({label.document.get("label") or "" for label in found})) > 1
        ):
            say = f"say ({names[0]!r}, {identity})"
            raise UsageError(f"there is more than one {identity}", ", ".join(names), say)
        if not found:
            raise NotFoundError(
                f"no track {_name(identity)}",
                f"'{self._editor.field}' of '{self._editor.clip.name}'",
                f"the highest is {self.identities.last}",
            )
        return found

    def new_identity(self) -> int:
        """An identity that no track has."""
        new = self.identities.last + 1
        self.concerned.append(new)
        return new

    def join(
        self,
        labels: Sequence[TrackedLabel],
        track: Sequence[TrackedLabel],
        index: int | None = None,
        instance: Document | None = None,
    ) -> None:
        """Labels become part of a track: its index, its instance and its most frequent class; or the ones given."""
        name = Counter(label.document.get("label") for label in track).most_common(1)[0][0]
        if index is not None:
            self.set(labels, index=index, instance=instance)
            return
        like = track[0].document
        for label in labels:
            other = {"label": name, DETECTED: None} if label.document.get("label") != name else {}
            self.set([label], index=like["index"], instance=like.get("instance"), **other)

    def set(self, labels: Sequence[TrackedLabel], **values: Any) -> None:
        """Change properties of labels; ``None`` takes one off."""
        for label in labels:
            old = label.document
            wanted = {**values, SOURCE: _by_a_person(old)}
            names = [name for name, value in wanted.items() if old.get(name) != value]
            before = {name: old[name] for name in names if name in old}
            after = {name: wanted[name] for name in names if wanted[name] is not None}
            self.changes.append(LabelChange(label.frame, old["_id"], 0, before, after))
            self.frames.append(label.number)

    def remove(self, labels: Sequence[TrackedLabel]) -> None:
        """Take labels out."""
        for label in labels:
            self.changes.append(LabelChange(label.frame, label.document["_id"], label.place, label.document, None))
            self.frames.append(label.number)


def _index(identity: Identity) -> int:
    return identity[1] if isinstance(identity, tuple) else identity


def _name(identity: Identity) -> str:
    return f"{identity[0]} {identity[1]}" if isinstance(identity, tuple) else str(identity)


def _by_a_person(document: Document) -> str:
    """Who made a box that a person edits, in CVAT's words."""
    source = document.get(SOURCE)
    if source in ("manual", "semi-auto", "consensus"):
        return str(source)
    return "manual" if document.get("confidence") is None else "semi-auto"


def _instance_like(track: Sequence[TrackedLabel]) -> Document | None:
    """A new instance, if the track has one."""
    from bson import ObjectId

    like = track[0].document.get("instance")
    return None if like is None else {**like, "_id": ObjectId()}


def _cut(track: Sequence[TrackedLabel], at: int) -> tuple[list[TrackedLabel], list[TrackedLabel]]:
    return [label for label in track if label.number < at], [label for label in track if label.number >= at]


def _within(track: list[TrackedLabel], frames: tuple[int, int] | None, identity: Identity) -> list[TrackedLabel]:
    if frames is None:
        return track
    first, last = frames
    found = [label for label in track if first <= label.number <= last]
    if not found:
        lived = f"it lives from {track[0].number} to {track[-1].number}"
        raise UsageError(f"{_name(identity)} has no boxes in frames {first} to {last}", lived)
    return found


def _two(one: Sequence[TrackedLabel], two: Sequence[TrackedLabel]) -> None:
    if one[0].document["_id"] == two[0].document["_id"]:
        raise UsageError("one track twice", str(one[0].index), "name two tracks")


def _told(frames: tuple[int, int] | None) -> str:
    return "" if frames is None else f" in frames {frames[0]} to {frames[1]}"
