"""Presets: those that come with the lab, and what is wrong with one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from osv_lab.core.errors import InvalidDataError, NotFoundError, OsvError, UsageError
from osv_lab.presets import SECTIONS, load_preset, presets
from osv_lab.train.recipe import Recipe


@pytest.mark.parametrize("name", presets())
def test_every_preset_can_be_used_and_gives_its_reasons(name: str) -> None:
    preset = load_preset(name)
    assert preset.about
    used = {row["section"] for row in preset.rows()}
    assert used >= {"train", "slices"} and used <= {*SECTIONS, "first_look"}
    assert set(preset.why) == used
    recipe = Recipe.from_dict({"model": "yolo11n", **preset.train, **preset.first_look})
    assert recipe.imgsz % 32 == 0
    assert name in preset.summary()


def test_a_preset_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("about: bolts\ntrain: {model: yolo11n, imgsz: 320}\n")
    assert load_preset(path).train["imgsz"] == 320
    assert load_preset(str(path)).name == "mine"


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("trane: {imgsz: 320}", UsageError, "did you mean 'train'"),
        ("train: {imgsize: 320}", UsageError, "imgsz"),
        ("train: {imgsz: 321}", UsageError, "32"),
        ("predict: {confidnce: 0.1}", UsageError, "did you mean 'confidence'"),
        ("predict: 0.1", UsageError, "has no settings"),
        ("- train", UsageError, "mapping of sections"),
        ("{", InvalidDataError, "cannot be read as YAML"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, error: type[OsvError], said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(error, match=said):
        load_preset(path)


def test_no_such_preset() -> None:
    with pytest.raises(NotFoundError, match="did you mean 'traffic'"):
        load_preset("trafic")
