"""Class names of data sets that models are commonly trained on, for models that do not carry their own."""

from __future__ import annotations

COCO_80 = tuple(
    """person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,
bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,skis,
snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,
knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,
dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,
vase,scissors,teddy bear,hair drier,toothbrush""".replace("\n", "").split(",")
)
"""COCO's 80 classes, in the order of a model's class ids."""

# COCO's own category ids run to 90 with gaps; DETR-style models use them as class ids.
_GAPS = (0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83)


def _with_gaps() -> tuple[str, ...]:
    names = iter(COCO_80)
    return tuple("N/A" if index in _GAPS else next(names) for index in range(91))


COCO_91 = _with_gaps()
"""COCO's classes by category id, 0 to 90; ids that COCO does not use are ``"N/A"``."""


def default_names(count: int) -> tuple[str, ...]:
    """Names for a model that has none: COCO's for 80 and 91 classes, else ``class_0``, ``class_1``, ...

    Example:
        >>> default_names(2)
        ('class_0', 'class_1')
    """
    known = {80: COCO_80, 91: COCO_91}
    return known.get(count) or tuple(f"class_{index}" for index in range(count))
