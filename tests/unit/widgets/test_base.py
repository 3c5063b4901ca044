"""What all widgets share, without a page: states, questions, one life per cell, and the link to a session."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from typing import Any

import pytest
from ipywidgets.widgets.widget import _instances

from osv_lab.core.errors import NotFoundError, UnavailableError
from osv_lab.widgets import AppLink, LabWidget
from osv_lab.widgets.base import action
from osv_lab.widgets.link import Selection


class Counter(LabWidget):
    """Counts how often it was loaded; its answers are kept in place of a page's."""

    heading = "Counter"

    def __init__(self, subject: str = "one", error: BaseException | None = None, **options: Any) -> None:
        self.error, self.loads, self.sent = error, 0, []
        super().__init__(subject, **options)

    def _load(self) -> None:
        self.loads += 1
        if self.error is not None:
            raise self.error
        self.progress("items", 1, 2)
        self.data = {"loads": self.loads}

    def _static(self) -> str:
        return "<table></table>"

    @action
    def add(self, a: int, b: int) -> dict[str, int]:
        return {"sum": a + b}

    @action
    def fail(self) -> None:
        raise NotFoundError("no such thing", "'x'", "take y")

    @action
    def raw(self) -> Any:
        return {"rows": 1}, [b"\x00\x01"]

    def hidden(self) -> None:
        raise AssertionError("a page must not call this")

    def send(self, content: Any, buffers: Any = None) -> None:
        self.sent.append((content, buffers))

    def asked(self, **message: Any) -> dict[str, Any]:
        self._received(self, {"id": "1", **message}, [])
        return dict(self.sent[-1][0])


def test_a_widget_loads_once_and_says_what_goes_wrong() -> None:
    widget = Counter()
    assert widget.state == "loading" and widget.loads == 0
    assert widget.asked(do="hello") == {"re": "1", "answer": {}}
    widget.asked(do="hello")
    assert (widget.state, widget.loads, widget.data) == ("ready", 1, {"loads": 1})
    widget.error = NotFoundError("no such dataset", "'blod'", "did you mean 'blood'?")
    widget.asked(do="again")
    assert widget.state == "error"
    assert widget.told == {"what": "No such dataset", "found": "'blod'", "fix": "did you mean 'blood'?"}
    widget.error = None
    widget.asked(do="again")
    assert widget.state == "ready"


def test_an_interrupt_ends_the_cell_and_leaves_the_widget_usable() -> None:
    widget = Counter(error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        widget.load()
    assert widget.state == "error" and "Stopped" in widget.told["what"]
    widget.error = None
    widget.asked(do="again")
    assert widget.state == "ready"


def test_a_page_may_call_actions_and_nothing_else() -> None:
    widget = Counter()
    assert widget.asked(do="add", a=1, b=2)["answer"] == {"sum": 3}
    assert widget.asked(do="fail")["error"] == "no such thing: 'x'; take y"
    widget.asked(do="raw")
    assert widget.sent[-1] == ({"re": "1", "answer": {"rows": 1}}, [b"\x00\x01"])
    for name in ("hidden", "close", "__init__", "load", "nothing", "a b", ""):
        assert "does not do" in widget.asked(do=name)["error"], name
    assert "TypeError" in widget.asked(do="add", a=1)["error"]
    widget._received(widget, "not a mapping", [])


def test_the_picture_of_a_widget_is_hidden_where_it_is_alive() -> None:
    widget = Counter("a <b>")
    assert "osv-static-note" in widget.static_html() and "&lt;b&gt;" in widget.static_html()
    widget.load()
    html = widget.static_html()
    assert "<table></table>" in html and f"data-osv-live='{widget.uid}'" in html and "run the cell" in html


def test_closing_leaves_nothing_behind() -> None:
    session = Session()
    before, link = set(_instances), AppLink.of(session)
    widget = Counter("closing", link=session)
    assert link.attached == 1
    widget.close()
    widget.close()
    assert set(_instances) == before and link.attached == 0 and widget.closed
    widget._received(widget, {"do": "add", "id": "2", "a": 1, "b": 2}, [])
    assert not widget.sent
    gone = weakref.ref(widget)
    del widget
    gc.collect()
    assert gone() is None


def test_a_widget_takes_the_place_of_the_one_with_its_key() -> None:
    first, other = Counter("same"), Counter("other")
    second = Counter("same")
    assert first.closed and not other.closed and not second.closed
    named = Counter("a", key="mine")
    assert Counter("b", key="mine") is not named and named.closed


class Client:
    """FiftyOne's client, as far as listeners go."""

    def __init__(self) -> None:
        from collections import defaultdict

        self._listeners: Any = defaultdict(set)
        self.is_open = True


class Session:
    """A session whose App is told nothing."""

    def __init__(self) -> None:
        self._client = Client()
        self.view: Any = None

    def no_show(self) -> Any:
        from contextlib import nullcontext

        return nullcontext()

    def tell(self, name: str, event: Any) -> None:
        for listener in self._client._listeners[name]:
            listener(event)


class View(list[int]):
    def view(self) -> View:
        return self


class Event:
    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


def test_a_session_has_one_link_and_one_set_of_listeners() -> None:
    session = Session()
    link = AppLink.of(session)
    widgets = [Counter(link=session, key="w") for _ in range(5)]
    assert AppLink.of(session) is link is AppLink.of(link) and link.attached == 1
    assert all(len(found) == 1 for found in session._client._listeners.values())
    session.tell("select_samples", Event(samples=[{"id": "a"}, "b"]))
    assert widgets[-1].selected == {"samples": ["a", "b"], "labels": []} and widgets[0].selected == {}
    label = Event(label_id="l", frame_number=7)
    session.tell("select_labels", Event(labels=[label]))
    assert link.selection == Selection(("a", "b"), ("l",), 7)
    session.tell("state_update", Event(state=Event(selected_samples=[])))
    assert widgets[-1].selected == {"samples": [], "labels": []}


def test_a_widget_that_fails_does_not_end_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    session, seen = Session(), []

    class Bad:
        def select(self, selection: Selection) -> None:
            raise ValueError("bad")

    class Good:
        def select(self, selection: Selection) -> None:
            seen.append(selection.samples)

    bad, good, link = Bad(), Good(), AppLink.of(session)
    link.attach(bad)
    link.attach(good)
    session.tell("select_samples", Event(samples=["a"]))
    assert seen == [("a",)] and "could not take a selection" in caplog.text


def test_views_are_opened_or_kept() -> None:
    session = Session()
    widget = Counter(link=session)
    assert widget.show(View([1, 2]))["note"] == "2 samples in the App" and session.view == [1, 2] == widget.view
    session._client.is_open = False
    with pytest.raises(UnavailableError, match="the App was closed"):
        widget.show(View([1]))
    alone = Counter("alone")
    assert "as .view" in alone.show(View([1]))["note"] and alone.view == [1]
    link = AppLink.of(session)
    del session, widget
    gc.collect()
    assert link.session is None


def test_widgets_are_loaded_when_they_are_used() -> None:
    code = (
        "import sys, osv_lab.widgets as w; assert 'anywidget' not in sys.modules; "
        "assert set(w.__all__) <= set(dir(w)); sys.modules['anywidget'] = None; "
        "from osv_lab.core.errors import UnavailableError\n"
        "try: w.LabWidget\nexcept UnavailableError as e: print(e)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 'pip install "osv-lab[notebook]"' in said
