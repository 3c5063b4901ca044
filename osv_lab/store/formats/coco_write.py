"""Writes COCO: ``annotations/instances_<split>.json`` and ``images/<split>``. https://cocodataset.org/#format-data"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from osv_lab.core.errors import InvalidDataError
from osv_lab.core.files import write_atomic
from osv_lab.store.formats.files import shown
from osv_lab.store.formats.writing import (
    ClassList,
    Link,
    MediaFolder,
    Written,
    box_of,
    objects,
    size_of,
    sound_labels,
)
from osv_lab.store.geometry import compress_counts, paste_mask, ring_area, run_lengths
from osv_lab.store.records import Box, ImageClass, Keypoints, Label, OrientedBox, Polygon, Problem, Record


class _Split:
    """One JSON file under way; images and annotations are kept as text, which is a tenth of the objects' memory."""

    def __init__(self) -> None:
        self.images: list[str] = []
        self.annotations: list[str] = []


def write(
    records: Iterable[Record],
    folder: Path,
    classes: ClassList,
    link: Link = "hard",
    skeletons: Mapping[str, tuple[str, ...]] | None = None,
) -> Written:
    """Fill an empty folder. Category ids count from 1; labels that share a ``coco_id`` become one annotation.

    Images without a split go to ``images`` and ``annotations/instances.json``. Track ids become ``track_id``,
    confidence ``score``, attributes ``attributes``, as CVAT writes them.
    """
    written = Written()
    media = MediaFolder(link)
    splits: dict[str, _Split] = {}
    keypoint_counts: dict[str, int] = {}
    for record in records:
        if record.frames is not None:
            written.problems.append(Problem(shown(record.path), "a video, COCO has images", "", "file skipped"))
            continue
        split = splits.get(record.split or "")
        images = folder / "images" / (record.split or "")
        if split is None:
            split = splits[record.split or ""] = _Split()
            images.mkdir(parents=True, exist_ok=True)
        try:
            size = size_of(record)
            name = media.place(record.path, str(images))
        except (OSError, InvalidDataError) as error:
            what = f"the image cannot be read: {error}"
            written.problems.append(Problem(shown(record.path), what, "", "file skipped"))
            continue
        written.images[record.split or ""] += 1
        if record.tags:
            written.lose("tags", len(record.tags))
        image_id = len(split.images) + 1
        image = {"id": image_id, "file_name": name, "width": size[0], "height": size[1]}
        split.images.append(json.dumps(image, ensure_ascii=False))
        if not record.labelled and not record.labels:
            written.lose("that an image is unlabelled (it reads as one without objects)")
        for group in objects(sound_labels(record, record.labels, written)):
            annotation = _annotation(group, size, classes, written, keypoint_counts)
            if annotation is not None:
                annotation["id"] = len(split.annotations) + 1
                annotation["image_id"] = image_id
                split.annotations.append(json.dumps(annotation, ensure_ascii=False, allow_nan=False))
    _finish(folder, splits, classes, skeletons or {}, keypoint_counts)
    written.classes = classes.names
    return written


def _finish(
    folder: Path, splits: Mapping[str, _Split], classes: ClassList, skeletons: Mapping[str, tuple[str, ...]],
    keypoint_counts: Mapping[str, int],
) -> None:  # fmt: skip
    categories: list[dict[str, Any]] = []
    for name, class_id in classes.ids.items():
        category: dict[str, Any] = {"id": class_id + 1, "name": name, "supercategory": ""}
        if name in keypoint_counts:
            known = skeletons.get(name, ())
            category["keypoints"] = [
                known[k] if k < len(known) else f"point {k + 1}"
                for k in range(max(keypoint_counts[name], len(known)))
            ]
            category["skeleton"] = []
        categories.append(category)
    os.makedirs(folder / "annotations", exist_ok=True)
    head = json.dumps({"description": "Exported by osv_lab", "version": "1.0"})
    for split, parts in splits.items():
        text = (
            f'{{"info": {head}, "licenses": [],\n"categories": {json.dumps(categories, ensure_ascii=False)},\n'
            f'"images": [\n{_lines(parts.images)}],\n"annotations": [\n{_lines(parts.annotations)}]}}\n'
        )
        write_atomic(folder / "annotations" / (f"instances_{split}.json" if split else "instances.json"), text)


