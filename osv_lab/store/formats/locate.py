"""Finds the image that an annotation file names."""

from __future__ import annotations

import os
from collections.abc import Iterable

from osv_lab.store.formats.files import (
    IMAGE_SUFFIXES,
    Tree,
    shown,
    split_of_folder,
    stem_of,
)


class Locator:
    """Images of a tree by the names that annotation files give them.

    A stated name is looked for below the given folders, then by its last part alone when only one image has it. A
    name that would leave the source is refused, an absolute one is taken when it exists.
    """

    def __init__(self, tree: Tree, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> None:
        self.tree = tree
        self.known: dict[str, None] = {}
        self.by_name: dict[str, list[str]] = {}
        self.by_stem: dict[str, list[str]] = {}
        for path in tree.files(suffixes):
            name = os.path.basename(path)
            self.known[path] = None
            self.by_name.setdefault(name, []).append(path)
            self.by_stem.setdefault(stem_of(name), []).append(path)

    def find(
        self, name: str, folders: Iterable[str], split: str | None = None, by_stem: bool = False
    ) -> tuple[str | None, str]:
        """The image's absolute path, or ``None`` and why not.

        Args:
            name: As the annotation file states it.
            folders: Where to look first, in order.
            split: Prefers images of this split among several of the name.
            by_stem: Also matches a name without its suffix.
        """
        rooted = os.path.isabs(name)
        leaves = True
        for folder in folders:
            path = self.tree.resolve(name, folder)
            leaves = leaves and path is None
            if path is not None and (path in self.known or (rooted and os.path.isfile(path))):
                return path, ""
        last = os.path.basename(name.replace("\\", "/"))
        if leaves and not rooted:
            return None, f"image {shown(name)!r} leaves the data set's folder"
        candidates = self.by_name.get(last) or (self.by_stem.get(last) if by_stem else None) or []
        if len(candidates) > 1 and split:
            of_split = [c for c in candidates if split_of_folder(os.path.dirname(c), self.tree.root) == split]
            candidates = of_split or candidates
        if len(candidates) == 1:
            return candidates[0], ""
        return None, f"image {shown(name)!r} is {'one of several of the name' if candidates else 'missing'}"
