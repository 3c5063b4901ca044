"""A panel of the lab: it draws a page, and what goes wrong is a notice on the page, never a traceback in its place."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import fiftyone.operators as foo
from fiftyone.operators import types

from osv_lab.app.form import Choices, _offered
from osv_lab.app.kept import NotYetError
from osv_lab.core.errors import OsvError
from osv_lab.core.report import cell, plain

_log = logging.getLogger("osv_lab.app")
_NOTES: Mapping[str, Any] = {
    "notice": types.Notice,
    "warning": types.Warning,
    "error": types.Error,
    "success": types.Success,
}
_PROBLEM = "osv_problem"
_AGAIN_MS = 1000


@dataclass(frozen=True, kw_only=True)
class PanelAbout:
    """What a panel says of itself.

    Attributes:
        name: Its name in ``fiftyone.yml``.
        label: Its name in the App.
        help: What it is for, in a sentence or two of markdown.
        surfaces: Where it can be: ``grid``, ``modal`` or ``grid modal``.
        category: ``import``, ``curate``, ``analyze`` or ``custom``: its section in the list of panels.
        icon: A file of the plugin's folder.
    """

    name: str
    label: str
    help: str = ""
    surfaces: str = "grid"
    category: Literal["import", "curate", "analyze", "custom"] = "curate"
    icon: str = "/icon.svg"


class Page:
    """What a panel shows, from top to bottom.

    Attributes:
        root: FiftyOne's object, for what this class has no method for.
        ctx: FiftyOne's execution context.
        data: Values of parts by name. All of it replaces what the panel had: what is set part by part
            (``ctx.panel.set_data``) the App merges into what was there, so that a table would keep its old last rows.
    """

    def __init__(self, ctx: Any) -> None:
        self.ctx = ctx
        self.root = types.Object()
        self.data: dict[str, Any] = {}

    def text(self, name: str, markdown: str) -> None:
        """Markdown."""
        self.root.md(markdown, name=name)

    def note(self, name: str, text: str, kind: str = "notice", more: str = "") -> None:
        """A line that stands out; ``kind``: notice, warning, error or success."""
        self.root.view(name, _NOTES[kind](label=text, description=more))

    def row(self, name: str, gap: int = 1) -> Page:
        """A page whose parts stand beside each other."""
        inner = Page(self.ctx)
        inner.data = self.data
        inner.root = self.root.h_stack(name, gap=gap, align_y="center")
        return inner

    def button(
        self,
        name: str,
        label: str,
        on_click: Callable[[Any], Any],
        *,
        icon: str | None = None,
        main: bool = False,
        params: Mapping[str, Any] | None = None,
        disabled: bool = False,
        title: str = "",
    ) -> None:
        """A button that calls a method of the panel; ``main`` for the one that is most wanted."""
        self.root.btn(
            name,
            label=label,
            icon=icon,
            title=title or None,
            on_click=on_click,
            params=dict(params or {}),
            variant="contained" if main else "outlined",
            disabled=disabled,
        )

    def choice(
        self, name: str, label: str, choices: Choices, value: Any, on_change: Callable[[Any], Any], help: str = ""
    ) -> None:
        """A dropdown; the method finds what was chosen in ``ctx.params["value"]`` and ``ctx.panel.state.<name>``.

        The App also calls the method when it shows the dropdown first: it must not matter."""
        view = types.DropdownView()
        offered = _offered(choices)
        for one, said in offered.items():
            view.add_choice(one, label=said)
        self.root.enum(
            name,
            list(offered),
            label=label,
            description=help or None,
            default=value,
            view=view,
            on_change=on_change,
        )

    def entry(self, name: str, label: str, value: str = "", *, help: str = "", on_change: Any = None) -> None:
        """A line of text; its value is ``ctx.panel.state.<name>``."""
        self.root.str(
            name, label=label, description=help or None, default=value, allow_empty=True, on_change=on_change
        )

    def table(
        self,
        name: str,
        rows: Sequence[Mapping[str, Any]],
        columns: Mapping[str, str] | None = None,
        actions: Sequence[tuple[str, str, str, Callable[[Any], Any]]] = (),
        on_row: Callable[[Any], Any] | None = None,
        allowed: Mapping[str, Sequence[bool]] | None = None,
    ) -> None:
        """A table.

        Args:
            name: Of the table.
            rows: One mapping per row; keep it short, since all of it goes to the browser.
            columns: What is shown, as key to heading; by default all keys.
            actions: ``(name, label, icon, method)``; the method finds the row's number in ``ctx.params["row"]``.
            on_row: A method that a click on a row calls, likewise.
            allowed: For an action, in which rows it is there; by default in all.
        """
        columns = columns or {key: key for row in rows for key in row}
        clicks = {} if on_row is None else {"on_click_row": on_row}
        view = types.TableView(size="small", max_inline_actions=4, actions_label=" ", **clicks)
        for key, heading in columns.items():
            view.add_column(key, label=heading)
        for action, label, icon, method in actions:
            there = {"rows": list(allowed[action])} if allowed and action in allowed else {}
            view.add_row_action(action, method, label=label, icon=icon, **there)
        shown = [{key: cell(row.get(key)) for key in columns} for row in rows]
        self.root.list(name, types.Object(), view=view, default=shown)
        self.data[name] = shown

    def code(self, name: str, text: str) -> None:
        """Text as it is: a log, a command."""
        self.root.md("```text\n" + text.replace("```", '"""') + "\n```", name=name)

    def progress(self, name: str, share: float | None, label: str = "") -> None:
        """A bar; ``share``: 0 to 1, ``None`` while unknown."""
        self.root.float(name, view=types.ProgressView(label=label), default=share)
        self.data[name] = share

    def every(self, interval_ms: int, method: Callable[[Any], Any]) -> None:
        """Call a method again and again while the panel is open."""
        self.root.view("osv_timer", types.TimerView(interval=interval_ms, on_interval=method))

    def plot(
        self, name: str, figure: Any, *, on_click: Callable[[Any], Any] | None = None, height_px: int = 260
    ) -> None:
        """A plotly figure, aggregated beforehand: what it holds goes to the browser.

        Args:
            name: Of the plot.
            figure: A ``plotly.graph_objects.Figure``.
            on_click: A method of the panel; ``ctx.params`` has ``x``, ``y``, ``trace`` (its name), ``trace_idx`` and,
                where the trace has it, ``id``.
            height_px: How tall.
        """
        drawn = plain(figure.to_plotly_json())
        layout = {key: value for key, value in drawn["layout"].items() if key != "template"}
        if "title" in layout:
            layout["title"] = {"font": {"size": 13}, **layout["title"]}
        layout = {**_LAYOUT, **layout}
        options = {} if on_click is None else {"on_click": on_click}
        self.root.plot(
            name,
            # In the view and not in the panel's data: the App merges that with what was there before, trace by trace.
            data=drawn["data"],
            layout=layout,
            config={"displayModeBar": False, "responsive": True},
            height=f"{height_px}px",
            **options,
        )


