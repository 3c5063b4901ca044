"""What is known about a model file: values are set beside the others, and nothing that is there gets lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from osv_lab.core.errors import InvalidDataError
from osv_lab.core.sidecars import read_sidecar, sidecar_path, update_sidecar


def test_values_are_set_beside_the_others(tmp_path: Path) -> None:
    model = tmp_path / "best.onnx"
    assert read_sidecar(model) == {}
    assert update_sidecar(model, {"task": "detect", "folder": tmp_path}) == tmp_path / "best.onnx.osv.json"
    update_sidecar(model, {"thresholds": {"confidence": 0.4}})
    assert read_sidecar(model) == {
        "task": "detect",
        "folder": str(tmp_path),
        "thresholds": {"confidence": 0.4},
    }


@pytest.mark.parametrize("written", ['{"thresholds": {"confidence": 0.4},}', "[]", ""])
def test_one_that_cannot_be_read_stays_as_it_is(tmp_path: Path, written: str) -> None:
    model = tmp_path / "best.onnx"
    sidecar_path(model).write_text(written)
    assert read_sidecar(model) == {}
    with pytest.raises(InvalidDataError, match=r"best\.onnx\.osv\.json.*mend or remove it"):
        update_sidecar(model, {"task": "detect"})
    assert sidecar_path(model).read_text() == written
