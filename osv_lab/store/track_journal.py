"""The journal of edits of tracks: written before the tracks are, so that nothing is ever half edited.

An edit is noted with every change it makes, then done, then noted as done. One that was interrupted is finished before
the next thing happens. The journal lies in collections of its own beside the dataset, so that undo and redo outlive
sessions and processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.core.report import Report
from osv_lab.store.bulk_edits import LabelChange, apply_changes, read_identity_labels
from osv_lab.store.bulk_read import batches
from osv_lab.store.bulk_tracks import has_foreign_labels
from osv_lab.store.clips import Clip
from osv_lab.store.database import connect, database_errors
from osv_lab.store.documents import Document
from osv_lab.store.schema import changing_alone

if TYPE_CHECKING:
    import fiftyone as fo

EDITS = "osv_track_edits"
CHANGES = "osv_track_edit_changes"
_BATCH = 200
_DOING, _DONE, _UNDOING, _UNDONE = "doing", "done", "undoing", "undone"


@dataclass(frozen=True)
class TrackEdit(Report):
    """One edit of the tracks of a clip.

    Attributes:
        clip: The video or sequence.
        field: The tracks; with ``frames.`` for videos.
        number: Its number in the clip's journal, from 1.
        kind: ``merge``, ``split``, ``swap``, ``relabel`` or ``delete``.
        words: What it did, in a few words.
        tracks: The identities concerned, new ones included.
        first_frame, last_frame: The frames whose labels it changed.
        labels: How many labels it changed.
        state: ``done``, ``undone`` and waiting for a redo, or ``preview``: it would be done.
        at: When, UTC.
    """

    clip: str
    field: str
    number: int
    kind: str
    words: str
    tracks: tuple[int, ...]
    first_frame: int
    last_frame: int
    labels: int
    state: str
    at: datetime

    def rows(self) -> list[Mapping[str, Any]]:
        """The edit as one row."""
        return [
            {
                "edit": self.number,
                "what": self.words,
                "frames": f"{self.first_frame}-{self.last_frame}",
                "labels": self.labels,
                "state": self.state,
                "at": self.at.strftime("%Y-%m-%d %H:%M:%S"),
            }
        ]

    def summary(self) -> str:
        state = "" if self.state == _DONE else f" ({self.state})"
        return f"{self.clip}: {self.words}, {self.labels:,} boxes in {self.field}{state}"


@dataclass(frozen=True)
class TrackEdits(Report):
    """The journal of a clip's tracks.

    Attributes:
        clip: The video or sequence.
        field: The tracks.
        edits: What was done, the oldest first; those that are undone come last and wait for a redo.
    """

    clip: str
    field: str
    edits: tuple[TrackEdit, ...] = ()

    @property
    def undoable(self) -> TrackEdit | None:
        """What an undo takes back."""
        return next((one for one in reversed(self.edits) if one.state == _DONE), None)

    @property
    def redoable(self) -> TrackEdit | None:
        """What a redo does again."""
        return next((one for one in self.edits if one.state == _UNDONE), None)

    def rows(self) -> list[Mapping[str, Any]]:
        """One row per edit, the oldest first."""
        return [row for one in self.edits for row in one.rows()]

    def summary(self) -> str:
        done = sum(one.state == _DONE for one in self.edits)
        return f"{self.clip}: {done} edits of '{self.field}', {len(self.edits) - done} undone"


class EditJournal:
    """The journal of one clip's field. Its caller sees to it that nobody else changes the field meanwhile.

    Args:
        dataset: The dataset.
        clip: The whole clip.
        field: The tracks, without ``frames.``.
    """

    def __init__(self, dataset: fo.Dataset, clip: Clip, field: str) -> None:
        self._dataset, self._clip, self._field = dataset, clip, field
        self._edits, self._changes = _collections()
        self._own = _key(dataset, clip, field)

    def recover(self) -> None:
        """Finish what was interrupted."""
        with database_errors():
            found = self._edits.find_one({**self._own, "state": {"$in": [_DOING, _UNDOING]}})
        if found is not None:
            self._finish(found)

    def list(self) -> TrackEdits:
        """The edits."""
        with database_errors():
            found = tuple(self._told(one) for one in self._edits.find(self._own).sort("number", 1))
        return TrackEdits(self._clip.name, self._path, found)

    def do(
        self, kind: str, words: str, tracks: Sequence[int], frames: Sequence[int], changes: Sequence[LabelChange]
    ) -> TrackEdit:
        """Note an edit, do it, and note that it is done. Undone edits are forgotten."""
        from bson import ObjectId

        edit = ObjectId()
        with database_errors():
            _drop({**self._own, "state": _UNDONE})
            last = self._edits.find_one(self._own, {"number": 1}, sort=[("number", -1)])
            for part, some in enumerate(batches(changes, _BATCH)):
                self._changes.insert_one({"edit": edit, "part": part, "changes": [_packed(one) for one in some]})
            document = {
                "_id": edit,
                **self._own,
                **_document(kind, words, tracks, frames, changes),
                "number": (last["number"] if last else 0) + 1,
                "state": _DOING,
            }
            self._edits.insert_one(document)
        return self._finish(document)

    def preview(
        self, kind: str, words: str, tracks: Sequence[int], frames: Sequence[int], changes: Sequence[LabelChange]
    ) -> TrackEdit:
        """What :meth:`do` would give; nothing is written."""
        return self._told({**_document(kind, words, tracks, frames, changes), "number": 0, "state": "preview"})

    def undo(self) -> TrackEdit:
        """Take the newest edit back.

        Raises:
            UsageError: there is none.
            InvalidDataError: its labels have changed since; nothing was written.
        """
        return self._turn(self._newest({"state": _DONE}, -1, "undo"), _UNDOING, backwards=True)

    def redo(self) -> TrackEdit:
        """Do the edit again that was undone last.

        Raises:
            UsageError: there is none.
            InvalidDataError: its labels have changed since; nothing was written.
        """
        return self._turn(self._newest({"state": _UNDONE}, 1, "redo"), _DOING, backwards=False)

    def _newest(self, wanted: Document, order: int, verb: str) -> Document:
        with database_errors():
            found: Document | None = self._edits.find_one({**self._own, **wanted}, sort=[("number", order)])
        if found is None:
            raise UsageError(f"there is nothing to {verb}", f"'{self._path}' of '{self._clip.name}'")
        return found

    def _turn(self, edit: Document, state: str, *, backwards: bool) -> TrackEdit:
        labels = read_identity_labels(self._dataset, self._clip, self._field, edit["tracks"])
        there = {label.document["_id"]: label.document for label in labels}
        as_left = (one if backwards else one.reversed() for one in self._read(edit))
        changed = sum(not one.is_done(there.get(one.label)) for one in as_left)
        if changed:
            raise InvalidDataError(
                f"labels have changed since: {edit['words']}",
                f"{changed:,} of {edit['labels']:,} labels of '{self._clip.name}'",
                "the tracks were replaced or changed elsewhere; edit them anew",
            )
        with database_errors():
            self._edits.update_one({"_id": edit["_id"]}, {"$set": {"state": state}})
        return self._finish({**edit, "state": state})

    def _finish(self, edit: Document) -> TrackEdit:
        backwards = edit["state"] == _UNDOING
        changes = (one.reversed() if backwards else one for one in self._read(edit))
        apply_changes(self._dataset, self._clip, self._field, changes)
        state = _UNDONE if backwards else _DONE
        with database_errors():
            self._edits.update_one({"_id": edit["_id"]}, {"$set": {"state": state, "turned": datetime.now(UTC)}})
        self._dataset.reload()
        return self._told({**edit, "state": state})

    def _read(self, edit: Document) -> Iterator[LabelChange]:
        with database_errors():
            for document in self._changes.find({"edit": edit["_id"]}).sort("part", 1):
                yield from (LabelChange(*one) for one in document["changes"])

    @property
    def _path(self) -> str:
        return f"frames.{self._field}" if self._clip.video else self._field

    def _told(self, edit: Document) -> TrackEdit:
        return TrackEdit(
            self._clip.name,
            self._path,
            edit["number"],
            edit["kind"],
            edit["words"],
            tuple(edit["tracks"]),
            edit["frames"][0],
            edit["frames"][1],
            edit["labels"],
            edit["state"],
            edit["at"].replace(tzinfo=UTC),
        )


def has_edits(dataset: fo.Dataset, clip: Clip, field: str) -> bool:
    """Whether a person has edited a clip's tracks."""
    with database_errors():
        found = _collections()[0].find_one({**_key(dataset, clip, field), "state": {"$ne": _UNDONE}}, {"_id": 1})
    return found is not None


