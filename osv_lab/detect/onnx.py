"""Detectors in ONNX files, run by ONNX Runtime. Needs neither torch nor ultralytics."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from osv_lab.core.errors import InvalidDataError
from osv_lab.detect.exported import ExportedDetector, Graph
from osv_lab.detect.preprocess import pack
from osv_lab.detect.providers import open_session

if TYPE_CHECKING:
    import onnxruntime

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


class OnnxDetector(ExportedDetector):
    """A detector in an ``.onnx`` file; ``providers`` as for :func:`osv_lab.detect.providers.open_session`."""

    runtime: ClassVar[str] = "onnxruntime"

    def _open(self, providers: Sequence[str] | None, threads: int | None) -> Graph:
        self._session = open_session(self.path, providers=providers, threads=threads)
        self._session_beside: onnxruntime.InferenceSession | None = None
        self._opening = threading.Lock()
        self.provider = self._session.get_providers()[0]
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            found = ", ".join(f"{item.name} {item.shape}" for item in inputs)
            raise InvalidDataError(
                "the model does not take a batch of images as its one input", f"{self.path.name}: {found}"
            )
        if inputs[0].type not in _TYPES:
            raise InvalidDataError("the model's input has an unknown type", inputs[0].type, "export it as float32")
        self._input_name: str = inputs[0].name
        self._output_names = [output.name for output in self._session.get_outputs()]
        return Graph(
            shape=tuple(size if isinstance(size, int) and size > 0 else None for size in inputs[0].shape),
            dtype=np.dtype(_TYPES[inputs[0].type]),
            metadata=self._session.get_modelmeta().custom_metadata_map,
            on_cpu=self.provider == "CPUExecutionProvider",
        )

    def input_of(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """What the network is fed for one BGR image: its input's name and a batch of one."""
        placement = self._place((image.shape[1], image.shape[0]))
        return {self._input_name: pack([image], [placement], self._spec)}

    def _network(self) -> onnxruntime.InferenceSession:
        return self._session

    def _network_beside(self) -> onnxruntime.InferenceSession:
        with self._opening:
            if self._session_beside is None:
                self._session_beside = open_session(self.path, providers=("cpu",), threads=1)
        return self._session_beside

    def _forward(self, tensor: np.ndarray, network: onnxruntime.InferenceSession) -> Sequence[np.ndarray]:
        found: Sequence[np.ndarray] = network.run(self._output_names, {self._input_name: tensor})
        return found
