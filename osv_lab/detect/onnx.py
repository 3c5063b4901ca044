"""Detectors in ONNX files, run by ONNX Runtime. Needs neither torch nor ultralytics."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from osv_lab.core.digests import file_digest
from osv_lab.core.errors import InvalidDataError, NotFoundError, UnavailableError, UsageError
from osv_lab.detect import detector as contract
from osv_lab.detect.engine import MAX_BATCH, Engine, usable_cores
from osv_lab.detect.families import Family, cell_count, infer_family, read_metadata
from osv_lab.detect.preprocess import PAD, InputSpec, Placement, pack, place
from osv_lab.detect.providers import open_session

if TYPE_CHECKING:
    import onnxruntime

_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


class OnnxDetector(Engine):
    """A detector in an ``.onnx`` file; see :class:`osv_lab.detect.detector.Detector`.

    The file tells its own input size, layout, type, class names and family. On a model that takes any input size,
    each image is letterboxed to the least rectangle of multiples of the stride that holds it and ``border``, and
    images of one rectangle are run together: what is found in an image never depends on its batch.

    Args:
        path: The file.
        ref: What it was asked for as; the path by default.
        providers: See :func:`osv_lab.detect.providers.open_session`.
        imgsz: Input size of a model that takes any: the longer side, or ``(width, height)`` for exactly that size.
        class_names: Names that replace the model's own.
        threads: CPU threads; all cores when ``None``.
        border: Grey around images on an Ultralytics network that takes any size; see
            :data:`~osv_lab.detect.detector.BORDER`.
        family: A key of :data:`osv_lab.detect.families.SPECS` that replaces the rule by which it is inferred.

    Raises:
        NotFoundError: no such file.
        InvalidDataError: not a model, damaged, or of no known family.
        UsageError: an option that the model cannot take.
    """

    _beside = 1  # On a CPU larger batches are slower.

    def __init__(
        self,
        path: str | Path,
        *,
        ref: str | None = None,
        providers: Sequence[str] | None = None,
        imgsz: int | tuple[int, int] | None = None,
        class_names: Sequence[str] | None = None,
        threads: int | None = None,
        border: float = contract.BORDER,
        family: str | None = None,
    ) -> None:
        self.path = Path(path)
        self.ref = ref if ref is not None else str(path)
        if not self.path.is_file():
            raise NotFoundError("no such model", str(path))
        self._digest: str | None = None
        self._border = border
        self._session = open_session(self.path, providers=providers, threads=threads)
        self.provider: str = self._session.get_providers()[0]
        self._cores = (threads or usable_cores()) if self.provider == "CPUExecutionProvider" else 1
        self._session_beside: onnxruntime.InferenceSession | None = None
        self._opening = threading.Lock()
        self._metadata = read_metadata(self._session.get_modelmeta().custom_metadata_map, self.path)
        self._read_input()
        self._choose_size(imgsz)
        self._output_names = [output.name for output in self._session.get_outputs()]
        probe = self._probe()
        self.family: Family = infer_family(
            self._metadata, probe, self._size, class_names=class_names, family=family
        )
        self._rows = probe[0].shape[1]
        spec = self.family.spec
        if self.family.name in ("ultralytics-classify", "ultralytics-rtdetr", "detr", "detr-sigmoid", "rtdetr"):
            self._exact = True
        self._spec = InputSpec(
            spec.fit, spec.rgb, spec.scale, spec.mean, spec.std, self._dtype, self._channels_last
        )
        self.task: str = self.family.task
        self.class_names: tuple[str, ...] = self.family.class_names

    @property
    def input_size(self) -> tuple[int, int] | None:
        """``(width, height)`` the network sees, ``None`` when it depends on the image."""
        return self._size if self._exact else None

    def describe(self) -> dict[str, Any]:
        """See :meth:`osv_lab.detect.detector.Detector.describe`."""
        if self._digest is None:
            self._digest = file_digest(self.path)
        return {
            "ref": self.ref,
            "engine": "onnxruntime",
            "family": self.family.name,
            "task": self.task,
            "provider": self.provider,
            "input_size": list(self._size),
            "fixed_input_size": self._exact,
            "fixed_batch": self._batch,
            "class_names": list(self.class_names),
            "digest": self._digest,
        }

    def input_of(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """What the network is fed for one BGR image: its input's name and a batch of one."""
        placement = self._place((image.shape[1], image.shape[0]))
        return {self._input_name: pack([image], [placement], self._spec)}

    def _read_input(self) -> None:
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            found = ", ".join(f"{item.name} {item.shape}" for item in inputs)
            raise InvalidDataError(
                "the model does not take a batch of images as its one input", f"{self.path.name}: {found}"
            )
        shape = [size if isinstance(size, int) and size > 0 else None for size in inputs[0].shape]
        self._input_name: str = inputs[0].name
        if inputs[0].type not in _TYPES:
            raise InvalidDataError("the model's input has an unknown type", inputs[0].type, "export it as float32")
        self._dtype = np.dtype(_TYPES[inputs[0].type])
        self._channels_last = shape[3] == 3 and shape[1] != 3
        channels = shape[3] if self._channels_last else shape[1]
        if channels not in (3, None):
            raise InvalidDataError("the model does not take colour images", f"{channels} channels, shape {shape}")
        self._batch = shape[0]
        rows, columns = (shape[1], shape[2]) if self._channels_last else (shape[2], shape[3])
        self._fixed = (columns, rows) if columns and rows else None

    def _choose_size(self, imgsz: int | tuple[int, int] | None) -> None:
        wanted = input_size_of(imgsz)
        if self._fixed:
            if wanted and wanted != self._fixed:
                raise UsageError(
                    "the model's input size is fixed",
                    f"{self._fixed[0]}x{self._fixed[1]}, asked for {wanted[0]}x{wanted[1]}",
                    "leave imgsz out, or export it with dynamic=True",
                )
            self._size, self._exact = self._fixed, True
            return
        stride = self._metadata.stride
        width, height = wanted or self._metadata.imgsz or (640, 640)
        self._size = (-(-width // stride) * stride, -(-height // stride) * stride)
        self._exact = isinstance(imgsz, tuple) or not self._metadata.is_ultralytics

    def _most(self) -> int:
        return self._batch or self._metadata.suppressed_batch or MAX_BATCH

    def _place(self, size: tuple[int, int]) -> Placement:
        if self._exact:
            return place(size, self._size, self._spec.fit)
        placement = place(size, self._size, self._spec.fit, stride=self._metadata.stride, border=self._border)
        # A graph that picks its best rows inside fails where a very thin image leaves it fewer cells than that.
        if self.family.head.final and cell_count(placement.input_size) < self._rows:
            return place(size, self._size, self._spec.fit)
        return placement

    def _probe(self) -> list[np.ndarray]:
        """The outputs for one plain grey image; also the first run, which is slower than all later ones."""
        width, height = self._size
        spec = InputSpec(dtype=self._dtype, channels_last=self._channels_last)
        grey = np.full((height, width, 3), PAD, dtype=np.uint8)
        tensor = pack([grey], [Placement(self._size, self._size, self._size, (0, 0))], spec)
        return self._run(tensor, self._session)

    def _network(self) -> onnxruntime.InferenceSession:
        return self._session

    def _network_beside(self) -> onnxruntime.InferenceSession:
        with self._opening:
            if self._session_beside is None:
                self._session_beside = open_session(self.path, providers=("cpu",), threads=1)
        return self._session_beside

    def _run(self, tensor: np.ndarray, network: onnxruntime.InferenceSession) -> list[np.ndarray]:
        """Run a batch, padded to a fixed batch size where the model has one."""
        count = len(tensor)
        if self._batch and count < self._batch:
            rest = np.zeros((self._batch - count, *tensor.shape[1:]), tensor.dtype)
            tensor = np.concatenate([tensor, rest])
        try:
            outputs = network.run(self._output_names, {self._input_name: tensor})
        except Exception as error:  # noqa: BLE001 - the runtime's exceptions share no base; all are turned into ours
            text = " ".join(str(error).split())[:300]
            raise UnavailableError(
                "the model failed while running", f"input {tensor.shape} on {self.provider}: {text}"
            ) from None
        short = [output.shape for output in outputs if len(output) < count]
        if short:
            raise InvalidDataError(
                "the model gives fewer results than it takes images", f"{count} images, output {short[0]}"
            )
        return [output[:count] for output in outputs]


def input_size_of(imgsz: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """``imgsz`` as ``(width, height)``.

    Raises:
        UsageError: not a positive size.
    """
    if imgsz is None:
        return None
    sizes = (imgsz, imgsz) if isinstance(imgsz, int) else tuple(imgsz)
    if len(sizes) != 2 or not all(isinstance(size, int) and 0 < size <= 16384 for size in sizes):
        raise UsageError("imgsz must be a number of pixels or (width, height)", repr(imgsz))
    return sizes[0], sizes[1]
