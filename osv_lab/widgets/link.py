"""The tie between widgets and a session of the FiftyOne App: what is opened there, what is selected there.

FiftyOne tells of changes in a thread of its own, to listeners that it never drops and that must not fail: an error in
one ends the session's connection. So a session gets one set of listeners, ever, and they hold nothing alive.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from osv_lab.core.errors import UnavailableError

if TYPE_CHECKING:
    import fiftyone as fo

_log = logging.getLogger("osv_lab.widgets")


@dataclass(frozen=True)
class Selection:
    """What is selected in the App.

    Attributes:
        samples: Ids of samples (of patches or clips, where the App shows those).
        labels: Ids of labels.
        frame: The frame of the label that was selected last, where it is in a video.
    """

    samples: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    frame: int | None = None


class Linked(Protocol):
    """What is told of selections."""

    def select(self, selection: Selection) -> None: ...


class AppLink:
    """Ties widgets to a session of the App.

    There is one link per session, whichever way it is asked for (:meth:`of`), however often a cell is run again.

    Args:
        session: A ``fiftyone.Session``. Without one, views are kept in :attr:`view` only.

    Example:
        >>> link = AppLink.of(None)
        >>> link.show("a view"), link.view
        (False, 'a view')
    """

    _of_session: ClassVar[weakref.WeakKeyDictionary[Any, AppLink]] = weakref.WeakKeyDictionary()

    def __init__(self, session: fo.Session | None = None) -> None:
        self._session: Callable[[], Any] = weakref.ref(session) if session is not None else lambda: None
        self._linked: weakref.WeakSet[Any] = weakref.WeakSet()
        self.selection = Selection()
        self.view: Any = None
        if session is not None:
            _listen(session, weakref.ref(self))

    @classmethod
    def of(cls, what: AppLink | fo.Session | None) -> AppLink:
        """The link of a session; a link is its own."""
        if isinstance(what, AppLink):
            return what
        if what is None:
            return cls()
        found = cls._of_session.get(what)
        if found is None:
            found = cls._of_session[what] = cls(what)
        return found

    @property
    def session(self) -> fo.Session | None:
        """The session, unless it is gone."""
        return self._session()

    @property
    def is_open(self) -> bool:
        """Whether there is an App to show things in."""
        session = self.session
        return session is not None and bool(session._client.is_open)

    def attach(self, widget: Linked) -> None:
        """Tell a widget of selections, as long as it lives."""
        self._linked.add(widget)

    def detach(self, widget: Linked) -> None:
        """Tell it no more."""
        self._linked.discard(widget)

    @property
    def attached(self) -> int:
        """How many widgets are told."""
        return len(self._linked)

    def show(self, view: Any) -> bool:
        """Open a view in the App.

        Args:
            view: A FiftyOne dataset or view.

        Returns:
            Whether an App shows it now; :attr:`view` has it in any case.

        Raises:
            UnavailableError: the session was closed, or its server does not answer.
        """
        self.view = view
        session = self.session
        if session is None:
            return False
        if not self.is_open:
            raise UnavailableError("the App was closed", "its session is over", "open it again: lab.app()")
        import requests

        try:
            # Otherwise FiftyOne would freeze the App's cell and put a second one under this one.
            with session.no_show():
                session.view = view.view()
        except (requests.RequestException, RuntimeError) as error:
            raise UnavailableError("the App does not answer", error, "open it again: lab.app()") from error
        return True

    def tell(self, selection: Selection) -> None:
        """Pass a selection on to the widgets. What fails in one is logged and the others are told."""
        self.selection = selection
        for widget in list(self._linked):
            try:
                widget.select(selection)
            except Exception:  # noqa: BLE001 - an error would end the session's connection
                _log.exception("a widget could not take a selection")


def _listen(session: Any, link: weakref.ref[AppLink]) -> None:
    def told(selection: Callable[[Any, Selection], Selection]) -> Callable[[Any], None]:
        def listener(event: Any) -> None:
            alive = link()
            if alive is not None:
                new = selection(event, alive.selection)
                if new != alive.selection:
                    alive.tell(new)

        return listener

    listeners: Mapping[str, Callable[[Any, Selection], Selection]] = {
        "select_samples": lambda event, old: Selection(_ids(event.samples), old.labels, old.frame),
        "select_labels": lambda event, old: Selection(
            old.samples,
            tuple(str(one.label_id) for one in event.labels),
            next((one.frame_number for one in reversed(event.labels) if one.frame_number), None),
        ),
        "state_update": lambda event, old: Selection(_ids(event.state.selected_samples or ()), (), None),
    }
    for name, selection in listeners.items():
        # A new set, since the session's thread may be going through the old one.
        session._client._listeners[name] = {*session._client._listeners[name], told(selection)}


def _ids(samples: Sequence[Any]) -> tuple[str, ...]:
    """Ids of samples as the App sends them: mappings, and in older states plain ids."""
    return tuple(str(one["id"] if isinstance(one, Mapping) else one) for one in samples)
