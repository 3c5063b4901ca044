"""What a YOLO data set's ``data.yaml``, name lists and image lists say."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import yaml

from osv_lab.core.errors import InvalidDataError
from osv_lab.store.formats.checks import whole
from osv_lab.store.formats.files import (
    IMAGE_SUFFIXES,
    Tree,
    absolute,
    decoded,
    read_bytes,
    shown,
    split_named,
    suffix_of,
)
from osv_lab.store.formats.yolo_rows import YoloTask
from osv_lab.store.records import Problem, Source

_NAME_LISTS = ("classes.txt", "obj.names", "_darknet.labels", "names.txt", "labels.txt", "coco.names", "voc.names")
_LIST_NAMES = {"train.txt": "train", "val.txt": "val", "valid.txt": "val", "test.txt": "test"}
TEXT_FILES = frozenset({*_NAME_LISTS, *_LIST_NAMES, "readme.txt", "license.txt", "requirements.txt"})


@dataclass
class Layout:
    """Where the images of a data set are and what its rows mean."""

    tree: Tree
    source: Source
    folders: list[tuple[str, str | None]] = field(default_factory=list)
    listed: list[tuple[str, str | None]] = field(default_factory=list)
    names: list[str] | None = None
    keypoints: tuple[int, int] | None = None
    task: YoloTask | None = None


def is_data_yaml(path: str) -> bool:
    """Whether a YAML file states a YOLO data set."""
    usual = os.path.basename(path).lower() in ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
    try:
        stated = _load_yaml(path)
    except InvalidDataError:
        # A broken data.yaml is still one: reading it then says where it is broken.
        return usual
    keys = set(stated) if isinstance(stated, dict) else set()
    return bool(keys & {"train", "val", "test", "path", "validation"}) and (usual or bool(keys & {"names", "nc"}))


def _load_yaml(path: str) -> Any:
    try:
        text, _ = decoded(read_bytes(path, 2**22))
        return yaml.load(text, Loader=_SafeLoader)
    except OSError as error:
        raise InvalidDataError("a file cannot be read", f"{shown(path)}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        at = f" at line {where.line + 1}, column {where.column + 1}" if where else ""
        raise InvalidDataError(
            "broken YAML", f"{shown(path)}{at}", "mend the file or give another format"
        ) from None


class _SafeLoader(yaml.SafeLoader):
    """Plain values only, and no aliases: nested ones grow exponentially."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        return super().compose_node(parent, index)


def from_yaml(layout: Layout, path: str) -> None:
    tree, source = layout.tree, layout.source
    tree.used.add(path)
    stated = _load_yaml(path)
    if not isinstance(stated, dict):
        raise InvalidDataError("data.yaml holds no keys", shown(path), "it needs at least names: and train:")
    layout.names = _class_names(stated, path)
    layout.keypoints = _keypoint_shape(stated, path, source)
    if stated.get("task") in ("detect", "segment", "pose", "obb"):
        layout.task = stated["task"]
    if isinstance(stated.get("flip_idx"), list):
        source.info["flip_idx"] = stated["flip_idx"]
    for key in ("license", "licence", "author", "description", "version"):
        if isinstance(stated.get(key), (str, int, float)):
            source.info[key] = stated[key]
    names = stated.get("kpt_names")
    if isinstance(names, dict) and layout.names:
        source.skeletons = {
            layout.names[key]: tuple(map(str, value))
            for key, value in names.items()
            if isinstance(key, int) and 0 <= key < len(layout.names) and isinstance(value, list)
        }
    root = _root(stated.get("path"), path)
    if root != tree.root and not root.startswith(tree.root + os.sep):
        # `path:` names the data set's real root, which is then what relative entries may not leave.
        tree = layout.tree = Tree(root, used=tree.used)
        source.root = absolute(root)
    for key, split in (("train", "train"), ("val", "val"), ("validation", "val"), ("test", "test")):
        entries = stated.get(key)
        for entry in entries if isinstance(entries, list) else [entries] if entries else []:
            _add_entry(layout, str(entry), split, root, path)


def _class_names(stated: dict[Any, Any], path: str) -> list[str] | None:
    """Class names by id, ``None`` when only absent, ``class_<id>`` where just ``nc`` is given."""
    names = stated.get("names")
    if isinstance(names, dict):
        try:
            by_id = {whole(key): str(value) for key, value in names.items()}
        except ValueError as error:
            raise InvalidDataError("a class id in data.yaml's names", str(error), "use 0, 1, 2, ...") from None
        if by_id and (min(by_id) < 0 or max(by_id) > 100_000):
            raise InvalidDataError(
                "a class id in data.yaml's names", f"{min(by_id)} to {max(by_id)}", "use 0, 1, 2, ..."
            )
        return [by_id.get(k, f"class_{k}") for k in range(max(by_id, default=-1) + 1)]
    if isinstance(names, list):
        return [str(name) for name in names]
    if isinstance(names, str) and names.strip():
        return [name.strip() for name in names.split(",")]
    if "nc" in stated:
        try:
            count = whole(stated["nc"])
        except ValueError as error:
            raise InvalidDataError("nc in data.yaml", str(error), "give the number of classes or names:") from None
        if not 0 <= count <= 100_000:
            raise InvalidDataError("nc in data.yaml", str(count), "give the number of classes or names:")
        return [f"class_{k}" for k in range(count)]
    raise InvalidDataError("data.yaml states no classes", shown(path), "add names:")


