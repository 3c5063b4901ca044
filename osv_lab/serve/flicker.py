"""Where a tracker and a detector disagree, frame by frame: objects that were away for a moment or changed their class.

Either means that the detector was wrong in some frame nearby, which makes those frames worth a look.

Example:
    >>> flicker = Flicker()
    >>> frame = Observation("m", 100, 100, 0.5, ((0, 0, 9, 9),), (0.9,), ("car",))
    >>> empty = Observation("m", 100, 100, 0.5)
    >>> [flicker.mark(one, ids).disagreement for one, ids in ((frame, [7]), (empty, []), (frame, [7]))]
    ['', '', 'track 7 (car) was away for 1 frame']
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from osv_lab.core.errors import UsageError
from osv_lab.serve.observe import Observation, Observers


class Onlooker:
    """Shows the frames of one stream to the observers of a server, with their tracks."""

    def __init__(self, observers: Observers) -> None:
        self._observers = observers
        self._flicker = Flicker()

    def see(self, observation: Observation | None, tracker_id: Sequence[int], image: bytes) -> None:
        """The next frame was answered; ``image`` as it was received. ``None`` where nobody observes."""
        if observation is not None:
            marked = self._flicker.mark(observation, tracker_id)
            self._observers.offer(marked, lambda: image, len(image))


@dataclass(slots=True)
class _Seen:
    frame: int
    class_name: str


class Flicker:
    """Follows the tracks of one stream.

    Args:
        away: Most frames that an object may be away and still be called flickering; longer it was hidden or had left.
    """

    def __init__(self, away: int = 5) -> None:
        self._away = away
        self._frame = 0
        self._tracks: dict[int, _Seen] = {}

    def mark(self, observation: Observation, tracker_id: Sequence[int]) -> Observation:
        """The observation of the next frame with its track identities, and what is odd about them.

        Args:
            tracker_id: One per detection; -1 where there is none.

        Raises:
            UsageError: not one per detection.
        """
        if len(tracker_id) != len(observation.xyxy):
            found = f"{len(tracker_id)} for {len(observation.xyxy)} detections"
            raise UsageError("track identities do not fit the detections", found)
        self._frame += 1
        odd = []
        for track, name in zip(map(int, tracker_id), observation.class_name, strict=True):
            if track < 0:
                continue
            before = self._tracks.get(track)
            if before is not None and before.class_name != name:
                odd.append(f"track {track} was {before.class_name}, is now {name}")
            elif before is not None and 1 <= (gap := self._frame - before.frame - 1) <= self._away:
                odd.append(f"track {track} ({name}) was away for {gap} frame{'s' if gap > 1 else ''}")
            self._tracks[track] = _Seen(self._frame, name)
        if self._frame % 100 == 0:
            late = self._frame - self._away
            self._tracks = {track: seen for track, seen in self._tracks.items() if seen.frame >= late}
        return replace(observation, tracker_id=tuple(map(int, tracker_id)), disagreement="; ".join(odd))
