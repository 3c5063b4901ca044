"""The jobs as FiftyOne's database has them: look, cancel, retry. The one module that knows their documents."""

from __future__ import annotations

import contextlib
import copy
import datetime
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from osv_lab.core.errors import NotFoundError, UsageError
from osv_lab.core.settings import load_settings
from osv_lab.jobs.model import Job, JobList, job_of
from osv_lab.store.database import connect, database_errors

SILENT_S = 60.0
"""A worker on another machine that was not heard of for this long is dead."""

TAIL_BYTES = 8192

_WORKER = "worker"
_BRIEF = dict.fromkeys(
    (
        "context.request_params.dataset_name", "operator", "label", "run_state", "status", "queued_at", "started_at",
        "completed_at", "failed_at", "result.error", "result.result.summary", "metadata.osv", "log_path",
    ),
    1,
)  # fmt: skip


def list_jobs(dataset: str | None = None, limit: int = 100) -> JobList:
    """The newest jobs, of all datasets or of one.

    Args:
        dataset: Its name.
        limit: The most jobs.
    """
    recover()
    query = {"context.request_params.dataset_name": dataset} if dataset else {}
    with database_errors():
        found = operations().find(query, _BRIEF).sort("_id", -1).limit(limit)
        return JobList(tuple(map(job_of, found)), worker_alive())


def find_job(id: str) -> Job:
    """One job.

    Args:
        id: Its id, or the beginning or end of it that no other job has.

    Raises:
        NotFoundError: there is none.
        UsageError: several begin or end so.
    """
    recover()
    return job_of(_document(id))


def job_result(id: str) -> Mapping[str, Any]:
    """What an operator returned: ``summary``, ``rows``, and ``dataset`` and ``view`` where there is one to look at."""
    return (_document(id, {}).get("result") or {}).get("result") or {}


def job_view(id: str) -> Any:
    """The view that a job ended with, to look at; ``None`` where it has none, or its dataset is gone."""
    result = job_result(id)
    fo = connect()
    if "view" not in result or not fo.dataset_exists(result["dataset"]):
        return None
    return fo.DatasetView._build(fo.load_dataset(result["dataset"]), result["view"])


def job_log(id: str, tail_bytes: int | None = None) -> str:
    """What a job printed.

    Args:
        id: As for :func:`find_job`.
        tail_bytes: Only the last of it.
    """
    job = find_job(id)
    if job.log is None or not job.log.is_file():
        return ""
    with open(job.log, "rb") as file:
        if tail_bytes is not None:
            file.seek(max(0, job.log.stat().st_size - tail_bytes))
        return file.read().decode("utf-8", "replace")


def cancel(id: str) -> Job:
    """Stop a job: one that waits never runs; one that runs is interrupted as Ctrl-C would, by its worker.

    Raises:
        NotFoundError: there is none.
        UsageError: it is over.
    """
    document = _document(id)
    job = job_of(document)
    if job.over:
        raise UsageError("the job is over", f"{job.label}: {job.state}", "retry runs it again")
    with database_errors():
        waiting = {"_id": document["_id"], "run_state": "queued"}
        change = {"metadata.osv.cancel": True, **failed("cancelled before it began")}
        if operations().find_one_and_update(waiting, {"$set": change}) is None:
            # One that has ended meanwhile keeps how it ended.
            running = {"_id": document["_id"], "run_state": "running"}
            operations().update_one(running, {"$set": {"metadata.osv.cancel": True}})
    return find_job(str(document["_id"]))


def retry(id: str) -> Job:
    """Schedule a job that is over once more, as it was.

    Raises:
        NotFoundError: there is none.
        UsageError: it is not over.
    """
    from fiftyone.operators.delegated import DelegatedOperationService

    document = _document(id, {})
    job = job_of(document)
    if not job.over:
        raise UsageError("the job is not over", f"{job.label}: {job.state}", "cancel it first")
    metadata = {key: value for key, value in (document.get("metadata") or {}).items() if key != "osv"}
    queued = DelegatedOperationService().queue_operation(
        operator=document["operator"],
        label=document.get("label"),
        delegation_target=document.get("delegation_target"),
        context=copy.deepcopy(document["context"]),
        metadata={**metadata, "outputs_schema": None},
    )
    return find_job(str(queued.id))


def worker_alive() -> bool:
    """Whether there is a worker that takes jobs."""
    worker = workers().find_one({"_id": _WORKER})
    return worker is not None and is_alive(worker)


def recover() -> list[str]:
    """Fail the jobs whose worker died, after ending what it left running; gives their ids."""
    connect()
    lost = []
    with database_errors():
        for document in operations().find({"run_state": "running", "metadata.osv.worker": {"$exists": True}}):
            ours = document["metadata"]["osv"]
            if _at_work(ours["worker"]):
                continue
            if "job" in ours and ours["worker"]["host"] == socket.gethostname() and is_alive(ours["job"]):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(ours["job"]["pid"], signal.SIGKILL)
            reason = "its worker ended while it ran; retry runs it again"
            found = operations().update_one(
                {"_id": document["_id"], "run_state": "running"}, {"$set": failed(reason)}
            )
            if found.modified_count:
                lost.append(str(document["_id"]))
    return lost


