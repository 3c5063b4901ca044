"""Writes Pascal VOC: ``JPEGImages``, ``Annotations``, ``ImageSets/Main``.

Coordinates are edges from 0, as LabelImg, CVAT and FiftyOne take them, with as many decimals as they need; the
reader's module says how that differs from the challenges' own convention.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from osv_lab.core.errors import InvalidDataError
from osv_lab.core.files import write_atomic
from osv_lab.store.formats.files import shown
from osv_lab.store.formats.values import pixel_text, value_text, xml_text
from osv_lab.store.formats.writing import (
    LESSER,
    ClassList,
    Link,
    MediaFolder,
    Written,
    best,
    box_of,
    lose_rest,
    objects,
    size_of,
    sound_labels,
    write_small,
)
from osv_lab.store.records import ImageClass, Kind, Label, Problem, Record

_ORDER: tuple[Kind, ...] = ("box", "mask", "polygon", "oriented_box", "keypoints")
_FLAGS = ("truncated", "difficult", "occluded")


def write(records: Iterable[Record], folder: Path, classes: ClassList, link: Link = "hard") -> Written:
    """Fill an empty folder. Attributes are written as CVAT writes them (``<attributes>``)."""
    written = Written()
    media = MediaFolder(link)
    images, annotations, sets = folder / "JPEGImages", folder / "Annotations", folder / "ImageSets" / "Main"
    for made in (images, annotations, sets):
        made.mkdir(parents=True)
    image_folder, xml_folder = str(images), str(annotations)
    splits: dict[str, list[str]] = {}
    for record in records:
        if record.frames is not None:
            written.problems.append(Problem(shown(record.path), "a video, VOC has images", "", "file skipped"))
            continue
        try:
            size = size_of(record)
            name = media.place(record.path, image_folder)
        except (OSError, InvalidDataError) as error:
            what = f"the image cannot be read: {error}"
            written.problems.append(Problem(shown(record.path), what, "", "file skipped"))
            continue
        written.images[record.split or ""] += 1
        if record.tags:
            written.lose("tags", len(record.tags))
        stem = name[: name.rfind(".")]
        if record.split:
            splits.setdefault(record.split, []).append(stem)
        if record.labelled or record.labels:
            write_small(f"{xml_folder}{os.sep}{stem}.xml", _document(record, name, size, classes, written))
    for split, stems in splits.items():
        write_atomic(sets / f"{split}.txt", "".join(f"{stem}\n" for stem in stems))
    written.classes = classes.names
    return written


def _document(record: Record, name: str, size: tuple[int, int], classes: ClassList, written: Written) -> str:
    parts = [
        "<annotation>\n\t<folder>JPEGImages</folder>\n"
        f"\t<filename>{xml_text(name)}</filename>\n\t<source><database>osv_lab</database></source>\n"
        f"\t<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>\n"
        "\t<segmented>0</segmented>\n"
    ]
    for group in objects(sound_labels(record, record.labels, written)):
        label = group[0] if len(group) == 1 else best(group, _ORDER)
        if isinstance(label, ImageClass):
            written.lose("image classes")
            continue
        if classes.id_of(label.label) is None:
            written.lose("labels of other classes", len(group))
            continue
        text = _object(label, size, written)
        if text is None:
            continue
        parts.append(text)
        written.labels[label.kind] += 1
        written.lose_common(label, attributes=False)
        lose_rest(group, label, written)
    parts.append("</annotation>\n")
    return "".join(parts)


def _object(label: Label, size: tuple[int, int], written: Written) -> str | None:
    box = box_of(label)
    if box is None or box[2] <= 0 or box[3] <= 0:
        written.lose(f"{label.kind.replace('_', ' ')} labels without a box")
        return None
    if label.kind in LESSER:
        written.lose(LESSER[label.kind])
    width, height = size
    x0, y0, x1, y1 = box[0] * width, box[1] * height, (box[0] + box[2]) * width, (box[1] + box[3]) * height
    attributes = dict(label.attributes)
    attributes.pop("coco_id", None)
    pose = attributes.pop("pose", None)
    flags = "".join(f"\t\t<{flag}>{int(attributes.pop(flag, False) is True)}</{flag}>\n" for flag in _FLAGS
                    if isinstance(attributes.get(flag, False), bool))  # fmt: skip
    rest = "".join(
        f"<attribute><name>{xml_text(key)}</name><value>{xml_text(value_text(value))}</value></attribute>"
        for key, value in attributes.items()
    )
    return (
        f"\t<object>\n\t\t<name>{xml_text(label.label)}</name>\n"
        f"\t\t<pose>{xml_text(str(pose)) if pose is not None else 'Unspecified'}</pose>\n{flags}"
        f"\t\t<bndbox><xmin>{pixel_text(x0)}</xmin><ymin>{pixel_text(y0)}</ymin>"
        f"<xmax>{pixel_text(x1)}</xmax><ymax>{pixel_text(y1)}</ymax></bndbox>\n"
        + (f"\t\t<attributes>{rest}</attributes>\n" if rest else "")
        + "\t</object>\n"
    )
