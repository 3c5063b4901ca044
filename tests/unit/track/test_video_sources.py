"""Where frames come from, and everything that can be wrong with them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from video_scenes import SIZE, BrightDetector, image, rotated, write_folder, write_video

from osv_lab.core.errors import InvalidDataError, NotFoundError, OsvError, UnavailableError, UsageError
from osv_lab.track import track_video
from osv_lab.track.source import open_source


def numbers(path: Path | str) -> list[int]:
    return [frame.number for frame in open_source(path).frames()]


def test_a_video_gives_every_frame_at_its_time(tmp_path: Path) -> None:
    source = open_source(write_video(tmp_path / "a.mp4", 20, rate=Fraction(30000, 1001)))
    assert (source.size, source.length, source.live) == (SIZE, 20, False)
    frames = list(source.frames())
    assert [frame.number for frame in frames] == list(range(1, 21))
    assert frames[19].timestamp_s == pytest.approx(19 * 1001 / 30000, abs=1e-6)
    for frame in frames:
        assert np.abs(frame.image.astype(int) - image(frame.number).astype(int)).mean() < 6
    assert not source.events


def test_a_video_can_be_read_from_any_frame(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", 20)
    whole, part = list(open_source(video).frames()), list(open_source(video).frames(14))
    assert [frame.number for frame in part] == list(range(14, 21))
    for a, b in zip(whole[13:], part, strict=True):
        assert a.timestamp_s == b.timestamp_s and np.array_equal(a.image, b.image)


@pytest.mark.parametrize("suffix", [".mkv", ".avi", ".mov", ".ts"])
def test_other_containers(suffix: str, tmp_path: Path) -> None:
    source = open_source(write_video(tmp_path / f"a{suffix}", 20, rate=30))
    frames = list(source.frames())
    assert len(frames) == 20 and not source.events
    # A container of milliseconds wobbles; the steady rate is put back.
    assert np.allclose([frame.timestamp_s for frame in frames], np.arange(20) / 30, atol=1e-6)


def test_a_variable_frame_rate_is_told_to_the_tracker(tmp_path: Path) -> None:
    """The scene's boxes go steadily; half a second of frames is missing in between."""
    times = [k / 10 for k in range(60) if not 20 <= k < 25]
    import av

    video = tmp_path / "a.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "12", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90_000)
        for seconds in times:
            frame = av.VideoFrame.from_ndarray(image(round(seconds * 10) + 1), format="bgr24")
            frame.pts, frame.time_base = round(seconds * 90_000), Fraction(1, 90_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames = list(open_source(video).frames())
    assert np.allclose([frame.timestamp_s for frame in frames], times, atol=1e-4)
    result = track_video(video, BrightDetector(), tmp_path / "out.mp4", tracker="bytetrack")
    assert len(result.identities) == 3 and result.frames == 55
    written = list(open_source(tmp_path / "out.mp4").frames())
    assert np.allclose([frame.timestamp_s for frame in written], times, atol=1e-4)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_video_is_put_upright(turns: int, tmp_path: Path) -> None:
    import cv2

    video = rotated(write_video(tmp_path / "a.mp4", 5), tmp_path / "turned.mp4", turns)
    source = open_source(video)
    assert source.size == (SIZE[::-1] if turns % 2 else SIZE)
    [first, *_] = source.frames()
    assert first.image.shape[:2] == source.size[::-1]
    _, theirs = cv2.VideoCapture(str(video)).read()
    assert np.abs(first.image.astype(int) - theirs.astype(int)).mean() < 6


def cut(share: float, **options: bool) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        data = write_video(folder / "whole.mp4", 60, **options).read_bytes()
        (folder / "cut.mp4").write_bytes(data[: int(len(data) * share)])
        return folder / "cut.mp4"

    return make


def content(name: str, data: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


def empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def broken_folder(folder: Path) -> Path:
    broken = write_folder(folder / "broken", 2)
    for file in broken.iterdir():
        file.write_bytes(b"\x89PNG\r\n\x1a\n")
    return broken


def sound_only(folder: Path) -> Path:
    import wave

    with wave.open(str(folder / "a.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"\0\0" * 800)
    return folder / "a.wav"


def other(value: str) -> Callable[[Path], str]:
    return lambda folder: value.replace("FOLDER", str(folder))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (content("a.mp4", b""), InvalidDataError, "it is empty"),
        (content("a.mp4", b"just some text\n" * 50), InvalidDataError, "not a video that can be read"),
        (content("a.mp4", b"ffconcat version 1.0\nfile /etc/hostname\n"), InvalidDataError, "not a video"),
        (
            content("a.m3u8", b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n#EXT-X-ENDLIST\n"),
            InvalidDataError,
            "not a video",
        ),
        (content("a.png", b"\x89PNG\r\n\x1a\n"), InvalidDataError, "not a video"),
        (cut(0.5, faststart=False), InvalidDataError, r"index \(moov\) is missing"),
        (cut(0.001), InvalidDataError, "not a video"),
        (sound_only, InvalidDataError, "not a video that can be read"),
        (empty_folder, InvalidDataError, "no images in the folder"),
        (broken_folder, InvalidDataError, "no image of the folder can be read: 2 files"),
        (other("FOLDER/none.mp4"), NotFoundError, "no such video or folder"),
        (other("77"), NotFoundError, "no such camera: camera 77"),
        (other("http://127.0.0.1:9/x.mp4"), UnavailableError, "Connection refused"),
        (other("rtsp://user:secret@127.0.0.1:9/x"), UnavailableError, r"rtsp://\*\*\*@127.0.0.1:9/x \(Connection"),
        (other("file:///etc/hostname"), UsageError, "give its path"),
        (other("gopher://host/x"), UsageError, "use one of: rtsp"),
        (other("concat:a.mp4|b.mp4"), NotFoundError, "no such video"),
    ],
)
def test_bad_input_is_refused_in_words(
    make: Callable[[Path], Path | str], error: type[OsvError], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words) as caught:
        track_video(make(tmp_path), BrightDetector(), tmp_path / "out.mp4")
    assert "secret" not in str(caught.value) and not (tmp_path / "out.mp4").exists()


def test_a_truncated_video_says_where_it_ends_and_keeps_what_it_has(tmp_path: Path) -> None:
    result = track_video(cut(0.6)(tmp_path), BrightDetector(), tmp_path / "out.mp4")
    assert 5 < result.frames < 58
    event = result.events[-1]
    assert event.kind == "truncated" and "of the 60 that its header promises" in event.detail
    assert f"truncated at frame {event.frame}" in result.summary()
    assert len(numbers(tmp_path / "out.mp4")) == result.frames and result.identities[0].length == result.frames


def test_damage_in_the_middle_is_reported_and_outlived(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", 60, gop=10)
    data = bytearray(video.read_bytes())
    start = data.index(b"mdat") + 4
    for at in range(start + 3000, len(data) - 400, (len(data) - start) // 6):
        data[at : at + 60] = bytes((7 * k + 13) % 256 for k in range(60))
    video.write_bytes(bytes(data))
    result = track_video(video, BrightDetector())
    assert "damaged" in {event.kind for event in result.events} and result.tracks.last_frame > 50


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    video, folder = write_video(tmp_path / "a.mp4", 2), write_folder(tmp_path / "images", 1)
    for source in (video, folder):
        with pytest.raises(InvalidDataError, match=r"too large|pixels"):
            open_source(source, max_pixels=160 * 120 - 1)
        assert open_source(source, max_pixels=160 * 120).size == SIZE


def test_a_mot_sequence_is_a_source(tmp_path: Path) -> None:
    (tmp_path / "S").mkdir()
    write_folder(tmp_path / "S" / "img1", 11)
    (tmp_path / "S" / "seqinfo.ini").write_text("[Sequence]\nname=S\nframeRate=14\nseqLength=11\n")
    source = open_source(tmp_path / "S")
    assert (source.frame_rate, source.length) == (14, 11)
    assert [frame.number for frame in source.frames()] == list(range(1, 12))
    (tmp_path / "S" / "img1" / "5.png").write_bytes(_png(image(5, (80, 60))))
    source = open_source(tmp_path / "S")
    assert {frame.image.shape for frame in source.frames()} == {(120, 160, 3)}
    assert [(event.kind, event.frame) for event in source.events] == [("resized", 5)]


def _png(picture: np.ndarray) -> bytes:
    import cv2

    return bytes(cv2.imencode(".png", picture)[1])


class Script:
    """What an MJPEG server does with each connection: send so many frames, then stay silent or hang up."""

    def __init__(self, *connections: tuple[int, float]) -> None:
        self.connections = list(connections)

    def serve(self, connection: socket.socket, stop: threading.Event) -> None:
        import cv2

        frames, silence_s = self.connections.pop(0) if self.connections else (0, 0.0)
        connection.recv(4096)
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
        for _ in range(frames):
            data = bytes(cv2.imencode(".jpg", image(10))[1])
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            connection.sendall(head.encode() + data + b"\r\n")
            time.sleep(0.03)
        stop.wait(silence_s)


@contextmanager
def camera(script: Script) -> Iterator[str]:
    """A network camera on this machine that follows a script."""
    stop = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.05)

    threads: list[threading.Thread] = []

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            script.serve(connection, stop)

    def accept() -> None:
        while not stop.is_set():
            with suppress(TimeoutError):
                threads.append(threading.Thread(target=answer, args=(listening.accept()[0],)))
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/video.mjpg"
    finally:
        stop.set()
        accepting.join()
        for thread in threads:
            thread.join()
        listening.close()


@pytest.mark.parametrize(("lost_s", "identities"), [(20.0, 2), (0.2, 4)])
def test_a_stream_that_stalls_is_taken_up_again(lost_s: float, identities: int, tmp_path: Path) -> None:
    """Two boxes stand still: 14 frames, silence, 14 frames, the end. Identities live as long as they are remembered."""
    tracker = {"algorithm": "bytetrack", "lost_s": lost_s}
    with camera(Script((14, 60.0), (14, 0.0))) as address:
        result = track_video(address, BrightDetector(), tmp_path / "out.mp4", tracker=tracker, stall_s=4.5)
    kinds = [event.kind for event in result.events if event.kind != "dropped"]
    assert kinds == ["stalled", "resumed", "stalled", "ended"], result.events
    stalled, resumed = result.events[:2]
    assert "no data for 1.5 s" in stalled.detail and resumed.timestamp_s - stalled.timestamp_s > 1.4
    assert result.tracks.last_frame >= 26
    assert [item.track_id for item in result.identities] == list(range(1, identities + 1))
    written = list(open_source(tmp_path / "out.mp4").frames())
    assert len(written) == result.frames
    gaps = np.diff([frame.timestamp_s for frame in written])
    assert gaps.max() > 1.4  # the stall is in the video too


def test_a_stream_that_never_says_anything_does_not_hang() -> None:
    with camera(Script((0, 60.0))) as address, pytest.raises(UnavailableError, match="cannot be opened"):
        track_video(address, BrightDetector(), stall_s=1.5)


def test_a_video_behind_an_address_is_read_to_its_end(tmp_path: Path) -> None:
    import functools
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

    write_video(tmp_path / "a.mp4", 20)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        result = track_video(f"http://127.0.0.1:{server.server_port}/a.mp4", BrightDetector())
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert result.frames == 20 and not result.events
