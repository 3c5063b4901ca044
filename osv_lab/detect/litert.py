"""Detectors in LiteRT's files (``.tflite``), as Ultralytics writes them: for phones and boards, run here to compare.

Such a file has its description in a ``metadata.json`` at its end, takes one image of one size, and gives coordinates
relative to it, so that 8 bits are enough for scores beside them. What converts to it needs an older torch than the
lab's, so that this room only runs the files; see ``docs/pick.md``.
"""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from osv_lab.core.errors import InvalidDataError, UsageError, require_extra
from osv_lab.detect.engine import usable_cores
from osv_lab.detect.exported import ExportedDetector, Graph

_RELATIVE = ("detect", "segment", "pose", "obb")


class LiteRtDetector(ExportedDetector):
    """A detector in a ``.tflite`` file, run on the CPU."""

    runtime: ClassVar[str] = "litert"
    provider = "litert:CPU"

    def _open(self, providers: Sequence[str] | None, threads: int | None) -> Graph:
        if providers and not any(one.lower().startswith("cpu") for one in providers):
            raise UsageError(
                "LiteRT's files are run on the CPU here", ", ".join(providers), "use providers=['cpu']"
            )
        self._threads = threads or usable_cores()
        self._own = threading.local()
        said = _described(self.path)
        interpreter = self._network()
        inputs = interpreter.get_input_details()
        if len(inputs) != 1:
            raise InvalidDataError(
                "the model does not take a batch of images as its one input",
                f"{self.path.name}: {len(inputs)} inputs",
            )
        if inputs[0]["dtype"] is not np.float32:
            raise InvalidDataError(
                "the model's input has an unknown type", np.dtype(inputs[0]["dtype"]).name, "keep it in float32"
            )
        final = said.get("end2end") is True or said.get("head") == "RTDETRDecoder"
        self._relative = said.get("task") in _RELATIVE and not final
        self._keypoints = 4 + len(said.get("names") or ()), (said.get("kpt_shape") or (0, 0))[1]
        return Graph(
            shape=tuple(int(size) for size in inputs[0]["shape"]),
            dtype=np.dtype(np.float32),
            metadata={key: value if isinstance(value, str) else repr(value) for key, value in said.items()},
            on_cpu=True,
        )

    def _network(self) -> Any:
        return self._interpreter(self._threads)

    def _network_beside(self) -> Any:
        return self._interpreter(1)

    def _interpreter(self, threads: int) -> Any:
        """This thread's own interpreter: one runs one batch at a time."""
        name = f"threads_{threads}"
        interpreter = getattr(self._own, name, None)
        if interpreter is None:
            interpreter = _load(self.path, threads)
            setattr(self._own, name, interpreter)
        return interpreter

    def _forward(self, tensor: np.ndarray, network: Any) -> Sequence[np.ndarray]:
        network.set_tensor(network.get_input_details()[0]["index"], tensor)
        network.invoke()
        outputs = [np.array(network.get_tensor(one["index"])) for one in network.get_output_details()]
        # Boxes before prototypes, whichever order they come in.
        outputs.sort(key=lambda one: one.ndim)
        if self._relative and outputs[0].ndim == 3:
            height, width = tensor.shape[1:3] if self._channels_last else tensor.shape[2:4]
            first, step = self._keypoints
            for start, scale in ((0, width), (1, height)):
                outputs[0][:, start:4:2] *= scale
                if step:
                    outputs[0][:, first + start :: step] *= scale
        return outputs


def _load(path: Path, threads: int) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise require_extra("ai_edge_litert", "litert") from None
    try:
        interpreter = Interpreter(str(path), num_threads=threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        text = " ".join(str(error).split())[:300]
        raise InvalidDataError("LiteRT cannot load the model", f"{path}: {text}") from None
    return interpreter


def _described(path: Path) -> dict[str, Any]:
    """What the file says about itself; empty where it says nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            said = json.loads(archive.read("metadata.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError):
        return {}
    return said if isinstance(said, dict) else {}
