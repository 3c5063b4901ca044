"""Which images are in the way of learning: unreadable, dark, bright, blurred, empty, odd, or there more than once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.errors import UsageError
from osv_lab.core.progress import Progress, silent
from osv_lab.core.settings import SPLITS
from osv_lab.core.words import counted
from osv_lab.curate.duplicates import (
    SIMILARITY,
    Embed,
    Group,
    Union,
    embedding_pairs,
    embeddings_of,
    join_similar,
    near_pairs,
)
from osv_lab.curate.findings import Finding, FindingsReport, worst_first
from osv_lab.curate.hashes import from_hex
from osv_lab.curate.measures import measure_view
from osv_lab.store.database import connect

if TYPE_CHECKING:
    import fiftyone as fo

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """When a measure of an image is suspicious.

    It is where the value is beyond ``sure``; or where it is beyond ``unusual`` and at least ``deviations`` robust
    standard deviations (1.4826 times the median absolute deviation) from the dataset's median.

    Attributes:
        kind: The finding's name.
        says: What such images are.
        value: The measure.
        side: -1 where low values are suspicious, 1 where high ones are, 0 where both are (``sure`` and ``unusual`` are
            then distances from the median).
        sure: See above.
        unusual: See above.
        deviations: See above.
        least_spread: The standard deviation that the dataset's is taken to be at least.
        severity: Of the finding, at 10% of the images or more; half of it for one image.
    """

    kind: str
    says: str
    value: Callable[[Row], float]
    side: int
    sure: float
    unusual: float
    deviations: float
    least_spread: float
    severity: float

    def suspects(self, rows: Sequence[Row]) -> list[int]:
        """Places of the suspicious rows, worst first."""
        if not rows:
            return []
        values = np.array([self.value(row) for row in rows])
        middle = float(np.median(values))
        spread = max(1.4826 * float(np.median(np.abs(values - middle))), self.least_spread)
        beyond = np.abs(values - middle) if self.side == 0 else values * self.side
        sign = self.side or 1
        deviation = np.abs(values - middle) if self.side == 0 else (values - middle) * self.side
        flagged = (beyond > self.sure * sign) | (
            (beyond > self.unusual * sign) & (deviation >= self.deviations * spread)
        )
        found = np.flatnonzero(flagged)
        return [int(place) for place in found[np.argsort(-deviation[found], kind="stable")]]


def _octaves(row: Row) -> float:
    return float(np.log2(row["width"] * row["height"]))


def _aspect(row: Row) -> float:
    return float(np.log2(row["width"] / row["height"]))


RULES = (
    Rule("dark", "dark", lambda row: row["bright_end"], -1, 0.2, 0.45, 4, 0.02, 0.6),
    Rule("bright", "overexposed", lambda row: row["dark_end"], 1, 0.9, 0.75, 4, 0.02, 0.6),
    Rule("low_information", "nearly empty", lambda row: row["entropy"], -1, 1.5, 3.5, 4, 0.2, 0.6),
    Rule("blurry", "blurred", lambda row: row["sharpness"], -1, 0.05, 0.5, 4, 0.03, 0.5),
    Rule("odd_size", "of an unusual size", _octaves, 0, 6.0, 1.0, 6, 0.15, 0.3),
    Rule("odd_aspect", "of an unusual shape", _aspect, 0, 2.0, 0.4, 6, 0.05, 0.3),
)
"""The thresholds: of the 95th percentile of luma (0 to 1), the 5th, bits of entropy, the logarithm that
:func:`osv_lab.curate.measures.sharpness` gives, and octaves of area and of width by height."""


@dataclass(frozen=True)
class QualityReport(FindingsReport):
    """The result of :func:`quality`.

    Attributes:
        samples: Images in the view.
        measured: Images that were looked at now; the others had their measures stored.
        groups: Images that show the same, leaks first.
        problems: Why images cannot be read, by file.
        duration_s: Seconds spent.
    """

    samples: int = 0
    measured: int = 0
    groups: tuple[Group, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    duration_s: float = field(default=0.0, compare=False)

    def summary(self) -> str:
        """The findings in one line."""
        told = ", ".join(f"{len(one.samples):,} {one.kind.replace('_', ' ')}" for one in self.findings)
        return f"{counted(self.samples, 'image')} of '{self.dataset}': {told or 'nothing suspicious'}"


def quality(
    view: fo.SampleCollection,
    *,
    embed: Embed | None = None,
    least_similarity: float | None = None,
    progress: Progress = silent,
) -> QualityReport:
    """Find images that are broken, dark, bright, blurry, low in information, odd, duplicates, or leaks between splits.

    Every image is decoded once; what was seen is kept in the sample field ``quality``, so that a second run looks at
    new and changed files only, and the App can filter by it. Thresholds are relative to the dataset's own distribution,
    with absolute limits (:data:`RULES`). Near duplicates are candidates by pHash or dHash whose pixels agree; mirrored
    and turned copies are not found that way.

    Args:
        view: A dataset or view of images.
        embed: Finds the candidates instead of the hashes: BGR uint8 images to ``(n, d)``. No pixels are compared then.
        least_similarity: Least correlation of near duplicates' pixels, 0.9 by default; with ``embed`` the least cosine
            of their embeddings, 0.98 by default.
        progress: Told about images.

    Returns:
        The findings, worst first: ``report.view("leak")`` shows those of a kind.

    Raises:
        UsageError: not images.

    Example:
        >>> report = quality(dataset)
        >>> print(report.summary())
        20 images of 'cells': 10 leak, 10 near duplicates
    """
    connect()
    begin = time.perf_counter()
    if view.media_type not in ("image", None):
        raise UsageError("quality is about images", f"the view holds {view.media_type}s")
    rows, measured = measure_view(view, progress)
    good = [row for row in rows if not row.get("broken")]
    broken = [row for row in rows if row.get("broken")]
    findings = _broken(broken) + _by_rules(good)
    groups = _groups(good, embed, least_similarity, progress)
    findings += _duplicates(groups, len(rows))
    return QualityReport(
        dataset=view._dataset.name,
        findings=worst_first(findings),
        samples=len(rows),
        measured=measured,
        groups=tuple(groups),
        problems={row["filepath"]: row["broken"] for row in broken},
        duration_s=time.perf_counter() - begin,
    )


def _broken(rows: Sequence[Row]) -> list[Finding]:
    if not rows:
        return []
    text = f"{counted(len(rows), 'image')} cannot be read; training would stop or skip: {rows[0]['broken']}"
    return [Finding("broken", text, 1.0, tuple(row["id"] for row in rows))]


def _by_rules(rows: Sequence[Row]) -> list[Finding]:
    findings = []
    empty: set[int] = set()
    for rule in RULES:
        found = rule.suspects(rows)
        if rule.kind == "low_information":
            empty = set(found)
        if rule.kind == "blurry":
            # A flat picture has no detail at any scale.
            found = [place for place in found if place not in empty]
        if found:
            share = len(found) / len(rows)
            text = f"{counted(len(found), 'image')} ({share:.1%}) {'is' if len(found) == 1 else 'are'} {rule.says}"
            severity = rule.severity * (0.5 + 0.5 * min(share / 0.1, 1.0))
            findings.append(Finding(rule.kind, text, severity, tuple(rows[place]["id"] for place in found)))
    return findings


def _groups(rows: Sequence[Row], embed: Embed | None, least: float | None, progress: Progress) -> list[Group]:
    """Groups of images that show the same; of those with equal bytes only one takes part in the search."""
    union, first = Union(len(rows)), dict[str, int]()
    for place, row in enumerate(rows):
        union.join(first.setdefault(row["digest"], place), place)
    sole = sorted(first.values())
    paths = [rows[place]["filepath"] for place in sole]
    if embed is not None:
        pairs = embedding_pairs(embeddings_of(paths, embed, progress=progress), 0.98 if least is None else least)
        seen = {}
        for i, j in pairs:
            union.join(sole[i], sole[j])
    else:
        among = Union(len(sole))
        hashes = [from_hex([rows[place][kind] for place in sole]) for kind in ("phash", "dhash")]
        seen = join_similar(among, near_pairs(hashes), paths, SIMILARITY if least is None else least)
        seen = {sole[place]: value for place, value in seen.items()}
        for some in among.groups():
            for place in some[1:]:
                union.join(sole[some[0]], sole[place])
    found = []
    for members in union.groups():
        splits = {tag for place in members for tag in rows[place]["tags"] if tag in SPLITS}
        exact = len({rows[place]["digest"] for place in members}) == 1
        alike = min((seen.get(place, 1.0) for place in members), default=1.0)
        ids = tuple(rows[place]["id"] for place in members)
        found.append(Group(ids, tuple(sorted(splits)), exact, alike))
    return sorted(found, key=lambda one: (not one.leak, -one.similarity, one.samples))


def _duplicates(groups: Sequence[Group], total: int) -> list[Finding]:
    kinds = (
        (
            "leak",
            [one for one in groups if one.leak],
            0.95,
            "shown in more than one split, so scores are too good",
        ),
        ("exact_duplicates", [one for one in groups if one.exact], 0.5, "there more than once, byte by byte"),
        (
            "near_duplicates",
            [one for one in groups if not one.exact],
            0.4,
            "there more than once, nearly the same",
        ),
    )
    findings = []
    for kind, some, severity, says in kinds:
        if some:
            ids = tuple(sample for group in some for sample in group.samples)
            verb = "is" if len(some) == 1 else "are"
            extent = f"{counted(len(ids), 'image')}, {len(ids) / total:.1%}"
            text = f"{counted(len(some), 'picture')} ({extent}) {verb} {says}"
            findings.append(Finding(kind, text, severity, ids))
    return findings
