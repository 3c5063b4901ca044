"""Inputs that real folders hold and that must not stop, or hide among, the good ones."""

from __future__ import annotations

import os
import re
import socket
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from osv_lab.store import bulk_read
from osv_lab.store.ingest import ingest

GOOD_LABEL = "0 0.5 0.5 0.4 0.4\n"
GOOD_FILES = 20


def pixels(seed: int, width: int = 48, height: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def encoded(seed: int, suffix: str = ".jpg") -> bytes:
    return cv2.imencode(suffix, pixels(seed))[1].tobytes()


def pillow(seed: int, mode: str, **options: Any) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(pixels(seed)).convert(mode).save(path, **options)


def content(data: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data) and None  # type: ignore[func-returns-value]


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of given chunks, with right checksums."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, data in chunks:
        parts += [struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(kind + data))]
    return b"".join(parts)


def rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels(6)).save(path, exif=exif)


def bad_exif(path: Path) -> None:
    data = encoded(36)
    junk = b"Exif\0\0" + b"II*\0" + os.urandom(0) + b"\xff" * 40
    path.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(junk) + 2) + junk + data[2:])


def gray16(path: Path) -> None:
    cv2.imwrite(str(path), pixels(7)[:, :, 0].astype(np.uint16) * 257)


def animated(path: Path) -> None:
    frames = [Image.fromarray(pixels(100 + k)) for k in range(3)]
    frames[0].save(path, format="GIF", save_all=True, append_images=frames[1:])


def pages(path: Path) -> None:
    frames = [Image.fromarray(pixels(110 + k)) for k in range(2)]
    frames[0].save(path, format="TIFF", save_all=True, append_images=frames[1:])


def bit_flip(path: Path) -> None:
    data = bytearray(encoded(18, ".png"))
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def a_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # A socket's name may have 108 bytes at most.
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


BOMB = png((b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)), (b"IDAT", b"x"), (b"IEND", b""))
MP4 = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + b"\0" * 64
UNREADABLE = "cannot be opened" if os.geteuid() else ""


@dataclass(frozen=True)
class Media:
    """A hostile media file, the outcome it must have and what its line must say."""

    name: str | bytes
    make: Callable[[Path], None]
    outcome: str
    says: str
    label: str | None = GOOD_LABEL


