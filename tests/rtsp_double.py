"""A network camera that speaks RTSP: a small server of one H.264 stream, over TCP.

RFC 2326 (RTSP, with RTP interleaved in its connection), RFC 3550 (RTP) and RFC 6184 (H.264 in RTP). It knows what a
client needs to play and no more. Each connection follows the next part of a script, so that a test can have the
camera fall silent, hang up, and come back.
"""

from __future__ import annotations

import base64
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import BinaryIO

from video_scenes import SIZE, image

FRAME_S = 0.03
CLOCK_HZ = 90_000
_MOST_BYTES = 1200
_FU_A = 28


def h264(frames: int, still: bool = False) -> list[list[bytes]]:
    """The NAL units of each frame of the scene, or of one that stands ``still``; first come the parameter sets."""
    import av

    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = *SIZE, "yuv420p"
    encoder.framerate, encoder.gop_size = Fraction(round(1 / FRAME_S)), 10
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "12", "threads": "1"}
    pictures = (image(10 if still else number) for number in range(1, frames + 1))
    encoded = [encoder.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")) for picture in pictures]
    encoded[-1] += encoder.encode(None)
    return [_nal_units(b"".join(map(bytes, packets))) for packets in encoded]


def _nal_units(stream: bytes) -> list[bytes]:
    parts = stream.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
    return [part for part in parts if part]


def rtp_packets(units: list[bytes], sequence: int, timestamp: int, source: int) -> list[bytes]:
    """The RTP packets of one frame; a unit that is too long for one is sent in fragments."""
    payloads = []
    for unit in units:
        if len(unit) <= _MOST_BYTES:
            payloads.append(unit)
            continue
        head, kind = unit[0] & 0xE0 | _FU_A, unit[0] & 0x1F
        for at in range(1, len(unit), _MOST_BYTES):
            begins, ends = at == 1, at + _MOST_BYTES >= len(unit)
            payloads.append(bytes((head, begins << 7 | ends << 6 | kind)) + unit[at : at + _MOST_BYTES])
    return [
        struct.pack(
            "!BBHII", 0x80, (at == len(payloads) - 1) << 7 | 96, (sequence + at) & 0xFFFF, timestamp, source
        )
        + payload
        for at, payload in enumerate(payloads)
    ]


@dataclass
class RtspCamera:
    """What the camera does on each of its connections.

    Args:
        script: Frames to send and seconds of silence after them, one pair per connection that plays; after the last one
            nobody is let in.
        user: ``name:password`` that a client must give; "" asks for none.
        still: Nothing moves in front of it.
    """

    script: list[tuple[int, float]]
    user: str = ""
    still: bool = False
    asked: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str:
        return f"rtsp://{self.user + '@' if self.user else ''}127.0.0.1:{self.port}/live"

    def serve(self, connection: socket.socket, stop: threading.Event) -> None:
        """Answer the requests of one client until it leaves or has been played to."""
        reader = connection.makefile("rb")
        while not stop.is_set():
            request, headers = _read_request(reader)
            if not request:
                return
            verb = request.split()[0]
            self.asked.append(verb)
            lines = [f"CSeq: {headers.get('cseq', '0')}", "Session: 7;timeout=60"]
            status, body = "200 OK", b""
            wanted = "Basic " + base64.b64encode(self.user.encode()).decode()
            if self.user and verb != "OPTIONS" and headers.get("authorization") != wanted:
                status, lines = "401 Unauthorized", [lines[0], 'WWW-Authenticate: Basic realm="camera"']
            elif not self.script and verb != "OPTIONS":
                status = "503 Service Unavailable"
            elif verb == "OPTIONS":
                lines.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN")
            elif verb == "DESCRIBE":
                body = self._description()
                lines += ["Content-Type: application/sdp", f"Content-Base: {self.address}/"]
            elif verb == "SETUP":
                lines.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
            if body:
                lines.append(f"Content-Length: {len(body)}")
            connection.sendall(
                f"RTSP/1.0 {status}\r\n".encode() + "\r\n".join(lines).encode() + b"\r\n\r\n" + body
            )
            if verb == "PLAY" and status.startswith("200"):
                frames, silence_s = self.script.pop(0)
                _play(connection, h264(frames, self.still))
                stop.wait(silence_s)
                return

    @staticmethod
    def _description() -> bytes:
        sets = b",".join(base64.b64encode(unit) for unit in h264(1)[0] if unit[0] & 0x1F in (7, 8)).decode()
        lines = (
            "v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=camera", "c=IN IP4 127.0.0.1", "t=0 0", "m=video 0 RTP/AVP 96",
            f"a=rtpmap:96 H264/{CLOCK_HZ}", f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={sets}",
            f"a=framerate:{round(1 / FRAME_S)}", "a=control:video",
        )  # fmt: skip
        return "\r\n".join((*lines, "")).encode()


def _read_request(reader: BinaryIO) -> tuple[str, dict[str, str]]:
    """The request line and the headers, by their names in lower case; "" at the end."""
    lines: list[str] = []
    for raw in iter(reader.readline, b""):
        line = raw.decode("latin-1").strip()
        if not line and lines:
            break
        if line:
            lines.append(line)
    pairs = (line.partition(":") for line in lines[1:])
    return (lines[0] if lines else ""), {name.lower(): value.strip() for name, _, value in pairs}


def _play(connection: socket.socket, frames: list[list[bytes]]) -> None:
    sequence = 1000
    for number, units in enumerate(frames):
        for packet in rtp_packets(units, sequence, round(number * FRAME_S * CLOCK_HZ), source=0x1234):
            connection.sendall(struct.pack("!cBH", b"$", 0, len(packet)) + packet)
            sequence += 1
        time.sleep(FRAME_S)


@contextmanager
def rtsp_camera(*script: tuple[int, float], user: str = "", still: bool = False) -> Iterator[RtspCamera]:
    """A camera on a free port of this machine."""
    stop = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.05)
    camera = RtspCamera(list(script), user, still, port=listening.getsockname()[1])
    threads: list[threading.Thread] = []

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(20)
            camera.serve(connection, stop)

    def accept() -> None:
        while not stop.is_set():
            with suppress(TimeoutError):
                threads.append(threading.Thread(target=answer, args=(listening.accept()[0],)))
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield camera
    finally:
        stop.set()
        accepting.join()
        for thread in threads:
            thread.join()
        listening.close()
