"""Keep the answers worth a second look: rules choose, limits hold, a spool keeps.

Off unless the server is started with rules. Images are kept byte for byte as they were received, so that the store
recognises one it has; what a camera wrote into them (EXIF, positions) is therefore kept too.

Example:
    >>> capture = Capture("random=0.01,near=0.1", "spool")   # what run_server(capture=..., capture_to=...) makes
    >>> [rule.name for rule in capture.rules]
    ['random', 'near']
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from osv_lab.core.digests import bytes_digest
from osv_lab.core.errors import OsvError
from osv_lab.serve.metrics import metric_lines
from osv_lab.serve.observe import Observation
from osv_lab.serve.rules import Memory, Settings, load_settings, reason
from osv_lab.serve.spool import Captured, Spool, suffix_of

_log = logging.getLogger("osv_lab.serve")

REMEMBERED = 1024
"""How many captured images novelty is measured against."""

_HOUR_S = 3600.0


class Capture:
    """An observer that keeps what its rules choose.

    All rules are asked about every answer. An answer is kept when at least one that has not reached its hourly limit
    chooses it, and counts for each of those.

    Args:
        rules: As for :func:`osv_lab.serve.rules.load_settings`.
        folder: The spool.
        memory: What rules compare with; hashes of what waits in the spool are added to it.
        clock: Unix time in seconds.

    Raises:
        UsageError: rules or a folder that cannot be used.
    """

    def __init__(
        self,
        rules: str | Path | Mapping[str, Any] | Settings,
        folder: str | Path,
        *,
        memory: Memory | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        settings = load_settings(rules)
        self.rules = settings.rules
        self.spool = Spool(folder, max_bytes=settings.max_bytes, max_files=settings.max_files)
        self._memory = memory or Memory()
        self._clock = clock
        self._hour: dict[str, deque[float]] = {rule.name: deque() for rule in self.rules}
        self._captured: Counter[str] = Counter({rule.name: 0 for rule in self.rules})
        self._dropped: Counter[tuple[str, str]] = Counter()
        self._kept: dict[str, None] = {}
        self.spool.make()
        self._remember()

    def see(self, observation: Observation, image: Callable[[], bytes]) -> None:
        """Keep one answer if a rule chooses it.

        Raises:
            OSError: the disk refuses.
        """
        now = self._clock()
        reasons = {rule.name: why for rule in self.rules if (why := reason(rule, observation, self._memory))}
        left = {name: why for name, why in reasons.items() if self._has_room(name, now)}
        self._drop(reasons.keys() - left.keys(), "per_hour")
        if not left:
            return
        try:
            data = image()
            item = Captured(bytes_digest(data), suffix_of(data), now, left, observation)
        except OsvError as error:
            self._drop(left, "unreadable")
            _log.debug("not captured: %s", error)
            return
        try:
            refused = "duplicate" if item.digest in self._kept else self.spool.put(item, data)
        except OSError:
            self._drop(left, "disk")
            raise
        if refused:
            self._drop(left, refused)
            return
        self._keep(item)
        for name in left:
            self._hour[name].append(now)
        self._captured.update(list(left))

    def metrics(self) -> list[str]:
        """Images captured and dropped, by rule."""
        kept = [({"rule": name}, number) for name, number in sorted(self._captured.items())]
        lost = [({"rule": name, "reason": why}, number) for (name, why), number in sorted(self._dropped.items())]
        return [
            *metric_lines("captured_total", "counter", "Images captured, by rule.", kept),
            *metric_lines(
                "capture_dropped_total", "counter", "Images a rule chose that were not captured, and why.", lost
            ),
        ]

    def _has_room(self, name: str, now: float) -> bool:
        times = self._hour[name]
        while times and times[0] <= now - _HOUR_S:
            times.popleft()
        return len(times) < next(rule.per_hour for rule in self.rules if rule.name == name)

    def _drop(self, names: Any, why: str) -> None:
        self._dropped.update((name, why) for name in names)

    def _keep(self, item: Captured) -> None:
        """Novelty and duplicates look at what was captured lately, also when the store has emptied the spool."""
        self._kept[item.digest] = None
        if len(self._kept) > 16 * REMEMBERED:
            del self._kept[next(iter(self._kept))]
        self._memory.hashes.append(item.observation.hash)
        del self._memory.hashes[:-REMEMBERED]

    def _remember(self) -> None:
        """Go on where an earlier process stopped: its images count for novelty and for the hour."""
        found = []
        for digest in self.spool.names():
            try:
                found.append(self.spool.describe(digest))
            except OsvError as error:
                _log.warning("the spool has an item that cannot be read: %s", error)
        for item in sorted(found, key=lambda one: one.captured_at):
            self._keep(item)
            for name in item.reasons:
                if name in self._hour:
                    self._hour[name].append(item.captured_at)
