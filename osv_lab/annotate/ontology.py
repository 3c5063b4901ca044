"""Which label of the dataset each class of a detector becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeAlias

from osv_lab.core.errors import UsageError, nearest

Ontology: TypeAlias = Mapping[str, str | None]
"""Class names of a detector, or patterns of them (``*``, ``?``, ``[ab]``), and the label that each becomes; several may
become one; ``None`` drops a class."""


def labels_of_classes(class_names: Sequence[str], ontology: Ontology | None = None) -> dict[str, str | None]:
    """The label of each class: by its name, else by the first pattern that matches, else its own name.

    Args:
        class_names: What the detector knows.
        ontology: The rules.

    Raises:
        UsageError: a rule that matches no class, which is most likely misspelt, or a label without a name.

    Example:
        >>> labels_of_classes(("car", "truck", "bus", "person"), {"person": "pedestrian", "t*": "car", "bus": None})
        {'car': 'car', 'truck': 'car', 'bus': None, 'person': 'pedestrian'}
    """
    rules = dict(ontology or {})
    for rule, label in rules.items():
        if not any(fnmatchcase(name, rule) or name == rule for name in class_names):
            raise UsageError("the detector has no such class", repr(rule), nearest(rule, class_names))
        if label is not None and not label.strip():
            raise UsageError("a label without a name", repr(rule), "give a name, or None to drop the class")
    found: dict[str, str | None] = {}
    for name in class_names:
        pattern = name if name in rules else next((rule for rule in rules if fnmatchcase(name, rule)), None)
        found[name] = rules[pattern] if pattern is not None else name
    return found
