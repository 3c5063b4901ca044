"""Nothing is lost, doubled or moved: random edits of both sides in random order over HTTP, and a large round trip."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotation_people import Annotator, looping
from cvat_double.reach import Reachable
from PIL import Image

from osv_lab.annotate import AnnotationLoop

SIZE = (64, 48)
BOX, POLYGON, TAG = "pred", "outlines", "weather"
KINDS = {BOX: "detections", POLYGON: "polylines", TAG: "classifications"}


def scene(fo: Any, name: str, folder: Path, images: int, boxes: int) -> Any:
    """Images with boxes, polygons and a tag, all of which have a name that nobody else has."""
    found = np.random.default_rng(1)
    samples = []
    for number in range(images):
        path = folder / f"{number:04}.png"
        Image.new("RGB", SIZE, (number % 255, number // 255, 7)).save(path)

        def named(make: Any, one: int, number: int = number, **place: Any) -> Any:
            label = str(found.choice(["cat", "dog"]))
            return make(label=label, name=f"{number}-{one}", confidence=float(found.random()), **place)

        detections = [
            named(fo.Detection, one, bounding_box=found.uniform(0.05, 0.45, 4).tolist()) for one in range(boxes)
        ]
        rings = [found.uniform(0.1, 0.9, (int(found.integers(3, 7)), 2)).tolist() for _ in range(2)]
        outlines = [
            named(fo.Polyline, one, points=[ring], closed=True, filled=True) for one, ring in enumerate(rings)
        ]
        labels = {
            BOX: fo.Detections(detections=detections),
            POLYGON: fo.Polylines(polylines=outlines),
            TAG: fo.Classifications(classifications=[named(fo.Classification, 0)]),
        }
        samples.append(fo.Sample(filepath=str(path), **labels))
    dataset = fo.Dataset(name)
    dataset.add_samples(samples, dynamic=True, progress=False)
    return dataset


def documents(dataset: Any, field: str) -> dict[str, dict[str, Any]]:
    """All labels of a field by id, as they are in the database."""
    found = dataset._sample_collection.find({}, {field: 1})
    return {str(one["_id"]): one for sample in found for one in (sample.get(field) or {}).get(KINDS[field], [])}


def place(one: dict[str, Any]) -> Any:
    return one.get("bounding_box") or one.get("points")


class World:
    """A dataset, a run per field, and what each label is to be at the end by its name: ``None`` where it is deleted."""

    def __init__(self, dataset: Any, loop: AnnotationLoop) -> None:
        self.dataset, self.loop = dataset, loop
        self.people = {
            field: Annotator(loop.connection, loop.send(dataset, field, field, ["cat", "dog", "new"]).task)
            for field in KINDS
        }
        self.sent = {field: documents(dataset, field) for field in KINDS}
        self.left = {field: sorted(one["name"] for one in some.values()) for field, some in self.sent.items()}
        self.expected: dict[tuple[str, str], Any] = {}
        self.made = 0

    def there(self, field: str, name: str) -> dict[str, Any]:
        """An object on the server."""
        (found,) = [
            one
            for one in self.people[field].objects("tags" if field == TAG else "shapes")
            if any(value["value"] == name for value in one["attributes"])
        ]
        return found

    def pick(self, chance: random.Random, field: str) -> str:
        """A label that nobody has touched yet."""
        return self.left[field].pop(chance.randrange(len(self.left[field])))

    def edit_there(self, chance: random.Random, field: str) -> None:
        name = self.pick(chance, field)
        kind = "tags" if field == TAG else "shapes"
        one = self.there(field, name)
        if field == TAG or chance.random() < 0.3:
            self.people[field].do("delete", one, kind=kind)
            self.expected[field, name] = None
            return
        points = [round(chance.uniform(1, 40), 2) for _ in one["points"]]
        if field == BOX:
            points = [*sorted(points[::2]), *sorted(points[1::2])]
            points = [points[0], points[2], points[1] + 2, points[3] + 2]
        self.people[field].do("update", {**one, "points": points, "source": "manual"}, kind=kind)
        self.expected[field, name] = points

    def add_there(self, chance: random.Random, field: str) -> None:
        self.made += 1
        person = self.people[field]
        corner = [chance.uniform(1, 20), chance.uniform(1, 20)]
        points = [*corner, corner[0] + 20, corner[1] + 3 + self.made % 9]
        points = [*points, 30.0, 40.0 - self.made] if field == POLYGON else points
        one: dict[str, Any] = {"frame": chance.randrange(len(self.dataset)), "label_id": person.labels["new"]}
        if field != TAG:
            one |= {"type": "rectangle" if field == BOX else "polygon", "points": points}
        person.do("create", one, kind="tags" if field == TAG else "shapes")
        self.expected[field, f"+{self.made}"] = None if field == TAG else points

    def edit_here(self, chance: random.Random, field: str) -> None:
        name = self.pick(chance, field)
        remove = chance.random() < 0.3
        for sample in self.dataset:
            labels = sample[field][KINDS[field]]
            for one in list(labels):
                if getattr(one, "name", None) == name:
                    if remove:
                        labels.remove(one)
                    else:
                        one.label = f"mine {name}"
            sample.save()
        self.expected[field, name] = None if remove else f"mine {name}"

    def pull(self, _: random.Random, field: str) -> None:
        assert self.loop.pull(field, done="any").conflicts == ()

    def check(self) -> None:
        """Every label is what it is to be, once, and those that nobody touched are as they were, to the last bit."""
        for field in KINDS:
            self.loop.pull(field, done="any")
            now = documents(self.dataset, field)
            added = [one for one in now.values() if one["label"] == "new"]
            assert len(added) == sum(f == field and name[0] == "+" for f, name in self.expected)
            names = sorted(one["name"] for one in now.values() if one["label"] != "new")
            gone = {name for (f, name), end in self.expected.items() if f == field and end is None}
            assert names == sorted({one["name"] for one in self.sent[field].values()} - gone)
            for key, one in now.items():
                if one["label"] == "new":
                    continue
                end = self.expected.get((field, one["name"]))
                if end is None:
                    assert one == self.sent[field][key]
                elif isinstance(end, str):
                    assert (one["label"], place(one)) == (end, place(self.sent[field][key]))
                else:
                    assert pixels(one) == pytest.approx(end, abs=1e-9)
                    assert one.get("confidence") is None
            wanted = [end for (f, name), end in self.expected.items() if f == field and name[0] == "+" and end]
            if field != TAG:
                assert sorted(map(pixels, added)) == [pytest.approx(end, abs=1e-9) for end in sorted(wanted)]
            assert self.loop.pull(field, done="any").changed == 0
            assert documents(self.dataset, field) == now


def pixels(one: dict[str, Any]) -> list[float]:
    if "bounding_box" in one:
        x, y, w, h = one["bounding_box"]
        return [x * SIZE[0], y * SIZE[1], (x + w) * SIZE[0], (y + h) * SIZE[1]]
    return [value * size for point in one["points"][0] for value, size in zip(point, SIZE, strict=True)]


@pytest.mark.parametrize("seed", range(3))
def test_random_interleavings_lose_double_and_move_nothing(
    seed: int, fo: Any, dataset_name: str, tmp_path: Path, told_server: Reachable
) -> None:
    dataset = scene(fo, dataset_name, tmp_path, images=6, boxes=4)
    chance = random.Random(seed)
    with looping(dataset) as loop:
        world = World(dataset, loop)
        steps: list[Callable[[random.Random, str], None]] = [
            world.edit_there,
            world.edit_there,
            world.add_there,
            world.edit_here,
            world.pull,
        ]
        for _ in range(30):
            field = chance.choice(list(KINDS))
            step = chance.choice(steps)
            if step in (world.pull, world.add_there) or world.left[field]:
                step(chance, field)
        world.check()


def test_five_hundred_images_with_five_thousand_boxes_and_polygons_and_tags(
    fo: Any, dataset_name: str, tmp_path: Path, told_server: Reachable
) -> None:
    dataset = scene(fo, dataset_name, tmp_path, images=500, boxes=10)
    with looping(dataset) as loop:
        before = loop.connection.calls
        world = World(dataset, loop)
        assert [len(world.sent[field]) for field in KINDS] == [5000, 1000, 500]
        # Three sends, whatever they hold; waiting for the server takes as many calls as it takes.
        assert loop.connection.calls - before <= 3 * 40
        chance = random.Random(9)
        for field in KINDS:
            every = world.people[field].objects("tags" if field == TAG else "shapes")
            kind = "tags" if field == TAG else "shapes"
            names = {value["value"]: one for one in every for value in one["attributes"]}
            removed = [world.pick(chance, field) for _ in range(50)]
            world.people[field].do("delete", *(names[name] for name in removed), kind=kind)
            world.expected |= {(field, name): None for name in removed}
            if field != TAG:
                moved = {world.pick(chance, field): None for _ in range(100)}
                ends = {name: [value + 0.5 for value in names[name]["points"]] for name in moved}
                changes = [{**names[name], "points": end, "source": "manual"} for name, end in ends.items()]
                world.people[field].do("update", *changes, kind=kind)
                world.expected |= {(field, name): end for name, end in ends.items()}
            for _ in range(10):
                world.add_there(chance, field)
        before = loop.connection.calls
        world.check()
        assert loop.connection.calls - before <= 6 * 8


def test_the_calls_for_a_thousand_images_are_few(
    fo: Any, dataset_name: str, tmp_path: Path, told_server: Reachable
) -> None:
    dataset = scene(fo, dataset_name, tmp_path, images=1000, boxes=1)
    with looping(dataset) as loop:
        before = loop.connection.calls
        loop.send(dataset, "key", "pred", segment_size=250)
        loop.status("key")
        loop.pull("key", done="any")
        # Waiting for the server takes as many calls as it takes, each time half as long again.
        assert loop.connection.calls - before <= 60
