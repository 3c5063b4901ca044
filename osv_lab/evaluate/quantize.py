"""INT8: an exported model with 8-bit convolutions, calibrated on the user's own images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.core.digests import file_digest
from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError
from osv_lab.core.files import atomic_path
from osv_lab.core.progress import Progress, silent
from osv_lab.core.settings import SEED
from osv_lab.core.sidecars import read_sidecar, update_sidecar

if TYPE_CHECKING:
    import numpy as np

    from osv_lab.detect.export import Artifact

CALIBRATION_IMAGES = 128


def quantize(
    artifact: Artifact,
    view: Any,
    *,
    max_images: int = CALIBRATION_IMAGES,
    out: str | Path | None = None,
    progress: Progress = silent,
) -> Artifact:
    """Quantise an ONNX export to 8 bits.

    Static quantisation by ONNX Runtime: weights per channel, activations by the range that they take on calibration
    images. Only convolutions are quantised; the head, whose outputs mix pixels and probabilities, stays in 32 bits.
    :func:`~osv_lab.evaluate.verify.verify` then judges the file by what it loses in mAP
    (:data:`~osv_lab.detect.parity.INT8`).

    Args:
        artifact: From :func:`osv_lab.detect.export.export_model`, not quantised yet and not in half precision.
        view: Images to calibrate on, best the training split of the version that the model was trained on.
        max_images: At most so many, drawn with the lab's seed.
        out: The file to write; by default beside the export, as ``<name>.int8.onnx``.
        progress: Told of every image.

    Returns:
        The new artifact; its sidecar says ``precision: int8`` and what it was calibrated on.

    Raises:
        NotFoundError: the artifact's file is gone.
        InvalidDataError: no image can be read, or the model cannot be quantised.
        UsageError: it is quantised already, or no ONNX file.

    Example:
        >>> from osv_lab.detect.export import export_model
        >>> small = quantize(export_model("best.pt", imgsz=64), dataset.match_tags("train"))
        >>> small.path.name
        'best.int8.onnx'
    """
    source = Path(artifact.path)
    if not source.is_file():
        raise NotFoundError("no such model file", source)
    if source.suffix.lower() != ".onnx":
        raise UsageError("only ONNX files are quantised", source, "quantise the ONNX export")
    if read_sidecar(source).get("precision") == "int8":
        raise UsageError("the model is in 8 bits already", source, "quantise the export that it was made from")
    if len(view) > max_images:
        view = view.take(max_images, seed=SEED)
    files = view.values("filepath")
    target = Path(out) if out is not None else source.with_name(f"{source.stem}.int8.onnx")
    used = _write(source, target, files, progress)
    # What it answers, and so where its scores are to be cut, is to be looked at anew.
    known = {key: value for key, value in read_sidecar(source).items() if key not in ("parity", "thresholds")}
    digest = file_digest(target)
    update_sidecar(
        target,
        {
            **known,
            "digest": digest,
            "precision": "int8",
            "calibrated_on": {"dataset": str(view._dataset.name), "images": used},
        },
    )
    return replace(artifact, path=target, digest=digest, size_bytes=target.stat().st_size)


def _write(source: Path, target: Path, files: list[str], progress: Progress) -> int:
    """Calibrate and write; returns how many images could be read."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from osv_lab.detect.onnx import OnnxDetector
    from osv_lab.evaluate.verify import readable

    detector = OnnxDetector(source, providers=("cpu",))
    seen: list[int] = []
    tensors = _tensors(detector, readable(files, seen), len(files), progress)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """One image's input at a time."""

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(tensors, None)

    with (
        tempfile.TemporaryDirectory(dir=target.parent, prefix=".int8-") as folder,
        atomic_path(target) as temporary,
    ):
        prepared = Path(folder) / "prepared.onnx"
        try:
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(temporary),
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            text = " ".join(str(error).split())[:300]
            raise InvalidDataError("the model cannot be quantised", f"{source}: {text}") from error
        OnnxDetector(temporary, providers=("cpu",))
    return len(seen)


def _tensors(
    detector: Any, images: Iterator[np.ndarray], total: int, progress: Progress
) -> Iterator[dict[str, np.ndarray]]:
    for done, image in enumerate(images, start=1):
        yield detector.input_of(image)
        progress("calibrate", done, total)