def last_edited(dataset: fo.Dataset, clip: Clip, field: str) -> datetime | None:
    """When a clip's tracks were last edited, undo and redo included; UTC."""
    with database_errors():
        found = _collections()[0].find_one(_key(dataset, clip, field), {"turned": 1}, sort=[("turned", -1)])
    turned = (found or {}).get("turned")
    return turned.replace(tzinfo=UTC) if turned else None


@contextlib.contextmanager
def alone_at(dataset: fo.Dataset, clip: Clip, field: str) -> Iterator[None]:
    """Nobody else edits or replaces a clip's tracks meanwhile."""
    with changing_alone(f"{dataset.name} {_key(dataset, clip, field)['clip']} {field}"):
        yield


def check_replaceable(dataset: fo.Dataset, clip: Clip, field: str) -> None:
    """Refuse to replace tracks that a person made or edited.

    Raises:
        UsageError: someone did.
    """
    if has_foreign_labels(dataset, clip, field) or has_edits(dataset, clip, field):
        raise UsageError(
            "the field has labels that a person made or edited",
            f"'{field}' of '{clip.name}'",
            "choose another field, or pass overwrite=True to replace them",
        )


@contextlib.contextmanager
def replacing(dataset: fo.Dataset, clip: Clip, field: str, *, overwrite: bool) -> Iterator[None]:
    """A clip's tracks are replaced within the block, with nobody else at them; their journal goes.

    Raises:
        UsageError: a person made or edited them, perhaps since the tracker began, and ``overwrite`` is false.
    """
    with alone_at(dataset, clip, field):
        if not overwrite:
            check_replaceable(dataset, clip, field)
        _drop(_key(dataset, clip, field))
        yield


