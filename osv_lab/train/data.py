"""The data set a run trains on: which samples, which classes, and their copy in Ultralytics' layout."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError, nearest
from osv_lab.core.files import write_atomic
from osv_lab.core.progress import Progress
from osv_lab.core.settings import SPLITS
from osv_lab.store.formats.yolo_write import class_folder
from osv_lab.store.records import FIELDS

if TYPE_CHECKING:
    from osv_lab.train.rules import Task

VALIDATION_SHARE = 0.2
"""Share of the training images that validate a run whose data has no validation split."""

_KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "detect": ("Detections",),
        "segment": ("Detections", "Polylines"),
        "pose": ("Keypoints",),
        "obb": ("Polylines", "Detections"),
        "classify": ("Classification",),
    }
)
_OWN_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "segment": FIELDS["polygon"],
        "pose": FIELDS["keypoints"],
        "obb": FIELDS["oriented_box"],
        "classify": FIELDS["class"],
    }
)


def label_field(view: Any, task: Task, field: str) -> str:
    """The field that holds a task's labels: the given one, or the task's own where the default one is meant.

    Raises:
        NotFoundError: there is no such field.
        UsageError: it holds another kind of label.
    """
    own = _OWN_FIELDS.get(task)
    # Masks share the field of boxes; outlines have one of their own, which is taken where that is all there is.
    if field == FIELDS["box"] and own and view.has_field(own) and (task != "segment" or not view.has_field(field)):
        field = own
    if not view.has_field(field):
        raise NotFoundError("no such label field", repr(field), nearest(field, view.get_field_schema()))
    kind = getattr(getattr(view.get_field(field), "document_type", None), "__name__", "")
    if kind not in _KINDS[task]:
        raise UsageError(
            f"a field does not hold labels for the task '{task}'",
            f"'{field}' holds {kind or 'no labels'}",
            f"give gt_field a field of {' or '.join(_KINDS[task])}",
        )
    return field


def dataset_name(view: Any) -> str:
    """The name of a view's dataset; of the dataset that was frozen, for a view of a dataset version."""
    from osv_lab.store.versions.load import INFO

    dataset = getattr(view, "_root_dataset", None) or view
    ref = (dataset.info.get(INFO) or {}).get("ref")
    return str(dataset.name.rpartition("@")[0] if ref == dataset.name else dataset.name)


def labelled(view: Any, field: str) -> Any:
    """The samples that someone has labelled, images without an object included; unlabelled ones left out."""
    from osv_lab.store.database import connect

    fo = connect()
    has_labels = fo.ViewField(field).exists()
    if view.has_field("labelled"):
        return view.match((fo.ViewField("labelled") == True) | has_labels)  # noqa: E712  (a query, not a test)
    return view.match(has_labels)


def trainable(view: Any, field: str) -> tuple[Any, list[str]]:
    """The samples to train and validate on, and notes on what was left out.

    Raises:
        InvalidDataError: nothing is left to train on; the message counts why.
    """
    total = len(view)
    chosen = labelled(view, field)
    notes = []
    if not total:
        raise InvalidDataError("there is nothing to train on", "the view is empty", "ingest images first")
    if not len(chosen):
        raise InvalidDataError(
            "there is nothing to train on",
            f"none of {total} samples is labelled in '{field}'",
            "label some, or ingest the images with their labels",
        )
    if len(chosen) < total:
        notes.append(f"{total - len(chosen)} of {total} samples left out: not labelled in '{field}'")
    splits = {split: len(chosen.match_tags(split)) for split in SPLITS}
    if not any(splits.values()):
        return chosen, notes
    if not splits["train"]:
        raise InvalidDataError(
            "there is nothing to train on",
            f"no labelled sample is in the train split ({splits['val']} in val, {splits['test']} in test)",
            "tag samples 'train'",
        )
    loose = len(chosen) - len(chosen.match_tags(list(SPLITS)))
    if loose:
        notes.append(f"{loose} labelled samples left out: in no split (tag them train, val or test)")
    return chosen.match_tags(["train", "val"]), notes


