"""Weights to a file that serves, with what the file is written down in it and beside it.

OpenVINO's files are made from the ONNX file that ONNX Runtime runs, LiteRT's are converted from the weights. Files in 8
bits (:func:`osv_lab.evaluate.quantize.quantize`) are ONNX Runtime's only.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osv_lab.core.digests import file_digest
from osv_lab.core.errors import UsageError, nearest
from osv_lab.core.files import atomic_path, write_atomic
from osv_lab.core.modelfiles import model_files
from osv_lab.core.report import Report
from osv_lab.core.settings import load_settings
from osv_lab.core.sidecars import read_sidecar, sidecar_path
from osv_lab.detect.exported import input_size_of
from osv_lab.detect.reference import resolve_model

SUFFIXES: Mapping[str, str] = {"onnx": ".onnx", "openvino": ".xml", "litert": ".tflite"}
"""What can be exported to, and how such a file's name ends."""

FORMATS = tuple(SUFFIXES)
"""What can be exported to: what the engines of this package run."""

_TENSORRT = "export to onnx and load it with providers=['tensorrt']: the engine is built on the GPU that runs it"
_COREML = (
    "its files run on macOS only, where this lab has no engine to compare them; convert with Ultralytics' own tool"
)
_ELSEWHERE = {"tensorrt": _TENSORRT, "engine": _TENSORRT, "coreml": _COREML, "mlpackage": _COREML}
"""Formats of Ultralytics' that are no file of this lab's, and what to do."""

_OTHER_NAMES = {"tflite": "litert"}


@dataclass(frozen=True)
class Artifact(Report):
    """A model file that can be served.

    Attributes:
        path: The file; its sidecar is ``<path>.osv.json``. An OpenVINO model's weights are the ``.bin`` beside it.
        format: One of :data:`FORMATS`.
        digest: SHA-256 of the file, or of its files' digests (:func:`osv_lab.core.modelfiles.model_digest`).
        size_bytes: Size of its files.
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
    """Export a model.

    The same weights and options give the same bytes. A file that is there already is replaced when the new one is
    whole, never before.

    Args:
        ref: As for :func:`osv_lab.detect.load_detector`: weights of Ultralytics', or an ONNX file, which is taken as it
            is or converted; what its sidecar says is said of the new file too.
        format: One of :data:`FORMATS`.
        imgsz: Input size: a side, or ``(width, height)``; by default what it was trained at.
        dynamic: Whether the file takes any batch and input size; otherwise one image of ``imgsz``, as LiteRT's always
            do.
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
        >>> artifact = export_model("best.pt", imgsz=64)
        >>> artifact.path.name, artifact.imgsz
        ('best.onnx', (64, 64))
    """
    format = _OTHER_NAMES.get(format, format)
    if format in _ELSEWHERE:
        raise UsageError("that is not exported as a file", f"'{format}'", _ELSEWHERE[format])
    if format not in FORMATS:
        raise UsageError("no such export format", f"'{format}'", nearest(format, FORMATS))
    source = resolve_model(ref, prefer=(".pt", ".onnx"))
    size = input_size_of(imgsz)
    exported = source.suffix.lower() == ".onnx"
    if exported and (size, dynamic, nms, half and format == "onnx") != (None, True, False, False):
        raise UsageError("an ONNX file cannot be exported again", str(source), "export the .pt with these options")
    if exported and format == "onnx":
        return _as_it_is(ref, source, out)
    if exported and read_sidecar(source).get("precision") == "int8":
        # Measured: OpenVINO runs such a file with a quarter of its mAP gone, where ONNX Runtime loses nothing.
        raise UsageError(
            "8-bit ONNX files are run by ONNX Runtime only",
            f"{source.name}, asked for {format}",
            "serve the .onnx file, or export the weights in full or half precision",
        )
    if format == "litert" and (exported or nms or half):
        raise UsageError(
            "a LiteRT file is converted from weights, in full precision and without suppression inside",
            f"{source.name}, nms={nms}, half={half}",
            "give a .pt file, and leave nms and half out",
        )
    if not exported and source.suffix.lower() not in (".pt", ".yaml", ".yml"):
        raise UsageError("this kind of model cannot be exported", str(source), "give a .pt file")
    target = _target(ref, source, out, SUFFIXES[format])
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as name:
        folder = Path(name)
        written = source
        if format == "litert":
            from osv_lab.detect.exporter import write_litert

            written = write_litert(source, folder, size)
        elif not exported:
            from osv_lab.detect.exporter import write_onnx

            digest = file_digest(source) if source.is_file() else ""
            halved = half and format == "onnx"
            written = write_onnx(source, folder, size, source_digest=digest, dynamic=dynamic, nms=nms, half=halved)
        if format == "openvino":
            from osv_lab.detect.openvino import to_openvino

            to_openvino(written, folder / target.name, half=half)
            written = folder / target.name
        # The engine that will serve it must be able to read it; nothing else is called exported.
        artifact = _artifact(ref, source, written, target, format)
        _move(written, target)
        _write_sidecar(artifact, source)
    return artifact


def _move(written: Path, target: Path) -> None:
    """Put a model's files in their place, the one that is asked for last."""
    first, *more = model_files(written)
    if more:
        target.unlink(missing_ok=True)  # An older one does not go with the new weights.
    for file in more:
        file.replace(target.with_suffix(file.suffix))
    first.replace(target)


