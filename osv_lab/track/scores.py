"""Metrics of tracks that lie in MOTChallenge files: one sequence, or a folder of them."""

from __future__ import annotations

from pathlib import Path

from osv_lab.core.errors import InvalidDataError, NotFoundError
from osv_lab.core.progress import Progress, silent
from osv_lab.track.metrics import TrackScores, combine, evaluate_sequence
from osv_lab.track.mot import read_info, read_tracks


def score_files(
    truth: str | Path, result: str | Path, *, benchmark: str | None = None, progress: Progress = silent
) -> TrackScores:
    """Compare result files with truth files.

    Args:
        truth: A truth file, a MOTChallenge sequence (a folder with ``gt/gt.txt``), or a folder of such sequences or of
            truth files (``NAME.txt``).
        result: A result file, or a folder of them (``NAME.txt``, also in ``data/`` within it).
        benchmark: ``"mot17"`` or ``"mot20"`` for MOTChallenge's preprocessing, ``None``: everything counts.
        progress: Told of every sequence.

    Raises:
        NotFoundError: no such file, no sequence in the folder, or one without a result.
        InvalidDataError: not MOT files, or boxes after the end of a sequence.

    Example:
        >>> score_files("truth", "results").summary()
        'HOTA 0.853, MOTA 0.961, IDF1 0.817, 2 identity switches over 2 sequences'
    """
    pairs = _pairs(Path(truth), Path(result))
    scores = {}
    progress("score", 0, len(pairs))
    for name, (true, found) in pairs.items():
        try:
            scores[name] = evaluate_sequence(
                read_tracks(true), read_tracks(found), _length(true), benchmark=benchmark
            )
        except InvalidDataError as error:
            raise InvalidDataError(f"{name}: {error.what}", error.found, error.fix) from error
        progress("score", len(scores), len(pairs))
    return TrackScores(scores, combine(list(scores.values())))


def _pairs(truth: Path, result: Path) -> dict[str, tuple[Path, Path]]:
    """Truth and result file of each sequence, by name."""
    for path in (truth, result):
        if not path.exists():
            raise NotFoundError("no such file or folder", str(path))
    true = _truth_files(truth)
    if result.is_file():
        if len(true) != 1:
            raise NotFoundError("one result for several sequences", f"{result}; {len(true)} in {truth}")
        return {name: (file, result) for name, file in true.items()}
    folder = result / "data" if (result / "data").is_dir() else result
    missing = [name for name in true if not (folder / f"{name}.txt").is_file()]
    if missing:
        raise NotFoundError(
            "no result for a sequence", ", ".join(missing[:5]), f"a file NAME.txt for each is needed in {folder}"
        )
    return {name: (file, folder / f"{name}.txt") for name, file in true.items()}


def _truth_files(truth: Path) -> dict[str, Path]:
    if truth.is_file():
        inside = truth.name == "gt.txt" and truth.parent.name == "gt"
        return {truth.parent.parent.name if inside else truth.stem: truth}
    if (truth / "gt" / "gt.txt").is_file():
        return {truth.resolve().name: truth / "gt" / "gt.txt"}
    found = {file.parent.parent.name: file for file in sorted(truth.glob("*/gt/gt.txt"))}
    found = found or {file.stem: file for file in sorted(truth.glob("*.txt"))}
    if not found:
        raise NotFoundError("no sequence in the folder", str(truth), "it needs NAME/gt/gt.txt or NAME.txt")
    return found


def _length(truth: Path) -> int | None:
    """How many frames the sequence has, as its ``seqinfo.ini`` says."""
    folder = truth.parent.parent
    return read_info(folder).length if (folder / "seqinfo.ini").is_file() else None