def class_names(view: Any, field: str) -> list[str]:
    """Class names in the dataset's order; names that only labels have come after, sorted.

    Raises:
        InvalidDataError: there is no class at all.
    """
    dataset = getattr(view, "_root_dataset", None) or view
    path = view._get_label_field_path(field, "label")[1]
    used = view.distinct(path)
    listed = list(dataset.classes.get(field) or dataset.default_classes or ())
    names = [*listed, *sorted(set(used) - set(listed) - {None})]
    if not names:
        raise InvalidDataError(
            "there is no class to learn",
            f"no label in '{field}', and the dataset lists no classes",
            "label objects, or set dataset.default_classes",
        )
    return names


def write_data(
    view: Any, folder: Path, field: str, classes: Sequence[str], task: Task, seed: int, progress: Progress
) -> list[str]:
    """Write the samples as a YOLO data set, with a ``data.yaml`` for this run beside its folder.

    Args:
        view: What to write; splits are sample tags, and samples without one count as ``train``.
        folder: The data set's folder. ``folder.parent / "data.yaml"`` is what Ultralytics is given.
        field: The label field.
        classes: Class names by class id.
        task: What the labels are for.
        seed: Where the choice of validation images starts from, if there is no validation split.
        progress: Told about every image.

    Returns:
        Notes for the user.

    Raises:
        InvalidDataError: too few images to train and validate.
    """
    from osv_lab.store.export import export

    if task == "classify":
        _check_folders(classes)
    written = export(view, folder, f"yolo-{task}", [field], classes, overwrite=True, progress=progress)
    train, val = (_images(folder, split, task) for split in ("train", "val"))
    notes = []
    if written.problems:
        first = written.problems[0]
        notes.append(f"{len(written.problems)} labels or images left out, the first: {first.file}: {first.what}")
    if not val:
        train, val = _validation_of(train, seed)
        notes.append(
            f"the data has no val split: {len(val)} of {len(train) + len(val)} training images were set aside to "
            f"validate this run (seed {seed}); tag samples 'val' to choose them yourself"
        )
        if task == "classify":
            _move_to_validation(folder, val)
    if task != "classify":
        _write_yaml(folder, classes, train, val, task)
    return notes


def _images(folder: Path, split: str, task: Task) -> list[Path]:
    place, pattern = (folder / split, "*/*") if task == "classify" else (folder / "images" / split, "*")
    return sorted(file for file in place.glob(pattern) if file.is_file())


def _check_folders(classes: Sequence[str]) -> None:
    """Refuse class names that are not folder names: a classifier's classes are its folders' names."""
    for name in classes:
        if class_folder(name) != name:
            raise InvalidDataError(
                "a class's name cannot be a folder's, which a classifier's data needs",
                repr(name),
                f"rename it, for example to {class_folder(name)!r}",
            )


def _move_to_validation(folder: Path, images: Sequence[Path]) -> None:
    for place in sorted((folder / "train").iterdir()):
        (folder / "val" / place.name).mkdir(parents=True, exist_ok=True)
    for image in images:
        image.replace(folder / "val" / image.parent.name / image.name)


def _validation_of(train: list[Path], seed: int) -> tuple[list[Path], list[Path]]:
    if len(train) < 2:
        raise InvalidDataError(
            "training needs at least two labelled images, one of them to validate", f"{len(train)} image"
        )
    chosen = set(random.Random(seed).sample(train, max(1, round(VALIDATION_SHARE * len(train)))))
    return [image for image in train if image not in chosen], [image for image in train if image in chosen]


def _write_yaml(folder: Path, classes: Sequence[str], train: list[Path], val: list[Path], task: Task) -> None:
    import yaml

    lists = {}
    for split, images in (("train", train), ("val", val)):
        lists[split] = folder / f"{split}.txt"
        write_atomic(lists[split], "".join(f"{image}\n" for image in images))
    content: dict[str, Any] = {
        "path": str(folder),
        **{split: file.name for split, file in lists.items()},
        "names": dict(enumerate(classes)),
    }
    if task == "pose":
        stated = yaml.safe_load((folder / "data.yaml").read_text("utf-8"))
        content |= {key: stated[key] for key in ("kpt_shape", "flip_idx", "kpt_names") if key in stated}
    write_atomic(folder.parent / "data.yaml", yaml.safe_dump(content, allow_unicode=True, sort_keys=False))
