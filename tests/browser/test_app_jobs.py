"""The Jobs panel as a person meets it: scheduled in a form, run by a worker, cancelled, run again."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from app_driver import SLOW_MS, Driver
from app_scenes import cells

from osv_lab.jobs import list_jobs, queue, work

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


def test_a_scheduled_operator_runs_and_shows_its_result(app: Driver, dataset_name: str, tmp_path: Path) -> None:
    dataset = cells(dataset_name, tmp_path, predicted=False)
    app.open(dataset_name)
    for _ in range(2):
        app.operator("Find bad images and duplicates")
        app.schedule()
    panel = app.panel("Jobs")
    panel.get_by_text("No worker runs these").wait_for(timeout=SLOW_MS)
    assert panel.get_by_role("cell", name="queued").count() == 2
    panel.get_by_label("Cancel").first.click()
    panel.get_by_role("cell", name="cancelled").wait_for(timeout=SLOW_MS)
    stop = threading.Event()
    worker = threading.Thread(target=work, args=(stop,))
    worker.start()
    try:
        panel.get_by_role("cell", name="done").wait_for(timeout=5 * SLOW_MS)
        panel.get_by_text("Find bad images and duplicates").nth(1).click()
        panel.get_by_text(f"40 images of '{dataset_name}'").last.wait_for(timeout=SLOW_MS)
        app.picture("app-jobs")
        assert [job.state for job in list_jobs(dataset_name).jobs] == ["cancelled", "done"]
        dataset.reload()
        assert dataset.has_field("quality")
        panel.get_by_label("Run again").first.click()
        panel.get_by_role("cell", name="running").or_(panel.get_by_role("cell", name="queued")).first.wait_for(
            timeout=SLOW_MS
        )
    finally:
        stop.set()
        worker.join()
        queue.operations().delete_many({"context.request_params.dataset_name": dataset_name})
