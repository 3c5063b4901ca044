"""What an ingest did with every file and every label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from osv_lab.core.errors import InvalidDataError
from osv_lab.core.html import report_html
from osv_lab.core.report import Report
from osv_lab.store.records import Problem

Outcome: TypeAlias = Literal["added", "updated", "skipped", "broken"]
_ORDER: Mapping[str, int] = {"broken": 0, "skipped": 1, "updated": 2, "added": 3}

KNOWN = "already in the dataset"
"""Why a file is skipped whose content and labels the dataset has under this very name."""


@dataclass(frozen=True, slots=True)
class FileLine:
    """What became of one media file.

    Attributes:
        file: Its path below the source, undecodable bytes escaped.
        outcome: ``added``, ``updated`` (labels or path replaced), ``skipped`` (not taken) or ``broken`` (unusable).
        why: The reason, or what to know about an added file.
        labels: Labels the source has for it that could be read.
        dropped: Labels the source has for it that could not be read or used.
        split: The split it is in afterwards, or ``""``.
    """

    file: str
    outcome: Outcome
    why: str = ""
    labels: int = 0
    dropped: int = 0
    split: str = ""

    def to_row(self) -> dict[str, Any]:
        """The line as a table row."""
        return {
            "file": self.file,
            "outcome": self.outcome,
            "why": self.why,
            "labels": self.labels,
            "dropped": self.dropped,
            "split": self.split,
        }


@dataclass(frozen=True)
class IngestReport(Report):
    """The result of :func:`osv_lab.store.ingest.ingest`.

    Attributes:
        dataset: The dataset's name.
        source: What was read.
        format: The format it was in.
        files: One line per media file, in the source's order.
        problems: Everything that was wrong with labels, annotation files and the source as a whole.
        orphans: Labels dropped because they belong to no media file of the source.
        splits: Samples per split in this source, after the ingest.
        splits_made: Whether the splits were made here, and not read from the source or given.
        classes: Class names of the source.
        samples: Samples in the dataset after the ingest.
    """

    dataset: str
    source: str
    format: str
    files: tuple[FileLine, ...]
    problems: tuple[Problem, ...] = ()
    orphans: int = 0
    splits: Mapping[str, int] = field(default_factory=dict)
    splits_made: bool = False
    classes: tuple[str, ...] = ()
    samples: int = 0

    def count(self, outcome: Outcome) -> int:
        """How many files had an outcome."""
        return sum(line.outcome == outcome for line in self.files)

    @property
    def added(self) -> int:
        """Files that became samples."""
        return self.count("added")

    @property
    def updated(self) -> int:
        """Files whose samples got other labels or another path."""
        return self.count("updated")

    @property
    def skipped(self) -> int:
        """Files that were not taken, mostly because the dataset has their content."""
        return self.count("skipped")

    @property
    def broken(self) -> int:
        """Files that cannot be used."""
        return self.count("broken")

    @property
    def exit_code(self) -> int:
        """Invalid data where no file could be used, else 0."""
        return InvalidDataError.exit_code if self.files and self.broken == len(self.files) else 0

    @property
    def labels(self) -> dict[str, int]:
        """Labels read, and where each of them went: ``read = kept + dropped + skipped + broken``.

        ``kept`` are in the dataset because of this ingest, ``dropped`` could not be used, ``skipped`` and ``broken``
        belong to files with that outcome.
        """
        counts: Counter[str] = Counter(read=self.orphans, kept=0, dropped=self.orphans, skipped=0, broken=0)
        for line in self.files:
            counts["read"] += line.labels + line.dropped
            counts["dropped"] += line.dropped
            counts["kept" if line.outcome in ("added", "updated") else line.outcome] += line.labels
        return dict(counts)

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per file, those that need attention first."""
        return [line.to_row() for line in sorted(self.files, key=_attention)]

    def problem_rows(self) -> Sequence[Mapping[str, Any]]:
        """One row per problem."""
        return [
            {"file": one.file, "where": one.where, "what": one.what, "consequence": one.consequence}
            for one in self.problems
        ]

    def highlights(self) -> Sequence[Mapping[str, Any]]:
        """What a person should look at: files that were not simply added or known, then problems of labels."""
        unusual = [
            {"file": line.file, "where": "", "what": line.why, "consequence": f"file {line.outcome}"}
            for line in sorted(self.files, key=_attention)
            if line.why and line.why != KNOWN
        ]
        return [*unusual, *self.problem_rows()]

    def summary(self) -> str:
        """The counts in one line."""
        labels = self.labels
        parts = [f"{self.count(outcome):,} {outcome}" for outcome in ("added", "updated", "skipped", "broken")]
        parts = [part for part in parts if not part.startswith("0 ") or part.endswith("added")]
        fates = [f"{labels[fate]:,} {fate}" for fate in ("kept", "dropped", "skipped", "broken") if labels[fate]]
        splits = ", ".join(f"{name} {count:,}" for name, count in self.splits.items())
        made = " (made here)" if self.splits_made else ""
        return (
            f"{len(self.files):,} files of {self.format} into '{self.dataset}': {', '.join(parts)}; "
            f"{labels['read']:,} labels read: {', '.join(fates) or 'none'}; {len(self.problems):,} problems"
            + (f"; {splits}{made}" if splits else "")
        )

    def to_dict(self) -> dict[str, Any]:
        """The report's fields and counts as plain values."""
        counts = {outcome: self.count(outcome) for outcome in ("added", "updated", "skipped", "broken")}
        return {**super().to_dict(), "counts": counts, "labels": self.labels}

    def _repr_html_(self) -> str:
        return report_html(self.summary(), self.highlights() or self.rows())


def _attention(line: FileLine) -> tuple[int, bool, bool]:
    return _ORDER[line.outcome], not line.why, not line.dropped
