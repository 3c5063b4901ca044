"""Variants of a trained model that are better or worse on purpose, class by class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def with_shifted_classes(weights: Path, target: Path, shifts: Mapping[str, float]) -> Path:
    """Copy a YOLO's weights with the logits of some classes shifted: a negative shift makes a class harder to see."""
    import torch
    from ultralytics import YOLO

    model = YOLO(weights)
    numbers = {name: number for number, name in model.names.items()}
    with torch.no_grad():
        for branch in model.model.model[-1].cv3:
            for name, shift in shifts.items():
                branch[-1].bias[numbers[name]] += shift
    model.save(target)
    return target
