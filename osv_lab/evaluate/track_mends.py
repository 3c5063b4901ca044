"""What would mend an event of a timeline: the edit a person would most likely make, with its arguments.

timeline = track_timeline(dataset.first(), "frames.tracks")
event = timeline.of_kind("switch")[0]
for mend in mends(timeline, event):
    print(mend.words())          # swap 1 and 2 from frame 40
mends(timeline, event)[0].do(TrackEditor(dataset.first(), "frames.tracks"))
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from osv_lab.evaluate.track_timeline import TimelineEvent, TrackLine, TrackTimeline
from osv_lab.store.track_edits import TrackEditor
from osv_lab.store.track_journal import TrackEdit


@dataclass(frozen=True)
class Mend:
    """One edit that may mend an event.

    Attributes:
        kind: The method of :class:`osv_lab.store.track_edits.TrackEditor`.
        args: Its arguments.
    """

    kind: str
    args: tuple[Any, ...]

    def words(self) -> str:
        """The edit in a few words."""
        return _WORDS[self.kind].format(*self.args)

    def do(self, editor: TrackEditor) -> TrackEdit:
        """Make the edit."""
        done: TrackEdit = getattr(editor, self.kind)(*self.args)
        return done


_WORDS = {
    "swap": "swap {0} and {1} from frame {2}",
    "merge": "merge {1} into {0}",
    "split": "split {0} at frame {1}",
    "delete": "delete {0}",
}


def mends(timeline: TrackTimeline, event: TimelineEvent) -> tuple[Mend, ...]:
    """What may mend an event, the likeliest first; empty where only a person can tell.

    - Two identities that both live before and after the event have changed places: swap them.
    - One that begins after the other has ended goes on for it: merge them.
    - An identity that jumps, or that goes on with another object: split it there.
    - One that is nothing, or too short: delete it.
    """
    lines = {line.identity: line for line in timeline.lines}
    concerned = [lines[identity] for identity in event.tracks if identity in lines]
    return tuple(dict.fromkeys(_found(event, concerned)))


def _found(event: TimelineEvent, concerned: list[TrackLine]) -> Iterator[Mend]:
    at = event.last_frame
    if event.kind in ("false", "false_track", "short"):
        yield from (Mend("delete", (line.identity,)) for line in concerned)
        return
    if len(concerned) == 2:
        one, two = concerned
        apart = one.last_frame < two.first_frame or two.last_frame < one.first_frame
        if apart:
            first, second = (one, two) if one.first_frame < two.first_frame else (two, one)
            yield Mend("merge", (first.identity, second.identity))
        elif min(one.first_frame, two.first_frame) < at <= max(one.last_frame, two.last_frame):
            yield Mend("swap", (*sorted((one.identity, two.identity)), at))
    if event.kind in ("switch", "merge", "teleport", "swap"):
        for line in concerned:
            if line.first_frame < at <= line.last_frame:
                yield Mend("split", (line.identity, at))
