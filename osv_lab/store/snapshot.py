"""What a training run sees, in one digest; and names ("v1") that stay bound to it."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from osv_lab.core.digests import bytes_digest, file_digest, set_digest, value_digest
from osv_lab.core.errors import CheckFailedError, NotFoundError, UsageError, nearest
from osv_lab.core.report import Report
from osv_lab.core.settings import SPLITS

_VERSIONS = "osv_versions"


@dataclass(frozen=True)
class Snapshot(Report):
    """The content of a view: media, splits and labels.

    Attributes:
        digest: SHA-256 of it all, independent of the order of samples and of labels; one moved box changes it.
        dataset: The dataset's name.
        samples: How many samples.
        labels: How many labels.
        splits: Samples per split; ``none`` for samples in no split.
        classes: Labels per class.
        fields: The label fields that were read.
        version: The name that the content was frozen under, or ``None``.
    """

    digest: str
    dataset: str
    samples: int
    labels: int
    splits: Mapping[str, int]
    classes: Mapping[str, int]
    fields: tuple[str, ...]
    version: str | None = field(default=None)

    def rows(self) -> list[Mapping[str, Any]]:
        return [{"class": name, "labels": count} for name, count in self.classes.items()]

    def summary(self) -> str:
        name = f"{self.dataset}@{self.version}" if self.version else self.dataset
        splits = ", ".join(f"{count} {split}" for split, count in self.splits.items())
        return f"{name} {self.digest[:12]}: {self.samples} samples ({splits}), {self.labels} labels"


def snapshot(view: Any, fields: Sequence[str] = ("ground_truth",)) -> Snapshot:
    """Digest a view's media, splits and labels.

    Per sample the digest covers the media file's content digest, its split tags, and every label's class and
    geometry to the last bit. Sample ids, paths, order, predictions and other fields do not matter, so the same
    data ingested elsewhere has the same digest.

    Args:
        view: A ``fiftyone.Dataset`` or view of images.
        fields: Label fields: detections, polylines, keypoints or classifications.

    Raises:
        NotFoundError: a field does not exist.
        UsageError: a field does not hold labels that can be digested.

    Example:
        >>> snapshot(dataset.match_tags("train")).digest      # doctest: +SKIP
    """
    media = _media_digests(view)
    splits = [tuple(tag for tag in SPLITS if tag in tags) for tags in view.values("tags")]
    labels: list[list[list[Any]]] = [[] for _ in media]
    classes: Counter[str] = Counter()
    for name in fields:
        for own, found in zip(labels, _labels_of(view, name), strict=True):
            # A sample without labels in a field is not the same as one labelled as empty.
            own.append([] if found is None else [name, *sorted(found, key=str)])
            classes.update(str(label[0]) for label in found or ())
    digest = set_digest(value_digest(one) for one in zip(media, splits, labels, strict=True))
    counted = Counter("+".join(split) or "none" for split in splits)
    return Snapshot(
        digest=digest,
        dataset=str(_dataset(view).name),
        samples=len(media),
        labels=sum(classes.values()),
        splits={
            split: counted[split] for split in (*SPLITS, *sorted(set(counted) - set(SPLITS))) if counted[split]
        },
        classes=dict(sorted(classes.items())),
        fields=tuple(fields),
    )


def freeze(view: Any, name: str, fields: Sequence[str] = ("ground_truth",)) -> Snapshot:
    """Bind a version name to a view's content, or check that it still has the content the name was bound to.

    The first use of a name records the digest and counts in ``dataset.info`` and saves the view under the name.

    Raises:
        CheckFailedError: the name is bound to other content; the message says what changed in counts.
        UsageError: the name is empty.
    """
    if not name or not name.strip():
        raise UsageError("a dataset version needs a name", repr(name), "for example 'v1'")
    dataset = _dataset(view)
    now = snapshot(view, fields)
    versions = dict(dataset.info.get(_VERSIONS) or {})
    if name not in versions:
        versions[name] = {
            **now.to_dict(),
            "version": name,
            "created": datetime.datetime.now(datetime.UTC).isoformat(),
        }
        dataset.info[_VERSIONS] = versions
        dataset.save()
        if not dataset.has_saved_view(name):
            dataset.save_view(name, view.view())
        return _named(now, name)
    then = versions[name]
    if then["digest"] != now.digest:
        raise CheckFailedError(
            f"dataset version '{name}' is bound to other content",
            _difference(then, now),
            f"use a new name ('{_next_name(name, versions)}') for the data as it is now",
        )
    return _named(now, name)


def _named(content: Snapshot, name: str) -> Snapshot:
    import dataclasses

    return dataclasses.replace(content, version=name)


def _difference(then: Mapping[str, Any], now: Snapshot) -> str:
    """What changed in counts, or that counts are equal and content is not."""
    parts = []
    if list(then.get("fields", ())) != list(now.fields):
        parts.append(f"fields {', '.join(then['fields'])} → {', '.join(now.fields)}")
    pairs = [(what, then[what], getattr(now, what)) for what in ("samples", "labels")]
    for what, mine in (("splits", now.splits), ("classes", now.classes)):
        pairs += [(key, then[what].get(key, 0), mine.get(key, 0)) for key in sorted({*then[what], *mine})]
    parts += [f"{what} {before} → {after}" for what, before, after in pairs if before != after]
    return "; ".join(parts) or "the same counts, but images, boxes or classes differ"


def _next_name(name: str, taken: Mapping[str, Any]) -> str:
    stem = name.rstrip("0123456789")
    number = int(name[len(stem) :] or 1) + 1
    while f"{stem}{number}" in taken:
        number += 1
    return f"{stem}{number}"


def _dataset(view: Any) -> Any:
    return getattr(view, "_root_dataset", None) or view


def _media_digests(view: Any) -> list[str]:
    """Content digests as ingest stored them; files of a dataset that was made elsewhere are read."""
    paths = view.values("filepath")
    known = view.values("content_digest") if view.has_field("content_digest") else [None] * len(paths)
    return [digest or file_digest(path) for digest, path in zip(known, paths, strict=True)]


def _labels_of(view: Any, name: str) -> Iterator[list[list[Any]] | None]:
    """Per sample: its labels as plain lists that start with the class, or ``None`` where the field is empty."""
    if not view.has_field(name):
        raise NotFoundError("no such label field", repr(name), nearest(name, view.get_field_schema()))
    kind = getattr(view.get_field(name), "document_type", None)
    reader = _READERS.get(getattr(kind, "__name__", ""))
    if reader is None:
        raise UsageError(
            "a field does not hold labels that can be digested",
            f"'{name}' ({getattr(kind, '__name__', view.get_field(name))})",
            "give a field of detections, polylines, keypoints or classifications",
        )
    return reader(view, name)


def _lists(parts: Sequence[str], inside: str) -> Callable[[Any, str], Iterator[list[list[Any]] | None]]:
    """A reader of a field that holds a list of labels: the given attributes of each, in this order."""

    def read(view: Any, name: str) -> Iterator[list[list[Any]] | None]:
        schema = view.get_field_schema(flat=True)
        have = [part for part in parts if f"{name}.{inside}.{part}" in schema]
        # A list that was emptied is stored as no list at all; only the class says that the field is there.
        kinds = view.values(f"{name}._cls")
        for kind, *columns in zip(kinds, *view.values([f"{name}.{inside}.{part}" for part in have]), strict=True):
            filled = [column or () for column in columns]
            yield None if kind is None else [[_plain(v) for v in row] for row in zip(*filled, strict=True)]

    return read


def _classes(view: Any, name: str) -> Iterator[list[list[Any]] | None]:
    for label in view.values(f"{name}.label"):
        yield None if label is None else [[label]]


_READERS: Mapping[str, Callable[[Any, str], Iterator[list[list[Any]] | None]]] = {
    "Detections": _lists(("label", "bounding_box", "mask", "mask_path"), "detections"),
    "Polylines": _lists(("label", "points", "closed", "filled"), "polylines"),
    "Keypoints": _lists(("label", "points"), "keypoints"),
    "Classification": _classes,
}


def _plain(value: Any) -> Any:
    """A label's attribute as JSON can say it: arrays as their digest, points that are not there as ``None``."""
    if isinstance(value, np.ndarray):
        return [value.shape, bytes_digest(np.packbits(value.astype(bool)).tobytes())]
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
