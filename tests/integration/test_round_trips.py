"""Every pair of formats gives back what both can say, and one table says which that is."""

from __future__ import annotations

import itertools
import math
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osv_lab.store.formats import open_source
from osv_lab.store.formats.write import write_source
from osv_lab.store.geometry import bounds, pixel_window, rotated_corners
from osv_lab.store.records import FIELDS, Box, ImageClass, Keypoints, Label, OrientedBox, Polygon, Record

SIZES = ((64, 48), (97, 131), (640, 480))
CLASSES = ("cat", "dog & <co>", 'naïve "x"', "日本", "a,b", "0")
FOLDER_CLASSES = ("cat", "dog", "naïve", "日本")
TOLERANCE = 1e-4

# What each format can say. Everything else must be named in its losses.
CAN: dict[str, tuple[str, ...]] = {
    "yolo-detect": ("box",),
    "yolo-segment": ("polygon",),
    "yolo-pose": ("keypoints",),
    "yolo-obb": ("oriented_box",),
    "yolo-classify": ("class",),
    "coco": ("box", "mask", "polygon", "polygon, parts", "keypoints"),
    "voc": ("box",),
    "cvat-images": ("box", "mask", "polygon", "polygon, parts", "oriented_box", "keypoints", "class"),
    "cvat-video": ("box", "polygon", "oriented_box", "keypoints"),
}
# Boxes around keypoints have no place in CVAT.
KINDS = ("box", "mask", "polygon", "polygon, parts", "oriented_box", "keypoints", "class")
EXTRAS: dict[str, tuple[str, ...]] = {
    "confidence": ("coco",),
    "track": ("coco", "cvat-video"),
    "attributes": ("coco", "voc", "cvat-images", "cvat-video"),
}

part = st.floats(0.0, 0.875, allow_nan=False, width=32)
extent = st.floats(0.03125, 0.625, allow_nan=False, width=32)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float, float, float]:
    x, y = draw(part), draw(part)
    return x, y, min(draw(extent), 1 - x), min(draw(extent), 1 - y)


@st.composite
def label_of(draw: st.DrawFn, kind: str, size: tuple[int, int], classes: tuple[str, ...]) -> Label:
    name = draw(st.sampled_from(classes))
    width, height = size
    x, y, w, h = draw(boxes())
    if kind == "class":
        return ImageClass(name)
    if kind == "box":
        return Box(name, (x, y, w, h))
    if kind == "mask":
        x0, y0, x1, y1 = pixel_window((x, y, w, h), size)
        seed = draw(st.integers(0, 2**32 - 1))
        mask = np.random.default_rng(seed).random((y1 - y0, x1 - x0)) < draw(st.sampled_from((0.2, 0.7)))
        mask[0, 0] = mask[-1, -1] = True
        return Box(name, (x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height), mask=mask)
    if kind in ("polygon", "polygon, parts"):
        rings = 1 if kind == "polygon" else draw(st.integers(2, 3))
        return Polygon(name, tuple(draw(ring_in((x, y, w, h))) for _ in range(rings)))
    if kind == "oriented_box":
        # Inside the image, so that no format has a reason to cut it.
        cx, cy = 0.5 * width, 0.5 * height
        half = draw(st.floats(0.02, 0.45)) * min(size) * 0.7, draw(st.floats(0.02, 0.45)) * min(size) * 0.7
        angle = draw(st.floats(0, 359.99))
        return OrientedBox(
            name, rotated_corners(cx - half[0], cy - half[1], cx + half[0], cy + half[1], angle, size)
        )
    count = 5
    points = [(x + draw(st.floats(0, 1)) * w, y + draw(st.floats(0, 1)) * h) for _ in range(count)]
    visible = draw(st.lists(st.sampled_from((0, 1, 2)), min_size=count, max_size=count))
    visible[0] = 2
    placed = tuple(p if flag else (math.nan, math.nan) for p, flag in zip(points, visible, strict=True))
    return Keypoints(name, placed, tuple(visible), (x, y, w, h))


@st.composite
def ring_in(draw: st.DrawFn, box: tuple[float, float, float, float]) -> tuple[tuple[float, float], ...]:
    x, y, w, h = box
    count = draw(st.integers(3, 7).filter(lambda n: n != 4))
    radii = draw(st.lists(st.floats(0.5, 1.0), min_size=count, max_size=count))
    turns = [2 * math.pi * k / count for k in range(count)]
    return tuple(
        (x + w / 2 * (1 + radius * math.cos(turn)), y + h / 2 * (1 + radius * math.sin(turn)))
        for radius, turn in zip(radii, turns, strict=True)
    )


