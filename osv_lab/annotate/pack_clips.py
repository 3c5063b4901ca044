"""Videos, windows of them, and sequences of images that are to be sent, checked as far as it can be here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from osv_lab.annotate.clips import Clip, united
from osv_lab.annotate.pack import Package, package_of, readable
from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError, nearest
from osv_lab.store.annotation_store import (
    Labelled,
    container_of,
    is_of_frames,
    name_of,
    read_labelled,
    read_samples,
)
from osv_lab.store.clips import FRAME_NUMBER, SEQUENCE, clips_of
from osv_lab.store.documents import label_documents
from osv_lab.store.media import probe_video

if TYPE_CHECKING:
    import fiftyone as fo

Windows: TypeAlias = Mapping[str, Sequence[tuple[int, int]]]
"""First and last frame, from 1 and both included, by the id of a video's sample or the name of a sequence."""


def is_of_clips(view: Any, label_field: str) -> bool:
    """Whether a view is to be sent as clips: videos, or images whose labels are of tracks along a sequence."""
    if view.media_type == "video":
        return True
    schema = view.get_field_schema()
    if view.media_type != "image" or not {SEQUENCE, FRAME_NUMBER, label_field} <= set(schema):
        return False
    numbers = view.values([SEQUENCE, FRAME_NUMBER])
    if not len(view) or any(value is None for values in numbers for value in values):
        return False
    return any(
        document.get("index") is not None or document.get("instance")
        for sample in read_labelled(view, label_field)
        for document in label_documents(sample.container)
    )


def pack_clips(
    view: Any,
    key: str,
    label_field: str,
    classes: Sequence[str] | None = None,
    attributes: Mapping[str, Sequence[str]] | None = None,
    windows: Windows | None = None,
    frame_step: int = 1,
) -> Package:
    """Clips that are to be sent, each of which becomes a task; makes nothing.

    Args:
        view: Videos, a view of clips of them, or images of sequences.
        key: The name of the run.
        label_field: ``frames.<name>`` of videos, ``<name>`` of images.
        classes: Only labels of these.
        attributes: The values of attributes with a closed set of them.
        windows: Only these frames; of clips in the view by default theirs.
        frame_step: Of a video, send every so many frames.

    Raises:
        NotFoundError: no such field, sample or sequence, or nothing that could be sent.
        UsageError: a field that is not one of frames, or windows or a step that cannot be.
    """
    if frame_step < 1:
        raise UsageError("frame_step is 1 or more", frame_step)
    dataset = view._root_dataset
    if view._is_clips:
        windows = windows or _windows_of(view)
        view = dataset.select(list(windows), ordered=True)
    container_of(dataset, label_field)
    problems: list[str] = []
    if view.media_type == "video":
        clips, sizes, files, labelled = _videos(view, dataset, label_field, windows, frame_step, problems)
    else:
        if frame_step > 1:
            raise UsageError("frame_step is for videos", frame_step, "send a view of the images that you want")
        clips, sizes, files, labelled = _sequences(view, label_field, windows, problems)
    if not clips:
        raise NotFoundError("nothing to send", f"{len(view)} samples", problems[0] if problems else "")
    sent = {place for clip in clips for place in clip.places()}
    labelled = [one for one in labelled if (one.id, one.frame) in sent]
    return package_of(dataset, key, label_field, labelled, sizes, files, classes, attributes, problems, clips)


_Found: TypeAlias = tuple[list[Clip], dict[str, tuple[int, int]], dict[str, Path], list[Labelled]]


def _videos(
    view: Any,
    dataset: fo.Dataset,
    label_field: str,
    windows: Windows | None,
    step: int,
    problems: list[str],
) -> _Found:
    if not is_of_frames(label_field):
        raise UsageError("a video's labels are in a field of its frames", repr(label_field), "frames.<name>")
    clips: list[Clip] = []
    sizes: dict[str, tuple[int, int]] = {}
    files: dict[str, Path] = {}
    videos = {clip.sample_id: clip for clip in clips_of(view)}
    _check_names(windows, videos, "video")
    for sample, video in videos.items():
        if windows is not None and sample not in windows:
            continue
        try:
            media = probe_video(Path(video.path))
        except (InvalidDataError, OSError) as error:
            problems.append(f"sample {sample}: {Path(video.path).name}: {getattr(error, 'what', error)}")
            continue
        problems += [f"sample {sample}: {note}" for note in media.notes if note.startswith("truncated")]
        frames = int(media.metadata["total_frame_count"])
        ranges = [(1, frames)] if windows is None else united(windows[sample], frames)
        if not ranges:
            problems.append(f"sample {sample}: none of its windows lies in its {frames} frames")
            continue
        sizes[sample], files[sample] = (media.width, media.height), Path(video.path)
        clips += [Clip(sample, (sample,), first, (last - first) // step + 1, step) for first, last in ranges]
    return clips, sizes, files, read_samples(dataset, sizes, label_field)


def _sequences(view: Any, label_field: str, windows: Windows | None, problems: list[str]) -> _Found:
    sequences = {clip.name: clip for clip in clips_of(view)}
    _check_names(windows, sequences, "sequence")
    labelled = {sample.id: sample for sample in readable(read_labelled(view, name_of(label_field)), problems)}
    clips: list[Clip] = []
    for name, sequence in sequences.items():
        if windows is not None and name not in windows:
            continue
        numbers = [number for number, sample in sequence.samples.items() if sample in labelled]
        whole = [(1, max(numbers, default=0))]
        for first, last in whole if windows is None else united(windows[name], whole[0][1]):
            samples = tuple(sequence.samples[number] for number in numbers if first <= number <= last)
            if samples:
                clips.append(Clip(name, samples, 0, len(samples)))
    sent = [labelled[sample] for clip in clips for sample in clip.samples]
    sizes = {sample.id: sample.size or (1, 1) for sample in sent}
    return clips, sizes, {sample.id: Path(sample.filepath) for sample in sent}, sent


def _windows_of(view: Any) -> dict[str, list[tuple[int, int]]]:
    """The frames of a view of clips."""
    found: dict[str, list[tuple[int, int]]] = {}
    for sample, support in zip(*view.values(["sample_id", "support"]), strict=True):
        found.setdefault(sample, []).append((support[0], support[1]))
    return found


def _check_names(windows: Windows | None, known: Mapping[str, Any], what: str) -> None:
    for name in windows or ():
        if name not in known:
            raise NotFoundError(f"windows of a {what} that is not in the view", repr(name), nearest(name, known))
