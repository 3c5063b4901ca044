"""Small videos in a dataset, for what tracks them; small images in one, for what annotates them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotation_people import looping
from cvat_double.reach import Reachable
from PIL import Image
from tracks_store_scenes import film

from osv_lab.annotate import AnnotationLoop
from osv_lab.store.ingest import ingest


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for name in range(3):
        film(folder / f"film{name}.avi", seed=name)
    return folder


@pytest.fixture
def videos(fo: Any, dataset_name: str, films: Path) -> Any:
    ingest(films, dataset_name)
    return fo.load_dataset(dataset_name)


@pytest.fixture
def told_server(cvat_server: Reachable, monkeypatch: pytest.MonkeyPatch) -> Reachable:
    """The server that this process and those that it starts are told of."""
    for name in ("url", "user", "password"):
        monkeypatch.setenv(f"OSV_CVAT_{name.upper()}", getattr(cvat_server, name))
    return cvat_server


@pytest.fixture
def pets(fo: Any, dataset_name: str, tmp_path: Path) -> Any:
    """Six images with three boxes and a tag each."""
    found = fo.Dataset(dataset_name)
    random = np.random.default_rng(5)
    samples = []
    for number in range(6):
        path = tmp_path / f"{number}.png"
        Image.fromarray(random.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(path)
        boxes = [
            fo.Detection(
                label=str(random.choice(["cat", "dog"])),
                bounding_box=[float(value) for value in random.uniform(0.1, 0.4, 4)],
                confidence=float(random.random()),
                blurred=bool(random.integers(2)),
                count=int(random.integers(9)),
            )
            for _ in range(3)
        ]
        day = fo.Classifications(classifications=[fo.Classification(label="day")])
        samples.append(fo.Sample(filepath=str(path), pred=fo.Detections(detections=boxes), weather=day))
    found.add_samples(samples, dynamic=True, progress=False)
    return found


@pytest.fixture
def loop(pets: Any, told_server: Reachable) -> Iterator[AnnotationLoop]:
    with looping(pets) as found:
        yield found