def _at_work(worker: Mapping[str, Any]) -> bool:
    """Whether the worker that claimed a job lives; one of another machine says so in the worker's place only."""
    if worker["host"] == socket.gethostname():
        return is_alive(worker)
    place = workers().find_one({"_id": _WORKER, **worker})
    return place is not None and is_alive(place)


def failed(reason: str) -> dict[str, Any]:
    """What a failed job's document says."""
    now = utc_now()
    result = {"result": None, "error": reason, "error_message": reason}
    return {"run_state": "failed", "failed_at": now, "updated_at": now, "result": result}


def take_next(me: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Claim the job that has waited longest; ``None`` when none waits."""
    now = utc_now()
    change = {
        "run_state": "running",
        "started_at": now,
        "updated_at": now,
        "monitored": True,
        "metadata.osv": {"worker": dict(me)},
    }
    found: Mapping[str, Any] | None = operations().find_one_and_update(
        {"run_state": "queued"}, {"$set": change}, sort=[("queued_at", 1), ("_id", 1)]
    )
    return found


def become_worker(me: Mapping[str, Any]) -> bool:
    """Take the one worker's place, or keep it; ``False`` while another that lives has it."""
    from pymongo.errors import DuplicateKeyError

    place = workers().find_one({"_id": _WORKER})
    mine = {"_id": _WORKER, **me, "beat": utc_now()}
    if place is None:
        try:
            workers().insert_one(mine)
        except DuplicateKeyError:
            return False
        return True
    same = {key: place.get(key) for key in ("host", "pid", "created")}
    if same != dict(me) and is_alive(place):
        return False
    return workers().find_one_and_replace({"_id": _WORKER, **same}, mine) is not None


def leave_place(me: Mapping[str, Any]) -> None:
    """Free the worker's place."""
    workers().delete_one({"_id": _WORKER, **me})


def this_process(pid: int | None = None) -> dict[str, Any]:
    """A process so that it is told from a later one of the same number."""
    pid = os.getpid() if pid is None else pid
    return {"host": socket.gethostname(), "pid": pid, "created": _created(pid)}


def _created(pid: int) -> str:
    """When a process began: on Linux in ticks of this boot, which stay as they are when the clock is set."""
    import psutil

    try:
        stat, boot = Path(f"/proc/{pid}/stat").read_text(), Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return str(psutil.Process(pid).create_time())
    # Its name, in parentheses, may have spaces; what is looked for is the twenty-second value (proc(5)).
    return f"{stat.rpartition(')')[2].split()[19]} of {boot.strip()}"


def is_alive(process: Mapping[str, Any]) -> bool:
    """Whether a process lives; of another machine, whether it was heard of lately."""
    import psutil

    if process["host"] != socket.gethostname():
        beat = process.get("beat")
        return beat is None or (utc_now() - beat).total_seconds() < SILENT_S
    try:
        there = psutil.Process(process["pid"])
        return bool(there.status() != psutil.STATUS_ZOMBIE and _created(there.pid) == process["created"])
    except psutil.NoSuchProcess:
        return False


def operations() -> Any:
    """FiftyOne's collection of delegated operations."""
    connect()
    from fiftyone.factory.repos.delegated_operation import MongoDelegatedOperationRepo

    return _database()[MongoDelegatedOperationRepo.COLLECTION_NAME]


def workers() -> Any:
    """The collection with the worker's place."""
    connect()
    return _database()["osv_workers"]


def log_path(id: str) -> Path:
    """Where a job's output goes."""
    return load_settings().jobs_dir / f"{id}.log"


def utc_now() -> datetime.datetime:
    """Now as FiftyOne's documents have it: UTC, to the millisecond, without saying so."""
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def _database() -> Any:
    return sys.modules["fiftyone"].core.odm.get_db_conn()


def _document(id: str, fields: Mapping[str, int] | None = None) -> Mapping[str, Any]:
    from bson import ObjectId

    collection = operations()
    with database_errors():
        if ObjectId.is_valid(id):
            found = [one for one in [collection.find_one({"_id": ObjectId(id)}, fields or None)] if one]
        else:
            ids = [str(one["_id"]) for one in collection.find({}, {"_id": 1})]
            matching = [one for one in ids if id and (one.startswith(id) or one.endswith(id))]
            found = [collection.find_one({"_id": ObjectId(one)}, fields or None) for one in matching]
    if not found:
        raise NotFoundError("no such job", repr(id), "osv jobs list has them")
    if len(found) > 1:
        raise UsageError("several jobs have such an id", repr(id), "give more of it")
    document: Mapping[str, Any] = found[0]
    return document
