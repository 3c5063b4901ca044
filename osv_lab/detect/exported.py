"""Detectors in exported files: a fixed graph that says itself what it takes, whichever runtime runs it.

A runtime is a subclass of :class:`ExportedDetector` with three methods: open the file, run a batch, and a network for
threads that run beside each other.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from osv_lab.core.errors import InvalidDataError, NotFoundError, UnavailableError, UsageError
from osv_lab.core.modelfiles import model_digest
from osv_lab.detect import detector as contract
from osv_lab.detect.engine import MAX_BATCH, Engine, usable_cores
from osv_lab.detect.families import Family, cell_count, infer_family, read_metadata
from osv_lab.detect.preprocess import PAD, InputSpec, Placement, pack, place


@dataclass(frozen=True, slots=True)
class Graph:
    """What a runtime knows about an opened file.

    Attributes:
        shape: The one input's ``(batch, channels, height, width)``, or channels last; ``None`` for what is free.
        dtype: The input's type.
        metadata: What the file says about the model, as text.
        on_cpu: Whether batches may run side by side on the CPU's cores.
    """

    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]
    metadata: Mapping[str, str]
    on_cpu: bool


class ExportedDetector(Engine):
    """A detector in an exported file; see :class:`osv_lab.detect.detector.Detector`.

    The file tells its own input size, layout, type, class names and family. On a model that takes any input size,
    each image is letterboxed to the least rectangle of multiples of the stride that holds it and ``border``, and
    images of one rectangle are run together: what is found in an image never depends on its batch.

    Args:
        path: The file.
        ref: What it was asked for as; the path by default.
        providers: What may run it, in order of preference; what there is depends on the runtime.
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
        UnavailableError: what runs it is not installed.
    """

    runtime: ClassVar[str]
    provider: str
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
        if threads is not None and threads < 1:
            raise UsageError("threads must be at least 1", threads)
        self._digest: str | None = None
        self._border = border
        graph = self._open(providers, threads)
        self._cores = (threads or usable_cores()) if graph.on_cpu else 1
        self._metadata = read_metadata(graph.metadata, self.path)
        self._read_input(graph)
        self._choose_size(imgsz)
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

    @abstractmethod
    def _open(self, providers: Sequence[str] | None, threads: int | None) -> Graph:
        """Open :attr:`path` and set :attr:`provider`."""

    @abstractmethod
    def _forward(self, tensor: np.ndarray, network: Any) -> Sequence[np.ndarray]:
        """The outputs for one batch of exactly the size that the network takes."""

    @property
    def input_size(self) -> tuple[int, int] | None:
        """``(width, height)`` the network sees, ``None`` when it depends on the image."""
        return self._size if self._exact else None

    def describe(self) -> dict[str, Any]:
        """See :meth:`osv_lab.detect.detector.Detector.describe`."""
        if self._digest is None:
            self._digest = model_digest(self.path)
        return {
            "ref": self.ref,
            "engine": self.runtime,
            "family": self.family.name,
            "task": self.task,
            "provider": self.provider,
            "input_size": list(self._size),
            "fixed_input_size": self._exact,
            "fixed_batch": self._batch,
            "class_names": list(self.class_names),
            "digest": self._digest,
        }

    def _read_input(self, graph: Graph) -> None:
        shape = graph.shape
        if len(shape) != 4:
            raise InvalidDataError("the model does not take a batch of images", f"{self.path.name}: {list(shape)}")
        self._dtype = graph.dtype
        self._channels_last = shape[3] == 3 and shape[1] != 3
        channels = shape[3] if self._channels_last else shape[1]
        if channels not in (3, None):
            raise InvalidDataError(
                "the model does not take colour images", f"{channels} channels, shape {list(shape)}"
            )
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
        return self._run(tensor, self._network())

    def _run(self, tensor: np.ndarray, network: Any) -> list[np.ndarray]:
        """Run a batch, padded to a fixed batch size where the model has one."""
        count = len(tensor)
        if self._batch and count < self._batch:
            rest = np.zeros((self._batch - count, *tensor.shape[1:]), tensor.dtype)
            tensor = np.concatenate([tensor, rest])
        try:
            outputs = self._forward(tensor, network)
        except Exception as error:  # noqa: BLE001 - the runtimes' exceptions share no base; all are turned into ours
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
