"""Clips: what is tracked as one. A video, or the images of one sequence in the order of their frame numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError, nearest
from osv_lab.store.ingest_items import shown
from osv_lab.store.media import probe_video

if TYPE_CHECKING:
    import fiftyone as fo

SEQUENCE, FRAME_NUMBER = "sequence", "frame_number"
"""The sample fields that make images a sequence; ingesting MOTChallenge folders sets them."""


@dataclass(frozen=True, eq=False)
class Clip:
    """One video, or one sequence of images.

    Attributes:
        name: The video's file name without suffix, or the sequence's; unique in its view.
        video: Whether it is a video.
        samples: Sample ids by frame number, in order; a video has one, under 0.
        paths: Media files likewise.
        metadata: What the store knows of the media (``frame_width``, ``frame_rate``, ``total_frame_count``; of images
            ``width`` and ``height``).
    """

    name: str
    video: bool
    samples: Mapping[int, str]
    paths: Mapping[int, str]
    metadata: Mapping[str, Any]

    @property
    def sample_id(self) -> str:
        """The sample of a video, or that of the first image."""
        return next(iter(self.samples.values()))

    @property
    def path(self) -> str:
        """The file of a video, or that of the first image."""
        return next(iter(self.paths.values()))

    @property
    def frames(self) -> int | None:
        """How many frames it has, as far as the store knows; of images the highest frame number."""
        if not self.video:
            return max(self.samples)
        count = self.metadata.get("total_frame_count")
        return int(count) if count else None

    @property
    def frame_rate(self) -> float | None:
        """Frames per second, if the store knows."""
        rate = self.metadata.get("frame_rate")
        return float(rate) if rate else None

    def size(self) -> tuple[int, int]:
        """``(width, height)`` in pixels, read from the file where the store does not know.

        Raises:
            InvalidDataError: the file cannot be read.
        """
        width = self.metadata.get("frame_width") or self.metadata.get("width")
        height = self.metadata.get("frame_height") or self.metadata.get("height")
        if width and height:
            return int(width), int(height)
        try:
            if self.video:
                media = probe_video(Path(self.path))
                return media.width, media.height
            from osv_lab.detect.images import read_image

            image = read_image(Path(self.path))
            return image.shape[1], image.shape[0]
        except OSError as error:
            raise InvalidDataError("the file cannot be read", f"{shown(self.path)}: {error.strerror}") from error


def clips_of(view: fo.SampleCollection) -> list[Clip]:
    """The clips of a view, in its order.

    Args:
        view: Videos; or images with the fields ``sequence`` and ``frame_number``, also grouped by sequence.

    Raises:
        UsageError: something else, or images that do not say what sequence they belong to.
        InvalidDataError: a sequence has a frame number twice.
    """
    view = view.view()
    if getattr(view, "_is_dynamic_groups", False):
        view = view.flatten()
    if view.media_type not in ("video", "image"):
        raise UsageError("only videos and image sequences have tracks", f"a view of {view.media_type}")
    shown_fields = {"filepath": 1, "metadata": 1}
    if view.media_type == "video":
        found = list(view._aggregate(detach_frames=True, post_pipeline=[{"$project": shown_fields}]))
        names = _names([document["filepath"] for document in found])
        return [
            Clip(name, True, {0: str(one["_id"])}, {0: one["filepath"]}, one.get("metadata") or {})
            for name, one in zip(names, found, strict=True)
        ]
    schema = view.get_field_schema()
    for name in (SEQUENCE, FRAME_NUMBER):
        if name not in schema:
            fix = f"{nearest(name, schema)}; images are tracked by their fields '{SEQUENCE}' and '{FRAME_NUMBER}'"
            raise UsageError("the images are not a sequence", f"no field '{name}'", fix)
    shown_fields |= {SEQUENCE: 1, FRAME_NUMBER: 1}
    sequences: dict[str, dict[int, Any]] = {}
    for one in view._aggregate(post_pipeline=[{"$project": shown_fields}]):
        sequence, number = one.get(SEQUENCE), one.get(FRAME_NUMBER)
        if sequence is None or number is None:
            continue
        images = sequences.setdefault(str(sequence), {})
        if number in images:
            raise InvalidDataError("a frame number twice in a sequence", f"{number} in '{sequence}'")
        if number < 1:
            raise InvalidDataError("a frame number below 1", f"{number} in '{sequence}'", "count frames from 1")
        images[number] = one
    return [_sequence(name, dict(sorted(images.items()))) for name, images in sequences.items()]


def clip_view(view: fo.SampleCollection, name: str | None = None) -> Any:
    """The part of a view that is one clip.

    Args:
        view: Videos or image sequences.
        name: A clip's name (a file name without suffix, a sequence), or the id of one of its samples. ``None`` where
            there is one clip only.

    Raises:
        NotFoundError: no such clip.
        UsageError: no name, and more than one clip.
    """
    clips = clips_of(view)
    if name is None and len(clips) != 1:
        raise UsageError("which clip?", f"there are {len(clips)}", "name one")
    for clip in clips:
        if name in (None, clip.name) or name in clip.samples.values():
            return view.select(list(clip.samples.values()))
    raise NotFoundError("no such clip", repr(name), nearest(str(name), [clip.name for clip in clips]))


def _sequence(name: str, images: Mapping[int, Any]) -> Clip:
    samples = {number: str(one["_id"]) for number, one in images.items()}
    paths = {number: one["filepath"] for number, one in images.items()}
    return Clip(name, False, samples, paths, next(iter(images.values())).get("metadata") or {})


def _names(paths: list[str]) -> list[str]:
    """File names without suffix; those that occur twice with their folder, then with a number."""
    stems = [shown(Path(path).stem) for path in paths]
    twice = {name for name, count in Counter(stems).items() if count > 1}
    names = [
        f"{shown(Path(path).parent.name)}/{stem}" if stem in twice else stem
        for path, stem in zip(paths, stems, strict=True)
    ]
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique
