"""Jobs: operators that the App or Python scheduled, run one at a time, first in, first out, each a process with a log.

FiftyOne keeps scheduled operators as documents of its database (delegated operations). A worker takes the oldest that
waits; ``osv app`` runs one, ``osv jobs work`` another that stands by. A job that is cancelled is interrupted as Ctrl-C
would; one whose worker died is failed with that reason by whoever looks next.

Example:
    >>> import fiftyone.operators as foo
    >>> from osv_lab.app.plugins import use_plugins
    >>> folder = use_plugins()                            # the App has them already
    >>> _ = foo.execute_operator("@osv/curate/quality", dataset="cells", request_delegation=True)
    >>> list_jobs().jobs[0].state
    'queued'
"""

from __future__ import annotations

from osv_lab.jobs.model import Job, JobList
from osv_lab.jobs.queue import cancel, find_job, job_log, job_result, job_view, list_jobs, retry, worker_alive
from osv_lab.jobs.worker import work

__all__ = [
    "Job",
    "JobList",
    "cancel",
    "find_job",
    "job_log",
    "job_result",
    "job_view",
    "list_jobs",
    "retry",
    "work",
    "worker_alive",
]
