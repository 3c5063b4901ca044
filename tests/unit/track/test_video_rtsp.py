"""A camera behind RTSP: real H.264 over a real connection, which falls silent and comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rtsp_double import FRAME_S, h264, rtp_packets, rtsp_camera
from video_scenes import SIZE, BrightDetector, image

from osv_lab.core.errors import UnavailableError
from osv_lab.track import track_video
from osv_lab.track.source import open_source


def test_the_pictures_of_an_rtsp_camera_arrive_in_order_and_at_their_time() -> None:
    with rtsp_camera((45, 0.0), user="admin:secret") as camera:
        source = open_source(camera.address, stall_s=0.6)
        assert source.live and source.length is None and source.size == SIZE
        assert "secret" not in source.name
        frames = list(source.frames())
    assert {"DESCRIBE", "SETUP", "PLAY"} <= set(camera.asked)
    assert [frame.number for frame in frames] == list(range(1, 46))
    for frame in frames:
        assert abs(frame.image.astype(int) - image(frame.number)).mean() < 3, f"frame {frame.number}"
    assert np.diff([frame.timestamp_s for frame in frames]) == pytest.approx(FRAME_S, abs=1e-3)
    assert [event.kind for event in source.events] == ["stalled", "ended"]


def test_an_rtsp_camera_that_falls_silent_is_taken_up_again(tmp_path: Path) -> None:
    """Two boxes stand still: 30 frames, silence, 30 frames, and nobody answers any more."""
    tracker = {"algorithm": "bytetrack", "lost_s": 20}
    with rtsp_camera((30, 60.0), (30, 0.0), still=True) as camera:
        result = track_video(camera.address, BrightDetector(), tmp_path / "out.mp4", tracker=tracker, stall_s=3.0)
    events = [event for event in result.events if event.kind != "dropped"]
    assert [event.kind for event in events] == ["stalled", "resumed", "stalled", "ended"]
    stalled, resumed, _, ended = events
    assert "no data for 1 s" in stalled.detail and resumed.timestamp_s - stalled.timestamp_s > 0.9
    assert "5XX" in ended.detail
    assert [item.track_id for item in result.identities] == [1, 2]
    written = list(open_source(tmp_path / "out.mp4").frames())
    assert len(written) == result.frames >= 55
    assert np.diff([frame.timestamp_s for frame in written]).max() > 0.9, "the silence is in the video too"


def test_a_wrong_password_is_told_without_showing_it() -> None:
    with rtsp_camera((5, 0.0), user="admin:secret") as camera:
        wrong = camera.address.replace("secret", "guess")
        with pytest.raises(UnavailableError) as caught:
            open_source(wrong, stall_s=1.5)
    assert "401" in str(caught.value) and "guess" not in str(caught.value)


def test_the_double_sends_what_the_standard_says() -> None:
    first, second = h264(2)
    assert [unit[0] & 0x1F for unit in first if unit[0] & 0x1F in (5, 7, 8)] == [7, 8, 5]
    assert [unit[0] & 0x1F for unit in second] == [1]
    packets = rtp_packets([b"\x65" + bytes(3000)], 65535, 9, 1)
    assert [int.from_bytes(packet[2:4], "big") for packet in packets] == [65535, 0, 1]
    assert [packet[1] >> 7 for packet in packets] == [0, 0, 1]
    assert [packet[13] >> 6 for packet in packets] == [2, 0, 1]
    assert b"".join(packet[14:] for packet in packets) == bytes(3000)
