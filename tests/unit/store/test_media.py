"""Looking at media: the sizes a person sees, and what cannot be used."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from support import shared_data

from osv_lab.core.digests import file_digest
from osv_lab.core.errors import InvalidDataError
from osv_lab.store.media import probe


def noise(width: int = 40, height: int = 30) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_as_displayed(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(noise()).save(tmp_path / "a.jpg", exif=exif)
    media = probe(tmp_path / "a.jpg", video=False)

    assert (media.width, media.height) == ((30, 40) if orientation >= 5 else (40, 30))
    assert (media.metadata["width"], media.metadata["height"]) == (media.width, media.height)


@pytest.mark.parametrize(
    ("mode", "suffix", "channels"),
    [("RGB", ".jpg", 3), ("L", ".jpg", 1), ("CMYK", ".jpg", 4), ("RGBA", ".png", 4)],
)
def test_metadata_equals_what_fiftyone_computes(fo, tmp_path: Path, mode: str, suffix: str, channels: int) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / f"a{suffix}"
    Image.fromarray(noise()).convert(mode).save(path)
    media = probe(path, video=False)
    theirs = fo.ImageMetadata.build_for(str(path)).to_mongo().to_dict()

    assert media.metadata == dict(theirs)
    assert media.metadata["num_channels"] == channels
    assert media.digest == file_digest(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tif"])
def test_every_cut_of_a_file_is_broken_never_an_exception_of_a_library(tmp_path: Path, suffix: str) -> None:
    whole = cv2.imencode(suffix, noise())[1].tobytes()
    path = tmp_path / f"a{suffix}"
    for size in range(0, len(whole) - 24, max(len(whole) // 40, 1)):
        path.write_bytes(whole[:size])
        with pytest.raises(InvalidDataError):
            probe(path, video=False)


def test_random_bytes_never_raise_anything_else(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    whole = {suffix: cv2.imencode(suffix, noise())[1] for suffix in (".jpg", ".png", ".webp", ".tif", ".gif")}
    path = tmp_path / "a.jpg"
    for k in range(200):
        data = whole[[*whole][k % len(whole)]].copy()
        data[random.integers(0, len(data), 8)] = random.integers(0, 255, 8)
        path.write_bytes(data.tobytes())
        try:
            media = probe(path, video=False)
        except InvalidDataError:
            continue
        assert media.width > 0 and media.height > 0


def video(path: Path, frames: int = 12, codec: str = "mp4v") -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 12.5, (64, 48))
    for k in range(frames):
        writer.write(np.full((48, 64, 3), k * 4, np.uint8))
    writer.release()
    return path


def test_videos_give_size_rate_length_and_codec(tmp_path: Path) -> None:
    media = probe(video(tmp_path / "a.mp4"), video=True)

    assert (media.width, media.height) == (64, 48)
    found = media.metadata
    assert (found["total_frame_count"], found["frame_rate"], found["duration"]) == (12, 12.5, pytest.approx(0.96))
    assert found["mime_type"] == "video/mp4" and found["encoding_str"]
    assert any("browsers do not play" in note for note in media.notes)


def test_a_truncated_video_says_how_much_can_be_read_or_that_nothing_can(tmp_path: Path) -> None:
    whole = video(tmp_path / "a.avi", 60, "MJPG").read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole[: len(whole) // 2])
    media = probe(cut, video=True)

    assert 0 < media.metadata["total_frame_count"] < 60
    (tmp_path / "b.mp4").write_bytes(video(tmp_path / "a.mp4").read_bytes()[:600])
    with pytest.raises(InvalidDataError):
        probe(tmp_path / "b.mp4", video=True)


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\nhttp://127.0.0.1:9/x.ts\n",
        "ffconcat version 1.0\nfile /etc/passwd\n",
        "v=0\nc=IN IP4 1.2.3.4\n",
        "",
    ],
)
def test_a_playlist_is_never_opened(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.mp4").write_text(text)
    with pytest.raises(InvalidDataError, match=r"not a video|empty"):
        probe(tmp_path / "a.mp4", video=True)


def test_real_videos_play_in_a_browser() -> None:
    data = shared_data()
    for path in sorted((data / "videos").glob("*.mp4")) if data else []:
        media = probe(path, video=True)
        assert media.notes == () and media.metadata["encoding_str"] in ("avc1", "h264")
