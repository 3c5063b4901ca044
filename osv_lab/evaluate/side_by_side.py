"""The samples that changed most: truth, first model and second model beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from osv_lab.evaluate.comparison_report import ComparisonReport

_HEIGHT, _GAP, _HEAD = 400, 12, 40
_INK, _PAPER = (32, 36, 44), (255, 255, 255)
_COLOURS = {
    "fixed": (26, 170, 85), "broken": (225, 45, 45), "both_right": (150, 170, 190), "both_wrong": (120, 80, 200),
    "tp": (26, 170, 85), "fp_gone": (240, 150, 20), "fp_new": (240, 150, 20), "fp_kept": (240, 150, 20),
}  # fmt: skip
_LEGEND = {
    "fixed": "fixed", "broken": "broken", "both_wrong": "missed by both", "both_right": "found by both",
    "tp": "right", "fp_new": "false positive",
}  # fmt: skip


def side_by_side(report: ComparisonReport, samples: int = 3) -> np.ndarray:
    """One row per sample, most fixed and broken objects first; BGR uint8.

    Raises:
        InvalidDataError: no object changed.
    """
    import fiftyone as fo
    from PIL import Image, ImageDraw, ImageFont

    from osv_lab.core.errors import InvalidDataError
    from osv_lab.detect.images import read_image
    from osv_lab.store.catalogue import open_dataset

    of = fo.ViewField
    changed = of(f"{report.name}_fixed") + of(f"{report.name}_broken")
    dataset = open_dataset(report.dataset)
    view = dataset.match(changed > 0).sort_by(changed, reverse=True).limit(samples)
    if not len(view):
        raise InvalidDataError("no object was fixed or broken", report.summary())
    font, small = (ImageFont.load_default(size) for size in (17, 14))
    strips = []
    for sample in view:
        pixels = read_image(sample.filepath)[:, :, ::-1]
        scale = _HEIGHT / len(pixels)
        base = Image.fromarray(pixels).resize((round(pixels.shape[1] * scale), _HEIGHT))
        cells = [base.copy() for _ in range(3)]
        for cell, field in zip(cells, (report.gt_field, *report.fields), strict=True):
            _draw(cell, sample[field], report.name, small)
        strips.append(cells)
    width = max(cells[0].width for cells in strips)
    size = (3 * width + 4 * _GAP, 2 * _HEAD + len(strips) * (_HEIGHT + _GAP))
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(("ground truth", *report.keys)):
        draw.text((_GAP + column * (width + _GAP), 10), title, _INK, font)
    for row, cells in enumerate(strips):
        for column, cell in enumerate(cells):
            sheet.paste(cell, (_GAP + column * (width + _GAP), _HEAD + row * (_HEIGHT + _GAP)))
    at = _GAP
    for what, text in _LEGEND.items():
        draw.rectangle((at, size[1] - 27, at + 16, size[1] - 11), fill=_COLOURS[what])
        draw.text((at + 24, size[1] - 29), text, _INK, small)
        at += 54 + round(draw.textlength(text, small))
    return np.ascontiguousarray(np.asarray(sheet)[:, :, ::-1])


def _draw(cell: Any, labels: Any, name: str, font: Any) -> None:
    """Boxes; those that changed are thick and named, on top."""
    from PIL import ImageDraw

    draw = ImageDraw.Draw(cell, "RGBA")
    named: list[tuple[Any, tuple[float, float, float, float], tuple[int, int, int]]] = []
    said = [
        (one.get_field(name) if one.has_field(name) else None, one)
        for one in (labels.detections if labels else ())
    ]
    for what, one in sorted(said, key=lambda pair: pair[0] in ("fixed", "broken", "fp_new", "fp_gone")):
        if what not in _COLOURS:
            continue
        x, y, w, h = one.bounding_box
        box = (x * cell.width, y * cell.height, (x + w) * cell.width, (y + h) * cell.height)
        strong = what in ("fixed", "broken", "fp_new", "fp_gone")
        colour = _COLOURS[what]
        draw.rectangle(box, outline=colour, width=4 if strong else 2, fill=(*colour, 45) if strong else None)
        if strong:
            named.append((one, box, colour))
    for one, box, colour in named:
        text = one.label if one.confidence is None else f"{one.label} {one.confidence:.2f}"
        left, top = box[0], max(box[1] - 18, 0)
        draw.rectangle((left, top, left + draw.textlength(text, font) + 8, top + 18), fill=colour)
        draw.text((left + 4, top), text, (255, 255, 255), font)