MEDIA = [
    Media("truncated.jpg", content(encoded(1)[:-200]), "broken", "damaged"),
    Media("cut_in_header.jpg", content(encoded(2)[:20]), "broken", "image|damaged"),
    Media("zero_bytes.jpg", content(b""), "broken", "empty"),
    Media("text.jpg", content(b"hello, I am a text file"), "broken", "not an image"),
    Media("page.jpg", content(b"<!DOCTYPE html><title>404</title>"), "broken", "not an image"),
    Media("drawing.png", content(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "broken", "not an image"),
    Media("movie.jpg", content(MP4), "broken", "not an image"),
    Media("png_named.jpg", content(encoded(4, ".png")), "added", "content is PNG"),
    Media("jpeg_named.png", content(encoded(5)), "added", "content is JPEG"),
    Media("rotated.jpg", rotated, "added", "EXIF orientation 6"),
    Media("bad_exif.jpg", bad_exif, "added", ""),
    Media("sixteen.png", gray16, "added", "16 bits"),
    Media("cmyk.jpg", pillow(8, "CMYK"), "added", "CMYK"),
    Media("grey_alpha.png", pillow(9, "LA"), "added", ""),
    Media("palette.png", pillow(10, "P", transparency=0), "added", ""),
    Media("one_bit.png", pillow(11, "1"), "added", ""),
    Media("animated.png", animated, "added", "GIF.*first frame"),
    Media("pages.tif", pages, "added", "browsers do not show TIFF"),
    Media("bomb.png", content(BOMB), "broken", "too large"),
    Media("line.png", lambda path: Image.fromarray(pixels(12, 400, 1)).save(path), "added", "400 x 1"),
    Media("flipped.png", bit_flip, "broken", "damaged"),
    Media("cut.png", content(encoded(13, ".png")[:-500]), "broken", "damaged"),
    Media("cut.webp", content(encoded(14, ".webp")[:-100]), "broken", "damaged|image"),
    Media("cut.bmp", content(encoded(15, ".bmp")[:-500]), "broken", "damaged"),
    Media("garbage_after.jpg", content(encoded(16) + b"tail" * 9), "added", ""),
    Media("dangling.jpg", lambda path: path.symlink_to("/nowhere/at/all.jpg"), "broken", "link to .*not there"),
    Media("device.jpg", lambda path: path.symlink_to("/dev/zero"), "broken", "pipe or device"),
    Media("pipe.jpg", lambda path: os.mkfifo(path), "broken", "pipe or device"),
    Media("socket.jpg", a_socket, "broken", "cannot be opened|pipe or device"),
    Media("locked.jpg", lambda path: path.write_bytes(encoded(17)) and path.chmod(0), "", UNREADABLE),
    Media(b"caf\xe9.jpg", content(encoded(19)), "added", ""),
    Media("日本語 ﷽ 🚌.jpg", content(encoded(20)), "added", ""),
    Media("x" * 240 + ".jpg", content(encoded(21)), "added", ""),
    Media("two\nlines.jpg", content(encoded(22)), "added", ""),
    Media("$where{}.jpg", content(encoded(23)), "added", ""),
    Media("z_copy.jpg", content(encoded(1000)), "skipped", r"same content as images/train/good_00\.jpg$"),
    Media(
        "z_other_labels.jpg", content(encoded(1001)), "skipped", "good_01.*labels differ", "1 0.2 0.2 0.1 0.1\n"
    ),
]


@dataclass(frozen=True)
class Rows:
    """A hostile label file beside a good image: how many labels survive, how many drop, what a problem says."""

    name: str
    text: str | bytes
    kept: int
    dropped: int
    says: str


LABELS = [
    Rows("empty_file", "", 0, 0, ""),
    Rows("only_spaces", " \n\n\t\n", 0, 0, ""),
    Rows("class_too_high", GOOD_LABEL + "7 0.5 0.5 0.1 0.1\n", 1, 1, "class"),
    Rows("class_negative", GOOD_LABEL + "-1 0.5 0.5 0.1 0.1\n", 1, 1, "class"),
    Rows("class_fraction", GOOD_LABEL + "0.5 0.5 0.5 0.1 0.1\n", 1, 1, "class|whole"),
    Rows("nan", GOOD_LABEL + "0 nan 0.5 0.1 0.1\n", 1, 1, "finite|number"),
    Rows("infinite", GOOD_LABEL + "0 0.5 inf 0.1 0.1\n", 1, 1, "finite|number"),
    Rows("overflow", GOOD_LABEL + "0 0.5 1e999 0.1 0.1\n", 1, 1, "finite|number"),
    Rows("short_row", GOOD_LABEL + "0 0.5 0.5\n", 1, 1, "value|column|number"),
    Rows("words", GOOD_LABEL + "a cat on a mat\n", 1, 1, "number|class|whole|value"),
    Rows("no_area", GOOD_LABEL + "0 0.5 0.5 0 0.1\n", 1, 1, "area"),
    Rows("negative_size", GOOD_LABEL + "0 0.5 0.5 -0.2 0.1\n", 1, 1, "negative"),
    Rows("outside", GOOD_LABEL + "0 1.5 1.5 0.1 0.1\n", 1, 1, "outside"),
    Rows("over_edge", GOOD_LABEL + "1 0.95 0.5 0.3 0.1\n", 2, 0, "beyond the image"),
    Rows("twice", GOOD_LABEL + GOOD_LABEL, 1, 1, "same|twice|duplicate"),
    Rows("not_text", GOOD_LABEL.encode() + b"\x00\xff\xfe\x80\n", 1, 1, "number|value|class|column|whole"),
    Rows("windows", b"\xef\xbb\xbf" + GOOD_LABEL.strip().encode() + b"\r\n", 1, 0, ""),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A YOLO data set with good files, hostile media, hostile label files and an orphan."""
    for name in ("images/train", "labels/train"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "data.yaml").write_text("train: images/train\nnames: [cat, dog]\n")
    images, labels = tmp_path / "images/train", tmp_path / "labels/train"
    for k in range(GOOD_FILES):
        (images / f"good_{k:02d}.jpg").write_bytes(encoded(1000 + k))
        (labels / f"good_{k:02d}.txt").write_text(GOOD_LABEL)
    for media in MEDIA:
        path = Path(os.fsdecode(os.fsencode(images) + b"/" + os.fsencode(media.name)))
        media.make(path)
        if media.label is not None:
            (labels / path.with_suffix(".txt").name).write_text(media.label)
    for k, rows in enumerate(LABELS):
        (images / f"{rows.name}.jpg").write_bytes(encoded(2000 + k))
        text = rows.text if isinstance(rows.text, bytes) else rows.text.encode()
        (labels / f"{rows.name}.txt").write_bytes(text)
    (images / "no_label_file.jpg").write_bytes(encoded(3000))
    (images / "folder.jpg").mkdir()
    (labels / "orphan.txt").write_text(GOOD_LABEL)
    return tmp_path


def shown(name: str | bytes) -> str:
    return "images/train/" + os.fsencode(name).decode("utf-8", "backslashreplace")


def test_hostile_inputs_give_clear_lines_and_nothing_is_lost(
    folder: Path, fo: Any, dataset_name: str, output_dir: Path
) -> None:
    report = ingest(folder, dataset_name)
    dataset = fo.load_dataset(dataset_name)
    lines = {line.file: line for line in report.files}
    table = []

    assert len(lines) == len(report.files), "two lines for one file"
    for media in MEDIA:
        line = lines[shown(media.name)]
        table.append((line.file, line.outcome, line.why))
        expected = media.outcome or ("broken" if os.geteuid() else "added")
        assert line.outcome == expected, line
        assert re.search(media.says, line.why), line
    for rows in LABELS:
        line = lines[f"images/train/{rows.name}.jpg"]
        said = "; ".join(p.what for p in report.problems if Path(p.file).stem == rows.name)
        table.append((f"labels/train/{rows.name}.txt", f"{line.labels} kept, {line.dropped} dropped", said))
        assert (line.outcome, line.labels, line.dropped) == ("added", rows.kept, rows.dropped), (line, said)
        assert re.search(rows.says, said, re.IGNORECASE), (line, said)
        assert bool(rows.says) == bool(said), said
    for name in ("labels/train/orphan.txt", "images/train/folder.jpg"):
        [problem] = [p for p in report.problems if p.file == name]
        table.append((name, problem.consequence, problem.what))
    assert len(table) >= 50

    for k in range(GOOD_FILES):
        line = lines[f"images/train/good_{k:02d}.jpg"]
        assert (line.outcome, line.labels, line.split) == ("added", 1, "train")
    labels = report.labels
    assert labels["read"] == labels["kept"] + labels["dropped"] + labels["skipped"] + labels["broken"]
    assert labels["kept"] == dataset.count("ground_truth.detections")
    assert len(dataset) == report.added == report.samples
    assert report.added + report.skipped + report.broken == len(report.files)

    turned = dataset.match(fo.ViewField("filepath").ends_with("/rotated.jpg")).first().metadata
    assert (turned.width, turned.height) == (32, 48)
    unlabelled = dataset.match(fo.ViewField("labelled") == False).values("filepath")  # noqa: E712
    assert [Path(path).name for path in unlabelled] == ["no_label_file.jpg"]
    copied = [path for path in dataset.values("filepath") if "/media/" in path]
    assert len(copied) == 1 and Path(copied[0]).read_bytes() == encoded(19)

    write_table(output_dir / "hostile-inputs.txt", table)


def test_a_second_run_adds_nothing(folder: Path, fo: Any, dataset_name: str) -> None:
    first = ingest(folder, dataset_name)
    before = {
        digest.path: digest.labels for _, digest in bulk_read.iter_records(fo.load_dataset(dataset_name), [])
    }
    second = ingest(folder, dataset_name)

    assert (second.added, second.updated, second.broken) == (0, 0, first.broken)
    assert second.samples == first.samples
    assert second.labels["kept"] == 0 and second.labels["read"] == first.labels["read"]
    assert len(before) == first.samples


def write_table(path: Path, table: list[tuple[str, str, str]]) -> None:
    text = [f"{len(table)} hostile inputs\n"]
    for name, outcome, why in table:
        name = name.replace("\n", "\\n")
        short = name if len(name) <= 44 else f"{name[:20]}...{name[-21:]}"
        text.append(f"{short:46} {outcome:20} {why or '(nothing to say)'}")
    path.write_text("\n".join(text) + "\n")
    print("\n".join(text))
