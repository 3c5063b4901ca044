"""A lab of its own for each test of versions, and real images where they are there."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import shared_data


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty lab folder. Another one is another machine, as far as versions go."""
    folder = tmp_path / "home"
    monkeypatch.setenv("OSV_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BCCD's 364 photos with their boxes; in a clone without them, rendered pictures."""
    data = shared_data()
    if data is not None:
        return data / "bccd"
    from osv_lab.store.synthetic import render_dataset

    folder = tmp_path_factory.mktemp("rendered") / "parts"
    render_dataset(folder, 40, (160, 120))
    return folder


@pytest.fixture
def make(fo: Any, home: Path, source: Path) -> Iterator[Callable[..., Any]]:
    """Ingests the data into a new dataset: ``make()``. All datasets made meanwhile are deleted afterwards."""
    from osv_lab.store.ingest import ingest

    before = set(fo.list_datasets())

    def new(name: str | None = None, folder: Path = source) -> Any:
        name = name or f"test-{uuid.uuid4().hex[:10]}"
        ingest(folder, name)
        return fo.load_dataset(name)

    yield new
    for name in set(fo.list_datasets()) - before:
        fo.delete_dataset(name)


@pytest.fixture
def small(fo: Any, home: Path, make: Callable[..., Any], source: Path) -> Any:
    """A persistent dataset of 12 of the images, six of them in train."""
    dataset = make()
    keep = dataset.sort_by("filepath").limit(12).values("id")
    dataset.delete_samples(dataset.exclude(keep))
    for number, sample in enumerate(dataset.sort_by("filepath").iter_samples(autosave=True)):
        sample.tags = ["train" if number < 6 else "val" if number < 9 else "test"]
    return dataset
