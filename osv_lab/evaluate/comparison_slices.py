"""Which images two models are compared on apart: by split, tag, or a field's values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from osv_lab.core.errors import NotFoundError, UsageError, nearest
from osv_lab.core.settings import SPLITS

MOST_VALUES = 50
"""A field with more values is no division of a data set."""


def slices_of(view: Any, wanted: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Splits where there are several, then what was asked for.

    Args:
        view: The images.
        wanted: ``"tags"``, or names of sample fields of texts, truth values or whole numbers.

    Returns:
        By kind and value ``(images,)`` masks.

    Raises:
        NotFoundError: no such field.
        UsageError: a field with too many values.
    """
    tags = [set(row or ()) for row in view.values("tags")]
    splits = {split: np.array([split in row for row in tags]) for split in SPLITS}
    splits = {split: mask for split, mask in splits.items() if mask.any()}
    found = {"split": splits} if len(splits) > 1 else {}
    for name in wanted:
        if name == "tags":
            every = sorted(set().union(*tags) - set(SPLITS))
            found["tag"] = {tag: np.array([tag in row for row in tags]) for tag in every}
            continue
        if not view.has_field(name):
            raise NotFoundError("no such field to slice by", repr(name), nearest(name, view.get_field_schema()))
        column = [getattr(value, "label", value) for value in view.values(name)]
        values = sorted({str(value) for value in column if value is not None})
        if len(values) > MOST_VALUES:
            raise UsageError(
                "too many slices of one field", f"'{name}' has {len(values)} values", "put them in groups first"
            )
        found[name] = {
            one: np.array([value is not None and str(value) == one for value in column]) for one in values
        }
    return found
