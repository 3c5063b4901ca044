"""Recipes are checked before anything is loaded, and every error says what to write instead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError
from osv_lab.train.recipe import Recipe
from osv_lab.train.rules import AUGMENTATION, OPTIONS, RESERVED, architectures


def test_a_flat_mapping_and_back() -> None:
    recipe = Recipe.from_dict(
        {"model": "yolo11n", "epochs": 3, "mosaic": 0, "augmentation": {"fliplr": 0.1}, "cos_lr": True}
    )
    assert recipe.augmentation == {"fliplr": 0.1, "mosaic": 0.0}
    assert recipe.options == {"cos_lr": True}
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert Recipe.from_dict(recipe.to_dict()).digest() == recipe.digest()
    assert Recipe("yolo11n", epochs=4).digest() != recipe.digest()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epoch": 3}, "did you mean 'epochs'?"),
        ({"mosiac": 0.5}, "did you mean 'mosaic'?"),
        ({"epochs": "3"}, "'3' (str)"),
        ({"epochs": True}, "True (bool)"),
        ({"epochs": 0}, "from 1"),
        ({"epochs": 2.5}, "whole number"),
        ({"lr0": "1e-3", "optimizer": "SGD"}, "0.001"),
        ({"lr0": float("nan"), "optimizer": "SGD"}, "nan"),
        ({"lr0": 0.1}, "name the optimizer too"),
        ({"imgsz": 100}, "use 96 or 128"),
        ({"batch": 0}, "0 (int)"),
        ({"device": "0,1"}, "pick one"),
        ({"device": [0, 1]}, "pick one"),
        ({"optimizer": "sdg"}, "one of auto"),
        ({"mosaic": 2}, "from 0 to 1"),
        ({"augmentation": 3}, "must be a mapping"),
        ({"augmentation": {"epochs": 3}}, "no such recipe setting"),
        ({"data": "x.yaml"}, "the lab does"),
        ({"model": "yolo12q"}, "did you mean"),
        ({"model": "best.onnx"}, "start from the .pt file"),
        ({"model": ""}, "must be a file"),
        ({"model": "yolo11n-seg", "task": "detect"}, "leave 'task' out"),
        ({"task": "detekt"}, "did you mean 'detect'?"),
    ],
)
def test_a_wrong_setting_is_named_with_what_to_write(settings: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Recipe.from_dict({"model": "yolo11n", **settings})
    assert words in str(caught.value)


def test_numpy_numbers_and_names_in_any_case_are_taken() -> None:
    recipe = Recipe("YOLO11n", epochs=np.int64(3), optimizer="sgd", lr0=np.float32(0.5), device=0)
    assert (recipe.epochs, recipe.optimizer, recipe.lr0, recipe.device) == (3, "SGD", 0.5, "cuda:0")
    assert type(recipe.epochs) is int


def test_the_task_follows_from_the_name() -> None:
    assert Recipe("yolo11n-seg").task == "segment"
    assert Recipe("weights/my-pose.pt").task == "pose"
    assert Recipe("weights/best.pt", task="obb").task == "obb"


def test_yaml_files(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("model: yolo11n.yaml\nepochs: 7\nhsv_h: 0.1\n")
    assert Recipe.from_yaml(file).epochs == 7
    file.write_text("model: [yolo11n\n")
    with pytest.raises(InvalidDataError):
        Recipe.from_yaml(file)
    with pytest.raises(NotFoundError):
        Recipe.from_yaml(tmp_path / "none.yaml")
    file.write_text("")
    with pytest.raises(UsageError, match="needs a model"):
        Recipe.from_yaml(file)


def test_every_setting_is_one_of_ultralytics() -> None:
    import yaml

    folder = Path(
        next(iter(__import__("importlib.util").util.find_spec("ultralytics").submodule_search_locations))
    )
    known = yaml.safe_load((folder / "cfg" / "default.yaml").read_text())
    assert set(AUGMENTATION) | set(OPTIONS) <= set(known)
    assert not RESERVED & (set(AUGMENTATION) | set(OPTIONS))
    assert {"yolo11n", "yolov8n", "yolov8n-seg"} <= architectures()


def test_nothing_heavy_is_loaded() -> None:
    code = (
        "import sys; from osv_lab.train.recipe import Recipe; Recipe('yolo11n', epochs=3)\n"
        "assert not {'torch', 'ultralytics', 'mlflow', 'fiftyone', 'cv2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
