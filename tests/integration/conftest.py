"""Small videos in a dataset, for what tracks them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tracks_store_scenes import film

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
