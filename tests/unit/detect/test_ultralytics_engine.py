"""The Ultralytics engine: checkpoints are data, never code; nothing is printed."""

from __future__ import annotations

import collections
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError
from osv_lab.detect import load_detector
from osv_lab.detect.ultralytics import import_torch, load_checkpoint


class _Runs:
    """Unpickling this runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


class _Evaluates:
    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (self.code,)


@pytest.mark.parametrize("kind", ["system", "eval", "legacy"])
def test_a_checkpoint_with_code_in_it_is_refused(
    tmp_path: Path, kind: str, weights: Callable[[str], Path]
) -> None:
    torch = import_torch()
    mark = tmp_path / "the-code-ran"
    evil: Any = _Runs(f"touch {mark}") if kind != "eval" else _Evaluates(f"open({str(mark)!r}, 'w')")
    path = tmp_path / "stranger.pt"
    checkpoint = load_checkpoint(weights("yolo11n"))
    torch.save({**checkpoint, "extra": evil}, path, _use_new_zipfile_serialization=kind != "legacy")
    with pytest.raises(InvalidDataError, match=r"stranger\.pt"):
        load_detector(path)
    assert not mark.exists()
    if kind == "system":
        with pytest.raises(InvalidDataError, match=r"would run code of its own: .* names posix\.system"):
            load_detector(path)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path, weights: Callable[[str], Path]) -> None:
    torch = import_torch()
    whole = weights("yolo11n").read_bytes()
    for name, content in (("empty", b""), ("text", b"hello"), ("cut", whole[: len(whole) // 2])):
        path = tmp_path / f"{name}.pt"
        path.write_bytes(content)
        with pytest.raises(InvalidDataError, match=f"{name}.pt"):
            load_detector(path)
    path = tmp_path / "state.pt"
    torch.save(collections.OrderedDict(weight=torch.zeros(3)), path)
    with pytest.raises(InvalidDataError, match="holds no Ultralytics model"):
        load_detector(path)
    with pytest.raises(NotFoundError):
        load_checkpoint(tmp_path / "nothing.pt")


def test_an_untrained_architecture_answers(images: list[np.ndarray]) -> None:
    detector = load_detector("yolo11n.yaml", imgsz=160)
    assert (detector.task, detector.provider, len(detector.class_names)) == ("detect", "torch:cpu", 80)
    assert detector.describe()["digest"] is None
    assert len(detector.predict(images)) == 3
    assert detector.predict([]) == []
    with pytest.raises(NotFoundError, match="no such model"):
        load_detector("yolo999zz-not-there.yaml")


def test_options(weights: Callable[[str], Path]) -> None:
    path = weights("yolo11n")
    assert load_detector(path, imgsz=(320, 200)).input_size == (320, 224)
    assert load_detector(path, imgsz=64, class_names=[f"n{i}" for i in range(80)]).class_names[3] == "n3"
    with pytest.raises(UsageError, match="number of class names"):
        load_detector(path, imgsz=64, class_names=["one"])
    with pytest.raises(UsageError, match="imgsz"):
        load_detector(path, imgsz=0)


def test_batches_do_not_change_results(images: list[np.ndarray], weights: Callable[[str], Path]) -> None:
    detector = load_detector(weights("yolo11n"), imgsz=160)
    together = detector.predict([*images, images[0]], confidence=0.5)
    for image, found in zip([*images, images[0]], together, strict=True):
        alone = detector.predict([image], confidence=0.5)[0]
        assert len(alone) == len(found) > 0
        np.testing.assert_allclose(alone.xyxy, found.xyxy, atol=1.0)


def test_nothing_is_printed_and_no_settings_are_rewritten(tmp_path: Path, weights: Callable[[str], Path]) -> None:
    code = (
        "import numpy as np\n"
        "from osv_lab.detect import load_detector\n"
        "from osv_lab.detect.export import export_model\n"
        f"detector = load_detector({str(weights('yolo11n'))!r}, imgsz=64)\n"
        "detector.predict([np.zeros((50, 60, 3), np.uint8)])\n"
    )
    export = f"export_model({str(weights('yolo11n'))!r}, imgsz=64, out={str(tmp_path / 'out')!r})\n"
    settings = tmp_path / "config"
    environment = {**os.environ, "YOLO_CONFIG_DIR": str(settings), "PYTHONWARNINGS": "default"}
    files: list[bytes] = []
    for script in (code, code + export):
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        files.append((settings / "Ultralytics" / "settings.json").read_bytes())
    assert files[0] == files[1]
