"""Whether every byte of a version is what it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from osv_lab.core.errors import OsvError
from osv_lab.core.progress import Progress, silent, tracked
from osv_lab.core.report import Report
from osv_lab.store.versions.manifest import open_manifest
from osv_lab.store.versions.model import DatasetVersion
from osv_lab.store.versions.objects import Objects
from osv_lab.store.versions.registry import find_version
from osv_lab.store.versions.shards import read_media


@dataclass(frozen=True)
class VerifyReport(Report):
    """What was found wrong with a version.

    Attributes:
        ref: The version.
        samples: How many samples were looked at.
        problems: What is wrong: damaged or missing files by name, media that are not what they were.
    """

    ref: str
    samples: int
    problems: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """6 where something is wrong."""
        return 6 if self.problems else 0

    def rows(self) -> list[Mapping[str, Any]]:
        return [{"problem": problem} for problem in self.problems]

    def summary(self) -> str:
        found = f"{len(self.problems)} problems" if self.problems else "every byte is what it was"
        return f"{self.ref}: {self.samples:,} samples looked at, {found}"


def verify(version: str | DatasetVersion, *, progress: Progress = silent) -> VerifyReport:
    """Read a version whole: every file against its MD5, every media file and sample against its SHA-256.

    Raises:
        NotFoundError: there is no such version.
    """
    objects = Objects()
    found = find_version(version)
    problems: list[str] = []
    looked_at = 0
    try:
        for path, oid in objects.tree(found.tree).items():
            if not objects.path(oid).is_file():
                problems.append(f"{path} is missing ({oid})")
            elif not objects.check(oid):
                problems.append(f"{path} is damaged ({objects.path(oid)})")
        manifest = open_manifest(objects, found.tree)
        if manifest.digest() != found.digest:
            problems.append("the samples are not those of the version's digest")
        for row, entry in tracked(manifest.entries(), "verify", progress, len(manifest)):
            looked_at += 1
            try:
                read_media(objects, entry.media, manifest.place(row))
            except OsvError as error:
                problems.append(f"{entry.name}: {error}")
    except OsvError as error:
        problems.append(str(error))
    return VerifyReport(found.ref, looked_at, tuple(problems))