def place(label: Label) -> list[float]:
    if isinstance(label, Box):
        return list(label.xywh)
    if isinstance(label, Polygon):
        return [value for ring in label.rings for point in ring for value in point]
    if isinstance(label, OrientedBox):
        return [value for point in label.corners for value in point]
    if isinstance(label, Keypoints):
        return [value for point in label.points for value in point]
    return []


def difference(first: Label, second: Label) -> float:
    """The largest difference of a coordinate, as a share of the label's own extent; infinite for another label."""
    same_mask = not isinstance(first, Box) or np.array_equal(
        np.array(first.mask), np.array(second.mask if isinstance(second, Box) else None)
    )
    flags = isinstance(first, Keypoints) and isinstance(second, Keypoints) and first.visible != second.visible
    if first.label != second.label or first.kind != second.kind or not same_mask or flags:
        return math.inf
    ours, theirs = place(first), place(second)
    if len(ours) != len(theirs):
        return math.inf
    if [value != value for value in ours] != [value != value for value in theirs]:
        return math.inf
    if not ours:
        return 0.0
    points = list(zip(ours[::2], ours[1::2], strict=True))
    share = max(first.xywh[2:]) if isinstance(first, Box) else max(*bounds(points)[2:], 0.01)
    return max((abs(a - b) for a, b in zip(ours, theirs, strict=True) if a == a), default=0.0) / share


def worst(before: list[Record], after: list[Record], kind: str) -> float:
    """The largest difference of any label of a kind, images matched by name, labels by order."""
    found = {record.path.stem: record for record in after}
    assert sorted(found) == sorted(record.path.stem for record in before)
    most = 0.0
    for record in before:
        other = found[record.path.stem]
        assert not other.problems, other.problems
        pairs = [(record.labels, other.labels)]
        if record.frames is not None:
            assert other.frames is not None
            assert sorted(record.frames) == sorted(other.frames)
            pairs = [(record.frames[frame], other.frames[frame]) for frame in record.frames]
        for ours, theirs in pairs:
            theirs = [label for label in theirs if label.kind == kind.split(",")[0]]
            assert len(ours) == len(theirs), (ours, theirs)
            if record.frames is not None:
                theirs = sorted(theirs, key=lambda label: label.index)
                ours = sorted(ours, key=lambda label: label.index)
            most = max([most, *(difference(a, b) for a, b in zip(ours, theirs, strict=True))])
    return most


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], list[Path]]:
    folder = tmp_path_factory.mktemp("media")
    made: dict[tuple[int, int], list[Path]] = {}
    for (width, height), letter in itertools.product(SIZES, "ab"):
        path = folder / f"{letter}{width}.png"
        cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))
        made.setdefault((width, height), []).append(path)
    return made


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 5, (64, 48))
    for shade in range(6):
        writer.write(np.full((48, 64, 3), shade * 30, np.uint8))
    writer.release()
    return path


@pytest.fixture(scope="module")
def table(output_dir: Path) -> Iterator[dict[tuple[str, str], str]]:
    """What was found per format and kind; written when the module's tests are over."""
    found: dict[tuple[str, str], str] = {}
    yield found
    columns = [*KINDS, *EXTRAS]
    claimed = {(name, kind) for name, kinds in CAN.items() for kind in kinds}
    claimed |= {(name, extra) for extra, names in EXTRAS.items() for name in names}
    width = max(map(len, columns)) + 2
    lines = ["format".ljust(16) + "".join(column.ljust(width) for column in columns)]
    for name in CAN:
        said = [found.get((name, c), "not shown" if (name, c) in claimed else "cannot say") for c in columns]
        lines.append(name.ljust(16) + "".join(text.ljust(width) for text in said))
    text = "\n".join(line.rstrip() for line in lines) + "\n"
    (output_dir / "round_trips.txt").write_text(text, encoding="utf-8")
    print("\n" + text)


@pytest.fixture
def workplace(tmp_path: Path) -> Callable[[], Path]:
    """A new folder per example of a property."""

    def fresh() -> Path:
        for old in tmp_path.iterdir():
            shutil.rmtree(old)
        folder = tmp_path / uuid.uuid4().hex[:8]
        folder.mkdir()
        return folder

    return fresh


