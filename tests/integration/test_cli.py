"""The command line as a script sees it: exit codes, one-line errors, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_model import write_tiny_model

from osv_lab.cli import build_parser, main
from osv_lab.store.synthetic import render_dataset


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = main(argv)
    out, err = capsys.readouterr()
    return code, out, err


def test_every_stage_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for stage in (
        "ingest",
        "train",
        "evaluate",
        "predict",
        "export",
        "serve",
        "app",
        "demo",
        "doctor",
        "up",
        "down",
        "key",
    ):
        with pytest.raises(SystemExit) as stopped:
            main([stage, "--help"])
        assert stopped.value.code == 0
        assert len(capsys.readouterr().out.splitlines()) > 4


def test_wrong_usage_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["ingest"])
    assert stopped.value.code == 2
    assert "required: source, dataset" in capsys.readouterr().err
    code, _, err = run(capsys, "train", "nowhere", "--set", "lr0")
    assert code == 2 and err.startswith("osv: --set takes KEY=VALUE") and err.count("\n") == 1


def test_an_unknown_recipe_setting_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "train", "nowhere", "--set", "epoch=3")
    assert code == 2 and "did you mean 'epochs'?" in err


def test_errors_are_one_line_and_have_exit_codes(capsys: pytest.CaptureFixture[str], dataset_name: str) -> None:
    code, out, err = run(capsys, "evaluate", dataset_name)
    assert (code, out) == (3, "") and err.count("\n") == 1 and dataset_name in err
    code, out, err = run(capsys, "evaluate", dataset_name, "--json")
    assert code == 3 and json.loads(out)["error"] == "NotFoundError" and err == ""


def test_files_that_are_none(capsys: pytest.CaptureFixture[str], dataset_name: str, tmp_path: Path) -> None:
    """Scripts learn from the exit code when nothing at all could be read; one good file among bad ones is a success."""
    model, good, bad = write_tiny_model(tmp_path / "tiny.onnx"), tmp_path / "good.png", tmp_path / "bad.png"
    cv2.imwrite(str(good), np.full((64, 64, 3), 200, np.uint8))
    bad.write_text("no image")
    predict = ("--model", str(model), "--quiet")
    code, out, err = run(capsys, "predict", str(tmp_path / "none.png"), *predict)
    assert (code, out) == (3, "") and "no such image file" in err
    code, out, _ = run(capsys, "predict", str(bad), *predict)
    assert code == 4 and "not an image" in out
    code, out, _ = run(capsys, "predict", str(bad), str(good), *predict)
    assert code == 0 and "1 files could not be read" in out
    assert run(capsys, "ingest", str(bad), dataset_name, "--quiet")[0] == 4
    (tmp_path / "words.onnx").write_text("no model")
    code, out, err = run(capsys, "register", str(tmp_path / "words.onnx"), "cells")
    assert (code, out) == (4, "") and "not an ONNX model" in err
    assert run(capsys, "register", str(model), "cells")[0] == 0


def test_registry_out_of_reach(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    code, out, err = run(capsys, "models")
    assert (code, out) == (5, "") and err.count("\n") == 1
    assert "http://127.0.0.1:9: [Errno 111] Connection refused" in err, "brackets are not doubled"


def test_ingest_export_and_ingest_again(
    capsys: pytest.CaptureFixture[str], dataset_name: str, tmp_path: Path
) -> None:
    render_dataset(tmp_path / "parts", {"train": 4, "val": 2, "test": 2}, (96, 96))
    code, out, _ = run(capsys, "ingest", str(tmp_path / "parts"), dataset_name, "--json", "--quiet")
    assert code == 0
    first = json.loads(out)
    code, out, _ = run(
        capsys, "export", "data", dataset_name, str(tmp_path / "coco"), "--format", "coco", "--json"
    )
    assert code == 0 and json.loads(out)
    code, out, _ = run(capsys, "ingest", str(tmp_path / "coco"), dataset_name, "--quiet")
    assert code == 0, out
    code, out, _ = run(capsys, "datasets", "--json")
    mine = next(d for d in json.loads(out)["datasets"] if d["name"] == dataset_name)
    assert (mine["samples"], mine["train"], mine["val"], mine["test"]) == (8, 4, 2, 2), first


def test_doctor_says_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "doctor", "--json")
    findings = {f["check"]: f for f in json.loads(out)["findings"]}
    assert code in (0, 6)
    assert findings["database"]["status"] == "ok", findings["database"]
    assert "CPUExecutionProvider" in findings["onnxruntime"]["found"]
    assert findings["telemetry"]["status"] == "ok"
    assert all(f["todo"] for f in findings.values() if f["status"] == "fail")


def test_the_parser_lists_the_exit_codes() -> None:
    assert "130 interrupted" in build_parser().format_help()
