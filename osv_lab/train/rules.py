"""What each setting of a recipe may be: its type, its range and what it does. No library is needed to check it."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from numbers import Real
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from osv_lab.core.errors import UsageError

Task: TypeAlias = Literal["detect", "segment", "pose", "obb", "classify"]
TASKS: tuple[Task, ...] = ("detect", "segment", "pose", "obb", "classify")
"""What can be trained."""

_SUFFIX_TASKS: Mapping[str, Task] = MappingProxyType(
    {"-seg": "segment", "-pose": "pose", "-obb": "obb", "-cls": "classify"}
)
_OPTIMIZERS = ("auto", "SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSProp")


@dataclass(frozen=True, slots=True)
class Rule:
    """A setting's type and range.

    Attributes:
        kind: Its type.
        meaning: What it does, in one clause.
        low: Least value, inclusive.
        high: Greatest value, inclusive.
        choices: The values allowed, for text.
    """

    kind: Literal["integer", "number", "boolean", "text"]
    meaning: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        """What is allowed, for an error message."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.kind == "boolean":
            return "true or false"
        noun = {"integer": "a whole number", "number": "a number", "text": "text"}[self.kind]
        if math.isfinite(self.low) and math.isfinite(self.high):
            return f"{noun} from {self.low:g} to {self.high:g}"
        return f"{noun} of at least {self.low:g}" if math.isfinite(self.low) else noun

    def check(self, name: str, value: Any) -> Any:
        """``value`` as a plain int, float, bool or str.

        Raises:
            UsageError: its type or range is wrong.
        """
        if self.kind == "boolean":
            if isinstance(value, bool):
                return value
        elif self.kind == "text":
            if isinstance(value, str) and (not self.choices or value.lower() in map(str.lower, self.choices)):
                return next((choice for choice in self.choices if choice.lower() == value.lower()), value)
        elif (number := _number(value)) is not None and self.low <= number <= self.high:
            if self.kind == "number":
                return number
            if number.is_integer():
                return int(number)
        raise UsageError(f"recipe setting '{name}' must be {self.expected}", shown(value), _fix(value, self))


def shown(value: Any) -> str:
    """A value with its type, as an error quotes it."""
    return f"{value!r} ({type(value).__name__})"


def _number(value: Any) -> float | None:
    """A finite number, NumPy's too, as a float; ``None`` for anything else, truth values and text included."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _fix(value: Any, rule: Rule) -> str:
    if rule.kind not in {"integer", "number"} or not isinstance(value, str):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    return f"write it as a number, not as text: {number!r} (YAML reads 1e-3 as text, 1.0e-3 as a number)"


def _unit(meaning: str) -> Rule:
    return Rule("number", meaning, 0, 1)


AUGMENTATION: Mapping[str, Rule] = MappingProxyType(
    {
        "hsv_h": _unit("hue jitter, as a fraction"),
        "hsv_s": _unit("saturation jitter, as a fraction"),
        "hsv_v": _unit("brightness jitter, as a fraction"),
        "degrees": Rule("number", "rotation, ± degrees", 0, 180),
        "translate": _unit("shift, ± fraction of the image"),
        "scale": _unit("zoom, ± fraction"),
        "shear": Rule("number", "shear, ± degrees", 0, 180),
        "perspective": Rule("number", "perspective warp", 0, 0.001),
        "flipud": _unit("probability of a vertical flip"),
        "fliplr": _unit("probability of a horizontal flip"),
        "bgr": _unit("probability of swapped colour channels"),
        "mosaic": _unit("probability of a four-image mosaic"),
        "mixup": _unit("probability of blending two images"),
        "cutmix": _unit("probability of pasting a patch of another image"),
        "copy_paste": _unit("probability of pasting objects (needs masks)"),
        "multi_scale": _unit("image size varies by ± this fraction"),
    }
)
"""Augmentations of training images, by Ultralytics' names."""