def records_for(draw: st.DrawFn, kind: str, formats: tuple[str, ...], media: dict, video: Path) -> list[Record]:
    classes = FOLDER_CLASSES if "yolo-classify" in formats else CLASSES
    if "cvat-video" in formats:
        track = st.integers(0, 9)
        numbers = draw(st.lists(track, min_size=1, max_size=3, unique=True))
        frames: dict[int, list[Label]] = {}
        names = {number: draw(st.sampled_from(classes)) for number in numbers}
        for number in numbers:
            for frame in draw(st.lists(st.integers(1, 6), min_size=1, max_size=4, unique=True)):
                label = draw(label_of(kind, (64, 48), classes))
                frames.setdefault(frame, []).append(replace(label, label=names[number], index=number))
        return [Record(video, frames=frames, size=(64, 48), split=draw(st.sampled_from((None, "train", "test"))))]
    records = []
    for size, paths in media.items():
        for path in paths[: draw(st.integers(0, 2))]:
            most = 1 if "yolo-classify" in formats else 3
            labels = draw(st.lists(label_of(kind, size, classes), min_size=1, max_size=most))
            unique = {(label.kind, label.label, *place(label)): label for label in labels}
            split = draw(st.sampled_from(("train", "val", "test")))
            records.append(Record(path, list(unique.values()), split=split, size=size))
    if not records:
        records = [
            Record(media[SIZES[0]][0], [draw(label_of(kind, SIZES[0], classes))], split="train", size=SIZES[0])
        ]
    return records


def through(records: list[Record], format: str, folder: Path) -> list[Record]:
    """Records written and read again; nothing may go wrong on the way."""
    skeletons = {name: tuple(f"p{k}" for k in range(5)) for name in {*CLASSES, *FOLDER_CLASSES}}
    _, written = write_source(records, folder, format, skeletons=skeletons)
    assert not written.problems
    source, read = open_source(folder)
    found = list(read)
    assert not source.problems, source.problems
    return found


def pairs() -> list[tuple[str, str, str]]:
    return [
        (kind, first, second)
        for kind in KINDS
        for first, second in itertools.product(CAN, CAN)
        if kind in CAN[first] and kind in CAN[second] and ("video" in first) == ("video" in second)
    ]


