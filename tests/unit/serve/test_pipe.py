"""Frames between the front and its workers: what goes in comes out, in whatever pieces it arrives."""

from __future__ import annotations

import socket

from hypothesis import given
from hypothesis import strategies as st

from osv_lab.core.errors import NotFoundError, OsvError, UsageError
from osv_lab.serve import pipe
from osv_lab.serve.errors import RequestError

FRAMES = st.lists(
    st.tuples(
        st.dictionaries(
            st.text(max_size=5).filter(lambda name: name != "parts"), st.integers() | st.text(max_size=9)
        ),
        st.lists(st.binary(max_size=300), max_size=3),
    ),
    max_size=5,
)


@given(FRAMES, st.integers(1, 400))
def test_frames_arrive_whole_in_pieces_of_any_size(frames: list[pipe.Frame], size: int) -> None:
    stream = b"".join(b"".join(pipe.pack(header, *parts)) for header, parts in frames)
    reader = pipe.Frames()
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    assert [frame for piece in pieces for frame in reader.feed(piece)] == frames


@given(FRAMES)
def test_frames_over_a_socket_end_with_it(frames: list[pipe.Frame]) -> None:
    here, there = socket.socketpair()
    with there:
        with here:
            for header, parts in frames:
                pipe.send(here, header, *parts)
            here.sendall(b"\x00\x00\x00\xffhalf a frame")
        for frame in frames:
            assert pipe.receive(there) == frame
        assert pipe.receive(there) is None


def test_errors_keep_their_class_and_words() -> None:
    for error in (
        OsvError("a", "b", "c"),
        UsageError("a"),
        NotFoundError("a", "b"),
        RequestError(413, "a", "b", "c", retry_after_s=2),
    ):
        again = pipe.error_of(pipe.error_json(error))
        assert type(again) is type(error)
        assert vars(again) == vars(error)
