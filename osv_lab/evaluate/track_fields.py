"""What evaluations of tracks write into the store so that the App shows it, and how it is taken back.

Each run has a key. Its fields are noted in the data set's run of that key before they are written: so the next run of
the key finds what to remove, also after a kill, and no field of the user's is taken for one of a run's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from osv_lab.core.errors import UsageError
from osv_lab.store.bulk_read import batches
from osv_lab.store.bulk_tracks import set_sample_values
from osv_lab.store.clips import Clip
from osv_lab.store.schema import declaring_alone

METHOD = "osv_lab.tracks"
MOST_EVENTS = 10_000
"""Events of one clip that are written: MongoDB's documents hold 16 MiB."""


@dataclass(frozen=True)
class StoredEvent:
    """One event as the store keeps it.

    Attributes:
        label: Its kind.
        first_frame, last_frame: Where it is.
        confidence: 0 to 1, or ``None``.
        attributes: What else there is to say; ``None`` values are left out.
    """

    label: str
    first_frame: int
    last_frame: int
    confidence: float | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


def begin_run(
    view: Any,
    key: str,
    sample_fields: Sequence[str],
    attributes: Mapping[str, Sequence[str]],
    about: Mapping[str, Any],
) -> None:
    """Remove what the last run of a key wrote, and note what this one will.

    Args:
        view: What is evaluated.
        key: The run's key.
        sample_fields: Names of the sample fields it will write.
        attributes: By label field (``frames.`` before it for videos), the attributes its labels will get.
        about: Plain values to keep with the run.

    Raises:
        UsageError: the key is no name, or fields of these names are not of such a run.
    """
    dataset = view._dataset
    if not key.isidentifier():
        raise UsageError("not a name for an evaluation", repr(key), "use letters, digits and '_'")
    paths = [f"{name}.detections.{attribute}" for name, some in attributes.items() for attribute in some]
    before = _own_config(dataset, key)
    if key in dataset.list_evaluations() or (before is None and dataset.has_run(key)):
        raise UsageError("the key is that of another kind of run", repr(key), "choose another key")
    own = {*before["sample_fields"], *before["label_paths"]} if before else set()
    taken = [path for path in (*sample_fields, *paths) if path not in own and dataset.get_field(path) is not None]
    if taken:
        raise UsageError("fields of this name are not of an evaluation of tracks", taken[0], "choose another key")
    remove_run(dataset, key)
    config = dataset.init_run(
        method=METHOD, sample_fields=list(sample_fields), label_paths=paths, about=dict(about)
    )
    dataset.register_run(key, config)
    dataset._add_paths_to_sidebar_group(list(sample_fields), key)


@dataclass(frozen=True)
class TrackRun:
    """A run of an evaluation of tracks, as the dataset remembers it.

    Attributes:
        key: Its key.
        at: When it began, UTC.
        about: What it was given: ``pred_field`` and ``gt_field`` of an evaluation, ``field`` of a search.
    """

    key: str
    at: datetime
    about: Mapping[str, Any]


def track_runs(dataset: Any, field: str | None = None) -> list[TrackRun]:
    """The runs of this module in a dataset (that looked at a field), the newest first."""
    runs = []
    for key in dataset.list_runs():
        config = _own_config(dataset, key)
        if config is not None:
            about = config["about"]
            if field is None or field in (about.get("field"), about.get("pred_field"), about.get("gt_field")):
                at = dataset.get_run_info(key).timestamp
                runs.append(TrackRun(key, at.replace(tzinfo=UTC), about))
    return sorted(runs, key=lambda run: run.at, reverse=True)


def remove_run(dataset: Any, key: str) -> None:
    """Remove everything that a run of this module wrote under a key, if there is one."""
    config = _own_config(dataset, key)
    if config is None:
        return
    paths = [path for path in config["label_paths"] if dataset.get_field(path) is not None]
    frames = [path.removeprefix("frames.") for path in paths if path.startswith("frames.")]
    own = [path for path in (*config["sample_fields"], *paths) if not path.startswith("frames.")]
    own = [path for path in own if dataset.get_field(path) is not None]
    if frames:
        dataset.delete_frame_fields(frames)
    if own:
        dataset.delete_sample_fields(own)
    dataset.delete_run(key)


def _own_config(dataset: Any, key: str) -> Mapping[str, Any] | None:
    """What a run of this module noted under a key, if there is one."""
    if not dataset.has_run(key):
        return None
    config: dict[str, Any] = dataset.get_run_info(key).config.serialize()
    return config if config.get("method") == METHOD else None


