"""What a detector is, its engines, and export with parity. No FiftyOne."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from osv_lab.detect.detector import Detector
    from osv_lab.detect.exported import ExportedDetector

__all__ = ["load_detector"]


def load_detector(
    ref: object,
    *,
    providers: Sequence[str] | None = None,
    imgsz: int | tuple[int, int] | None = None,
    class_names: Sequence[str] | None = None,
    threads: int | None = None,
    family: str | None = None,
    border: float | None = None,
) -> Detector:
    """Load a detector from wherever it is.

    Args:
        ref: A path (``.onnx``, OpenVINO's ``.xml``, LiteRT's ``.tflite``, or ``.pt``; ``.yaml`` is an untrained
            architecture), an
            Ultralytics name (``"yolo11n.pt"``), the ``.yaml`` or ``.json`` of an ensemble
            (:mod:`osv_lab.detect.ensemble`), or an MLflow reference (``"models:/name@alias"``, ``"models:/name/3"``,
            ``"runs:/id/path"``).
        providers: What may run it, in order of preference (``"cuda"``, ``"CPUExecutionProvider"``; of OpenVINO
            ``"cpu"``, ``"gpu"``, ``"npu"``); by default the fastest that works on this machine, OpenVINO on the CPU.
        imgsz: Input size of a model that takes any: the longer side in pixels, with each image letterboxed to the
            least rectangle, or ``(width, height)`` for exactly that size. To compare two detectors on equal input,
            load the second with ``imgsz=first.input_size``.
        class_names: Names that replace the model's own.
        threads: CPU threads; all cores when ``None``.
        family: A key of :data:`osv_lab.detect.families.SPECS`, for a model whose family is told wrongly.
        border: Grey around images on an Ultralytics network that takes any size, in strides. By default 0.5 as in
            Ultralytics' validator, which finds objects at the image's edge better; 0 is what its predictor leaves.

    Raises:
        NotFoundError: nothing is there.
        InvalidDataError: not a model, damaged, unsafe to load, or of no known family.
        UsageError: an option the model cannot take.
        UnavailableError: what runs it is not installed, or the model cannot be fetched.

    Example:
        >>> detector = load_detector("best.onnx", providers=["cpu"])
        >>> detector.class_names, detector.input_size
        (('RBC', 'WBC'), (64, 64))
    """
    from osv_lab.core.errors import UsageError
    from osv_lab.detect.detector import BORDER
    from osv_lab.detect.reference import resolve_model

    border = BORDER if border is None else border
    if not 0 <= border <= 4:
        raise UsageError("border must be 0 to 4 strides", border)
    path = resolve_model(ref)
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        from osv_lab.detect.ensemble import load_ensemble
        from osv_lab.detect.ensemblefile import is_ensemble

        if is_ensemble(path) or path.suffix.lower() == ".json":
            options = {"providers": providers, "imgsz": imgsz, "threads": threads, "border": border}
            return load_ensemble(
                path, load_detector, ref=str(ref), class_names=class_names, family=family, **options
            )
    if (exported := _exported(path.suffix.lower())) is not None:
        return exported(
            path,
            ref=str(ref),
            providers=providers,
            imgsz=imgsz,
            class_names=class_names,
            threads=threads,
            border=border,
            family=family,
        )
    if path.suffix.lower() in (".pt", ".yaml", ".yml"):
        from osv_lab.detect.ultralytics import UltralyticsDetector

        return UltralyticsDetector(
            path,
            ref=str(ref),
            providers=providers,
            imgsz=imgsz,
            class_names=class_names,
            threads=threads,
            border=border,
        )
    raise UsageError(
        "no engine runs this kind of model",
        str(path),
        "use an .onnx, .xml, .tflite or .pt file, or an ensemble's .yaml",
    )


def _exported(suffix: str) -> type[ExportedDetector] | None:
    """The engine of an exported file."""
    if suffix == ".onnx":
        from osv_lab.detect.onnx import OnnxDetector

        return OnnxDetector
    if suffix == ".xml":
        from osv_lab.detect.openvino import OpenVinoDetector

        return OpenVinoDetector
    if suffix == ".tflite":
        from osv_lab.detect.litert import LiteRtDetector

        return LiteRtDetector
    return None
