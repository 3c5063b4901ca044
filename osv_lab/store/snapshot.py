"""What a training run sees, in one digest; and names ("v1") that stay bound to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from osv_lab.core.digests import set_digest
from osv_lab.core.errors import CheckFailedError, NotFoundError, UsageError, nearest
from osv_lab.core.report import Report
from osv_lab.store.documents import CONTAINERS
from osv_lab.store.versions.create import counts, view_entries

if TYPE_CHECKING:
    from osv_lab.store.versions.model import DatasetVersion


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

    Per sample the digest covers the media file's content digest, its split, and every label's class, attributes and
    geometry to the last bit: it is the digest that a version of the view would have. Sample ids, paths, order,
    predictions and other fields do not matter, so the same data ingested elsewhere has the same digest.

    Args:
        view: A ``fiftyone.Dataset`` or view of images.
        fields: Label fields: detections, polylines, keypoints or classifications.

    Raises:
        NotFoundError: a field does not exist.
        UsageError: a field does not hold labels that can be digested.

    Example:
        >>> train = dataset.match_tags("train")
        >>> snapshot(train).summary()
        'cells ...: 10 samples (10 train), 15 labels'
        >>> snapshot(train).digest == snapshot(train.shuffle()).digest      # what is in it, in any order
        True
    """
    for name in fields:
        _check_field(view, name)
    entries = view_entries(view, fields)
    stated = counts(entries)
    return Snapshot(
        digest=set_digest(entry.key for entry in entries),
        dataset=str(_dataset(view).name),
        samples=stated["samples"],
        labels=stated["labels"],
        splits=stated["splits"],
        classes=stated["classes"],
        fields=tuple(fields),
    )


def freeze(view: Any, name: str, fields: Sequence[str] = ("ground_truth",)) -> Snapshot:
    """Make a view's content the dataset version of a name, or check that it is what this version has.

    The first use of a name creates the version (:func:`osv_lab.store.versions.create_version`).

    Raises:
        CheckFailedError: the version has other content; the message says what changed in counts.
        UsageError: not a name.
    """
    from osv_lab.store.versions.create import create_version
    from osv_lab.store.versions.model import check_name
    from osv_lab.store.versions.registry import list_versions

    dataset = str(_dataset(view).name)
    check_name(name)
    known = {version.name: version for version in list_versions(dataset).versions}
    now = snapshot(view, fields)
    if name not in known:
        create_version(view, name, fields=fields)
    elif known[name].digest != now.digest:
        raise CheckFailedError(
            f"dataset version '{name}' is bound to other content",
            _difference(known[name], now),
            f"use a new name ('{_next_name(name, known)}') for the data as it is now",
        )
    return dataclasses.replace(now, version=name)


def _difference(then: DatasetVersion, now: Snapshot) -> str:
    """What changed in counts, or that counts are equal and content is not."""
    parts = []
    if tuple(then.fields) != now.fields:
        parts.append(f"fields {', '.join(then.fields)} → {', '.join(now.fields)}")
    pairs = [("samples", then.samples, now.samples), ("labels", then.labels, now.labels)]
    for before, after in ((then.splits, now.splits), (then.classes, now.classes)):
        pairs += [(key, before.get(key, 0), after.get(key, 0)) for key in sorted({*before, *after})]
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


def _check_field(view: Any, name: str) -> None:
    if not view.has_field(name):
        raise NotFoundError("no such label field", repr(name), nearest(name, view.get_field_schema()))
    kind = getattr(getattr(view.get_field(name), "document_type", None), "__name__", "")
    if kind not in (*CONTAINERS, "Detection", "Polyline", "Keypoint", "Classification"):
        raise UsageError(
            "a field does not hold labels that can be digested",
            f"'{name}' ({kind or view.get_field(name)})",
            "give a field of detections, polylines, keypoints or classifications",
        )
