"""Which fields and label attributes a dataset declares, so that the App and the SDK can see and filter them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from osv_lab.core.digests import value_digest
from osv_lab.core.errors import UsageError
from osv_lab.core.settings import load_settings
from osv_lab.store.documents import CONTAINERS, DETECTION_CONFIDENCE, MADE_BY, OWN_KEYS
from osv_lab.store.records import Keypoints

if TYPE_CHECKING:
    import fiftyone as fo

_SUFFIX: Mapping[type, str] = {bool: "flag", int: "int", float: "float", str: "text"}
INT64 = 1 << 63


@contextlib.contextmanager
def declaring_alone(dataset: fo.Dataset) -> Iterator[None]:
    """One process of this lab declares fields of a dataset at a time, on what the others declared before."""
    with changing_alone(dataset.name):
        dataset.reload()
        yield


@contextlib.contextmanager
def changing_alone(name: str) -> Iterator[None]:
    """One process of this lab makes or changes the dataset of a name at a time."""
    folder = load_settings().home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"dataset-{value_digest(name)[:16]}.lock", "a") as file:
        with contextlib.suppress(ImportError):
            import fcntl

            # The system drops the lock when its holder dies or closes the file.
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


class LabelSchema:
    """The label fields of a dataset and their attributes, declared as they are met.

    Args:
        dataset: The dataset to declare on.
        frames: Whether the labels are those of a video's frames.
    """

    def __init__(self, dataset: fo.Dataset, *, frames: bool = False) -> None:
        self._dataset = dataset
        self._prefix = "frames." if frames else ""
        self._containers: dict[str, str] = {}
        self._attributes: dict[str, dict[str, type]] = {}
        self._marks: set[tuple[str, str]] = set()

    def declare(self, field: str, container: str) -> None:
        """Make sure that a label field exists.

        Args:
            field: Its name, without ``frames.``.
            container: The name of its FiftyOne class (``Detections``).

        Raises:
            UsageError: the field exists and holds something else.
        """
        if self._containers.get(field) == container:
            return
        import fiftyone as fo

        path = self._prefix + field
        existing = self._dataset.get_field(path)
        if existing is None:
            with declaring_alone(self._dataset):
                existing = self._dataset.get_field(path)
                if existing is None:
                    add = self._dataset.add_frame_field if self._prefix else self._dataset.add_sample_field
                    add(field, fo.EmbeddedDocumentField, embedded_doc_type=getattr(fo, container))
        if existing is not None:
            found = getattr(getattr(existing, "document_type", None), "__name__", type(existing).__name__)
            if found != container:
                raise UsageError(
                    "the field holds another kind of label",
                    f"'{path}' holds {found}, these labels need {container}",
                    "choose another field name",
                )
        self._containers[field] = container
        self._attributes[field] = self._declared_attributes(field)

    def fit(self, field: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """A label's attributes as the schema wants them, new ones declared.

        A name that FiftyOne or MongoDB reserves gets the prefix ``attr_``. A value of another type than the one
        declared under its name is kept under the name with its type added (``difficult_text``).
        """
        known = self._attributes[field]
        fitted: dict[str, Any] = {}
        for given, raw in attributes.items():
            value = _plain(raw)
            if value is None:
                continue
            name = attribute_name(given)
            kind = known.get(name)
            if kind is float and type(value) is int:
                value = float(value)
            elif kind is not None and kind is not type(value):
                name = f"{name}_{_SUFFIX[type(value)]}"
                kind = known.get(name)
            if kind is None:
                self._declare_attribute(field, name, type(value))
                known = self._attributes[field]
                if known.get(name) is not type(value):
                    return self.fit(field, attributes)
            fitted[name] = value
        return fitted

    def declare_made_by(self, field: str) -> None:
        """Make sure that the label field can say what made it."""
        self.declare_mark(field, MADE_BY)

    def declare_mark(self, field: str, name: str) -> None:
        """Make sure that the label field can hold a text beside its labels."""
        if (field, name) not in self._marks:
            import fiftyone as fo

            self._add(f"{field}.{name}", fo.StringField)
            self._marks.add((field, name))

    def declare_keypoints(self, field: str, label: Keypoints) -> None:
        """Make sure that what keypoints have beyond FiftyOne's own fields exists."""
        known = self._attributes[field]
        if label.visible and "visible" not in known:
            self._declare_list(field, "visible", int)
        if label.xywh is not None and "bounding_box" not in known:
            self._declare_list(field, "bounding_box", float)
        if label.scores and label.confidence is not None and DETECTION_CONFIDENCE not in known:
            self._declare_attribute(field, DETECTION_CONFIDENCE, float)

    def _declare_list(self, field: str, name: str, item: type) -> None:
        import fiftyone as fo

        subfield = fo.IntField if item is int else fo.FloatField
        self._add(f"{self._label_path(field)}.{name}", fo.ListField, subfield=subfield)
        self._attributes[field][name] = list

    def _declare_attribute(self, field: str, name: str, kind: type) -> None:
        wanted = next(ftype for ftype, plain in _field_types().items() if plain is kind)
        self._add(f"{self._label_path(field)}.{name}", wanted)
        self._attributes[field] = self._declared_attributes(field)

    def _add(self, path: str, ftype: type, **options: Any) -> None:
        with declaring_alone(self._dataset):
            if self._dataset.get_field(self._prefix + path) is None:
                add = self._dataset.add_frame_field if self._prefix else self._dataset.add_sample_field
                add(path, ftype, **options)

    def _label_path(self, field: str) -> str:
        key = CONTAINERS.get(self._containers[field])
        return f"{field}.{key}" if key else field

    def _declared_attributes(self, field: str) -> dict[str, type]:
        import fiftyone as fo

        types = {**_field_types(), fo.ListField: list}
        declared = self._dataset.get_field(self._prefix + self._label_path(field))
        if isinstance(declared, fo.ListField):
            declared = declared.field
        return {
            name: types.get(type(child), object)
            for name, child in declared.get_field_schema().items()
            if name not in OWN_KEYS
            or name in ("visible", DETECTION_CONFIDENCE)
            or (name == "bounding_box" and "Keypoint" in str(declared))
        }


