"""Sources without an end: memory, hanging, hurrying, and recordings that were killed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from video_scenes import GATE, LOT, SIZE, BrightDetector, image

from osv_lab.core.errors import InvalidDataError
from osv_lab.track import track_video
from osv_lab.track.mot import read_tracks
from osv_lab.track.source import Frame, VideoEvent, open_source


class Endless:
    """A source of as many frames as are wanted, without a file."""

    name, frame_rate, size, live = "endless", 10.0, SIZE, False

    def __init__(self, length: int) -> None:
        self.length: int | None = length
        self.events: deque[VideoEvent] = deque()
        self.pictures = [image(number) for number in range(1, 61)]

    def frames(self, start: int = 1) -> Iterator[Frame]:
        for number in range(start, (self.length or 0) + 1):
            yield Frame(number, number / 10, self.pictures[(number - 1) % 60].copy())

    def fingerprint(self) -> dict[str, object]:
        return {"endless": self.length}

    def close(self) -> None: ...


def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    import psutil

    used: dict[int, int] = {}

    def watch(label: str, done: int, total: int | None) -> None:
        if label == "track":
            used[done] = psutil.Process().memory_info().rss

    result = track_video(
        Endless(3000), BrightDetector(), tmp_path / "a.txt", formats=["video"], areas=[GATE, LOT], progress=watch
    )
    assert result.frames == 3000 and len(result.identities) > 100
    grown = (used[3000] - used[1000]) / 2**20
    assert grown < 8, f"{grown:.1f} MB from frame 1,000 to 3,000"


def test_a_source_that_hangs_is_left_and_what_there_is_is_kept() -> None:
    class Hanging(Endless):
        live = True

        def frames(self, start: int = 1) -> Iterator[Frame]:
            yield from super().frames(start)
            time.sleep(30)

    result = track_video(Hanging(12), BrightDetector(), stall_s=0.3)
    assert result.frames == 12 and [event.kind for event in result.events] == ["ended"]
    assert "hangs" in result.summary()


def test_what_a_killed_recording_had_is_not_lost(tmp_path: Path) -> None:
    class Live(Endless):
        live = True

        def frames(self, start: int = 1) -> Iterator[Frame]:
            for frame in super().frames(start):
                time.sleep(0.01)
                yield frame

    class Breaking(BrightDetector):
        def predict(self, images, **options):  # type: ignore[no-untyped-def]
            if len(self.batches) == 10:
                raise InvalidDataError("the power went")
            return super().predict(images, **options)

    for again in (1, 2):
        with pytest.raises(InvalidDataError, match="power"):
            track_video(
                Live(30), Breaking(), tmp_path / "today.mp4", formats=["mot"], checkpoint_s=0, areas=[GATE]
            )
        result = track_video(Live(30), BrightDetector(), tmp_path / "today.mp4", formats=["mot"], areas=[GATE])
        assert result.resumed_at == 0 and result.rows()[0]["id"] == 1
        assert result.events[0].kind == "recovered" and f"today-{again}.mp4" in result.events[0].detail
        assert len(list(open_source(tmp_path / f"today-{again}.mp4").frames())) == 10
        assert read_tracks(tmp_path / f"today-{again}.txt").last_frame >= 10
    assert len(list(tmp_path.iterdir())) == 6


def test_a_live_source_loses_frames_rather_than_time() -> None:
    class Hurrying(Endless):
        live = True

    result = track_video(Hurrying(300), BrightDetector(wait_s=0.02))
    [event] = result.events
    assert event.kind == "dropped" and result.frames < 300
    assert result.frames + int(event.detail.split()[0]) == 300
