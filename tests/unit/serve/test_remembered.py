"""A model is measured once per machine; what is not known for sure is measured again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from tiny_model import write_tiny_model

from osv_lab.core.errors import UsageError
from osv_lab.core.settings import load_settings
from osv_lab.serve import scheduler
from osv_lab.serve.scheduler import load_planned

Measured = Callable[..., None]


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measured:
    """Says what a measurement would find from now on: images per second side by side, in batches, and one after the
    other with one core and with all."""
    monkeypatch.setenv("OSV_HOME", str(tmp_path / "home"))

    def say(beside: float, together: float, on_one: float = 30.0, on_all: float = 30.0) -> None:
        monkeypatch.setattr(scheduler, "measure_cpu", lambda *_: (beside, together, on_one, on_all))
        monkeypatch.setattr("osv_lab.core.cores.usable_cores", lambda: 2)

    return say


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "tiny.onnx")


def rates(model: Path, **options: object) -> list[float]:
    return list(load_planned(model, options)[1].images_per_s.values())[:2]


def test_once_per_file_and_options(model: Path, measured: Measured, tmp_path: Path) -> None:
    measured(50.0, 40.0)
    assert rates(model) == [50.0, 40.0]
    measured(5.0, 4.0)
    detector, plan = load_planned(model, {})
    assert (plan.mode, plan.max_batch) == ("parallel", 1)
    assert list(plan.images_per_s.values()) == [50.0, 40.0, 30.0, 30.0]
    assert [len(one) for one in detector.predict([scheduler.grey_image(detector)])] == [1]
    moved = model.rename(tmp_path / "other.onnx")
    assert rates(moved) == [50.0, 40.0], "the same file elsewhere"
    assert rates(moved, class_names=["a", "b"]) == [5.0, 4.0]
    assert list(load_planned(moved, {}, "parallel")[1].images_per_s) == []


def test_another_file_in_its_place(model: Path, measured: Measured) -> None:
    measured(50.0, 40.0)
    rates(model)
    changed = onnx.load(model)
    changed.doc_string = "another one"
    onnx.save(changed, str(model))
    measured(5.0, 4.0)
    assert rates(model) == [5.0, 4.0]


def test_batches_too(model: Path, measured: Measured) -> None:
    measured(40.0, 80.0)
    first = load_planned(model, {})[1]
    assert (first.mode, first.max_batch) == ("batch", 8)
    measured(50.0, 40.0)
    detector, again = load_planned(model, {})
    assert again == first
    assert [len(one) for one in detector.predict([scheduler.grey_image(detector)] * 3)] == [1] * 3
    assert load_planned(model, {}, max_batch=5)[1].max_batch == 5


def test_cores_for_an_image_that_is_alone(
    model: Path, measured: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(50.0, 40.0, 25.0, 26.0)
    assert load_planned(model, {})[1].lone_threads == 1, "not worth it"
    assert load_planned(model, {}, lone_threads=3)[1].lone_threads == 3
    measured(50.0, 40.0, 25.0, 40.0)
    assert load_planned(model, {"class_names": ["a", "b"]})[1].lone_threads == 2
    assert load_planned(model, {"class_names": ["a", "b"]})[1].lone_threads == 2, "remembered"
    assert load_planned(model, {"class_names": ["a", "b"]}, lone_threads=1)[1].lone_threads == 1
    assert load_planned(model, {"threads": 1})[1].lone_threads == 1, "as it was asked for"
    assert load_planned(model, {}, "parallel")[1].lone_threads == 1, "nothing was measured"
    monkeypatch.setattr(scheduler, "MAX_BYTES", model.stat().st_size - 1)
    assert load_planned(model, {"class_names": ["a", "b"]})[1].lone_threads == 1, "too large to be loaded twice"
    with pytest.raises(UsageError, match="lone_threads"):
        load_planned(model, {}, lone_threads=0)


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "[]",
        '{"images_per_s": [1]}',
        '{"images_per_s": {"parallel": "x"}}',
        '{"images_per_s": {"parallel": 9}}',
    ],
)
def test_what_cannot_be_read_is_measured(model: Path, measured: Measured, damaged: str) -> None:
    measured(50.0, 40.0)
    rates(model)
    [kept] = (load_settings().home / "scheduling").iterdir()
    kept.write_text(damaged)
    measured(5.0, 4.0)
    assert rates(model) == [5.0, 4.0]


def test_a_folder_that_cannot_be_written(model: Path, measured: Measured, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file, where a folder should be")
    measured(50.0, 40.0)
    assert rates(model) == [50.0, 40.0]
