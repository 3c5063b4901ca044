"""Versions with steps: copies of training images only, the same bytes every time, and the steps on whole data sets."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from osv_lab.core.errors import UsageError
from osv_lab.store.versions import create_version, load_version, rebuild

STEPS: dict[str, Any] = {
    "preprocess": {"auto-orient": True, "resize": {"width": 96, "height": 96, "format": "Fit (black edges) in"}},
    "augment": {
        "flip": {"horizontal": True},
        "rotate": {"degrees": 10},
        "mosaic": True,
        "bbnoise": {"percent": 5},
    },
}


def test_copies_of_training_images_only(small: Any) -> None:
    version = create_version(small, **STEPS, multiplier=3)
    assert version.splits == {"train": 18, "val": 3, "test": 3}
    view = load_version(version)
    names = [Path(path).name for path in view.values("filepath")]
    assert len(set(names)) == 24
    assert Counter(name.partition("_augmented-")[2][:1] for name in names) == {"": 12, "1": 6, "2": 6}
    augmented = [tags for name, tags in zip(names, view.values("tags"), strict=True) if "_augmented-" in name]
    assert augmented == [["train"]] * 12
    assert set(zip(*view.values(["metadata.width", "metadata.height"]), strict=True)) == {(96, 96)}
    assert version.recipe["augment"][1] == {"rotate": {"degrees": 10.0}} and version.recipe["multiplier"] == 3


def test_the_seed_decides_the_bytes(small: Any, make: Callable[..., Any], tmp_path: Path) -> None:
    first = create_version(small, **STEPS, multiplier=2)
    again = create_version(small.sort_by("filepath", reverse=True), **STEPS, multiplier=2)
    assert again.digest == first.digest
    assert create_version(small, **STEPS, multiplier=2, seed=7).digest != first.digest
    folders = [rebuild(version, tmp_path / version.name) / "media" for version in (first, again)]
    digests = [
        {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
        for folder in folders
    ]
    assert digests[0] == digests[1] and len(digests[0]) == 18


def test_pixels_that_no_step_changes_keep_their_bytes(small: Any) -> None:
    plain = create_version(small)
    classes = sorted(plain.classes)
    assert create_version(small, preprocess="auto-orient").digest == plain.digest
    renamed = create_version(small, preprocess={"remap": {classes[0]: "other", classes[1]: ""}})
    view = load_version(renamed)
    assert sorted(view.values("content_digest")) == sorted(small.values("content_digest"))
    assert renamed.classes["other"] == plain.classes[classes[0]] and classes[1] not in renamed.classes
    assert "other" in renamed.class_list or not small.default_classes
    assert not {classes[0], classes[1]} & set(renamed.class_list)


def test_images_without_a_label_are_filtered(small: Any) -> None:
    samples = list(small.sort_by("filepath"))
    for sample in samples:
        if sample.ground_truth is None or not sample.ground_truth.detections:
            small.delete_samples([sample.id])
    samples = list(small.sort_by("filepath"))
    for sample in samples[:4]:
        sample.ground_truth.detections = []
        sample.save()
    kept = len(samples) - 4
    assert create_version(small, preprocess={"filter-null": {"percent": 100}}).samples == kept
    assert create_version(small, preprocess={"filter-null": {"percent": 0}}).samples == kept + 4
    some = create_version(small, preprocess={"filter-null": {"percent": 80}})
    assert some.samples == kept + kept // 4
    tiles = {"tile": {"rows": 4, "columns": 4}}
    every = create_version(small, preprocess=tiles)
    assert every.samples == 16 * len(samples)
    filtered = create_version(small, preprocess={**tiles, "filter-null": {"percent": 100}})
    assert 0 < filtered.samples < every.samples and filtered.labels == every.labels


def test_steps_and_multiplier_go_together(small: Any) -> None:
    with pytest.raises(UsageError, match="go together"):
        create_version(small, augment={"flip": {"horizontal": True}})
    with pytest.raises(UsageError, match="go together"):
        create_version(small, multiplier=2)
    with pytest.raises(UsageError, match="no training image"):
        create_version(small.match_tags("val"), augment={"flip": {"horizontal": True}}, multiplier=2)


def test_images_turned_by_exif_are_made_upright(fo: Any, make: Callable[..., Any], tmp_path: Path) -> None:
    from PIL import Image

    turned = Image.new("RGB", (40, 20), (200, 30, 30))
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "turned").mkdir()
    turned.save(tmp_path / "turned/a.jpg", exif=exif)
    dataset = make(folder=tmp_path / "turned")
    plain = create_version(dataset, fields=[])
    upright = create_version(dataset, fields=[], preprocess=["auto-orient"])
    assert upright.digest != plain.digest
    with Image.open(load_version(upright).first().filepath) as image:
        assert image.size == (20, 40) and image.getexif().get(0x0112, 1) == 1
