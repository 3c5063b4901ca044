"""What a look at a dataset found: findings in plain words, worst first, each with the view that shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from osv_lab.core.errors import NotFoundError, nearest
from osv_lab.core.report import Report


@dataclass(frozen=True)
class Finding:
    """One thing a person should know.

    Attributes:
        kind: Its name, for :meth:`FindingsReport.view`.
        text: It in plain words.
        severity: 0 (good to know) to 1 (results cannot be trusted until it is mended).
        samples: Ids of the samples concerned, worst first.
        labels: Ids of the labels concerned, where it is about labels.
        label_field: The field of those labels.
    """

    kind: str
    text: str
    severity: float
    samples: tuple[str, ...] = field(default=(), repr=False)
    labels: tuple[str, ...] = field(default=(), repr=False)
    label_field: str = field(default="", repr=False)


@dataclass(frozen=True)
class FindingsReport(Report):
    """Base of reports that are lists of findings.

    Attributes:
        dataset: The dataset's name.
        findings: Worst first.
    """

    dataset: str
    findings: tuple[Finding, ...]

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per finding, worst first."""
        return [
            {
                "kind": one.kind,
                "severity": one.severity,
                "samples": len(one.samples),
                "labels": len(one.labels) if one.label_field else None,
                "finding": one.text,
            }
            for one in self.findings
        ]

    def finding(self, kind: str) -> Finding:
        """The finding of a kind.

        Raises:
            NotFoundError: nothing of that kind was found; the message names the kinds that were.
        """
        for one in self.findings:
            if one.kind == kind:
                return one
        kinds = [one.kind for one in self.findings]
        raise NotFoundError("no such finding", repr(kind), nearest(kind, kinds) if kinds else "there are none")

    def view(self, kind: str) -> Any:
        """The samples of a finding as a FiftyOne view, worst first; of one about labels, with those labels only."""
        from osv_lab.store.catalogue import open_dataset

        found, dataset = self.finding(kind), open_dataset(self.dataset)
        view = dataset.select(list(found.samples), ordered=True)
        if found.label_field:
            view = view.select_labels(ids=list(found.labels), fields=found.label_field)
        return view

    def save_views(self, prefix: str) -> list[str]:
        """Save a view of each finding as ``<prefix>_<kind>``, in place of earlier ones of the prefix; their names."""
        from osv_lab.store.catalogue import open_dataset

        dataset = open_dataset(self.dataset)
        for name in dataset.list_saved_views():
            if name.startswith(f"{prefix}_"):
                dataset.delete_saved_view(name)
        names = []
        for one in self.findings:
            if one.samples:
                names.append(f"{prefix}_{one.kind}")
                dataset.save_view(names[-1], self.view(one.kind), description=one.text)
        return names


def worst_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Findings by severity, then by how much they concern."""
    return tuple(sorted(findings, key=lambda one: (-one.severity, -len(one.samples), one.kind)))
