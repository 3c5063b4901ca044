"""What a dataset version says of itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from osv_lab.core.errors import InvalidDataError, UsageError
from osv_lab.core.report import Report

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class DatasetVersion(Report):
    """A frozen state of a dataset.

    Attributes:
        dataset: The dataset's name.
        name: The version's own name (``v1``).
        digest: SHA-256 of the content: media bytes, splits and labels with their attributes. Neither names, order,
            tags, ids nor the recipe that made it are part of it.
        created: When, as ISO 8601 in UTC.
        media: ``image`` or ``video``.
        samples: How many samples.
        labels: How many labels, those of frames included.
        splits: Samples per split; ``none`` for samples in no split.
        classes: Labels per class.
        fields: FiftyOne's class (``Detections``) of each label field.
        class_list: The dataset's classes by id, where it has such a list.
        skeletons: Keypoint names per field, where known.
        recipe: What it was made with: ``splits``, ``group_by``, ``preprocess``, ``augment``, ``multiplier``, ``seed``.
        size_bytes: Media, packed.
        tree: The DVC digest of its folder.
        erased: How many samples were erased from it since.
        former: Digests that it had before those were erased.
    """

    dataset: str
    name: str
    digest: str
    created: str = field(compare=False)
    media: str
    samples: int
    labels: int
    splits: Mapping[str, int]
    classes: Mapping[str, int]
    fields: Mapping[str, str]
    class_list: tuple[str, ...] = ()
    skeletons: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    size_bytes: int = 0
    tree: str = ""
    erased: int = 0
    former: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """``dataset@name``, by which every function takes it."""
        return f"{self.dataset}@{self.name}"

    def rows(self) -> list[Mapping[str, Any]]:
        rows: list[tuple[str, Any]] = [("version", self.ref), ("digest", self.digest), ("created", self.created)]
        rows += [("samples", self.samples), *((f"samples, {name}", count) for name, count in self.splits.items())]
        rows += [("labels", self.labels), *((f"labels, {name}", count) for name, count in self.classes.items())]
        rows += [(name, value) for name, value in self.recipe.items() if value]
        rows += [("size, MiB", round(self.size_bytes / 2**20, 1)), ("label fields", ", ".join(self.fields))]
        if self.erased:
            rows.append(("samples erased since", self.erased))
        return [{"": what, "value": value} for what, value in rows]

    def summary(self) -> str:
        splits = ", ".join(f"{count} {split}" for split, count in self.splits.items())
        return f"{self.ref} {self.digest[:12]}: {self.samples:,} samples ({splits}), {self.labels:,} labels"


@dataclass(frozen=True)
class VersionList(Report):
    """Versions, by dataset and age.

    Attributes:
        versions: The versions.
        place: Where they are: ``here``, or the address of a remote.
    """

    versions: tuple[DatasetVersion, ...]
    place: str = "here"

    def rows(self) -> list[Mapping[str, Any]]:
        return [
            {
                "version": version.ref,
                "digest": version.digest[:12],
                "created": version.created[:16].replace("T", " "),
                "samples": version.samples,
                "labels": version.labels,
                **version.splits,
                "MiB": round(version.size_bytes / 2**20, 1),
            }
            for version in self.versions
        ]

    def summary(self) -> str:
        if not self.versions:
            return f"no versions {self.place}: osv version create DATASET makes one"
        return f"{len(self.versions)} version{'s' if len(self.versions) != 1 else ''} {self.place}"


def check_name(name: str) -> str:
    """The name of a version, if it can be one.

    Raises:
        UsageError: it is no plain name.
    """
    if not _NAME.fullmatch(name) or name.endswith(".dvc"):
        raise UsageError("not a version name", repr(name), "use letters, digits, '.', '-' and '_', such as 'v1'")
    return name


def parse_ref(ref: str) -> tuple[str, str]:
    """Dataset and version of a reference.

    Raises:
        UsageError: it is no reference.

    Example:
        >>> parse_ref("blood@v2")
        ('blood', 'v2')
    """
    dataset, at, name = ref.rpartition("@")
    if not at or not dataset:
        raise UsageError("not a dataset version", repr(ref), "write DATASET@VERSION, such as 'blood@v1'")
    return dataset, check_name(name)


def from_meta(meta: Any, tree: str, where: str) -> DatasetVersion:
    """A version as its ``.dvc`` file states it.

    Raises:
        InvalidDataError: the file is not one of a version.
    """
    try:
        stated = dict(meta["osv"])
        tuples: dict[str, Any] = {key: tuple(stated.pop(key, ())) for key in ("class_list", "former")}
        skeletons = {key: tuple(names) for key, names in stated.pop("skeletons", {}).items()}
        version = DatasetVersion(**stated, **tuples, skeletons=skeletons, tree=tree)
        check_name(version.name)
        return version
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise InvalidDataError(
            "not the record of a dataset version", f"{where} ({type(error).__name__}: {error})", "pull it again"
        ) from error