@pytest.mark.parametrize(("kind", "first", "second"), pairs())
def test_pair(kind, first, second, media, video, table, workplace) -> None:  # type: ignore[no-untyped-def]
    most = 0.0

    @settings(
        max_examples=12, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(st.data())
    def property_holds(data: st.DataObject) -> None:
        nonlocal most
        records = data.draw(st.composite(records_for)(kind, (first, second), media, video))
        folder = workplace()
        once = through(records, first, folder / "first")
        twice = through(once, second, folder / "second")
        error = max(worst(records, once, kind), worst(records, twice, kind))
        most = max(most, error)
        assert error <= TOLERANCE
        assert [r.split for r in sorted(once, key=lambda r: r.path.stem)] == [
            r.split for r in sorted(records, key=lambda r: r.path.stem)
        ]

    property_holds()
    if first == second:
        table[first, kind] = "exact" if most < 1e-12 else f"{most:.0e}"


@pytest.mark.parametrize("format", list(CAN))
@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_said_is_named(kind, format, media, video, workplace) -> None:  # type: ignore[no-untyped-def]
    """Nothing is lost in silence: a label is written whole, or a loss or problem names it."""
    if kind in CAN[format]:
        return
    size = SIZES[2]
    label = _example(kind, size)
    frames = {1: [replace(label, index=1) if kind != "class" else label]} if format == "cvat-video" else None
    record = Record(video if frames else media[size][0], [] if frames else [label], frames, "train", size=size)
    if format == "yolo-classify":
        record.labels.append(ImageClass("cat"))
    _, written = write_source([record], workplace() / "out", format)
    assert written.losses
    assert any(count > 0 for count in written.losses.values())


def _example(kind: str, size: tuple[int, int]) -> Label:
    box = (0.25, 0.25, 0.25, 0.25)
    ring = ((0.2, 0.2), (0.4, 0.25), (0.3, 0.5))
    examples: dict[str, Label] = {
        "box": Box("cat", box),
        "mask": Box("cat", box, mask=np.ones((size[1] // 4, size[0] // 4), bool)),
        "polygon": Polygon("cat", (ring,)),
        "polygon, parts": Polygon("cat", (ring, ((0.6, 0.6), (0.8, 0.65), (0.7, 0.9)))),
        "oriented_box": OrientedBox("cat", rotated_corners(100, 100, 200, 150, 30, size)),
        "keypoints": Keypoints("cat", ring, (2, 1, 2), box),
        "class": ImageClass("cat"),
    }
    return examples[kind]


values = st.one_of(
    st.booleans(),
    st.integers(-1000, 1000),
    st.floats(-10, 10, allow_nan=False).map(float),
    st.sampled_from(("red", "a b")),
)


@pytest.mark.parametrize("format", list(CAN))
def test_extras(format, media, video, table, workplace) -> None:  # type: ignore[no-untyped-def]
    """Confidence, track identity and attributes come back, or are named as lost."""

    @settings(
        max_examples=15, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(
        st.dictionaries(st.sampled_from(("colour", "n", "odd name")), values, min_size=1),
        st.floats(0, 1),
        st.integers(0, 99),
    )
    def property_holds(attributes: dict, confidence: float, index: int) -> None:
        kind = CAN[format][0]
        label = _example(kind, SIZES[2])
        if kind == "class":
            label = replace(label, confidence=confidence, attributes=attributes)
        else:
            label = replace(label, confidence=confidence, index=index, attributes=attributes)
        if format == "cvat-video":
            record = Record(video, frames={2: [label]}, size=(64, 48), split="train")
        else:
            record = Record(media[SIZES[2]][0], [label], split="train", size=SIZES[2])
        folder = workplace() / "out"
        _, written = write_source([record], folder, format)
        (again,) = list(open_source(folder)[1])
        labels = again.frames[2] if again.frames is not None else again.labels
        (found,) = [other for other in labels if other.kind == label.kind]
        lost = " ".join(written.losses)
        if format in EXTRAS["attributes"]:
            assert dict(found.attributes) == attributes
        else:
            assert all(f"attribute {name!r}" in lost for name in attributes)
        if format in EXTRAS["confidence"]:
            assert found.confidence == confidence
        else:
            assert "confidence" in lost
        if kind != "class":
            assert found.index == index if format in EXTRAS["track"] else "track ids" in lost

    property_holds()
    for name, formats in EXTRAS.items():
        if format in formats:
            table[format, name] = "exact"


@pytest.mark.parametrize("format", [name for name in CAN if name != "cvat-video"])
def test_through_the_store(format, media, fo, dataset_name, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """SDK objects in a real dataset, exported and read again."""
    from osv_lab.store.convert import fiftyone_label
    from osv_lab.store.export import export

    dataset = fo.Dataset(dataset_name)
    kinds = [kind for kind in CAN[format] if kind != "polygon, parts"]
    for kind in kinds:
        size = SIZES[2]
        label = _example(kind, size)
        sample = fo.Sample(str(media[size][0]), tags=["val"], labelled=True)
        sample.metadata = fo.ImageMetadata(width=size[0], height=size[1])
        dataset.add_sample(sample)
        sample[FIELDS[label.kind]] = fiftyone_label([label], label.kind)
        sample.save()
        report = export(dataset, tmp_path / kind, format)
        assert sum(report.images.values()) == 1
        assert not report.problems
        (record,) = list(open_source(tmp_path / kind)[1])
        (found,) = [other for other in record.labels if other.kind == label.kind]
        assert difference(label, found) <= 1e-6
        assert record.split == "val"
        dataset.delete_samples([sample.id])


def test_video_through_the_store(fo, dataset_name, video, tmp_path) -> None:  # type: ignore[no-untyped-def]
    from osv_lab.store.convert import fiftyone_label
    from osv_lab.store.export import export

    dataset = fo.Dataset(dataset_name)
    sample = fo.Sample(str(video), tags=["train"])
    sample.metadata = fo.VideoMetadata(frame_width=64, frame_height=48)
    boxes = {frame: Box("cat", (0.1 * frame, 0.2, 0.3, 0.3), index=4) for frame in (1, 2, 5)}
    for frame, box in boxes.items():
        sample.frames[frame] = fo.Frame(ground_truth=fiftyone_label([box], "box"))
    dataset.add_sample(sample)
    report = export(dataset, tmp_path / "out", "cvat")
    assert report.format == "cvat-video"
    (record,) = list(open_source(tmp_path / "out")[1])
    assert record.frames is not None
    assert sorted(record.frames) == [1, 2, 5]
    for frame, box in boxes.items():
        (found,) = record.frames[frame]
        assert found.index == 4
        assert difference(box, found) < 1e-6
