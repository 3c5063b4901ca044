"""An operator of the lab: a form, a call of one library function, and its result.

A subclass states itself in ``about`` and has two methods, ``form`` and ``run``. Whatever starts it (the App, a job, a
call from Python) runs the same ``run``; progress, cancelling, errors, the result and reloading are done here.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import fiftyone.operators as foo
from fiftyone.operators import types

from osv_lab.app.form import Form
from osv_lab.core.errors import InterruptedJobError, OsvError
from osv_lab.core.report import Report, cell, plain

SHOWN_ROWS = 12
KEPT_ROWS = 200
"""Of a result's table: rows that the App shows, and rows that are handed on and stored with a job."""

_log = logging.getLogger("osv_lab.app")


@dataclass(frozen=True, kw_only=True)
class About:
    """What an operator says of itself.

    Attributes:
        name: Its name in ``fiftyone.yml`` and in calls from Python.
        label: Its name in the App.
        description: What it does, in one sentence.
        jobs: Whether it runs as a job: ``never``, ``choice`` (the user's) or ``always`` (what takes minutes).
        changes: What the App loads anew afterwards: ``samples``, ``dataset`` (also fields, tags, views) or ``nothing``.
        risk: ``low`` for what only reads, ``medium``, ``high``, or ``dangerous`` for what cannot be undone.
        icon: A file of the plugin's folder.
        unlisted: Not in the operator browser: a panel starts it.
    """

    name: str
    label: str
    description: str = ""
    jobs: Literal["never", "choice", "always"] = "choice"
    changes: Literal["nothing", "samples", "dataset"] = "dataset"
    risk: Literal["low", "medium", "high", "dangerous"] = "medium"
    icon: str = "/icon.svg"
    unlisted: bool = False


class Ask:
    """What was asked for: the form's values, the samples, and where progress goes.

    Attributes:
        values: The value of each field, defaults included.
        progress: The :class:`~osv_lab.core.progress.Progress` to pass on.
        kept: What ``run`` keeps for ``view``.
        ctx: FiftyOne's execution context.
    """

    def __init__(self, ctx: Any, form: Form, progress: Bridge) -> None:
        self.ctx = ctx
        self.values = form.values
        self.progress = progress
        self.kept: Any = None

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def dataset(self) -> Any:
        """The dataset that is open."""
        return self.ctx.dataset

    @property
    def view(self) -> Any:
        """The samples that the form's target names; without one the view, else the dataset."""
        return self.ctx.target_view()


