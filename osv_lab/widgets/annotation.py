"""The annotation board: jobs on the CVAT server, who has them, how far they are, what came back."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from osv_lab.core.report import plain
from osv_lab.widgets.base import Answer, LabWidget, action
from osv_lab.widgets.front import script, style

if TYPE_CHECKING:
    from osv_lab.annotate import AnnotationLoop
    from osv_lab.annotate.status import AnnotationStatus


class AnnotationBoard(LabWidget):
    """Jobs of the annotation runs of a dataset, by state; pull what is done.

    The page asks for news every few seconds while it is in sight: nothing runs in the kernel in between.

    Args:
        loop: The loop, as ``lab.annotate()`` gives it.
        run: Only this run's jobs.
        every_s: Seconds between two looks; 0 looks only when asked.
        link: A session of the App, if any.
        key: See :class:`~osv_lab.widgets.base.LabWidget`.

    Example:
        >>> task = loop.send(dataset.match_tags("val"), "to_check", "predictions")
        >>> board = AnnotationBoard(loop)                         # shown where a cell ends with it
        >>> board.load()
        >>> board.data["summary"]
        '0 of 1 jobs completed; labels: 0 edited, 0 added, 0 removed'
    """

    heading = "Annotation"
    _esm = script("chart.js", "watch.js", "annotation.js")
    _css = style("parts.css", "annotation.css")

    def __init__(
        self,
        loop: AnnotationLoop,
        run: str | None = None,
        *,
        every_s: float = 15,
        link: Any = None,
        key: str | None = None,
    ) -> None:
        self.loop, self._run, self._every_s = loop, run, every_s
        self.status: AnnotationStatus | None = None
        super().__init__(str(loop.dataset.name) + (f", {run}" if run else ""), link=link, key=key)

    def _load(self) -> None:
        if not self.loop.list().runs:
            self.say(
                "empty",
                "Nothing was sent to annotators yet",
                "",
                "lab.annotate().send(view, key, field) sends a view",
            )
            return
        self._look()

    def _look(self) -> None:
        found = self.status = self.loop.status(self._run)
        runs = self.loop.list().runs
        self.data = plain(
            {
                "every": self._every_s,
                "summary": found.summary(),
                "problems": found.problems,
                "jobs": [asdict(job) for job in found.jobs],
                "runs": [run for run in runs if self._run in (None, run["key"])],
            }
        )

    @action
    def look(self) -> Answer:
        """Ask the server for news."""
        self._look()
        return None

    @action
    def pull(self, run: str) -> Answer:
        """Merge what annotators finished into the dataset."""
        report = self.loop.pull(run)
        self._look()
        return {"note": report.summary()}

    @action
    def open_run(self, run: str) -> Answer:
        """Open the samples of a run."""
        from osv_lab.annotate.records import Runs

        return self.show(self.loop.dataset.select(list(Runs(self.loop.dataset).get(run).samples), ordered=True))

    def _static(self) -> str:
        return self.status._repr_html_() if self.status is not None else ""
