"""Detectors in OpenVINO's files (``.xml`` with its ``.bin``), run by OpenVINO: Intel's CPUs, GPUs and NPUs.

A model comes here from ONNX, so that one file was checked by ONNX Runtime too, and 8-bit models are those of
:func:`osv_lab.evaluate.quantize.quantize`. What the file says about itself is what the ONNX file said.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from osv_lab.core.errors import InvalidDataError, UsageError, nearest, require_extra
from osv_lab.detect.engine import usable_cores
from osv_lab.detect.exported import ExportedDetector, Graph

_TYPES = {"f32": np.float32, "f16": np.float16, "u8": np.uint8}
_DEVICES = ("CPU", "GPU", "NPU")
_TOLD = "openvino_telemetry"
_importing = threading.Lock()


class OpenVinoDetector(ExportedDetector):
    """A detector in an OpenVINO ``.xml``; ``providers`` are OpenVINO's devices (``"cpu"``, ``"gpu"``, ``"npu"``)."""

    runtime: ClassVar[str] = "openvino"

    def _open(self, providers: Sequence[str] | None, threads: int | None) -> Graph:
        ov = import_openvino()
        self._core = ov.Core()
        self._model = _read(self._core, self.path)
        device = _device(self._core.available_devices, providers)
        self.provider = f"openvino:{device}"
        self._device, self._threads = device, threads
        self._own = threading.local()
        self._opening = threading.Lock()
        self._beside_compiled: Any = None
        if len(self._model.inputs) != 1:
            raise InvalidDataError(
                "the model does not take a batch of images as its one input",
                f"{self.path.name}: {len(self._model.inputs)} inputs",
            )
        source = self._model.input(0)
        kind = source.get_element_type().get_type_name()
        if kind not in _TYPES:
            raise InvalidDataError("the model's input has an unknown type", kind, "export it as float32")
        self._compiled = self._compile({"PERFORMANCE_HINT": "LATENCY"}, threads)
        return Graph(
            shape=tuple(one.get_length() if one.is_static else None for one in source.get_partial_shape()),
            dtype=np.dtype(_TYPES[kind]),
            metadata=_metadata(self._model),
            on_cpu=device == "CPU",
        )

    def _compile(self, settings: Mapping[str, Any], threads: int | None) -> Any:
        # Full precision where the file has it: a CPU that can do bfloat16 would otherwise answer differently.
        hints = {"INFERENCE_PRECISION_HINT": "f32"} if self._device == "CPU" else {}
        if threads is not None and self._device == "CPU":
            hints["INFERENCE_NUM_THREADS"] = str(threads)
        return self._core.compile_model(self._model, self._device, {**hints, **settings})

    def _network(self) -> Any:
        return self._request("request", self._compiled)

    def _network_beside(self) -> Any:
        with self._opening:
            if self._beside_compiled is None:
                cores = self._threads or usable_cores()
                self._beside_compiled = self._compile({"NUM_STREAMS": str(cores)}, cores)
        return self._request("request_beside", self._beside_compiled)

    def _request(self, name: str, compiled: Any) -> Any:
        """This thread's own inference request: one request runs one batch at a time."""
        request = getattr(self._own, name, None)
        if request is None:
            request = compiled.create_infer_request()
            setattr(self._own, name, request)
        return request

    def _forward(self, tensor: np.ndarray, network: Any) -> Sequence[np.ndarray]:
        network.infer([tensor])
        # Copies: the request writes its next answers where these lie.
        return [np.array(one.data) for one in network.output_tensors]


def import_openvino() -> Any:
    """The openvino module, without its telemetry, which otherwise reports every import.

    Raises:
        UnavailableError: it is not installed.
    """
    with _importing:
        known = _TOLD in sys.modules
        if not known:
            sys.modules[_TOLD] = None  # type: ignore[assignment]  # OpenVINO takes its own stub then.
        try:
            import openvino
        except ImportError:
            raise require_extra("openvino", "openvino") from None
        finally:
            if not known:
                del sys.modules[_TOLD]
    return openvino


def to_openvino(source: Path, target: Path, *, half: bool = False) -> None:
    """Convert an ONNX file.

    Args:
        source: The ``.onnx`` file.
        target: The ``.xml`` to write; its weights go into the ``.bin`` of the same name.
        half: Whether weights are float16.

    Raises:
        InvalidDataError: OpenVINO cannot read it.
        UnavailableError: OpenVINO is not installed.
    """
    ov = import_openvino()
    model = _read(ov.Core(), source)
    ov.save_model(model, str(target), compress_to_fp16=half)


def _read(core: Any, path: Path) -> Any:
    try:
        return core.read_model(str(path))
    except RuntimeError as error:
        text = " ".join(str(error).split())[:300]
        fix = "" if path.suffix != ".xml" or path.with_suffix(".bin").is_file() else "put its .bin beside it"
        raise InvalidDataError("OpenVINO cannot load the model", f"{path}: {text}", fix) from None


def _metadata(model: Any) -> dict[str, str]:
    """What came along from the ONNX file."""
    if not model.has_rt_info(["framework"]):
        return {}
    return {str(key): str(value.value) for key, value in model.get_rt_info(["framework"]).astype(dict).items()}


def _device(available: Sequence[str], wanted: Sequence[str] | None) -> str:
    """The first wanted device that is there, the CPU at last."""
    for name in wanted if wanted is not None else ("CPU",):
        plain = name.upper().removesuffix("EXECUTIONPROVIDER")
        if plain.partition(".")[0] not in _DEVICES:
            raise UsageError("OpenVINO has no such device", f"'{name}'", nearest(plain, _DEVICES))
        if found := next((one for one in available if one == plain or one.startswith(f"{plain}.")), None):
            return found
    return "CPU"
