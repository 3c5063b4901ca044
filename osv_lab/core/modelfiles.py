"""The files that a model consists of: mostly one; an OpenVINO model is its ``.xml`` and the weights beside it."""

from __future__ import annotations

from pathlib import Path

from osv_lab.core.digests import bytes_digest, file_digest


def model_files(path: str | Path) -> list[Path]:
    """The named file first, then what belongs to it and is there."""
    first = Path(path)
    weights = first.with_suffix(".bin")
    return [first, weights] if first.suffix.lower() == ".xml" and weights.is_file() else [first]


def model_digest(path: str | Path) -> str:
    """SHA-256 of a model: of its file, or of its files' digests where it has several.

    Raises:
        OSError: a file cannot be read.
    """
    digests = [file_digest(file) for file in model_files(path)]
    return digests[0] if len(digests) == 1 else bytes_digest("\n".join(digests).encode())
