"""The Jobs panel as a person meets it: scheduled in a form, run by a worker, cancelled, run again."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_driver import SLOW_MS, Driver, run_jobs
from app_scenes import cells

from osv_lab.jobs import list_jobs, queue

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


def test_what_is_scheduled_is_cancelled_run_and_run_again(app: Driver, dataset_name: str, tmp_path: Path) -> None:
    dataset = cells(dataset_name, tmp_path, predicted=False)
    try:
        for _ in range(2):
            app.open(dataset_name)
            app.operator("Find bad images and duplicates")
            app.schedule()
            app.picture("app-job-scheduled")
        app.open(dataset_name)
        panel = app.panel("Jobs")
        panel.get_by_text("No worker runs these").wait_for(timeout=SLOW_MS)
        assert panel.get_by_role("cell", name="queued", exact=True).count() == 2
        panel.get_by_role("button", name="Cancel").first.click()
        panel.get_by_role("cell", name="cancelled", exact=True).wait_for(timeout=SLOW_MS)
        run_jobs()
        panel.get_by_role("cell", name="done", exact=True).wait_for(timeout=SLOW_MS)
        app.picture("app-jobs")
        assert [job.state for job in list_jobs(dataset_name).jobs] == ["cancelled", "done"]
        dataset.reload()
        assert dataset.has_field("quality")
        panel.get_by_role("button", name="Run again").first.click()
        panel.get_by_role("cell", name="queued", exact=True).wait_for(timeout=SLOW_MS)
        assert len(list_jobs(dataset_name).jobs) == 3
    finally:
        queue.operations().delete_many({"context.request_params.dataset_name": dataset_name})
