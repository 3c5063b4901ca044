"""Deploying: the first model freely, a later one through the promotion gate where there is something to judge it by."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from app_scenes import lamps
from tiny_model import write_shifted, write_tiny_model

from osv_lab.core.errors import CheckFailedError, UnavailableError, UsageError
from osv_lab.detect.reference import resolve_model
from osv_lab.lab import Lab
from osv_lab.train import registry
from osv_lab.train.aliases import alias_history
from osv_lab.train.registry import get_version


def test_a_worse_model_does_not_take_the_place_of_the_deployed_one(dataset_name: str, tmp_path: Path) -> None:
    lamps(dataset_name, tmp_path)
    lab = Lab(dataset_name)
    good, worse = write_tiny_model(tmp_path / "good.onnx"), write_shifted(tmp_path / "worse.onnx", 6)

    first = lab.deploy(good)
    assert (first.version, first.verdict, first.note) == ("1", None, "")
    assert lab.deploy(good).version == "1"

    with pytest.raises(CheckFailedError, match="class lamp fell") as refused:
        lab.deploy(worse)
    assert "does not take the place of version 1" in str(refused.value) and "force=True" in str(refused.value)
    assert (get_version(lab.name).version, get_version(lab.name, "champion").version) == (2, 1)
    with pytest.raises(UsageError, match="reason"):
        lab.deploy(worse, force=True)
    forced = lab.deploy(worse, force=True, reason="a demonstration")
    assert forced.verdict is not None and forced.verdict.decision == "forced"
    assert any(row[""] == "gate" for row in forced.rows())
    assert get_version(lab.name, "champion").version == 2

    unjudged = lab.deploy(good, judge_on="nothing")
    assert unjudged.verdict is None and "not compared" in unjudged.summary() and "'nothing'" in unjudged.note
    moves = alias_history(lab.name).moves
    assert [(move.kind, move.to) for move in moves] == [("register", 1), ("forced", 2), ("register", 1)]


def test_a_deployed_model_whose_file_is_gone(fo: Any, dataset_name: str, tmp_path: Path) -> None:
    path = tmp_path / "lamp.png"
    cv2.imwrite(str(path), np.full((64, 64, 3), 150, np.uint8))
    truth = fo.Detections(detections=[fo.Detection(label="lamp", bounding_box=[0.3, 0.3, 0.3, 0.3])])
    fo.Dataset(dataset_name).add_sample(fo.Sample(str(path), tags=["test"], ground_truth=truth))
    lab = Lab(dataset_name)
    lab.deploy(write_tiny_model(tmp_path / "first.onnx"))
    shutil.rmtree(resolve_model(f"models:/{lab.name}@champion").parent)
    later = write_shifted(tmp_path / "later.onnx", 6)
    with pytest.raises(CheckFailedError, match="not compared with version 1") as refused:
        lab.deploy(later)
    assert "gone" in str(refused.value) and get_version(lab.name, "champion").version == 1
    forced = lab.deploy(later, force=True, reason="the disk died")
    assert "gone" in forced.note and get_version(lab.name, "champion").version == 2
    assert alias_history(lab.name).moves[-1].reason == "the disk died"


def test_nothing_is_made_where_the_registry_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any) -> bool:
        raise UnavailableError("the model registry cannot be read", "down")

    lab = Lab("deploy-down")
    monkeypatch.setattr(registry, "has_alias", down)
    monkeypatch.setattr(lab, "export", lambda *_, **__: pytest.fail("exported"))
    with pytest.raises(UnavailableError):
        lab.deploy(write_tiny_model(tmp_path / "a.onnx"))


def test_without_images_a_later_deployment_says_so(tmp_path: Path) -> None:
    lab = Lab("deploy-nothing")
    assert lab.deploy(write_tiny_model(tmp_path / "a.onnx")).note == ""
    later = lab.deploy(write_shifted(tmp_path / "b.onnx", 6))
    assert "in place of version 1" in later.note and "no images" in later.note
    assert get_version(lab.name, "champion").version == 2
