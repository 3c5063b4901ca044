"""What is known of a job."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from osv_lab.core.report import Report

State: TypeAlias = Literal["queued", "running", "done", "failed", "cancelled"]

_STATES: Mapping[str, State] = {"running": "running", "completed": "done", "failed": "failed"}


@dataclass(frozen=True)
class Job(Report):
    """One scheduled operator.

    Attributes:
        id: Its id.
        label: What it does, as the App calls it.
        operator: The operator's address, such as ``@osv/curate/quality``.
        dataset: The dataset it works on.
        state: ``queued``, ``running``, ``done``, ``failed`` or ``cancelled``.
        progress: 0 to 1; ``None`` while unknown.
        said: What it said last of how far it is.
        queued: When it was scheduled (UTC).
        started: When it was begun.
        ended: When it ended.
        error: Why it failed, in one line.
        summary: Its result in one line.
        log: The file with all that it printed.
    """

    id: str
    label: str
    operator: str
    dataset: str
    state: State
    progress: float | None = None
    said: str = ""
    queued: datetime.datetime | None = None
    started: datetime.datetime | None = None
    ended: datetime.datetime | None = None
    error: str = ""
    summary_text: str = field(default="", repr=True)
    log: Path | None = None

    @property
    def over(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.state in ("done", "failed", "cancelled")

    @property
    def duration_s(self) -> float | None:
        """Seconds that it ran, or has run so far."""
        if self.started is None:
            return None
        now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        return ((self.ended or now) - self.started).total_seconds()

    @property
    def outcome(self) -> str:
        """Where it stands, in a few words."""
        if self.state == "running":
            share = "" if self.progress is None else f"{self.progress:.0%} "
            return f"{share}{self.said}".strip()
        return self.error or self.summary_text

    def rows(self) -> list[Mapping[str, Any]]:
        duration = self.duration_s
        return [
            {
                "id": self.id,
                "job": self.label,
                "dataset": self.dataset,
                "state": self.state,
                "queued": f"{self.queued:%m-%d %H:%M:%S}" if self.queued else None,
                "seconds": None if duration is None else round(duration),
                "told": self.outcome,
            }
        ]

    def summary(self) -> str:
        return f"{self.label} on '{self.dataset}': {self.state}" + (f" ({self.outcome})" if self.outcome else "")


@dataclass(frozen=True)
class JobList(Report):
    """Jobs, the newest first.

    Attributes:
        jobs: The jobs.
        worker: Whether a worker is there to run what waits.
    """

    jobs: tuple[Job, ...]
    worker: bool

    def rows(self) -> list[Mapping[str, Any]]:
        return [row for job in self.jobs for row in job.rows()]

    def summary(self) -> str:
        waiting = sum(job.state == "queued" for job in self.jobs)
        text = f"{len(self.jobs)} jobs, {waiting} waiting"
        return text if self.worker else f"{text}; no worker runs them: start osv app, or osv jobs work"


def job_of(document: Mapping[str, Any]) -> Job:
    """A job as FiftyOne's document states it."""
    ours = (document.get("metadata") or {}).get("osv") or {}
    state = _STATES.get(document.get("run_state", ""), "queued")
    if state == "failed" and ours.get("cancel"):
        state = "cancelled"
    status, result = document.get("status") or {}, document.get("result") or {}
    parameters = (document.get("context") or {}).get("request_params") or {}
    error = str(result.get("error") or "").strip()
    return Job(
        id=str(document["_id"]),
        label=document.get("label") or document["operator"],
        operator=document["operator"],
        dataset=parameters.get("dataset_name") or "",
        state=state,
        progress=status.get("progress"),
        said=status.get("label") or "",
        queued=document.get("queued_at"),
        started=document.get("started_at"),
        ended=document.get("completed_at") or document.get("failed_at"),
        error=error.splitlines()[-1] if error else "",
        summary_text=str((result.get("result") or {}).get("summary") or "") if not error else "",
        log=Path(document["log_path"]) if document.get("log_path") else None,
    )
