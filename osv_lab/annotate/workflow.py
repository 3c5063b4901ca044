"""Who has which job, at which stage: annotation, validation, acceptance; and which jobs count as done.

CVAT sets a job's state back to ``new`` when its stage changes, unless both are written at once; here they always are.
An annotator may finish a job and not move it on: that needs the task's owner, or a maintainer of the organisation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

from osv_lab.annotate.connection import Connection
from osv_lab.annotate.records import Run, Runs
from osv_lab.annotate.status import annotation_jobs
from osv_lab.core.errors import NotFoundError, OsvError, UnavailableError, UsageError, nearest

Done: TypeAlias = Literal["completed", "annotated", "validated", "accepted", "any"]
"""Which jobs a pull takes.

``completed``: the state is completed, at any stage, so that a job under review is left until the reviewer is through;
``annotated``: completed by its annotator, whatever became of it since, unless it was rejected; ``validated``: likewise
by its reviewer; ``accepted``: completed at the stage of acceptance, as CVAT itself counts; ``any``: all.
"""
Stage: TypeAlias = Literal["annotation", "validation", "acceptance"]
STAGES: tuple[str, ...] = get_args(Stage)


def check_done(rule: str) -> str:
    """The rule, if it is one.

    Raises:
        UsageError: it is none.
    """
    if rule not in get_args(Done):
        raise UsageError("done is unknown", repr(rule), nearest(str(rule), get_args(Done)))
    return rule


def is_done(job: Mapping[str, Any], rule: str) -> bool:
    """Whether a job, as CVAT describes it, counts as done.

    Example:
        >>> is_done({"stage": "validation", "state": "new"}, "annotated")
        True
        >>> is_done({"stage": "validation", "state": "new"}, "completed")
        False
    """
    completed, stage = job["state"] == "completed", STAGES.index(job["stage"])
    if rule in ("annotated", "validated"):
        least = ("annotated", "validated").index(rule)
        return job["state"] != "rejected" and (stage > least or (stage == least and completed))
    return rule == "any" or (completed and (rule == "completed" or job["stage"] == "acceptance"))


def user_id(cvat: Connection, name: str) -> int:
    """CVAT's id of a user.

    Raises:
        NotFoundError: no such user, as far as we may see.
    """
    for one in cvat.pages("/api/users", {"search": name}):
        if one["username"] == name:
            return int(one["id"])
    raise NotFoundError("no such user on the CVAT server", repr(name), "invite them, or check the organisation")


def seen_jobs(run: Run, jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What is remembered of jobs; who annotated one also when somebody else has it for review."""
    before = {one["id"]: one for one in run.jobs}
    found = []
    for job in jobs:
        assignee = (job["assignee"] or {}).get("username", "")
        annotator = before.get(job["id"], {}).get("annotator", "")
        found.append(
            {
                "id": job["id"],
                "assignee": assignee,
                "annotator": assignee if job["stage"] == "annotation" and assignee else annotator,
                "start": job["start_frame"],
                "stop": job["stop_frame"],
                "stage": job["stage"],
                "state": job["state"],
            }
        )
    return found


def reassign(cvat: Connection, runs: Runs, key: str, users: Sequence[str], jobs: Sequence[int] | None) -> None:
    """Give jobs to users in turn; see :meth:`osv_lab.annotate.AnnotationLoop.reassign`."""
    people = [user_id(cvat, name) for name in users]

    def changes(run: Run, every: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        for number, job in enumerate(_chosen(every, jobs)):
            yield job["id"], {"assignee": people[number % len(people)] if people else None}

    _change(cvat, runs, key, changes)


def advance(
    cvat: Connection, runs: Runs, key: str, jobs: Sequence[int] | None, to: str | None, users: Sequence[str]
) -> None:
    """Move jobs on to the next stage; see :meth:`osv_lab.annotate.AnnotationLoop.advance`."""
    if to is not None and to not in STAGES:
        raise UsageError("no such stage", repr(to), nearest(to, STAGES))

    def changes(run: Run, every: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        names = users or run.reviewers
        people = [user_id(cvat, name) for name in names]
        finished = [job for job in every if job["state"] == "completed" and job["stage"] != "acceptance"]
        for number, job in enumerate(finished if jobs is None else _chosen(every, jobs)):
            stage = to or ("validation" if job["stage"] == "annotation" and people else "acceptance")
            change: dict[str, Any] = {"stage": stage, "state": "completed" if stage == "acceptance" else "new"}
            if stage == "validation" and people:
                change["assignee"] = people[number % len(people)]
            yield job["id"], change

    _change(cvat, runs, key, changes)


def send_back(cvat: Connection, runs: Runs, key: str, jobs: Sequence[int]) -> None:
    """Give jobs back to those who annotated them; see :meth:`osv_lab.annotate.AnnotationLoop.send_back`."""

    def changes(run: Run, every: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        annotators = {one["id"]: one["annotator"] for one in seen_jobs(run, every)}
        for job in _chosen(every, jobs):
            change: dict[str, Any] = {"stage": "annotation", "state": "rejected"}
            if annotators[job["id"]]:
                change["assignee"] = user_id(cvat, annotators[job["id"]])
            yield job["id"], change

    _change(cvat, runs, key, changes)


def _change(
    cvat: Connection,
    runs: Runs,
    key: str,
    changes: Callable[[Run, Sequence[Mapping[str, Any]]], Iterator[tuple[int, Mapping[str, Any]]]],
) -> None:
    """Change jobs one by one, and read back whether they did; one that is refused does not keep back the others."""
    with runs.alone(key):
        run = runs.get(key)
        every = annotation_jobs(cvat, run)
        runs.put_some(key, jobs=seen_jobs(run, every))
        wanted = dict(changes(runs.get(key), every))
        refused: dict[int, OsvError] = {}
        for job, change in wanted.items():
            try:
                cvat.call("PATCH", f"/api/jobs/{job}", body=change)
            except (UsageError, NotFoundError) as error:
                refused[job] = error
        after = annotation_jobs(cvat, run)
        runs.put_some(key, jobs=seen_jobs(runs.get(key), after))
    if refused:
        job, why = next(iter(refused.items()))
        raise UsageError(
            f"{len(refused)} of {len(wanted)} jobs were not changed",
            f"job {job}: {why.what} {why.found}".strip(),
            "only the task's owner or a maintainer may assign jobs and move them to another stage",
        )
    for one in after:
        change = wanted.get(one["id"], {})
        if any(one[name] != change[name] for name in ("stage", "state") if name in change):
            found = f"job {one['id']} is at {one['stage']}, {one['state']}"
            raise UnavailableError("a job was changed by somebody else meanwhile", found, "look at the status")


def _chosen(every: Sequence[Mapping[str, Any]], jobs: Sequence[int] | None) -> list[Mapping[str, Any]]:
    known = {job["id"]: job for job in every}
    for number in jobs or ():
        if number not in known:
            raise NotFoundError(
                "no such job in this run", number, "use one of: " + ", ".join(map(str, sorted(known)))
            )
    return list(every) if jobs is None else [known[number] for number in dict.fromkeys(jobs)]
