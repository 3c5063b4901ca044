"""The model slot: loaded once, safe for threads."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from tiny_model import CLASSES, write_tiny_model

from osv_lab.core.errors import NotFoundError, OsvError, UnavailableError, UsageError
from osv_lab.serve.served import Thresholds
from osv_lab.serve.slot import ModelSlot

LOW = Thresholds(confidence=0.05)


def grey(level: int, size: int = 64) -> np.ndarray:
    return np.full((size, size, 3), level, np.uint8)


@pytest.fixture(scope="module")
def slot(tmp_path_factory: pytest.TempPathFactory) -> ModelSlot:
    slot = ModelSlot(write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx"))
    slot.load()
    return slot


def test_before_and_after_loading(tmp_path: Path) -> None:
    slot = ModelSlot(write_tiny_model(tmp_path / "tiny.onnx"))
    assert not slot.ready
    assert slot.describe() == {"ref": "tiny.onnx", "ready": False}
    with pytest.raises(UnavailableError, match="not loaded yet"):
        slot.predict([grey(200)], LOW)
    slot.load()
    first = slot.detector
    slot.load()
    assert slot.detector is first
    described = slot.describe()
    assert described["class_names"] == list(CLASSES)
    assert described["input_size"] == [64, 64]
    assert len(described["digest"]) == 64
    assert str(tmp_path) not in str(described)


def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        ModelSlot(tmp_path / "none.onnx").load()
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(OsvError):
        ModelSlot(tmp_path / "bad.onnx").load()


def test_a_loaded_detector_is_taken_as_it_is(slot: ModelSlot) -> None:
    other = ModelSlot(slot.detector)
    other.load()
    assert other.detector is slot.detector


def test_thresholds(slot: ModelSlot) -> None:
    [found] = slot.predict([grey(200)], LOW)
    assert np.allclose(found.xyxy, [[22, 22, 42, 42]])
    assert found.confidence == pytest.approx([200 / 255], abs=1e-4)
    assert len(slot.predict([grey(200)], Thresholds(confidence=0.9))[0]) == 0
    assert len(slot.predict([grey(200)], Thresholds(0.1, classes=("cat",)))[0]) == 0
    with pytest.raises(UsageError, match="did you mean 'lamp'"):
        slot.check(Thresholds(classes=("lapm",)))
    with pytest.raises(UsageError, match="between 0 and 1"):
        slot.check(Thresholds(confidence=2))


def test_many_threads_get_their_own_answers(slot: ModelSlot) -> None:
    wrong: list[object] = []

    def ask(level: int) -> None:
        for _ in range(10):
            [found] = slot.predict([grey(level)], LOW)
            if abs(float(found.confidence[0]) - level / 255) > 1e-4:
                wrong.append((level, found.confidence))

    threads = [threading.Thread(target=ask, args=(level,)) for level in range(20, 250, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


HEAVY = ("torch", "fiftyone", "ultralytics", "mlflow", "matplotlib", "pandas")


@pytest.mark.parametrize("stage", ["import", "serve"])
def test_what_stays_unloaded(stage: str, tmp_path: Path) -> None:
    """Importing the app loads no model library at all; serving an ONNX model none of the training world's."""
    model = write_tiny_model(tmp_path / "tiny.onnx")
    code = f"import sys, osv_lab.serve.app, osv_lab.serve.run, osv_lab.serve.client\nheavy = {HEAVY!r}\n"
    if stage == "import":
        code += "heavy += ('onnxruntime', 'supervision', 'cv2', 'scipy', 'PIL')\n"
    else:
        code += (
            "import numpy as np\n"
            f"with osv_lab.serve.run.start_server({str(model)!r}) as server:\n"
            "    with osv_lab.serve.client.Client(server.url) as client:\n"
            "        assert len(client.predict(np.full((64, 64, 3), 255, np.uint8))) == 1\n"
        )
    code += "sys.exit(' '.join(name for name in heavy if name in sys.modules) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