def _lines(items: Sequence[str]) -> str:
    return ",\n".join(items) + ("\n" if items else "")


def _annotation(
    group: Sequence[Label], size: tuple[int, int], classes: ClassList, written: Written, counts: dict[str, int]
) -> dict[str, Any] | None:
    """One annotation of an object's labels, without its ids."""
    width, height = size
    first = group[0]
    if isinstance(first, ImageClass):
        written.lose("image classes")
        return None
    class_id = classes.id_of(first.label)
    if class_id is None:
        written.lose("labels of other classes", len(group))
        return None
    boxes = [label.xywh for label in group if isinstance(label, (Box, Keypoints)) and label.xywh is not None]
    box = boxes[0] if boxes else next(filter(None, map(box_of, group)), None)
    if box is None:
        written.lose("keypoints without a box or a labelled point")
        return None
    x, y, w, h = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    annotation: dict[str, Any] = {"id": 0, "image_id": 0, "category_id": class_id + 1}
    annotation["bbox"] = [round(x, 6), round(y, 6), round(w, 6), round(h, 6)]
    annotation["area"] = round(w * h, 6)
    annotation["iscrowd"] = 0
    annotation["segmentation"] = []
    for label in group:
        if isinstance(label, Polygon) and not label.closed:
            written.lose("open lines, written as outlines")
        if isinstance(label, OrientedBox):
            written.lose("oriented boxes, written as outlines")
        if isinstance(label, Keypoints):
            counts[label.label] = max(counts.get(label.label, 0), len(label.points))
            if label.xywh is None and len(group) == 1:
                written.lose("(the box around keypoints that had none was made)")
        _add_shape(annotation, label, size)
        written.labels[label.kind] += 1
    _add_common(annotation, first)
    return annotation


def _add_shape(annotation: dict[str, Any], label: Label, size: tuple[int, int]) -> None:
    width, height = size
    if isinstance(label, (Polygon, OrientedBox)):
        rings = label.rings if isinstance(label, Polygon) else (label.corners,)
        pixels = [[(round(x * width, 6), round(y * height, 6)) for x, y in ring] for ring in rings]
        annotation["segmentation"] = [[value for point in ring for value in point] for ring in pixels]
        annotation["area"] = round(sum(map(ring_area, pixels)), 6)
    elif isinstance(label, Box) and label.mask is not None:
        mask = paste_mask(label.mask, label.xywh, size)
        counts = compress_counts(run_lengths(mask.ravel(order="F")))
        annotation["segmentation"] = {"size": [height, width], "counts": counts}
        annotation["area"] = int(mask.sum())
    elif isinstance(label, Keypoints):
        flat: list[float] = []
        labelled = 0
        for k, (x, y) in enumerate(label.points):
            if x != x or y != y:
                flat += (0, 0, 0)
            else:
                flag = label.visible[k] if k < len(label.visible) else 2
                labelled += flag > 0
                flat += (round(x * width, 6), round(y * height, 6), flag)
        annotation["keypoints"] = flat
        annotation["num_keypoints"] = labelled


def _add_common(annotation: dict[str, Any], label: Label) -> None:
    if label.confidence is not None:
        annotation["score"] = label.confidence
    if not isinstance(label, ImageClass) and label.index is not None:
        annotation["track_id"] = label.index
    if label.attributes:
        attributes = {key: value for key, value in label.attributes.items() if key != "coco_id"}
        if attributes.pop("iscrowd", False):
            annotation["iscrowd"] = 1
        if attributes:
            annotation["attributes"] = {
                key: None if isinstance(value, float) and value != value else value
                for key, value in attributes.items()
            }