OPTIONS: Mapping[str, Rule] = MappingProxyType(
    {
        "amp": Rule("boolean", "mixed precision on a GPU"),
        "box": Rule("number", "weight of the box loss", 0),
        "cache": Rule("boolean", "keep decoded images in memory"),
        "close_mosaic": Rule("integer", "last epochs without mosaic", 0),
        "cls": Rule("number", "weight of the class loss", 0),
        "cls_pw": _unit("class weighting against imbalance"),
        "cos_lr": Rule("boolean", "cosine learning rate"),
        "deterministic": Rule("boolean", "same result again on the same machine"),
        "dfl": Rule("number", "weight of the distribution focal loss", 0),
        "freeze": Rule("integer", "first layers kept as they are", 0),
        "lrf": _unit("last learning rate, as a fraction of lr0"),
        "mask_ratio": Rule("integer", "masks are trained this much smaller", 1),
        "max_det": Rule("integer", "most detections per image", 1),
        "momentum": _unit("momentum, or Adam's first beta"),
        "nbs": Rule("integer", "nominal batch that gradients add up to", 1),
        "overlap_mask": Rule("boolean", "one mask image for all instances"),
        "pose": Rule("number", "weight of the keypoint loss", 0),
        "kobj": Rule("number", "weight of the keypoint visibility loss", 0),
        "rect": Rule("boolean", "batches keep the images' proportions"),
        "single_cls": Rule("boolean", "all classes are one"),
        "warmup_bias_lr": _unit("first learning rate of biases"),
        "warmup_epochs": Rule("number", "epochs of warm-up", 0),
        "warmup_momentum": _unit("first momentum"),
        "weight_decay": _unit("L2 regularisation"),
    }
)
"""Further settings that are passed on to Ultralytics."""

FIELDS: Mapping[str, Rule] = MappingProxyType(
    {
        "epochs": Rule("integer", "passes over the training split", 1, 100_000),
        "imgsz": Rule("integer", "image side the network sees, in pixels", 32, 8192),
        "seed": Rule("integer", "where random choices start from", 0, 2**32 - 1),
        "lr0": Rule("number", "first learning rate", 0, 1),
        "optimizer": Rule("text", "how weights are updated", choices=_OPTIMIZERS),
        "patience": Rule("integer", "epochs without a better model before stopping; 0 never stops", 0),
        "workers": Rule("integer", "processes that load images (on a GPU)", 0, 256),
    }
)
"""The named fields of a recipe that a rule alone can check."""

RESERVED = frozenset(
    {"data", "project", "name", "exist_ok", "resume", "mode", "save_dir", "save", "save_period", "val", "split",
     "plots", "cfg", "verbose", "pretrained", "time", "fraction", "classes", "profile", "source"}
)  # fmt: skip
"""Ultralytics settings that the lab sets itself, because a run that can be resumed and traced depends on them."""


def check_batch(value: Any) -> int | float:
    """Images per step: a whole number of at least 1; on a GPU also -1 (find out) or a share of its memory."""
    number = _number(value)
    if number is not None:
        if number.is_integer() and (number >= 1 or number == -1):
            return int(number)
        if 0 < number < 1:
            return number
    raise UsageError(
        "recipe setting 'batch' must be a whole number of at least 1, -1 (find out on a GPU) or a share of GPU "
        "memory between 0 and 1",
        shown(value),
    )


def check_device(value: Any) -> str | None:
    """A device as PyTorch names it (``cpu``, ``cuda:0``, ``mps``), or ``None`` for the best there is."""
    if value is None or (isinstance(value, str) and value.lower() in {"", "auto"}):
        return None
    index = _number(value)
    text = value.lower() if isinstance(value, str) else f"{index:g}" if index is not None else ""
    if text in {"cpu", "mps"}:
        return text
    if text and (found := re.fullmatch(r"(?:cuda:?)?(\d*)", text)):
        return f"cuda:{found[1] or 0}"
    raise UsageError(
        "recipe setting 'device' must be 'cpu', 'mps', or one GPU ('cuda:0' or 0)",
        shown(value),
        "training on several GPUs at once is not supported; pick one",
    )


def task_of_name(name: str) -> Task | None:
    """The task that an Ultralytics model name states (``yolo11n-seg``), or ``None`` where it states none."""
    stem = Path(name).stem.lower()
    return next((task for suffix, task in _SUFFIX_TASKS.items() if suffix in stem), None)


@cache
def architectures() -> frozenset[str]:
    """Names of the architectures that the installed Ultralytics can build and this lab can train.

    Read from its folder of model files, without importing it; empty where it is not installed.
    """
    spec = importlib.util.find_spec("ultralytics")
    if spec is None or not spec.submodule_search_locations:
        return frozenset()
    folder = Path(next(iter(spec.submodule_search_locations))) / "cfg" / "models"
    names: set[str] = set()
    for file in folder.glob("*/yolo*.yaml"):
        if re.search(r"yoloe|world|rtdetr|-sem|-depth", file.stem):
            continue
        found = re.fullmatch(r"(yolov?\d+)(-.+)?", file.stem)
        # A file such as yolo11.yaml holds five sizes, chosen by a letter in the name.
        names |= {f"{found[1]}{size}{found[2] or ''}" for size in "nsmlx"} if found else {file.stem}
        names.add(file.stem)
    return frozenset(names)
