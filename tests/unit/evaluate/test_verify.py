"""An exported model against its original, on the user's own view."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osv_lab.core.errors import CheckFailedError, InvalidDataError, NotFoundError, UsageError
from osv_lab.detect.export import export_model
from osv_lab.evaluate.verify import score, verify

MODEL = """
backbone: [[-1, 1, Conv, [8, 3, 2]], [-1, 1, Conv, [16, 3, 2]], [-1, 1, Conv, [16, 3, 2]], [-1, 1, Conv, [16, 3, 2]],
  [-1, 1, Conv, [16, 3, 2]]]
head: [[[2, 3, 4], 1, Detect, [nc]]]
nc: 2
"""


@pytest.fixture(scope="module")
def view(fo: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    import cv2

    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(51)
    made = fo.Dataset()
    for number in range(12):
        image = rng.integers(0, 90, (64, 64, 3), dtype=np.uint8)
        x, y = (int(v) for v in rng.integers(4, 40, 2))
        cv2.rectangle(image, (x, y), (x + 20, y + 20), (240, 80, 40), -1)
        cv2.imwrite(str(folder / f"{number}.png"), image)
        box = fo.Detection(label="square", bounding_box=[x / 64, y / 64, 20 / 64, 20 / 64])
        sample = fo.Sample(str(folder / f"{number}.png"), tags=["val" if number > 7 else "train"])
        sample["ground_truth"] = fo.Detections(detections=[box])
        made.add_sample(sample)
    made.default_classes = ["square", "disc"]
    made.save()
    yield made
    made.delete()


@pytest.fixture(scope="module")
def trained(view: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from osv_lab.train.recipe import Recipe
    from osv_lab.train.trainer import train

    model = tmp_path_factory.mktemp("model") / "tiny.yaml"
    model.write_text(MODEL)
    recipe = Recipe(str(model), epochs=3, imgsz=64, batch=4, device="cpu", options={"nbs": 4})
    return train(view, recipe, run_name="to-verify")


def test_a_faithful_export_passes_and_is_registered(view: Any, trained: Any, tmp_path: Path) -> None:
    from osv_lab.train.registry import register

    artifact = export_model(trained.weights, out=tmp_path)
    steps: list[tuple[str, int, int | None]] = []
    report = verify(artifact, view.match_tags("val"), progress=lambda *step: steps.append(step))
    assert report.passed, report.summary()
    assert report.images == 4 and steps[-1][1:] == (4, 4)
    assert not np.isnan(report.reference_map50_95)
    kept = json.loads(artifact.path.with_name(artifact.path.name + ".osv.json").read_text())
    assert kept["parity"]["passed"] is True and kept["parity"]["dataset"] == view.name
    assert register(artifact, "verify-passed").parity == "passed"


def test_another_model_fails_and_is_refused(view: Any, trained: Any, tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    from osv_lab.train.registry import list_models, register

    artifact = export_model(trained.weights, out=tmp_path)
    model = onnx.load(str(artifact.path))
    rng = np.random.default_rng(51)
    for one in model.graph.initializer:
        values = numpy_helper.to_array(one)
        if values.ndim == 4:
            spoilt = values + rng.normal(size=values.shape).astype(values.dtype)
            one.CopyFrom(numpy_helper.from_array(spoilt, one.name))
    onnx.save(model, str(artifact.path))
    report = verify(artifact.path, view.match_tags("val"), original=trained.weights)
    assert not report.passed and report.reasons
    for parity in (report, None):
        with pytest.raises(CheckFailedError, match="not registered"):
            register(artifact.path, "verify-failed", parity=parity)
    assert not len(list_models("verify-failed"))


def test_unlabelled_views_broken_files_and_few_images(fo: Any, view: Any, trained: Any, tmp_path: Path) -> None:
    artifact = export_model(trained.weights, out=tmp_path)
    assert verify(artifact, view, max_images=3).images == 3
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    bare = fo.Dataset()
    try:
        bare.add_samples([fo.Sample(str(tmp_path / "cut.png")), fo.Sample(view.first().filepath)])
        report = verify(artifact, bare)
        assert report.images == 1 and np.isnan(report.reference_map50_95)
        with pytest.raises(InvalidDataError, match="no image can be read"):
            verify(artifact, bare.limit(1))
        with pytest.raises(InvalidDataError, match="nothing is labelled"):
            from osv_lab.detect import load_detector

            score(bare, load_detector(artifact))
    finally:
        bare.delete()


def test_what_to_compare_with(view: Any, trained: Any, tmp_path: Path) -> None:
    artifact = export_model(trained.weights, out=tmp_path)
    with pytest.raises(UsageError, match="with itself"):
        verify(artifact, view, original=artifact.path)
    artifact.path.with_name(artifact.path.name + ".osv.json").unlink()
    with pytest.raises(UsageError, match="original='best"):
        verify(artifact.path, view)
    with pytest.raises(NotFoundError):
        verify(tmp_path / "none.onnx", view)


def test_a_score_counts_classes_that_the_detector_does_not_know(view: Any, trained: Any) -> None:
    from osv_lab.detect import load_detector

    detector = load_detector(trained.weights)
    known = score(view, detector)
    assert (known.images, known.targets) == (12, 12)
    sample = view.last()
    sample.ground_truth.detections[0].label = "wheel"
    sample.save()
    found = score(view.match_tags("val"), detector)
    assert {one.name: one.targets for one in found.classes}["wheel"] == 1
