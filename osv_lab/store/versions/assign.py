"""Which split each sample of a version is in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from osv_lab.core.errors import InvalidDataError, NotFoundError, nearest
from osv_lab.core.settings import SPLITS
from osv_lab.store import splits as splitting
from osv_lab.store.bulk_read import Content


def assign_splits(
    contents: Sequence[Content],
    media: Sequence[str],
    ratios: Mapping[str, float] | Sequence[float] | None,
    group_by: str | None,
    seed: int,
) -> list[str | None]:
    """The split of each sample."""
    groups = _groups(contents, group_by) if group_by is not None else None
    if ratios is None:
        tagged = [next((split for split in SPLITS if split in content.tags), None) for content in contents]
        if groups is not None:
            _check_groups(groups, tagged, group_by)
        return tagged
    # By content, so that the same data is split the same way; equal files belong together anyway.
    classes: dict[str, set[str]] = {}
    for content, digest in zip(contents, media, strict=True):
        labels = [
            *content.labels.values(),
            *(some for f in (content.frames or {}).values() for some in f.values()),
        ]
        classes.setdefault(digest, set()).update(label.label for some in labels for label in some)
    of_group = None
    if groups is not None:
        of_group = _joined(media, groups)
    placed = splitting.stratified(classes, ratios, groups=of_group, seed=seed)
    return [placed[digest] for digest in media]


def _groups(contents: Sequence[Content], group_by: str) -> list[str | None]:
    found = [content.values.get(group_by) for content in contents]
    if all(value is None for value in found):
        names = sorted({name for content in contents for name in content.values})
        fix = nearest(group_by, names) if names else "the samples have no plain field"
        raise NotFoundError("no sample has a value to group by", repr(group_by), fix)
    return [None if value is None else str(value) for value in found]


def _joined(media: Sequence[str], groups: Sequence[str | None]) -> dict[str, str]:
    """The group of each content; groups that share a file are one."""
    parent: dict[str, str] = {}

    def top(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    first: dict[str, str] = {}
    for digest, group in zip(media, groups, strict=True):
        if group is not None:
            a, b = sorted((top(group), top(first.setdefault(digest, group))))
            parent[b] = a
    return {digest: top(group) for digest, group in first.items()}


def _check_groups(groups: Sequence[str | None], splits: Sequence[str | None], group_by: str | None) -> None:
    seen: dict[str, set[str]] = {}
    for group, split in zip(groups, splits, strict=True):
        if group is not None and split is not None:
            seen.setdefault(group, set()).add(split)
    torn = sorted(group for group, found in seen.items() if len(found) > 1)
    if torn:
        shown = ", ".join(torn[:5]) + (f" and {len(torn) - 5:,} more" if len(torn) > 5 else "")
        raise InvalidDataError(
            f"{len(torn):,} groups of '{group_by}' are in more than one split", shown, "give splits= to split anew"
        )
