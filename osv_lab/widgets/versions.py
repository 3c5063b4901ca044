"""The version browser: what was frozen when, and what changed from one version to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import traitlets

from osv_lab.core.errors import UsageError
from osv_lab.core.report import plain
from osv_lab.store.diff import SAMPLE_CHANGES, diff_versions
from osv_lab.store.diff_objects import OBJECT_CHANGES
from osv_lab.store.versions import list_versions, load_version
from osv_lab.widgets.base import Answer, LabWidget, action
from osv_lab.widgets.front import script, style

if TYPE_CHECKING:
    from osv_lab.store.diff import VersionDiff

MOST_SAMPLES = 200


class VersionBrowser(LabWidget):
    """The versions of a dataset; choose two and see what changed, in counts and in the App.

    Args:
        dataset: The dataset's name, or the dataset.
        iou: The least overlap at which two objects count as the same one.
        link: A session of the App, if any.
        key: See :class:`~osv_lab.widgets.base.LabWidget`.

    Attributes:
        pair: The versions that are compared, ``["v1", "v2"]``.

    Example:
        >>> from osv_lab.store.versions import create_version
        >>> made = [create_version(dataset, splits=splits) for splits in (None, (0.6, 0.2, 0.2))]
        >>> browser = VersionBrowser("cells")                     # shown where a cell ends with it
        >>> browser.load()
        >>> browser.pair, browser.diff.summary()
        (['v1', 'v2'], 'cells@v1 → cells@v2: samples 13 resplit, 7 equal; objects none')
    """

    heading = "Versions"
    _esm = script("chart.js", "versions.js")
    _css = style("parts.css")

    pair = traitlets.List().tag(sync=True)

    def __init__(self, dataset: Any, iou: float = 0.5, *, link: Any = None, key: str | None = None) -> None:
        self._name = dataset if isinstance(dataset, str) else str(dataset.name)
        self._iou = iou
        self.diff: VersionDiff | None = None
        super().__init__(self._name, link=link, key=key)

    def _load(self) -> None:
        found = list_versions(self._name)
        if not found.versions:
            self.say(
                "empty", "No versions yet", f"of '{self._name}'", "lab.create_version() freezes what is there now"
            )
            return
        self.data = plain(
            {
                "versions": [
                    {
                        "name": one.name,
                        "created": one.created[:16].replace("T", " "),
                        "digest": one.digest[:12],
                        "samples": one.samples,
                        "labels": one.labels,
                        "splits": one.splits,
                        "classes": one.classes,
                        "mib": one.size_bytes / 2**20,
                        "recipe": {name: value for name, value in one.recipe.items() if value},
                    }
                    for one in found.versions
                ],
                "diff": None,
            }
        )
        names = [one.name for one in found.versions]
        if len(names) > 1:
            self._compare(*(self.pair if set(self.pair) <= set(names) and len(self.pair) == 2 else names[-2:]))

    @action
    def compare(self, a: str, b: str) -> Answer:
        """Say what changed from one version to another."""
        self._compare(a, b)
        return None

    def _compare(self, a: str, b: str) -> None:
        known = [one["name"] for one in self.data["versions"]]
        for name in (a, b):
            if name not in known:
                raise UsageError("no such version", repr(name))
        diff = self.diff = diff_versions(f"{self._name}@{a}", f"{self._name}@{b}", self._iou)
        self.pair = [a, b]
        told = {
            "summary": diff.summary(),
            "equal": diff.equal,
            "samples": diff.samples,
            "objects": diff.objects,
            "changed": len(diff.changed),
            "rows": [
                {"name": one.name, "changes": one.changes, "splits": one.splits, "objects": len(one.objects)}
                for one in diff.changed[:MOST_SAMPLES]
            ],
        }
        self.data = {**self.data, "diff": plain(told)}

    @action
    def open_change(self, change: str = "") -> Answer:
        """Open the samples that differ, or those of one change, each before and after."""
        if self.diff is None:
            raise UsageError("no versions are compared", "choose two")
        if change and change not in {*SAMPLE_CHANGES, *OBJECT_CHANGES}:
            raise UsageError("no such change", repr(change))
        return self.show(self.diff.view(change or None))

    @action
    def open_version(self, name: str) -> Answer:
        """Open a version."""
        return self.show(load_version(f"{self._name}@{name}"))

    def _static(self) -> str:
        shown = list_versions(self._name)._repr_html_()
        return shown + (self.diff._repr_html_() if self.diff is not None else "")
