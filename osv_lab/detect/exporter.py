"""An Ultralytics network to a file, with nothing of what the exporter does on the side."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from osv_lab.core.errors import InvalidDataError, UnavailableError, require_extra

OPSET = 17
"""The ONNX operator set of exports: read by ONNX Runtime since 1.12 and by TensorRT since 8.6."""

# Suppression inside the graph drops what is below this for good; predict's own threshold applies after it.
_CONFIDENCE_INSIDE = 0.001

_LOCK = threading.Lock()


def write_onnx(
    source: Path,
    folder: Path,
    size: tuple[int, int] | None,
    *,
    source_digest: str,
    dynamic: bool,
    nms: bool,
    half: bool,
) -> Path:
    """Export weights into a folder; returns the file. The same weights and options give the same bytes.

    Args:
        source: A ``.pt`` file or an architecture.
        folder: Where to.
        size: ``(width, height)`` of the input; by default what it was trained at.
        source_digest: Noted in the file.
        dynamic: Whether it takes any batch and input size.
        nms: Whether duplicates are suppressed inside.
        half: Whether weights are float16.

    Raises:
        InvalidDataError: weights that cannot be loaded or exported.
        UnavailableError: what exports them is not installed.
    """
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise require_extra("onnx", "train") from None
    options = {
        "format": "onnx",
        "dynamic": dynamic,
        "nms": nms or None,
        "half": half,
        "opset": OPSET,
        **({} if dynamic else {"batch": 1}),
        **({"conf": _CONFIDENCE_INSIDE, "iou": 0.7, "max_det": 300} if nms else {}),
    }
    path = _export(source, folder, size, options)
    described = folder / "described.onnx"
    _describe(path, described, source_digest)
    return described


def write_litert(source: Path, folder: Path, size: tuple[int, int] | None) -> Path:
    """Convert weights to a LiteRT file of one image; the rest as for :func:`write_onnx`.

    Raises:
        InvalidDataError: weights that cannot be loaded or converted.
        UnavailableError: what converts them is not installed.
    """
    if importlib.util.find_spec("litert_torch") is None:
        raise UnavailableError(
            "what converts to LiteRT is not installed",
            "no module 'litert_torch', which needs an older torch than this lab",
            "convert in an environment of its own, as docs/pick.md says; the file can be compared and run here",
        )
    return _export(source, folder, size, {"format": "litert", "batch": 1})


def _export(source: Path, folder: Path, size: tuple[int, int] | None, options: Mapping[str, Any]) -> Path:
    """Run Ultralytics' exporter; returns what it wrote into the folder."""
    from osv_lab.detect.ultralytics import load_network

    network, trained_at = load_network(source)
    from ultralytics.engine.exporter import Exporter
    from ultralytics.utils import DEFAULT_CFG_DICT

    known = getattr(network, "args", None)
    network.args = {**DEFAULT_CFG_DICT, **(known if isinstance(known, dict) else {})}
    # The exporter writes beside this path, which need not exist.
    network.pt_path = str(folder / f"{source.stem}.pt")
    width, height = size or (trained_at, trained_at)
    settings = {"mode": "export", "imgsz": [height, width], "device": "cpu", "verbose": False, **options}
    try:
        with _LOCK, _silence(), _settings_untouched():
            written = Exporter(overrides=settings)(model=network)
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


def _describe(written: Path, target: Path, source_digest: str) -> None:
    """Write the file with its source's digest in its metadata, and without the date, which would change its own."""
    import onnx

    model = onnx.load(str(written))
    values = {item.key: item.value for item in model.metadata_props}
    values.pop("date", None)
    values["osv.source_digest"] = source_digest
    onnx.helper.set_model_props(model, values)
    onnx.save(model, str(target))
