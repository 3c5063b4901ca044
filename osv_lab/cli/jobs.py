"""``osv jobs``: what the App scheduled."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from osv_lab.cli.common import add_verb


def add_commands(stages: Any) -> None:
    """``osv jobs list``, ``log``, ``cancel``, ``retry`` and ``work``."""
    stage = stages.add_parser("jobs", help="what the App scheduled: list, log, cancel, retry, work")
    verbs = stage.add_subparsers(title="what", metavar="WHAT", required=True)

    verb = add_verb(verbs, "list", list_all, "list jobs, the newest first")
    verb.add_argument("dataset", nargs="?", help="only this dataset's")
    verb.add_argument("--limit", type=int, default=20, help="the most jobs (20)")

    for name, command, text in (
        ("log", log, "print what a job printed"),
        ("cancel", cancel, "stop a job, as Ctrl-C would"),
        ("retry", retry, "schedule a job that is over once more"),
    ):
        verb = add_verb(verbs, name, command, text)
        verb.add_argument("job", help="its id, or the end of it")

    verb = add_verb(
        verbs, "work", work, "run jobs, one at a time, first in first out; osv app does this by itself"
    )
    verb.add_argument("--once", action="store_true", help="run what waits, then end")


def list_all(args: argparse.Namespace) -> Any:
    from osv_lab.jobs import list_jobs

    return list_jobs(args.dataset, args.limit)


def log(args: argparse.Namespace) -> Any:
    from osv_lab.jobs import find_job, job_log

    if args.json:
        return {**find_job(args.job).to_dict(), "text": job_log(args.job)}
    sys.stdout.write(job_log(args.job))
    return None


def cancel(args: argparse.Namespace) -> Any:
    from osv_lab.jobs import cancel

    return cancel(args.job)


def retry(args: argparse.Namespace) -> Any:
    from osv_lab.jobs import retry

    return retry(args.job)


def work(args: argparse.Namespace) -> Any:
    from osv_lab.app.worker import run_worker

    run_worker(idle=not args.once)
