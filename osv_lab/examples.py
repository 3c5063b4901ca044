"""Data to try the lab on: rendered images and a rendered video, with known truth and known faults.

    lab.upload_data(example_images())      # 283 images of machine parts, split, with labels
    example_faults()                       # what was done to them on purpose

Nothing is downloaded. The images are those of :mod:`osv_lab.store.synthetic`, others than the demo's, under
``<home>/examples``; what is there is not rendered again.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osv_lab.core.files import write_atomic
from osv_lab.core.progress import Progress, silent
from osv_lab.core.report import Report
from osv_lab.core.settings import load_settings

IMAGES: Mapping[str, int] = {"train": 180, "val": 40, "test": 60}
SEED = 77
"""Not the demo's, so that a model of the demo has seen none of these."""

_FAULTS = ".faults.json"


@dataclass(frozen=True)
class ExampleFaults(Report):
    """What is wrong with the example's images, on purpose.

    Attributes:
        faults: Image, what was done to it, and where the lab says so.
    """

    faults: tuple[Mapping[str, str], ...]

    def rows(self) -> list[Mapping[str, Any]]:
        """One row per fault."""
        return list(self.faults)

    def summary(self) -> str:
        """How many there are."""
        return f"{len(self.faults)} faults were put into the example on purpose"


def example_images(*, progress: Progress = silent) -> Path:
    """A small YOLO data set: 280 images of machine parts of five classes, 320 pixels square, and a few faults.

    Returns:
        Its folder, as ``lab.upload_data`` takes it. Rendering takes some ten seconds, once.
    """
    from osv_lab.store.synthetic import render_dataset

    folder = load_settings().home / "examples" / "parts"
    if not folder.exists():
        rendered = render_dataset(folder.with_name("rendered"), IMAGES, seed=SEED, progress=progress)
        with tempfile.TemporaryDirectory(dir=folder.parent) as place:
            draft = Path(shutil.copytree(rendered.folder, Path(place) / "parts"))
            write_atomic(draft / _FAULTS, json.dumps(_spoil(draft)))
            # Another process may have been faster.
            with suppress(OSError):
                draft.rename(folder)
    return folder


def example_faults() -> ExampleFaults:
    """What :func:`example_images` did to its images on purpose."""
    return ExampleFaults(tuple(json.loads((example_images() / _FAULTS).read_text())))


def example_video(*, progress: Progress = silent) -> Path:
    """A video of six seconds in which parts cross each other and vanish under a beam.

    Returns:
        The video; ``<name>.gt.txt`` beside it has the true tracks in MOTChallenge's format.
    """
    from osv_lab.store.synthetic_video import render_video

    path = load_settings().home / "examples" / "crossing" / "crossing.mp4"
    # The truth is written last.
    if not path.with_suffix(".json").exists():
        render_video(path, 150, SEED, size=(320, 240), n_parts=4, progress=progress)
    return path


def _spoil(folder: Path) -> list[dict[str, str]]:
    """Put faults into a rendered data set, the same ones every time."""
    import cv2

    from osv_lab.detect.images import read_image

    faults = []

    def fault(image: str, what: str, found_by: str) -> None:
        faults.append({"image": image, "what was done": what, "found by": found_by})

    def labels(image: str) -> Path:
        return folder / "labels" / f"{image}.txt"

    def picture(image: str) -> Path:
        return folder / "images" / f"{image}.jpg"

    whole = picture("train/train_00000").read_bytes()
    write_atomic(picture("train/train_cut"), whole[: len(whole) // 3])
    fault("train_cut.jpg", "the file was cut off", "upload_data")
    lines = labels("train/train_00001").read_text().splitlines()
    write_atomic(labels("train/train_00001"), "\n".join([*lines, "0 0.5 nan 0.1 0.1", ""]))
    fault("train_00001.jpg", "a box that is no number was added", "upload_data")
    for image, source in (("test/test_again", "train/train_00002"), ("val/val_again", "train/train_00003")):
        again = cv2.imencode(".jpg", read_image(picture(source)), [cv2.IMWRITE_JPEG_QUALITY, 70])[1]
        write_atomic(picture(image), again.tobytes())
        write_atomic(labels(image), labels(source).read_text())
        fault(f"{image.partition('/')[2]}.jpg", f"{Path(source).name}.jpg, saved again", "quality: leaks")
    dark = (read_image(picture("train/train_00004")) * 0.08).astype("uint8")
    write_atomic(picture("train/train_dark"), cv2.imencode(".jpg", dark)[1].tobytes())
    write_atomic(labels("train/train_dark"), labels("train/train_00004").read_text())
    fault("train_dark.jpg", "train_00004.jpg in the dark", "quality: dark")
    for number in range(10, 40):
        found = labels(f"train/train_{number:05d}").read_text().splitlines()
        if len(found) < 2 or len(faults) == 15:
            continue
        kind, _, box = found[0].partition(" ")
        wrong = number % 2 == 0
        kept = [f"{(int(kind) + 2) % 5} {box}", *found[1:]] if wrong else found[1:]
        write_atomic(labels(f"train/train_{number:05d}"), "\n".join([*kept, ""]))
        what = "a part was given another class" if wrong else "a part's label was taken away"
        fault(f"train_{number:05d}.jpg", what, f"find_label_errors: {'wrong class' if wrong else 'missing'}")
    return faults