def declare_attributes(dataset: Any, label_field: str, attributes: Mapping[str, type]) -> None:
    """Declare attributes (``str``, ``int`` or ``float``) of a ``Detections`` field's labels."""
    import fiftyone as fo

    kinds = {str: fo.StringField, int: fo.IntField, float: fo.FloatField}
    add = dataset.add_frame_field if label_field.startswith("frames.") else dataset.add_sample_field
    with declaring_alone(dataset):
        for name, kind in attributes.items():
            add(f"{label_field.removeprefix('frames.')}.detections.{name}", kinds[kind])


def write_scores(dataset: Any, clips: Sequence[Clip], scores: Sequence[Mapping[str, float | int]]) -> None:
    """Write a clip's numbers to its video, or to every image of its sequence."""
    import fiftyone as fo

    with declaring_alone(dataset):
        for name, value in scores[0].items():
            dataset.add_sample_field(name, fo.IntField if isinstance(value, int) else fo.FloatField)
    for clip, some in zip(clips, scores, strict=True):
        set_sample_values(dataset, clip, some)


def write_events(
    dataset: Any, events_field: str, clips: Sequence[Clip], events: Sequence[Sequence[StoredEvent]]
) -> list[str]:
    """Write events where the App shows them.

    A video gets ``TemporalDetections``: tags with their frames on the grid, counts and filters in the sidebar, and a
    clips view to play one by one. An image of a sequence gets those events that end at it, as ``Classifications``.

    Returns:
        Notes for the user.
    """
    import fiftyone as fo

    notes = []
    for batch in batches(zip(clips, events, strict=True), 64):
        values: dict[str, Any] = {}
        for clip, some in batch:
            if len(some) > MOST_EVENTS:
                notes.append(f"'{clip.name}' has {len(some):,} events; the first {MOST_EVENTS:,} are in the store")
                some = some[:MOST_EVENTS]
            if clip.video:
                found = [_temporal(fo, event) for event in sorted(some, key=lambda event: event.first_frame)]
                values[clip.sample_id] = fo.TemporalDetections(detections=found)
                continue
            by_frame: dict[int, list[Any]] = {number: [] for number in clip.samples}
            for event in some:
                if event.last_frame in by_frame:
                    by_frame[event.last_frame].append(_classification(fo, event))
            for number, found in by_frame.items():
                values[clip.samples[number]] = fo.Classifications(classifications=found)
        dataset.set_values(events_field, values, key_field="id", dynamic=True)
    return notes


def _temporal(fo: Any, event: StoredEvent) -> Any:
    support = [event.first_frame, event.last_frame]
    return fo.TemporalDetection(label=event.label, support=support, confidence=event.confidence, **_told(event))


def _classification(fo: Any, event: StoredEvent) -> Any:
    where = {"first_frame": event.first_frame, "last_frame": event.last_frame}
    return fo.Classification(label=event.label, confidence=event.confidence, **where, **_told(event))


def _told(event: StoredEvent) -> dict[str, Any]:
    return {name: value for name, value in event.attributes.items() if value is not None}


def events_view(dataset: Any, sample_ids: Iterable[str], events_field: str, kind: str | None) -> Any:
    """Samples in this order, those with events of a kind (by default of any) only if one is given."""
    import fiftyone as fo

    view = dataset.select(list(sample_ids), ordered=True)
    return view if kind is None else view.filter_labels(events_field, fo.ViewField("label") == kind)


def events_clips(dataset: Any, sample_ids: Iterable[str], events_field: str, kind: str | None) -> Any:
    """A view with one clip per event of a video, to look at them one after the other.

    Raises:
        UsageError: the data set holds images, whose events have no clips.
    """
    if dataset.media_type != "video":
        raise UsageError("only videos have clips", f"'{dataset.name}' holds images", "use view(kind)")
    return events_view(dataset, sample_ids, events_field, kind).to_clips(events_field)


def frame_batches(frame: Any, size: int = 2000) -> Iterator[slice]:
    """Rows of tracks (sorted by frame) in slices of ``size`` frames."""
    import numpy as np

    last = int(frame[-1]) if len(frame) else 0
    for start in range(1, last + 1, size):
        first, end = np.searchsorted(frame, (start, start + size))
        yield slice(int(first), int(end))