class ValueSchema:
    """Sample fields with plain values (``sequence``, ``frame_number``), declared as they are met."""

    def __init__(self, dataset: fo.Dataset) -> None:
        self._dataset = dataset
        self._known: dict[str, type] = {}

    def fit(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values as the schema wants them. A name whose field holds another type gets its own added."""
        fitted: dict[str, Any] = {}
        for given, raw in values.items():
            value = _plain(raw)
            if value is None:
                continue
            name = attribute_name(given)
            kind = self._declared(name, type(value))
            if kind is float and type(value) is int:
                value = float(value)
            elif kind is not type(value):
                name = f"{name}_{_SUFFIX[type(value)]}"
                self._declared(name, type(value))
            fitted[name] = value
        return fitted

    def _declared(self, name: str, kind: type) -> type:
        if name not in self._known:
            types = _field_types()
            if self._dataset.get_field(name) is None:
                with declaring_alone(self._dataset):
                    if self._dataset.get_field(name) is None:
                        wanted = next(ftype for ftype, plain in types.items() if plain is kind)
                        self._dataset.add_sample_field(name, wanted)
            self._known[name] = types.get(type(self._dataset.get_field(name)), object)
        return self._known[name]


def _field_types() -> dict[type, type]:
    import fiftyone as fo

    return {fo.BooleanField: bool, fo.IntField: int, fo.FloatField: float, fo.StringField: str}


def attribute_name(name: str) -> str:
    """``name`` if it can be an attribute of a label in the store, else the nearest one that can.

    Example:
        >>> attribute_name("occluded"), attribute_name("label"), attribute_name("a.b")
        ('occluded', 'attr_label', 'a_b')
    """
    clean = re.sub(r"[.$\x00\s]+", "_", str(name).encode("utf-8", "backslashreplace").decode()) or "_"
    return f"attr_{clean.lstrip('_')}" if clean in OWN_KEYS or clean.startswith("_") else clean


def _plain(value: Any) -> bool | int | float | str | None:
    if value is None:
        return None
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, int) and not isinstance(value, bool) and not -INT64 <= value < INT64:
        return float(value)
    if isinstance(value, (bool, int, float)):
        return value
    return str(value).encode("utf-8", "backslashreplace").decode()
