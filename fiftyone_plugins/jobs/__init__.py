"""What was scheduled: progress, log, result, cancel, retry."""

from __future__ import annotations

from typing import Any

from osv_lab import jobs
from osv_lab.app.operators import show
from osv_lab.app.panels import LabPanel, Page, PanelAbout

SHOWN = 12
BUSY_MS, IDLE_MS = 1000, 3000
TAIL_BYTES = 3000
COLUMNS = {"job": "job", "dataset": "dataset", "state": "state", "seconds": "s", "told": ""}


class Jobs(LabPanel):
    about = PanelAbout(
        name="jobs",
        label="Jobs",
        help="What was scheduled, the newest first. Jobs run one at a time, first in, first out.",
        category="custom",
    )

    def draw(self, ctx: Any, page: Page) -> None:
        found = jobs.list_jobs(limit=SHOWN)
        busy = any(not job.over for job in found.jobs)
        page.every(BUSY_MS if busy else IDLE_MS, self.look)
        if not found.worker:
            page.note("alone", "No worker runs these", "warning", "osv app brings one; so does osv jobs work")
        if not found.jobs:
            page.text("none", "Nothing was scheduled yet. *Schedule* in an operator's form brings its run here.")
            return
        page.table("jobs", found.rows(), COLUMNS, on_row=self.on_row)
        ctx.panel.set_state("ids", [job.id for job in found.jobs])
        chosen = ctx.panel.get_state("chosen")
        job = next((job for job in found.jobs if job.id == chosen), found.jobs[0])
        page.text("title", f"**{job.label}** on {job.dataset}: {job.state}")
        row, of = page.row("actions"), {"id": job.id}
        row.button("cancel", "Cancel", self.on_cancel, icon="cancel", params=of, disabled=job.over)
        row.button("retry", "Run again", self.on_retry, icon="replay", params=of, disabled=not job.over)
        row.button(
            "show", "Look at the result", self.on_show, icon="visibility", params=of, disabled=job.state != "done"
        )
        if job.state == "running":
            page.progress("share", job.progress, job.said)
        elif job.error:
            page.note("error", job.error, "error")
        elif job.summary_text:
            page.note("summary", job.summary_text, "success")
            if rows := jobs.job_result(job.id).get("rows"):
                page.table("rows", rows[:SHOWN])
        if log := jobs.job_log(job.id, TAIL_BYTES):
            page.code("log", "\n".join(log.splitlines()[-12:]))

    def look(self, ctx: Any) -> None:
        """The timer: what is there is drawn anew."""

    def on_row(self, ctx: Any) -> None:
        ctx.panel.set_state("chosen", str(ctx.panel.get_state("ids")[ctx.params["row"]]))

    def on_cancel(self, ctx: Any) -> None:
        jobs.cancel(ctx.params["id"])

    def on_retry(self, ctx: Any) -> None:
        ctx.panel.set_state("chosen", jobs.retry(ctx.params["id"]).id)

    def on_show(self, ctx: Any) -> None:
        ctx.ops.reload_dataset()
        for _ in show(ctx, jobs.job_view(ctx.params["id"])):
            pass


def register(plugin: Any) -> None:
    plugin.register(Jobs)
