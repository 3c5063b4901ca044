"""Detectors in Ultralytics' own files (``.pt``) and architectures (``.yaml``), run by torch.

Only the network is Ultralytics' here. Images are prepared and outputs decoded by the same code as for ONNX files, so
that an export differs from its original by the network's arithmetic alone; tests hold the results equal to
Ultralytics' own ``predict``. Nothing is printed, no settings file is rewritten and no connection is opened.
"""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from osv_lab.core.digests import file_digest
from osv_lab.core.errors import InvalidDataError, NotFoundError, UnavailableError, UsageError, require_extra
from osv_lab.detect import detector as contract
from osv_lab.detect.engine import Engine, usable_cores
from osv_lab.detect.exported import input_size_of
from osv_lab.detect.families import Metadata, infer_family
from osv_lab.detect.preprocess import Placement, place


class UltralyticsDetector(Engine):
    """A detector in a ``.pt`` file or built untrained from a ``.yaml``; see :class:`~osv_lab.detect.detector.Detector`.

    Each image is letterboxed to the least rectangle of multiples of the stride that holds it and ``border``.

    Args:
        path: The file. A ``.pt`` is loaded without running any code that may be in it.
        ref: What it was asked for as; the path by default.
        providers: ``("cpu",)`` keeps it off the GPU; by default a GPU is used where torch has one.
        imgsz: The longer side of the input, or ``(width, height)`` for exactly that size; by default what the model
            was trained at.
        class_names: Names that replace the model's own.
        threads: CPU threads of torch, which has one number for the whole process.
        border: Grey around images; see :data:`~osv_lab.detect.detector.BORDER`.

    Raises:
        NotFoundError: no such file.
        InvalidDataError: not a checkpoint of Ultralytics, damaged, or holding code.
        UnavailableError: Ultralytics is not installed.
    """

    _beside = 4

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
    ) -> None:
        torch = import_torch()
        self.path = Path(path)
        self.ref = ref if ref is not None else str(path)
        self._digest: str | None = None
        self._border = border
        if threads is not None:
            if threads < 1:
                raise UsageError("threads must be at least 1", threads)
            torch.set_num_threads(threads)
        model, trained_at = load_network(self.path)
        self._device = _device(torch, providers)
        self._cores = (threads or usable_cores()) if self._device.type == "cpu" else 1
        self._own = threading.local()
        self._torch = torch
        with quiet():
            # Dual heads (YOLOv10, YOLO26) run one-to-many with suppression, as Ultralytics predicts and exports.
            if hasattr(model, "end2end"):
                model.end2end = False
            self._model = model.fuse(verbose=False).eval().to(self._device, memory_format=torch.channels_last)
        for parameter in self._model.parameters():
            parameter.requires_grad_(False)
        self.provider = f"torch:{self._device}"
        self._metadata = _metadata_of(self._model)

        wanted = input_size_of(imgsz) or (trained_at, trained_at)
        stride = self._metadata.stride
        self._size = (-(-wanted[0] // stride) * stride, -(-wanted[1] // stride) * stride)
        grey = np.full((1, 3, self._size[1], self._size[0]), 114 / 255, np.float32)
        self.family = infer_family(
            self._metadata, self._run(grey, self._model), self._size, class_names=class_names
        )
        self._exact = isinstance(imgsz, tuple) or self.family.spec.fit in ("stretch", "crop")
        self._spec = self.family.spec
        self.task: str = self.family.task
        self.class_names: tuple[str, ...] = self.family.class_names

    @property
    def input_size(self) -> tuple[int, int] | None:
        """``(width, height)`` the network sees, ``None`` when it depends on the image."""
        return self._size if self._exact else None

    def describe(self) -> dict[str, Any]:
        """See :meth:`osv_lab.detect.detector.Detector.describe`."""
        if self._digest is None and self.path.is_file():
            self._digest = file_digest(self.path)
        return {
            "ref": self.ref,
            "engine": "ultralytics",
            "family": self.family.name,
            "task": self.task,
            "provider": self.provider,
            "input_size": list(self._size),
            "fixed_input_size": self._exact,
            "fixed_batch": None,
            "class_names": list(self.class_names),
            "digest": self._digest,
        }

    def _place(self, size: tuple[int, int]) -> Placement:
        stride = None if self._exact else self._metadata.stride
        return place(size, self._size, self._spec.fit, stride=stride, border=self._border)

    def _network(self) -> Any:
        return self._model

    def _network_beside(self) -> Any:
        network = getattr(self._own, "network", None)
        if network is None:
            one_core_here(self._torch)
            # Heads keep the grid of the last input size; threads with different sizes must not share that.
            network = self._own.network = _sharing_weights(self._torch, self._model)
        return network

    def _run(self, tensor: np.ndarray, network: Any) -> list[np.ndarray]:
        with self._torch.inference_mode():
            found = network(self._torch.from_numpy(tensor).to(self._device))
        # In evaluation a head gives (decoded, raw); a segmenter's decoded part is (boxes, prototypes).
        decoded = found[0] if isinstance(found, (list, tuple)) else found
        parts = list(decoded) if isinstance(decoded, (list, tuple)) else [decoded]
        if self._metadata.task == "segment" and len(parts) == 1:
            parts.append(found[1])
        return [part.float().cpu().numpy() for part in parts]


def import_torch() -> Any:
    """The torch module, Ultralytics imported with it.

    Raises:
        UnavailableError: one of them is not installed.
    """
    import_ultralytics()
    import torch

    return torch


def import_ultralytics() -> Any:
    """The ultralytics module: offline, silent, and refusing code inside checkpoints from the start.

    Raises:
        UnavailableError: it is not installed.
    """
    import logging

    from osv_lab.core.privacy import silence

    silence()
    # Ultralytics reads these once, at import; the first has every checkpoint of the process loaded weights-only.
    os.environ.setdefault("ULTRALYTICS_SAFE_LOAD", "true")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    # Its first import on a machine tells standard output of the settings it made, where results may be going.
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        import ultralytics
    except ImportError:
        raise require_extra("ultralytics", "train") from None
    finally:
        logging.disable(disabled)
    return ultralytics


_counting = threading.Lock()


def one_core_here(torch: Any) -> None:
    """Let torch use one core in the calling thread, and as many as before in all others."""
    with _counting:
        # Asking makes the thread take over the process's number, which it would otherwise do later.
        everywhere = torch.get_num_threads()
        torch.set_num_threads(1)
        # That has set the number of threads to come, too, which any other thread can set back.
        other = threading.Thread(target=torch.set_num_threads, args=(everywhere,))
        other.start()
        other.join()


def _sharing_weights(torch: Any, model: Any) -> Any:
    """A copy of a network that holds the same tensors."""
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    for module in model.modules():
        tensors.update((id(value), value) for value in vars(module).values() if isinstance(value, torch.Tensor))
    return copy.deepcopy(model, tensors)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Ultralytics' log silent within the block, errors included: they come back as exceptions."""
    import logging

    logger = logging.getLogger("ultralytics")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        # The first import of Ultralytics sets a level of its own, which then stays.
        if logger.level == logging.CRITICAL + 1:
            logger.setLevel(level or logging.INFO)


def load_network(path: str | Path) -> tuple[Any, int]:
    """An Ultralytics network, ready to be fused, and the input size it was trained at.

    Args:
        path: A ``.pt`` checkpoint, or the ``.yaml`` of an architecture (weights are then random).

    Raises:
        NotFoundError: no such file.
        InvalidDataError: not a checkpoint of Ultralytics, damaged, or holding code.
    """
    import_ultralytics()
    path = Path(path)
    if path.suffix.lower() in (".yaml", ".yml"):
        return _build(path), 640
    checkpoint = load_checkpoint(path)
    model: Any = checkpoint.get("ema") or checkpoint.get("model")
    if not hasattr(model, "fuse"):
        raise InvalidDataError(
            "the checkpoint holds no Ultralytics model", str(path), "use weights saved by Ultralytics"
        )
    if not hasattr(model, "task"):
        model.task = _guess_task(model)
    arguments = checkpoint.get("train_args")
    trained_at = arguments.get("imgsz", 640) if isinstance(arguments, dict) else 640
    return model.float(), int(trained_at) if isinstance(trained_at, int) else 640


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """A ``.pt`` checkpoint's contents, loaded without running code that may be in it.

    A checkpoint is a pickle, and a pickle can name any function to call. Only the classes that Ultralytics' own
    checkpoints are made of are allowed (torch's weights-only loader with Ultralytics' list).

    Raises:
        NotFoundError: no such file.
        InvalidDataError: damaged, of another program, or naming something that is not allowed.
    """
    import_ultralytics()
    import torch
    from ultralytics.nn.tasks import torch_safe_load

    path = Path(path)
    if not path.is_file():
        raise NotFoundError("no such model", str(path))
    try:
        with quiet():
            checkpoint, _ = torch_safe_load(str(path.resolve()), safe_only=True)
    except (
        TypeError,
        RuntimeError,
        ModuleNotFoundError,
        AttributeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        pickle.UnpicklingError,
    ) as error:
        raise _explain(torch, path, error) from None
    if not isinstance(checkpoint, dict):
        raise InvalidDataError("the checkpoint holds no Ultralytics model", str(path))
    return checkpoint


def _explain(torch: Any, path: Path, error: Exception) -> InvalidDataError:
    try:
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except (ValueError, RuntimeError, EOFError, OSError, pickle.UnpicklingError, IndexError, KeyError):
        return InvalidDataError("not a checkpoint", str(path), "the file is empty, cut short or something else")
    known = ("torch.", "ultralytics.", "collections.", "numpy.", "pathlib.")
    named = [name for name in foreign if not name.startswith(known)]
    if named:
        return InvalidDataError(
            "the checkpoint was not loaded: it would run code of its own",
            f"{path} names {', '.join(named[:5])}",
            "use weights saved by Ultralytics, or an ONNX export",
        )
    text = " ".join(str(error).split())
    return InvalidDataError("the checkpoint cannot be loaded", f"{path}: {text[:300]}")


def _build(path: Path) -> Any:
    """An architecture with random weights."""
    from ultralytics import RTDETR, YOLO

    try:
        with quiet():
            kind = RTDETR if "rtdetr" in path.stem.lower().replace("-", "") else YOLO
            model: Any = kind(str(path)).model
            return model.float()
    except FileNotFoundError:
        raise NotFoundError(
            "no such architecture", str(path), "use a name that Ultralytics has, as yolo11n.yaml"
        ) from None
    except (KeyError, ValueError, TypeError, SyntaxError, NotImplementedError) as error:
        raise InvalidDataError("not an architecture of Ultralytics", f"{path}: {error}") from None


def _guess_task(model: Any) -> str:
    from ultralytics.nn.tasks import guess_model_task

    with quiet():
        return str(guess_model_task(model))


def _device(torch: Any, providers: Sequence[str] | None) -> Any:
    wanted = [name.lower() for name in providers] if providers is not None else ["cuda", "cpu"]
    on_gpu = any("cuda" in name or "tensorrt" in name for name in wanted)
    return torch.device("cuda" if on_gpu and torch.cuda.is_available() else "cpu")


def _metadata_of(model: Any) -> Metadata:
    head = model.model[-1]
    names = model.names if isinstance(model.names, dict) else dict(enumerate(model.names))
    shape = getattr(head, "kpt_shape", None)
    task = getattr(model, "task", None) or _guess_task(model)
    if task not in contract.TASKS:
        raise UnavailableError("no engine runs this kind of model", f"task '{task}'")
    strides: Any = getattr(model, "stride", None)
    stride = max(int(strides.max()), 32) if strides is not None else 32
    return Metadata(
        task=task,
        names=tuple(str(names[index]) for index in sorted(names)),
        stride=1 if task == "classify" else stride,
        head=type(head).__name__,
        kpt_shape=(int(shape[0]), int(shape[1])) if shape else None,
    )
