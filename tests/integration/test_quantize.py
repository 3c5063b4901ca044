"""An 8-bit export: calibrated on the user's images, smaller, judged by what it loses in mAP."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import shared_data

from osv_lab.cli import main
from osv_lab.core.errors import UsageError
from osv_lab.core.modelfiles import model_digest
from osv_lab.core.sidecars import read_sidecar
from osv_lab.detect.export import export_model
from osv_lab.evaluate.quantize import quantize

DATA = shared_data()
pytestmark = pytest.mark.skipif(DATA is None, reason="needs BCCD and its model in the shared data")


@pytest.fixture(scope="module")
def cells(fo: Any) -> Iterator[str]:
    from osv_lab.store.ingest import ingest

    assert DATA is not None
    ingest(DATA / "bccd", "quantized-cells")
    yield "quantized-cells"
    fo.delete_dataset("quantized-cells")


def test_eight_bits_on_the_command_line(fo: Any, cells: str, tmp_path: Path, capsys: Any) -> None:
    assert DATA is not None
    weights = tmp_path / "cells.pt"
    shutil.copy(DATA / "models" / "bccd_yolo11n.pt", weights)
    command = ["export", "model", str(weights), "--imgsz", "320", "--int8", cells, "--verify", cells, "--json"]
    assert main(command) == 0, capsys.readouterr().err
    assert "parity" in capsys.readouterr().out or read_sidecar(tmp_path / "cells.int8.onnx")
    full, small = tmp_path / "cells.onnx", tmp_path / "cells.int8.onnx"
    assert small.stat().st_size < full.stat().st_size / 2
    sidecar = read_sidecar(small)
    assert sidecar["precision"] == "int8" and sidecar["calibrated_on"] == {"dataset": cells, "images": 128}

    # OpenVINO's file answers as the weights do; in 8 bits it would not, and is refused.
    assert (
        main(["export", "model", str(weights), "--format", "openvino", "--imgsz", "320", "--verify", cells]) == 0
    )
    sidecar = read_sidecar(tmp_path / "cells.xml")
    assert sidecar["parity"]["passed"] and sidecar["parity"]["candidate_digest"] == sidecar["digest"]
    assert sidecar["digest"] == model_digest(tmp_path / "cells.xml")
    assert main([*command[:-1], "--format", "openvino"]) == 2
    with pytest.raises(UsageError, match="by ONNX Runtime only"):
        export_model(small, "openvino")

    # Bits cannot be taken twice.
    artifact = export_model(weights, imgsz=320)
    again = quantize(artifact, fo.load_dataset(cells).limit(4), out=tmp_path / "again.onnx")
    with pytest.raises(UsageError, match="8 bits already"):
        quantize(again, fo.load_dataset(cells).limit(4))
