"""Steps that change labels and leave pixels alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from osv_lab.store.records import Label
from osv_lab.store.transforms.catalogue import Chosen


def remapped(labels: Mapping[str, Sequence[Label]], steps: Sequence[Chosen]) -> dict[str, list[Label]]:
    """Labels by field with their classes renamed, or dropped, by the ``remap`` steps."""
    names = {name for some in labels.values() for name in (label.label for label in some)}
    new = {name: renamed(name, steps) for name in names}
    return {
        field: [
            label if new[label.label] == label.label else dataclasses.replace(label, label=new[label.label])
            for label in some
            if new[label.label]
        ]
        for field, some in labels.items()
    }


def renamed(name: str, steps: Sequence[Chosen]) -> str:
    """The name of a class after the ``remap`` steps; ``""`` for one that was dropped."""
    for step in steps:
        if step.name == "remap" and name:
            name = str(step.params.get(name, name))
    return name
