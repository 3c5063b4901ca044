"""Weights to a file that serves: export to ONNX, with what the file is written down in it and beside it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osv_lab.core.digests import file_digest
from osv_lab.core.errors import InvalidDataError, UnavailableError, UsageError, nearest, require_extra
from osv_lab.core.files import atomic_path, write_atomic
from osv_lab.core.report import Report
from osv_lab.core.settings import load_settings
from osv_lab.detect.onnx import OnnxDetector, input_size_of
from osv_lab.detect.reference import resolve_model

FORMATS = ("onnx",)
"""What can be exported to: what the engines of this package run."""

OPSET = 17
"""The ONNX operator set of exports: read by ONNX Runtime since 1.12 and by TensorRT since 8.6."""

# Suppression inside the graph drops what is below this for good; predict's own threshold applies after it.
_CONFIDENCE_INSIDE = 0.001

_LOCK = threading.Lock()


@dataclass(frozen=True)
class Artifact(Report):
    """A model file that can be served.

    Attributes:
        path: The file; its sidecar is ``<path>.osv.json``.
        format: ``"onnx"``.
        digest: SHA-256 of the file.
        size_bytes: Its size.
        source_ref: What it was exported from, as the user gave it.
        source_digest: SHA-256 of that file, ``""`` for an untrained architecture.
        class_names: By class id.
        imgsz: ``(width, height)`` it was exported at; a dynamic export takes other sizes too.
        task: ``detect``, ``segment``, ``pose``, ``obb`` or ``classify``.
    """

    path: Path
    format: str
    digest: str
    size_bytes: int
    source_ref: str
    source_digest: str
    class_names: tuple[str, ...]
    imgsz: tuple[int, int]
    task: str

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """One row."""
        return [
            {
                "file": str(self.path),
                "format": self.format,
                "task": self.task,
                "classes": len(self.class_names),
                "input": f"{self.imgsz[0]}x{self.imgsz[1]}",
                "MB": self.size_bytes / 1e6,
                "digest": self.digest[:12],
            }
        ]

    def summary(self) -> str:
        """Where it is and what it came from."""
        return f"{self.path} ({self.size_bytes / 1e6:.1f} MB) from {self.source_ref}"


def export_model(
    ref: object,
    format: str = "onnx",
    *,
    imgsz: int | tuple[int, int] | None = None,
    dynamic: bool = True,
    nms: bool = False,
    half: bool = False,
    out: str | Path | None = None,
) -> Artifact:
    """Export an Ultralytics model.

    The same weights and options give the same bytes. A file that is there already is replaced when the new one is
    whole, never before.

    Args:
        ref: As for :func:`osv_lab.detect.load_detector`. A model that is an ONNX file already is taken as it is.
        format: One of :data:`FORMATS`.
        imgsz: Input size: a side, or ``(width, height)``; by default what it was trained at.
        dynamic: Whether the file takes any batch and input size; otherwise one image of ``imgsz``.
        nms: Whether duplicates are suppressed inside the file, one image at a time, at IoU 0.7.
        half: Whether weights are float16: half the size, and faster on a GPU.
        out: The file or folder to write; by default beside the weights, or in the lab's models folder where that
            cannot be written, belongs to the model registry, or would replace a file that is no export of the lab's.

    Returns:
        The artifact, its sidecar written.

    Raises:
        NotFoundError: no such model.
        InvalidDataError: weights that cannot be loaded or exported.
        UsageError: a format or option that cannot be had.
        UnavailableError: what exports it is not installed.

    Example:
        >>> export_model("best.pt").path                                # doctest: +SKIP
        PosixPath('best.onnx')
    """
    if format not in FORMATS:
        raise UsageError("no such export format", f"'{format}'", nearest(format, FORMATS))
    source = resolve_model(ref, prefer=(".pt", ".onnx"))
    size = input_size_of(imgsz)
    if source.suffix.lower() == ".onnx":
        if (size, dynamic, nms, half) != (None, True, False, False):
            raise UsageError(
                "an ONNX file cannot be exported again", str(source), "export the .pt with these options"
            )
        return _as_it_is(ref, source, out)
    if source.suffix.lower() not in (".pt", ".yaml", ".yml"):
        raise UsageError("this kind of model cannot be exported", str(source), "give a .pt file")
    target = _target(ref, source, out)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
        written = _export_onnx(source, Path(folder), size, dynamic=dynamic, nms=nms, half=half)
        digest = file_digest(source) if source.is_file() else ""
        with atomic_path(target) as temporary:
            _describe_inside(written, temporary, digest)
            # The engine that will serve it must be able to read it; nothing else is called exported.
            artifact = _artifact(ref, source, temporary, target)
            _write_sidecar(artifact, source)
    return artifact


def _target(ref: object, source: Path, out: str | Path | None) -> Path:
    name = f"{source.stem}.onnx"
    if out is not None:
        path = Path(out).expanduser()
        target = path if path.suffix.lower() == ".onnx" else path / name
    elif source.is_file() and _may_write_beside(source, ref):
        target = source.with_suffix(".onnx")
    else:
        key = file_digest(source)[:16] if source.is_file() else "untrained"
        target = load_settings().models_dir / "exports" / key / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError("the export cannot be written there", f"{target}: {error.strerror}") from None
    return target.resolve()


def _may_write_beside(source: Path, ref: object) -> bool:
    """Whether an export may be put beside its weights.

    Not into the model registry's own folders, not where nobody may write (root could, which is no permission), and not
    over a file that is no export of the lab's.
    """
    if str(ref).startswith(("models:/", "runs:/")):
        return False
    target = source.with_suffix(".onnx")
    if target.exists() and "source_digest" not in _read_json(_sidecar(target)):
        return False
    return bool(source.parent.stat().st_mode & 0o222) and os.access(source.parent, os.W_OK)


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".osv.json")


def _as_it_is(ref: object, source: Path, out: str | Path | None) -> Artifact:
    if out is None:
        return _artifact(ref, source, source, source)
    target = _target(ref, source, out)
    if target != source.resolve():
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
        sidecar = _sidecar(source)
        if sidecar.is_file():
            with atomic_path(_sidecar(target)) as temporary:
                shutil.copyfile(sidecar, temporary)
    return _artifact(ref, source, target, target)


def _export_onnx(
    source: Path, folder: Path, size: tuple[int, int] | None, *, dynamic: bool, nms: bool, half: bool
) -> Path:
    from osv_lab.detect.ultralytics import load_network

    network, trained_at = load_network(source)
    from ultralytics.engine.exporter import Exporter
    from ultralytics.utils import DEFAULT_CFG_DICT

    try:
        import onnx  # noqa: F401
    except ImportError:
        raise require_extra("onnx", "train") from None
    known = getattr(network, "args", None)
    network.args = {**DEFAULT_CFG_DICT, **(known if isinstance(known, dict) else {})}
    # The exporter writes beside this path, which need not exist.
    network.pt_path = str(folder / f"{source.stem}.pt")
    width, height = size or (trained_at, trained_at)
    options = {
        "mode": "export",
        "format": "onnx",
        "imgsz": [height, width],
        "dynamic": dynamic,
        "nms": nms or None,
        "half": half,
        "opset": OPSET,
        "device": "cpu",
        "verbose": False,
        **({"conf": _CONFIDENCE_INSIDE, "iou": 0.7, "max_det": 300} if nms else {}),
    }
    try:
        with _LOCK, _silence(), _settings_untouched():
            written = Exporter(overrides=options)(model=network)
    except (RuntimeError, ValueError, AssertionError, TypeError, NotImplementedError, KeyError, OSError) as error:
        text = " ".join(str(error).split())[:300]
        raise InvalidDataError(
            "the model cannot be exported", f"{source}: {type(error).__name__}: {text}"
        ) from error
    except ImportError as error:
        raise UnavailableError("a package that exports is not installed", str(error)) from None
    path = Path(str(written[0] if isinstance(written, (list, tuple)) else written))
    if not path.is_file():
        raise InvalidDataError("the export left no file", str(source))
    return path


@contextlib.contextmanager
def _settings_untouched() -> Iterator[None]:
    """The exporter notes in the user's settings file that it has shown an advertisement: here it notes it in a copy."""
    from ultralytics.engine import exporter

    settings = exporter.SETTINGS
    exporter.SETTINGS = dict(settings)
    try:
        yield
    finally:
        exporter.SETTINGS = settings


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """No lines of Ultralytics, torch or onnxslim within the block; what goes wrong comes back as an exception."""
    from osv_lab.detect.ultralytics import quiet

    torch_log = logging.getLogger("torch.onnx")
    level = torch_log.level
    torch_log.setLevel(logging.ERROR)
    try:
        with quiet(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch_log.setLevel(level)


def _describe_inside(written: Path, target: Path, source_digest: str) -> None:
    """Write the file with its source's digest in its metadata, and without the date, which would change its own."""
    import onnx

    model = onnx.load(str(written))
    values = {item.key: item.value for item in model.metadata_props}
    values.pop("date", None)
    values["osv.source_digest"] = source_digest
    onnx.helper.set_model_props(model, values)
    onnx.save(model, str(target))


def _write_sidecar(artifact: Artifact, source: Path) -> None:
    """What is known about the file. An older file's parity says nothing about this one, so nothing of it stays."""
    known = _read_json(_sidecar(source))
    same = ("dataset_digest", "dataset", "run_id", "thresholds")
    kept: dict[str, Any] = {key: known[key] for key in same if key in known}
    content: dict[str, Any] = {
        **kept,
        "format": artifact.format,
        "task": artifact.task,
        "class_names": list(artifact.class_names),
        "imgsz": list(artifact.imgsz),
        "digest": artifact.digest,
        "source": str(source),
        "source_ref": artifact.source_ref,
        "source_digest": artifact.source_digest,
    }
    write_atomic(_sidecar(artifact.path), json.dumps(content, indent=2, ensure_ascii=False))


def _artifact(ref: object, source: Path, written: Path, target: Path) -> Artifact:
    described = OnnxDetector(written, providers=("cpu",)).describe()
    width, height = described["input_size"]
    return Artifact(
        path=target,
        format="onnx",
        digest=described["digest"],
        size_bytes=written.stat().st_size,
        source_ref=str(getattr(ref, "path", ref)),
        source_digest=file_digest(source) if source.is_file() else "",
        class_names=tuple(described["class_names"]),
        imgsz=(width, height),
        task=described["task"],
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
