"""A model once more, on several cores, for the image that has the server for itself.

Images side by side, one core each, are what a CPU does most of; but one image alone leaves the other cores idle. It is
run by a second session of the same file with more threads, which finds the same: how an operator is divided among
threads does not change what is added up in which order. As soon as there is anything else to do, that session is left
alone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from osv_lab.core.errors import OsvError

if TYPE_CHECKING:
    from osv_lab.detect.detector import Detector

_log = logging.getLogger("osv_lab.serve")

MAX_BYTES = 2**28
"""Larger files are not loaded twice unless it is asked for."""

_LATER_S = 1.0
"""How long after it was first asked for it is loaded: what asked for it, and the rest of a server's start, go first."""


class Lone:
    """Loads a detector when it is first asked for it, in a thread.

    Args:
        load: Loads it, ready to run.
    """

    def __init__(self, load: Callable[[], Detector]) -> None:
        self._load = load
        self._detector: Detector | None = None
        self._asked = threading.Lock()

    @property
    def detector(self) -> Detector | None:
        """The detector; ``None`` as long as it is not there, which it never is where it cannot be loaded."""
        if self._detector is None and self._asked.acquire(blocking=False):
            later = threading.Timer(_LATER_S, self._fetch)
            later.daemon = True
            later.start()
        return self._detector

    def _fetch(self) -> None:
        try:
            self._detector = self._load()
        except OsvError as error:
            _log.warning("single images are run on one core: %s", error)
