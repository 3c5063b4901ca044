"""Which datasets there are, and opening one by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from osv_lab.core.errors import NotFoundError, nearest
from osv_lab.core.report import Report
from osv_lab.core.settings import SPLITS
from osv_lab.store.database import connect


@dataclass(frozen=True)
class DatasetList(Report):
    """The datasets of the store.

    Attributes:
        datasets: One mapping per dataset: ``name``, ``media``, ``samples``, counts per split, ``fields`` with labels.
    """

    datasets: tuple[Mapping[str, Any], ...]

    def rows(self) -> tuple[Mapping[str, Any], ...]:
        return self.datasets

    def summary(self) -> str:
        if not self.datasets:
            return "no datasets yet: osv ingest FOLDER NAME makes one, osv demo fills one"
        return f"{len(self.datasets)} dataset{'s' if len(self.datasets) != 1 else ''}"


def dataset_exists(name: str) -> bool:
    """Whether the store has a dataset of this name."""
    return bool(connect().dataset_exists(name))


def open_dataset(name: str) -> Any:
    """The ``fiftyone.Dataset`` of a name, as the database has it now.

    Raises:
        NotFoundError: there is none; the message names those there are.
    """
    fo = connect()
    if not fo.dataset_exists(name):
        names = fo.list_datasets()
        fix = nearest(name, names) if names else "osv ingest FOLDER NAME makes one"
        raise NotFoundError("no such dataset", repr(name), fix)
    return fo.load_dataset(name, reload=True)


def open_view(dataset: str, name: str) -> Any:
    """A saved view of a dataset by its name.

    Raises:
        NotFoundError: there is no such dataset or view; the message names those there are.
    """
    opened = open_dataset(dataset)
    views = opened.list_saved_views()
    if name not in views:
        raise NotFoundError("no such saved view", repr(name), nearest(name, views) if views else "it has none")
    return opened.load_saved_view(name)


def list_datasets() -> DatasetList:
    """All datasets with what they hold, by name."""
    fo = connect()
    found = []
    for name in fo.list_datasets():
        dataset = fo.load_dataset(name)
        counts = dataset.count_sample_tags()
        labels = dataset.get_field_schema(embedded_doc_type=fo.core.labels.Label)
        found.append(
            {
                "name": name,
                "media": dataset.media_type or "–",
                "samples": len(dataset),
                **{split: counts.get(split, 0) for split in SPLITS},
                "label fields": ", ".join(labels),
            }
        )
    return DatasetList(tuple(found))
