"""Datasets for the App's tests: small, real where there is real data, and each test's own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from support import shared_data
from tiny_model import BOX

LISTS = {"train": 24, "val": 8, "test": 8}
"""How many photos of each of BCCD's lists."""


def cells_folder(folder: Path) -> Path:
    """Forty photos of blood cells with their boxes and lists, as Pascal VOC; without real data, rendered parts."""
    data = shared_data()
    if data is None:
        from osv_lab.store.synthetic import render_dataset

        render_dataset(folder / "parts", LISTS)
        return folder / "parts"
    source, copy = data / "bccd" / "BCCD", folder / "cells"
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (copy / name).mkdir(parents=True, exist_ok=True)
    for split, count in LISTS.items():
        names = (source / "ImageSets" / "Main" / f"{split}.txt").read_text().split()[:count]
        (copy / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            shutil.copy(source / "JPEGImages" / f"{name}.jpg", copy / "JPEGImages")
            shutil.copy(source / "Annotations" / f"{name}.xml", copy / "Annotations")
    return copy


def cells(name: str, folder: Path, *, predicted: bool = True) -> Any:
    """A dataset of :func:`cells_folder`, with ``predictions`` that miss, misplace and misname some of the boxes."""
    from osv_lab.store.database import connect
    from osv_lab.store.ingest import ingest

    ingest(cells_folder(folder), name)
    dataset = connect().load_dataset(name)
    if predicted:
        _predict(dataset)
    return dataset


def lamps(name: str, folder: Path) -> Any:
    """Thirty-two grey images with a lamp where :mod:`tiny_model` sees one, in the test split."""
    import cv2

    from osv_lab.store.database import connect

    fo = connect()
    dataset = fo.Dataset(name)
    x1, y1, x2, y2 = (value / 64 for value in BOX)
    samples = []
    for number in range(32):
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), np.full((64, 64, 3), 150 + number, np.uint8))
        truth = [fo.Detection(label="lamp", bounding_box=[x1, y1, x2 - x1, y2 - y1])]
        samples.append(fo.Sample(str(path), tags=["test"], ground_truth=fo.Detections(detections=truth)))
    dataset.add_samples(samples)
    return dataset


def _predict(dataset: Any) -> None:
    """What a detector might say: the truth with noise, which costs no second of a network."""
    import fiftyone as fo

    chance = np.random.default_rng(51)
    classes = dataset.distinct("ground_truth.detections.label")
    found = []
    for boxes in dataset.values("ground_truth.detections"):
        some = []
        for box in boxes or []:
            if chance.random() < 0.1:
                continue
            place = np.clip(np.array(box.bounding_box) + chance.normal(0, 0.01, 4), 0.001, 0.999)
            label = box.label if chance.random() < 0.95 else str(chance.choice(classes))
            some.append(fo.Detection(label=label, bounding_box=place.tolist(), confidence=chance.uniform(0.3, 1)))
        found.append(fo.Detections(detections=some))
    dataset.set_values("predictions", found)