_LAYOUT: Mapping[str, Any] = {"margin": {"l": 50, "r": 10, "t": 34, "b": 40}, "autosize": True}


class LabPanel(foo.Panel):  # type: ignore[misc]
    """Base of the lab's panels.

    A subclass states itself in ``about``, fills in :meth:`draw`, and has a method per event, named in ``draw``. Keep
    ids and choices in ``ctx.panel.state``, which travels with each event; what is shown is read anew and kept nowhere.
    The App merges what is set in a state into what was there, lists item by item.
    """

    about: ClassVar[PanelAbout]

    def draw(self, ctx: Any, page: Page) -> None:
        """Put on the page what is to be seen now; called after every event."""
        raise NotImplementedError

    @property
    def config(self) -> Any:
        about = self.about
        return foo.PanelConfig(
            name=about.name,
            label=about.label,
            help_markdown=about.help or None,
            icon=about.icon,
            surfaces=about.surfaces,
            category=_category(about.category),
        )

    def execute(self, ctx: Any) -> Any:
        """FiftyOne's dispatch of an event, with errors told on the page."""
        name = ctx.params.get("__method__")
        if name is None or name == "on_startup":
            return self.on_startup(ctx)
        ctx.event_args = ctx.params.get("event_args", {})
        result = None
        problem: dict[str, str] | None = None
        if hasattr(self, name):
            try:
                result = getattr(self, name)(ctx)
            except NotYetError:
                pass  # So it will be while the page is drawn.
            except Exception as error:  # noqa: BLE001 (told on the page)
                problem = _problem(error)
        page = Page(ctx)
        try:
            if problem is not None:
                _tell(page, problem)
            self.draw(ctx, page)
        except NotYetError:
            page.note("osv_working", "Looking through the dataset …", more="It is shown when it is there.")
            page.every(_AGAIN_MS, self.osv_again)
        except Exception as error:  # noqa: BLE001 (told on the page)
            page = Page(ctx)
            _tell(page, _problem(error))
            page.button("osv_again", "Try again", self.osv_again)
        ctx.ops.set_panel_data(page.data)
        ctx.ops.show_panel_output(_whole(page))
        return result

    def render(self, ctx: Any) -> Any:
        page = Page(ctx)
        self.draw(ctx, page)
        return _whole(page)

    def osv_again(self, ctx: Any) -> None:
        """Draw the page again."""


def _whole(page: Page) -> Any:
    """The page with room around it, which a panel has not of itself."""
    room = {"gridContainer": {"sx": {"pl": 2, "pr": 1, "pt": 1, "pb": 2}}}
    return types.Property(page.root, view=types.ObjectView(componentsProps=room))


def _tell(page: Page, problem: Mapping[str, str]) -> None:
    page.note(_PROBLEM, problem["what"], "error", problem["found"])
    if problem["fix"]:
        page.note(f"{_PROBLEM}_fix", f"What to do: {problem['fix']}")


def _problem(error: Exception) -> dict[str, str]:
    if isinstance(error, OsvError):
        return {"what": error.what, "found": error.found, "fix": error.fix}
    _log.exception("a panel failed", exc_info=error)
    return {"what": type(error).__name__, "found": str(error), "fix": "see the log of osv app"}


def _category(name: str) -> Any:
    from fiftyone.operators.categories import Categories

    return Categories(name)