def _keypoint_shape(stated: dict[Any, Any], path: str, source: Source) -> tuple[int, int] | None:
    shape = stated.get("kpt_shape")
    if shape is None:
        return None
    try:
        total, dims = (whole(value) for value in shape)
        if total < 1 or dims not in (2, 3):
            raise ValueError(shape)
    except (ValueError, TypeError):
        source.problems.append(
            Problem(shown(path), f"kpt_shape {shape!r} is not [number, 2 or 3]", "kpt_shape", "label kept")
        )
        return None
    return total, dims


def _root(stated: object, path: str) -> str:
    """The data set's root: ``path:`` when it exists (absolute, or relative to the file), else the file's folder."""
    folder = os.path.dirname(path)
    if isinstance(stated, str) and stated.strip() and "\0" not in stated:
        root = os.path.normpath(os.path.join(folder, os.path.expanduser(stated.strip())))
        if os.path.isdir(root):
            return root
    return folder


def _add_entry(layout: Layout, entry: str, split: str, root: str, path: str) -> None:
    """One of data.yaml's image folders or lists."""
    tree = layout.tree
    found = tree.resolve(entry, root)
    # Roboflow writes ../train/images for a folder that lies beside data.yaml.
    while (found is None or not os.path.exists(found)) and entry.startswith("../"):
        entry = entry[3:]
        found = tree.resolve(entry, root)
    if found is None:
        layout.source.problems.append(
            Problem(
                shown(path), f"{entry!r} leaves the data set's folder or does not exist", split, "file skipped"
            )
        )
    elif os.path.isdir(found):
        # A folder that stands in for a split that is absent (train: images/val) is what its name says.
        known, named = dict(layout.folders).get(found), split_named(os.path.basename(found))
        if known is None or named is None:
            layout.folders.append((found, split))
        elif split == named:
            layout.folders[layout.folders.index((found, known))] = found, split
    elif os.path.isfile(found) and suffix_of(found) == ".txt":
        _add_list(layout, found, split, root)
    else:
        what = f"no folder or list {tree.relative(found)!r}"
        layout.source.problems.append(Problem(shown(path), what, split, "file skipped"))


def _add_list(layout: Layout, path: str, split: str | None, root: str) -> None:
    """The images that a list names: ``./`` is the list's folder, other relative paths start at the root or there."""
    tree = layout.tree
    tree.used.add(path)
    try:
        text = os.fsdecode(read_bytes(path, 2**30).removeprefix(b"\xef\xbb\xbf"))
    except (OSError, InvalidDataError) as error:
        layout.source.problems.append(Problem(shown(path), f"cannot be read: {error}", split or "", "file broken"))
        return
    for position, line in enumerate(text.splitlines(), start=1):
        stated = line.strip()
        if not stated:
            continue
        bases = [os.path.dirname(path)] if stated.startswith("./") else [root, os.path.dirname(path)]
        found = [image for base in bases if (image := tree.resolve(stated, base))]
        image = next((image for image in found if os.path.isfile(image)), None)
        if image is None and stated.startswith("data/"):
            # darknet writes paths from where it is started: data/obj_train_data/x.jpg
            image = next(
                (i for base in bases if (i := tree.resolve(stated[5:], base)) and os.path.isfile(i)), None
            )
        if image is None:
            what = (
                f"image {shown(stated)!r} is missing"
                if found
                else f"{shown(stated)!r} leaves the data set's folder"
            )
            where = f"line {position}"
            layout.source.problems.append(Problem(tree.relative(path), what, where, "file skipped"))
        else:
            layout.listed.append((image, split))


def from_files(layout: Layout) -> None:
    """Classic layouts: a list of names, optional lists of images, images with text files."""
    tree, source = layout.tree, layout.source
    for path in tree.find(*_NAME_LISTS):
        tree.used.add(path)
        if layout.names is None:
            try:
                text, clean = decoded(read_bytes(path))
            except (OSError, InvalidDataError) as error:
                source.problems.append(Problem(tree.relative(path), f"cannot be read: {error}", "", "file broken"))
                continue
            layout.names = [line.strip() for line in text.splitlines() if line.strip()]
            if not clean:
                what = "class names are not UTF-8; read as Latin-1"
                source.problems.append(Problem(tree.relative(path), what, "", "label kept"))
    tree.used.update(tree.find("obj.data"))
    for path in tree.find(*_LIST_NAMES):
        if _is_image_list(path):
            _add_list(layout, path, _LIST_NAMES[os.path.basename(path).lower()], tree.root)
    layout.folders.append((tree.root, None))


def _is_image_list(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            first = next((line.strip() for line in file.read(2**16).splitlines() if line.strip()), b"")
    except OSError:
        return False
    return suffix_of(os.fsdecode(first)) in IMAGE_SUFFIXES