def forget_samples(dataset: fo.Dataset, samples: Sequence[str]) -> None:
    """Drop every journal that knows labels of some samples, which are about to be erased."""
    from bson import ObjectId

    edits, changes = _collections()
    ids = [ObjectId(sample) for sample in samples]
    mentioned = {"changes": {"$elemMatch": {"$elemMatch": {"$in": ids}}}}
    with database_errors():
        for one in list(edits.find({"dataset": dataset._doc.id})):
            if one["clip"] in samples or changes.find_one({"edit": one["_id"], **mentioned}, {"_id": 1}):
                _drop({name: one[name] for name in ("dataset", "clip", "field")})


def _drop(wanted: Document) -> None:
    edits, changes = _collections()
    with database_errors():
        for one in list(edits.find(wanted, {"_id": 1})):
            edits.delete_one({"_id": one["_id"]})
            changes.delete_many({"edit": one["_id"]})


def _document(
    kind: str, words: str, tracks: Sequence[int], frames: Sequence[int], changes: Sequence[LabelChange]
) -> Document:
    return {
        "kind": kind,
        "words": words,
        "tracks": list(tracks),
        "frames": [min(frames), max(frames)],
        "labels": len(changes),
        "at": datetime.now(UTC),
    }


def _packed(change: LabelChange) -> list[Any]:
    return [change.frame, change.label, change.place, change.before, change.after]


def _key(dataset: fo.Dataset, clip: Clip, field: str) -> Document:
    return {"dataset": dataset._doc.id, "clip": clip.sample_id if clip.video else clip.name, "field": field}


def _collections() -> tuple[Any, Any]:
    connect()
    from fiftyone.core.odm import get_db_conn

    database = get_db_conn()
    edits, changes = database[EDITS], database[CHANGES]
    with database_errors():
        edits.create_index([("dataset", 1), ("clip", 1), ("field", 1), ("number", 1)], unique=True)
        changes.create_index([("edit", 1), ("part", 1)])
    return edits, changes
