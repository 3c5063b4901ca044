"""Walk through the labels that are probably wrong and decide: it is right, mend it, later, or let an annotator look.

    review = LabelReview(dataset)                # what find_label_errors wrote
    for item in review.queue().items:
        review.fix(item.id)                      # as suggested; review.accept(item.id): the label is right
    review.undo()

A decision and the change of the label are one write to one sample: both are there, or neither. What is needed to take
it back is kept with the suggestion, so undo works in another session too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError, nearest
from osv_lab.core.report import Report
from osv_lab.curate.mistakes import ALL_KINDS
from osv_lab.store.bulk_documents import boxes_in, change_document
from osv_lab.store.database import connect
from osv_lab.store.documents import label_document
from osv_lab.store.records import Box

if TYPE_CHECKING:
    import fiftyone as fo

State: TypeAlias = Literal["open", "accepted", "fixed", "skipped", "to_annotate"]

STATES: tuple[State, ...] = ("open", "accepted", "fixed", "skipped", "to_annotate")

_Document: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class ReviewItem:
    """One suggestion and what was decided.

    Attributes:
        id: Of the suggestion.
        sample: The sample's id.
        filepath: Its media file.
        kind: ``missing``, ``spurious``, ``wrong_class`` or ``badly_placed``.
        score: How likely it is an error, 0 to 1.
        rank: Its place among all suggestions, from 1.
        label: The id of the label in question; ``""`` for a missing one.
        was: The label's class.
        should_be: The class that is suggested.
        box: ``[x, y, w, h]``, relative: where the object is according to the suggestion.
        label_box: Where the label is; ``None`` where there is none.
        state: What was decided.
    """

    id: str
    sample: str
    filepath: str
    kind: str
    score: float
    rank: int
    label: str
    was: str
    should_be: str
    box: tuple[float, float, float, float]
    label_box: tuple[float, float, float, float] | None
    state: State

    @property
    def question(self) -> str:
        """What is to be decided, in words."""
        return {
            "missing": f"Is a {self.should_be} missing here?",
            "spurious": f"Is there no {self.was} here?",
            "wrong_class": f"Is this {self.was} a {self.should_be or 'thing of another class'}?",
            "badly_placed": f"Does the box of this {self.was} belong elsewhere?",
        }.get(self.kind, self.kind)


@dataclass(frozen=True)
class ReviewQueue(Report):
    """Suggestions in the order of their rank.

    Attributes:
        key: The field that has them.
        label_field: The field with the labels.
        counts: How many are in each state.
        items: Those that were asked for.
    """

    key: str
    label_field: str
    counts: Mapping[str, int]
    items: tuple[ReviewItem, ...]

    def rows(self) -> list[Mapping[str, Any]]:
        """One row per item."""
        return [
            {"rank": one.rank, "kind": one.kind, "score": one.score, "was": one.was, "should be": one.should_be}
            | {"state": one.state, "id": one.id}
            for one in self.items
        ]

    def summary(self) -> str:
        """How far the review is."""
        total = sum(self.counts.values())
        told = ", ".join(f"{count:,} {state.replace('_', ' ')}" for state, count in self.counts.items() if count)
        return f"{self.key}: {told or 'nothing'} of {total:,} suggestions"


class LabelReview:
    """Decisions about what :func:`osv_lab.curate.label_errors.find_label_errors` suggested.

    Args:
        dataset: The dataset.
        key: The field with the suggestions.

    Raises:
        NotFoundError: no label errors were looked for under this key.
    """

    def __init__(self, dataset: fo.Dataset, key: str = "label_errors") -> None:
        connect()
        self.dataset, self.key = dataset, key
        keys: Mapping[str, str] = dataset.info.get("label_errors_of", {})
        if key not in keys or dataset.get_field(key) is None:
            has = nearest(key, keys) if keys else "osv curate label-errors finds them"
            raise NotFoundError("no label errors were found under this key", repr(key), has)
        self.label_field = keys[key]

    def queue(self, state: State | None = "open", kind: str | None = None, limit: int = 50) -> ReviewQueue:
        """The likeliest errors first.

        Args:
            state: Only those in this state; ``None``: all.
            kind: Only those of this kind.
            limit: The most items, at least 1.

        Raises:
            NotFoundError: no state or kind is called so.
            UsageError: ``limit`` below 1.
        """
        for what, name, names in (("state", state, STATES), ("kind of label error", kind, ALL_KINDS)):
            if name is not None and name not in names:
                raise NotFoundError(f"no such {what}", repr(name), nearest(name, names))
        if limit < 1:
            raise UsageError("limit must be at least 1", limit)
        wanted = {"state": state, "label": kind}
        match = {f"{self.key}.detections.{name}": value for name, value in wanted.items() if value is not None}
        found = self.dataset._sample_collection.aggregate(
            [
                {"$match": {f"{self.key}.detections.0": {"$exists": True}}},
                {"$unwind": f"${self.key}.detections"},
                {"$match": match},
                {"$sort": {f"{self.key}.detections.rank": 1}},
                {"$limit": limit},
                {"$project": {"filepath": 1, self.key: 1, f"{self.label_field}.detections": 1}},
            ],
            allowDiskUse=True,
        )
        items = tuple(self._item(one, one[self.key]["detections"]) for one in found)
        return ReviewQueue(self.key, self.label_field, self._counts(), items)

    def find(self, id: str) -> ReviewItem:
        """One suggestion.

        Raises:
            NotFoundError: there is none.
        """
        document = self._document({"_id": self._id(id)})
        if document is None:
            raise NotFoundError("no such suggestion", repr(id), "look at queue()")
        return self._item(document, self._suggestion(document, id))

    def accept(self, id: str) -> ReviewItem:
        """The label is right as it is."""
        return self._decide(id, "accepted")

    def skip(self, id: str) -> ReviewItem:
        """Leave it for later."""
        return self._decide(id, "skipped")

    def to_annotate(self, id: str) -> ReviewItem:
        """An annotator is to look; :meth:`view` of this state has the samples to send."""
        return self._decide(id, "to_annotate")

    def fix(self, id: str, label: str | None = None) -> ReviewItem:
        """Mend the label as suggested: add, remove, rename or move it.

        Args:
            id: Of the suggestion.
            label: The class, where another than the suggested one is right.

        Raises:
            UsageError: no class is known for it.
            InvalidDataError: the label is not there any more.
        """

        def mend(labels: list[_Document], suggestion: _Document) -> tuple[list[_Document], _Document]:
            kind, box = suggestion["label"], suggestion["bounding_box"]
            name = label or suggestion.get("should_be") or ""
            if kind in ("missing", "wrong_class") and not name:
                raise UsageError("which class is it?", kind, "give label=")
            if kind == "missing":
                new = label_document(Box(name, tuple(box)))
                return [*labels, new], {"kind": "added", "id": str(new["_id"])}
            place = self._place(labels, suggestion)
            old = labels[place]
            if kind == "spurious":
                return labels[:place] + labels[place + 1 :], {"kind": "removed", "place": place, "document": old}
            change = {"label": name} if kind == "wrong_class" else {"bounding_box": box}
            if label and kind == "badly_placed":
                change["label"] = label
            before = {"kind": "changed", "values": {key: old.get(key) for key in change}}
            return [*labels[:place], {**old, **change}, *labels[place + 1 :]], before

        return self._decide(id, "fixed", mend)

    def undo(self) -> ReviewItem | None:
        """Take the last decision back, the label's change with it; ``None`` where there is none.

        Raises:
            InvalidDataError: the label was changed otherwise since.
        """
        last = f"{self.key}.detections.decided_at"
        found = self.dataset._sample_collection.aggregate(
            [
                {"$match": {last: {"$gt": ""}}},
                {"$unwind": f"${self.key}.detections"},
                {"$match": {last: {"$gt": ""}}},
                {"$sort": {last: -1}},
                {"$limit": 1},
                {"$project": {"id": f"${self.key}.detections._id"}},
            ]
        )
        for document in found:
            id = str(document["id"])

            def change(labels: list[_Document], suggestion: _Document) -> tuple[list[_Document], _Document]:
                return self._undone(labels, suggestion), {}

            return self._decide(id, "open", change)
        return None

    def view(self, state: State = "to_annotate") -> Any:
        """The samples with suggestions in a state, and of the suggestions only those.

        Raises:
            NotFoundError: no state is called so.
        """
        from fiftyone import ViewField

        if state not in STATES:
            raise NotFoundError("no such state", repr(state), nearest(state, STATES))

        return self.dataset.filter_labels(self.key, ViewField("state") == state)

    def _decide(self, id: str, state: State, mend: Any = None) -> ReviewItem:
        item = self.find(id)

        def change(document: _Document) -> Mapping[str, Any]:
            labels, suggestions = boxes_in(document, self.label_field), boxes_in(document, self.key)
            suggestion = self._suggestion(document, id)
            # Asked of what is written to: another person may have decided since it was found.
            now = suggestion.get("state") or "open"
            if state == "open" and now == "open":
                raise UsageError("it was taken back already", suggestion["label"], "look at queue()")
            if state != "open" and now in ("accepted", "fixed"):
                raise UsageError("it was decided already", f"{suggestion['label']}: {now}", "undo that first")
            new, before = mend(labels, suggestion) if mend is not None else (labels, {})
            stamp = "" if state == "open" else datetime.now(UTC).isoformat()
            suggestion = {**suggestion, "state": state, "decided_at": stamp, "before": before}
            changed = [suggestion if one["_id"] == suggestion["_id"] else one for one in suggestions]
            values: _Document = {f"{self.key}.detections": changed}
            if new != labels:
                # A sample that nobody labelled has no container yet.
                values[self.label_field] = {"_cls": "Detections", "detections": new}
            return values

        change_document(self.dataset, item.sample, [self.key, self.label_field], change)
        return self.find(id)

    def _undone(self, labels: list[_Document], suggestion: _Document) -> list[_Document]:
        before = suggestion.get("before") or {}
        kind = before.get("kind")
        if kind == "added":
            left = [one for one in labels if str(one["_id"]) != before["id"]]
            if len(left) == len(labels):
                raise InvalidDataError(
                    "the label that was added is gone", before["id"], "there is nothing to undo"
                )
            return left
        if kind == "removed":
            place = min(int(before["place"]), len(labels))
            return [*labels[:place], before["document"], *labels[place:]]
        if kind == "changed":
            place = self._place(labels, suggestion)
            return [*labels[:place], {**labels[place], **before["values"]}, *labels[place + 1 :]]
        return labels

    def _place(self, labels: Sequence[_Document], suggestion: _Document) -> int:
        for place, one in enumerate(labels):
            if str(one["_id"]) == suggestion.get("of_label"):
                return place
        raise InvalidDataError(
            "the label is not there any more", f"{suggestion.get('was')} {suggestion.get('of_label')}", "skip it"
        )

    def _counts(self) -> dict[str, int]:
        found: Mapping[str, int] = self.dataset.count_values(f"{self.key}.detections.state")
        return {state: found.get(state, 0) for state in STATES}

    def _id(self, id: str) -> Any:
        from bson import ObjectId

        if not ObjectId.is_valid(id):
            raise NotFoundError("no such suggestion", repr(id), "look at queue()")
        return ObjectId(id)

    def _document(self, suggestion: Mapping[str, Any]) -> _Document | None:
        match = {f"{self.key}.detections.{name}": value for name, value in suggestion.items()}
        shown = {"filepath": 1, self.key: 1, f"{self.label_field}.detections": 1}
        found: _Document | None = self.dataset._sample_collection.find_one(match, shown)
        return found

    def _suggestion(self, document: _Document, id: str) -> _Document:
        for one in boxes_in(document, self.key):
            if str(one["_id"]) == id:
                return one
        raise NotFoundError("no such suggestion", repr(id), "label errors were looked for again; look at queue()")

    def _item(self, document: _Document, suggestion: _Document) -> ReviewItem:
        labels = {str(one["_id"]): one["bounding_box"] for one in boxes_in(document, self.label_field)}
        label = suggestion.get("of_label") or ""
        place = labels.get(label)
        return ReviewItem(
            id=str(suggestion["_id"]),
            sample=str(document["_id"]),
            filepath=document["filepath"],
            kind=suggestion["label"],
            score=float(suggestion.get("confidence") or 0),
            rank=int(suggestion.get("rank") or 0),
            label=label,
            was=suggestion.get("was") or "",
            should_be=suggestion.get("should_be") or "",
            box=tuple(suggestion["bounding_box"]),
            label_box=tuple(place) if place else None,
            state=suggestion.get("state") or "open",
        )
