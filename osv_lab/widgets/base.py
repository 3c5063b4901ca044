"""What every widget is: four states, questions from the page, one life per cell, and a picture for when it is dead."""

from __future__ import annotations

import html
import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeVar

import anywidget
import traitlets

from osv_lab.core.errors import OsvError
from osv_lab.core.report import plain
from osv_lab.widgets.cells import registered
from osv_lab.widgets.front import script, style
from osv_lab.widgets.link import AppLink, Selection

State = Literal["empty", "loading", "ready", "error"]
Answer = Mapping[str, Any] | tuple[Mapping[str, Any], Sequence[bytes]] | None
Action = TypeVar("Action", bound=Callable[..., Any])

_log = logging.getLogger("osv_lab.widgets")
_PROGRESS_EVERY_S = 0.1
_WIDGET = ">.jp-OutputArea-output.lm-Panel"


def action(method: Action) -> Action:
    """Let the page call a method by its name; its keyword arguments are what the page sends."""
    method.is_action = True  # type: ignore[attr-defined]
    return method


class LabWidget(anywidget.AnyWidget):  # type: ignore[misc]
    """Base of the widgets.

    A subclass says what to :meth:`_load` (when it is first shown, in the cell, so that an interrupt stops it), which
    :func:`action` methods the page may call, and what :meth:`_static` picture stands for it in a file. Running a cell
    again closes what the cell had made before.

    Args:
        subject: What it is about, in one line: a dataset, an evaluation, a run.
        link: A session of the App or an :class:`~osv_lab.widgets.link.AppLink`; ``None`` for none.
        key: A name of its own: a widget of the same key that was made anywhere else is closed.

    Attributes:
        state: ``empty`` (nothing to show, and why), ``loading``, ``ready`` or ``error``.
        told: What is said in the other states than ``ready``: ``what``, ``fix``; ``label``, ``done``, ``total``.
        data: What the page draws, as JSON.
        selected: What is selected in the linked App: ``samples`` and ``labels`` (ids).
    """

    _esm = script("bare.js")
    _css = style()
    heading: ClassVar[str] = "Widget"

    title = traitlets.Unicode("").tag(sync=True)
    subject = traitlets.Unicode("").tag(sync=True)
    state = traitlets.Enum(("empty", "loading", "ready", "error"), "loading").tag(sync=True)
    told = traitlets.Dict().tag(sync=True)
    data = traitlets.Dict().tag(sync=True)
    selected = traitlets.Dict().tag(sync=True)
    linked = traitlets.Bool(False).tag(sync=True)
    uid = traitlets.Unicode("").tag(sync=True)

    def __init__(self, subject: str, *, link: Any = None, key: str | None = None, **traits: Any) -> None:
        self._lock = threading.RLock()
        self._loaded = self._loading = False
        self._closed = False
        self._said_at = 0.0
        self.link = AppLink.of(link)
        own = {"title": self.heading, "subject": subject, "linked": self.link.session is not None}
        super().__init__(**own, uid=uuid.uuid4().hex[:12], **traits)
        self.on_msg(self._received)
        self.link.attach(self)
        registered(
            self, key or f"{type(self).__qualname__.rpartition('.')[2]}:{subject}", explicit=key is not None
        )

    # -- states ---------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Load what is shown, again if it was; an error is shown, not raised. An interrupt is both."""
        with self._lock:
            self._loading = True
            self.say("loading", "Loading")
            try:
                self._load()
                self._loaded = True
                if self.state == "loading":
                    self.say("ready")
            except OsvError as error:
                self.say("error", _sentence(error.what), error.found, error.fix)
            except KeyboardInterrupt:
                self.say("error", "Stopped before it was loaded", "", "press Try again, or run the cell again")
                raise
            except Exception as error:  # noqa: BLE001 - said on the page, logged with its traceback
                _log.exception("%s could not be loaded", self.heading)
                self.say("error", "Something went wrong that should not", f"{type(error).__name__}: {error}")
            finally:
                self._loading = False

    def say(self, state: State, what: str = "", found: str = "", fix: str = "") -> None:
        """Go into a state, and say why."""
        with self.hold_sync():
            self.told = {"what": what, "found": found, "fix": fix}
            self.state = state

    def progress(self, label: str, done: int, total: int | None, /) -> None:
        """A :class:`~osv_lab.core.progress.Progress` that the page shows while the widget loads."""
        now = time.monotonic()
        if now - self._said_at >= _PROGRESS_EVERY_S or done == total:
            self._said_at = now
            self.told = {"what": "Loading", "label": label, "done": done, "total": total}

    def _load(self) -> None:
        """Read what is shown into :attr:`data`; :meth:`say` ``empty`` where there is nothing."""

    # -- the page -------------------------------------------------------------------------------------------

    @action
    def hello(self) -> None:
        """A page shows the widget: load, if no cell did."""
        if not self._loaded and not self._loading and self.state == "loading":
            self.load()

    @action
    def again(self) -> None:
        """Load again."""
        self.load()

    def show(self, view: Any) -> dict[str, Any]:
        """Open a view in the App; says what happened."""
        samples = len(view)
        shown = self.link.show(view)
        where = "in the App" if shown else "as .view (no App is linked: pass link=session)"
        return {"note": f"{samples:,} sample{'' if samples == 1 else 's'} {where}"}

    @property
    def view(self) -> Any:
        """The FiftyOne view that was opened last, in the linked App or without one."""
        return self.link.view

    def _received(self, _: Any, message: Any, buffers: Sequence[Any]) -> None:
        if not isinstance(message, Mapping) or self._closed:
            return
        values = {name: value for name, value in message.items() if name not in ("do", "id")}
        reply: dict[str, Any] = {"re": message.get("id")}
        attached: Sequence[bytes] = ()
        try:
            answer, attached = self._answer(str(message.get("do")), values)
            reply["answer"] = plain(answer)
        except OsvError as error:
            reply["error"] = str(error)
        except KeyboardInterrupt:
            reply["error"] = "stopped"
        except Exception as error:  # noqa: BLE001 - the page is told, the log has the traceback
            _log.exception("%s: %s failed", self.heading, message.get("do"))
            reply["error"] = f"{type(error).__name__}: {error}"
        if not self._closed:
            self.send(reply, list(attached))

    def _answer(self, name: str, values: Mapping[str, Any]) -> tuple[Mapping[str, Any], Sequence[bytes]]:
        method = getattr(type(self), name, None) if name.isidentifier() else None
        if not getattr(method, "is_action", False):
            raise OsvError(
                "the page asked for something that this widget does not do", repr(name), "reload the page"
            )
        if name == "hello":  # must not wait for a cell that is loading
            self.hello()
            return {}, ()
        with self._lock:
            answer: Answer = method(self, **values)  # type: ignore[misc]
        if isinstance(answer, tuple):
            return answer
        return answer or {}, ()

    # -- the App --------------------------------------------------------------------------------------------

    def select(self, selection: Selection) -> None:
        """Take a selection from the App. Called in a thread of FiftyOne's."""
        self.selected = {"samples": list(selection.samples), "labels": list(selection.labels)}

    # -- life -----------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether it is over."""
        return self._closed

    def close(self) -> None:
        """End it: the page forgets it, the App no longer tells it anything, and what it held is let go."""
        if self._closed:
            return
        self._closed = True
        self.link.detach(self)
        self._release()
        layout = self.layout
        super().close()
        layout.close()

    def _release(self) -> None:
        """Let go of files and the like."""

    def _ipython_display_(self, **_: Any) -> None:
        """Show it, then load it, then leave a picture that is only seen where the widget is not alive."""
        from IPython.display import display

        name = f"{self.heading}: {self.subject}"
        display(
            {"application/vnd.jupyter.widget-view+json": _view_of(str(self.model_id)), "text/plain": name},
            raw=True,
        )
        if not self._loaded and not self._closed:
            self.load()
        display({"text/html": self.static_html(), "text/plain": ""}, raw=True)

    def static_html(self) -> str:
        """The widget as a picture: what an exported or reopened notebook shows. Hidden where the widget is alive."""
        told = " ".join(str(self.told.get(name) or "") for name in ("what", "found", "fix")).strip()
        inside = self._static() if self.state == "ready" else f"<p class='osv-static-note'>{html.escape(told)}</p>"
        return (
            f"<style>{static_style(self.uid)}</style>"
            f"<div class='osv-static' data-osv-static='{self.uid}' data-osv-state='{self.state}'>"
            f"<p class='osv-static-head'><b>{html.escape(self.title)}</b> {html.escape(self.subject)}"
            f" <i>as it was; run the cell to use it</i></p>{inside}</div>"
        )

    def _static(self) -> str:
        """What is inside :meth:`static_html`."""
        return ""


def static_style(uid: str) -> str:
    """Hides the picture beside its living widget; and beside the picture, JupyterLab's complaint that it is dead."""
    own = f"[data-osv-static='{uid}']"
    live = f"[data-osv-live='{uid}']"
    child = ".jp-OutputArea-child"
    return (
        f"body:has({live}) :is({own},{child}:has({own})){{display:none}}"
        f"body:not(:has({live})) {child}:has({_WIDGET}):has(+{child} {own}){{display:none}}"
        ".osv-static{font-size:13px}.osv-static-head i{opacity:.6;margin-left:1em}"
        ".osv-static-head{margin:.2em 0}.osv-static-note{opacity:.75}"
    )


def _view_of(model_id: str) -> dict[str, Any]:
    return {"version_major": 2, "version_minor": 0, "model_id": model_id}


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
