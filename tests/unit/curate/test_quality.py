"""quality(): planted faults are found by kind, sound images are not, and a second run looks at what changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from osv_lab.core.errors import NotFoundError, UsageError
from osv_lab.curate.measures import measure
from osv_lab.curate.quality import quality

FAULTS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "dim.png": ("dark", lambda image: (image * 0.25).astype(np.uint8)),
    "white.png": ("bright", lambda image: np.clip(image.astype(int) + 130, 0, 255).astype(np.uint8)),
    "soft.jpg": ("blurry", lambda image: cv2.GaussianBlur(image, (0, 0), 4)),
    "empty.png": ("low_information", lambda image: np.full_like(image, 170)),
    "tiny.png": ("odd_size", lambda image: image[:120, :160]),
    "strip.png": ("odd_aspect", lambda image: np.tile(image[100:260], (1, 2, 1))),
}
COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "again.jpg": lambda image: cv2.resize(image, None, fx=0.9, fy=0.9),
    "cropped.jpg": lambda image: image[8:-8, 10:-10],
    "lighter.jpg": lambda image: cv2.convertScaleAbs(image, alpha=1.05, beta=8),
}


@pytest.fixture
def planted(fo: Any, dataset_name: str, photos: list[Path], tmp_path: Path) -> Any:
    """Twenty-eight sound photos for training; faults made of others; copies of sound ones under ``test``."""
    for path in photos[:28]:
        shutil.copy(path, tmp_path / path.name)
    for (name, (_, spoil)), path in zip(FAULTS.items(), photos[28:], strict=False):
        cv2.imwrite(str(tmp_path / name), spoil(cv2.imread(str(path))))
    for (name, change), path in zip(COPIES.items(), photos, strict=False):
        cv2.imwrite(str(tmp_path / name), change(cv2.imread(str(path))))
    shutil.copy(photos[5], tmp_path / "same.jpg")
    (tmp_path / "cut.jpg").write_bytes(photos[35].read_bytes()[:9000])
    dataset = fo.Dataset(dataset_name)
    samples = [
        fo.Sample(str(path), tags=["test" if path.name in {*COPIES, "same.jpg"} else "train"])
        for path in sorted(tmp_path.iterdir())
    ]
    dataset.add_samples(samples, progress=False)
    return dataset


def names(view: Any) -> set[str]:
    return {Path(path).name for path in view.values("filepath")}


def test_each_fault_is_found_by_its_kind_and_sound_photos_are_not(planted: Any) -> None:
    report = quality(planted)
    found = {one.kind: names(report.view(one.kind)) for one in report.findings}
    for name, (kind, _) in FAULTS.items():
        assert name in found[kind], (name, kind, found)
    assert found["broken"] == {"cut.jpg"}
    assert list(report.problems) == [str(Path(planted.first().filepath).parent / "cut.jpg")]
    faulty = {*FAULTS, "cut.jpg"}
    for kind in ("dark", "bright", "blurry", "low_information", "odd_size", "odd_aspect"):
        assert found[kind] <= faulty, kind
    severities = [one.severity for one in report.findings]
    assert severities == sorted(severities, reverse=True)
    assert report.findings[0].kind == "broken"


def test_copies_in_another_split_are_leaks_and_nothing_else_is(planted: Any, photos: list[Path]) -> None:
    report = quality(planted)
    originals = {path.name for path in photos[:3]}
    assert names(report.view("leak")) == {*COPIES, *originals, "same.jpg", photos[5].name}
    assert names(report.view("exact_duplicates")) == {"same.jpg", photos[5].name}
    assert all(group.leak and group.splits == ("test", "train") for group in report.groups)
    assert [len(group.samples) for group in report.groups] == [2] * 4


def test_a_second_run_looks_at_new_and_changed_files_only(planted: Any, photos: list[Path]) -> None:
    first = quality(planted)
    assert first.measured == first.samples == len(planted)
    second = quality(planted)
    assert second.measured == 0
    assert second.findings == first.findings
    changed = next(sample for sample in planted if sample.filepath.endswith("dim.png"))
    cv2.imwrite(changed.filepath, cv2.imread(str(photos[28])))
    third = quality(planted)
    assert third.measured == 1
    assert "dark" not in {one.kind for one in third.findings}
    Path(changed.filepath).unlink()
    fourth = quality(planted)
    assert names(fourth.view("broken")) == {"cut.jpg", "dim.png"}


def test_measures_are_fields_that_views_can_filter_by(fo: Any, planted: Any) -> None:
    quality(planted)
    dim = planted.match((fo.ViewField("quality.bright_end") < 0.3) & (fo.ViewField("quality.broken") == None))  # noqa: E711
    assert names(dim) == {"dim.png"}
    sample = planted.match(fo.ViewField("filepath").ends_with("tiny.png")).first()
    assert (sample.quality.width, sample.quality.height) == (160, 120)


def test_a_field_of_the_same_name_is_not_overwritten(fo: Any, planted: Any) -> None:
    planted.add_sample_field("quality", fo.StringField)
    planted.set_values("quality", ["fine"] * len(planted))
    with pytest.raises(UsageError, match="rename_sample_field"):
        quality(planted)
    assert planted.distinct("quality") == ["fine"]


def test_embeddings_of_ones_own_find_the_candidates(planted: Any) -> None:
    def colours(images: Any) -> np.ndarray:
        small = [cv2.resize(image, (12, 12), interpolation=cv2.INTER_AREA).ravel() for image in images]
        rows = np.array(small, float)
        return rows - rows.mean(axis=1, keepdims=True)

    assert quality(planted.match_tags("test"), embed=colours).groups == ()
    report = quality(planted, embed=colours)
    assert {"again.jpg", "cropped.jpg", "lighter.jpg", "same.jpg"} <= names(report.view("leak"))
    with pytest.raises(UsageError, match="one row per image"):
        quality(planted, embed=lambda images: np.zeros((1, 2)))


def test_a_finding_that_was_not_made_is_an_error_that_names_those_that_were(planted: Any) -> None:
    report = quality(planted.match_tags("test"))
    with pytest.raises(NotFoundError, match="no such finding"):
        report.view("leak")


def test_large_and_turned_images_are_measured_as_they_are_displayed(tmp_path: Path, photos: list[Path]) -> None:
    from PIL import Image

    large = Image.open(photos[0]).resize((2400, 1800))
    exif = Image.Exif()
    exif[0x0112] = 6
    large.save(tmp_path / "large.jpg", quality=92)
    large.save(tmp_path / "turned.jpg", quality=92, exif=exif)
    large.save(tmp_path / "large.png")
    plain, turned, png = (
        measure((tmp_path / name).read_bytes()) for name in ("large.jpg", "turned.jpg", "large.png")
    )
    assert (plain["width"], plain["height"]) == (turned["height"], turned["width"]) == (2400, 1800)
    assert plain["brightness"] == pytest.approx(turned["brightness"], abs=0.01)
    assert plain["brightness"] == pytest.approx(png["brightness"], abs=0.01)
    assert bin(int(plain["phash"], 16) ^ int(png["phash"], 16)).count("1") <= 4