class Bridge:
    """Progress as the App and jobs show it, told at each hundredth; raises when the work was cancelled."""

    def __init__(self, told: Any) -> None:
        self._told = told
        self._last: tuple[str, int] = ("", -1)
        self.cancelled = threading.Event()

    def __call__(self, label: str, done: int, total: int | None, /) -> None:
        if self.cancelled.is_set():
            raise InterruptedJobError("cancelled", label, "start it again to go on")
        step = (label, 100 * done // total if total else done)
        if step != self._last:
            self._last = step
            of = f"{label}: {done:,} of {total:,}" if total else f"{label}: {done:,}"
            self._told(min(done / total, 1.0) if total else None, of)


class LabOperator(foo.Operator):  # type: ignore[misc]
    """Base of the lab's operators.

    Example:
        >>> class Quality(LabOperator):
        ...     about = About(name="quality", label="Find bad images and duplicates")
        ...
        ...     def form(self, form):
        ...         form.target()
        ...         form.number("least", "Least similarity", 0.9, low=0, high=1)
        ...
        ...     def run(self, ask):
        ...         from osv_lab.curate.quality import quality
        ...         return quality(ask.view, least_similarity=ask["least"], progress=ask.progress)
    """

    about: ClassVar[About]

    def form(self, form: Form) -> None:
        """Add the fields; called anew whenever a value changes."""

    def run(self, ask: Ask) -> Any:
        """Call the library; a :class:`~osv_lab.core.report.Report` is shown as its summary and table.

        An :class:`~osv_lab.core.errors.OsvError` is shown as it is.
        """
        raise NotImplementedError

    def view(self, ask: Ask, result: Any) -> Any:
        """The view to look at afterwards; ``None`` leaves the App where it is. Of another dataset: opens that one."""
        return None

    @property
    def config(self) -> Any:
        about = self.about
        return foo.OperatorConfig(
            name=about.name,
            label=about.label,
            description=about.description,
            dynamic=True,
            execute_as_generator=True,
            unlisted=about.unlisted,
            icon=about.icon,
            allow_immediate_execution=about.jobs != "always",
            allow_delegated_execution=about.jobs != "never",
            default_choice_to_delegated=about.jobs == "always",
            risk_level=about.risk,
        )

    def resolve_input(self, ctx: Any) -> Any:
        form = self._filled(ctx)
        return types.Property(form.inputs, view=types.PromptView(label=self.about.label))

    def execute(self, ctx: Any) -> Any:
        form = self._filled(ctx)
        # FiftyOne refuses such a form before it comes here, unless a pipeline has this operator as a stage.
        if form.problems:
            raise next(iter(form.problems.values()))
        # The App names the operator in its request and reads messages while it works; a job and a call from Python
        # want the result.
        if "operator_uri" in ctx.request_params and not ctx.delegated:
            return self._live(ctx, form)
        ask = Ask(ctx, form, Bridge(lambda progress, label: ctx.set_progress(progress=progress, label=label)))
        result = self.run(ask)
        return {**told(result), **_where(self.view(ask, result))}

    def resolve_output(self, ctx: Any) -> Any:
        return result_form(ctx.results or {})

    def resolve_run_name(self, ctx: Any) -> str:
        return self.about.label

    def _filled(self, ctx: Any) -> Form:
        form = Form(ctx)
        self.form(form)
        return form

    def _live(self, ctx: Any, form: Form) -> Iterator[Any]:
        """Run in a thread and say meanwhile how far it is. When the App stops listening the work is cancelled."""
        said: queue.SimpleQueue[Any] = queue.SimpleQueue()
        bridge = Bridge(lambda progress, label: said.put(("progress", progress, label)))
        ask = Ask(ctx, form, bridge)

        def work() -> None:
            try:
                result = self.run(ask)
                said.put(("done", told(result), self.view(ask, result)))
            except OsvError as error:
                said.put(("failed", error, None))
            except Exception as error:  # noqa: BLE001 (told in the App, with the traceback in the log)
                _log.exception("%s failed", self.about.name)
                said.put(("failed", OsvError(type(error).__name__, error, "see the log of osv app"), None))

        thread = threading.Thread(target=work, name=f"osv-{self.about.name}", daemon=True)
        thread.start()
        try:
            yield ctx.ops.set_progress(label=f"{self.about.label} …", progress=0)
            while True:
                kind, first, second = said.get()
                if kind == "progress":
                    yield ctx.ops.set_progress(label=second, progress=first)
                    continue
                if kind == "failed":
                    yield from _failure(ctx, self.about.label, first)
                else:
                    yield from self._success(ctx, first, second)
                return
        finally:
            bridge.cancelled.set()

    def _success(self, ctx: Any, result: Mapping[str, Any], view: Any) -> Iterator[Any]:
        yield ctx.ops.show_output(result_form(result).to_json(), result)
        yield ctx.ops.notify(result["summary"], variant="success")
        if self.about.changes == "dataset":
            yield ctx.ops.reload_dataset()
        elif self.about.changes == "samples":
            yield ctx.ops.reload_samples()
        yield from show(ctx, view)


def show(ctx: Any, view: Any) -> Iterator[Any]:
    """Messages that bring the App to a view, which may be of another dataset."""
    if view is None:
        return
    root = view._root_dataset
    if ctx.dataset is None or root.name != ctx.dataset.name:
        yield ctx.ops.open_dataset(root.name)
    else:
        yield ctx.ops.set_view(view=view)


def told(result: Any) -> dict[str, Any]:
    """A result as plain values: ``summary``, ``rows`` (at most :data:`KEPT_ROWS`) and ``more`` (how many beyond)."""
    if isinstance(result, Report):
        rows = list(result.highlights())
        return {
            "summary": result.summary(),
            "rows": plain(rows[:KEPT_ROWS]),
            "more": max(0, len(rows) - KEPT_ROWS),
        }
    return {"summary": "done" if result is None else str(result), "rows": [], "more": 0}


def result_form(result: Mapping[str, Any]) -> Any:
    """The output form of what :func:`told` gave."""
    outputs = types.Object()
    outputs.view("said", types.Success(label=str(result.get("summary", "done"))))
    if rows := result.get("rows"):
        outputs.md(_markdown(rows[:SHOWN_ROWS]), name="table")
        hidden = len(rows) - SHOWN_ROWS + int(result.get("more", 0))
        if hidden > 0:
            outputs.md(f"… and {hidden:,} more rows", name="hidden")
    return types.Property(outputs, view=types.View(label="Result"))


def error_form(label: str, error: OsvError) -> Any:
    """The output form of an error: what was wrong, what was found, what to do."""
    outputs = types.Object()
    outputs.view("wrong", types.Error(label=f"{label}: {error.what}", description=error.found))
    if error.fix:
        outputs.view("fix", types.Notice(label=f"What to do: {error.fix}"))
    return types.Property(outputs, view=types.View(label="It did not work"))


def _failure(ctx: Any, label: str, error: OsvError) -> Iterator[Any]:
    yield ctx.ops.show_output(error_form(label, error).to_json(), {})
    yield ctx.ops.notify(str(error), variant="error")


def _where(view: Any) -> dict[str, Any]:
    """A view as a job's result keeps it."""
    return {} if view is None else {"dataset": view._root_dataset.name, "view": view._serialize()}


def _markdown(rows: list[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [[column or " " for column in columns], ["---"] * len(columns)]
    lines += [[cell(row.get(column)).replace("|", "\\|").replace("\n", " ") for column in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