def _target(ref: object, source: Path, out: str | Path | None, suffix: str) -> Path:
    name = f"{source.stem}{suffix}"
    if out is not None:
        path = Path(out).expanduser()
        target = path if path.suffix.lower() == suffix else path / name
    elif source.is_file() and _may_write_beside(source, ref, suffix):
        target = source.with_name(name)
    else:
        key = file_digest(source)[:16] if source.is_file() else "untrained"
        target = load_settings().models_dir / "exports" / key / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError("the export cannot be written there", f"{target}: {error.strerror}") from None
    return target.resolve()


def _may_write_beside(source: Path, ref: object, suffix: str) -> bool:
    """Whether an export may be put beside its weights.

    Not into the model registry's own folders, not where nobody may write (root could, which is no permission), and not
    over a file that is no export of the lab's.
    """
    if str(ref).startswith(("models:/", "runs:/")):
        return False
    target = source.with_name(f"{source.stem}{suffix}")
    if target.exists() and "source_digest" not in read_sidecar(target):
        return False
    return bool(source.parent.stat().st_mode & 0o222) and os.access(source.parent, os.W_OK)


def _as_it_is(ref: object, source: Path, out: str | Path | None) -> Artifact:
    if out is None:
        return _artifact(ref, source, source, source, "onnx")
    target = _target(ref, source, out, ".onnx")
    if target != source.resolve():
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
        sidecar = sidecar_path(source)
        if sidecar.is_file():
            with atomic_path(sidecar_path(target)) as temporary:
                shutil.copyfile(sidecar, temporary)
    return _artifact(ref, source, target, target, "onnx")


def _write_sidecar(artifact: Artifact, source: Path) -> None:
    """What is known about the file. An older file's parity says nothing about this one, so nothing of it stays."""
    kept: dict[str, Any] = {}
    if artifact.format != "onnx" and source.suffix.lower() == ".onnx":
        # The same network in another file: what is known of it stays, but it has to be compared again.
        kept = {key: value for key, value in read_sidecar(source).items() if key != "parity"}
        source = Path(str(kept.get("source") or source))
    known = read_sidecar(source)
    same = ("dataset_digest", "dataset", "run_id", "thresholds")
    kept |= {key: known[key] for key in same if key in known and key not in kept}
    content: dict[str, Any] = {
        **kept,
        "format": artifact.format,
        "task": artifact.task,
        "class_names": list(artifact.class_names),
        "imgsz": list(artifact.imgsz),
        "digest": artifact.digest,
        "source": str(source),
        "source_ref": kept.get("source_ref") or artifact.source_ref,
        "source_digest": kept.get("source_digest") or artifact.source_digest,
    }
    write_atomic(sidecar_path(artifact.path), json.dumps(content, indent=2, ensure_ascii=False))


def _artifact(ref: object, source: Path, written: Path, target: Path, format: str) -> Artifact:
    from osv_lab.detect import load_detector

    described = load_detector(written, providers=("cpu",)).describe()
    width, height = described["input_size"]
    return Artifact(
        path=target,
        format=format,
        digest=described["digest"],
        size_bytes=sum(file.stat().st_size for file in model_files(written)),
        source_ref=str(getattr(ref, "path", ref)),
        source_digest=file_digest(source) if source.is_file() else "",
        class_names=tuple(described["class_names"]),
        imgsz=(width, height),
        task=described["task"],
    )
