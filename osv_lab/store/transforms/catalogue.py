"""The steps there are: their names and parameters (Roboflow's), what each may be, and what does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from osv_lab.core.errors import UsageError, nearest
from osv_lab.store.transforms import pixels, spatial
from osv_lab.store.transforms.inside import inside_boxes

Stage: TypeAlias = Literal["preprocess", "augment"]
Steps: TypeAlias = Mapping[str, Any] | Sequence[Any]
"""``{"resize": {"width": 640, ...}, "grayscale": True}``, or a list of names, of ``(name, parameters)`` and of such
mappings. ``False`` and ``None`` leave a step out."""

RESIZE_FORMATS = (
    "Stretch to", "Fill (with center crop) in", "Fit within", "Fit (reflect edges) in", "Fit (black edges) in",
    "Fit (white edges) in",
)  # fmt: skip
CONTRASTS = ("Adaptive Equalization", "Contrast Stretching", "Histogram Equalization")


@dataclass(frozen=True, slots=True)
class Number:
    """A parameter that is a number from ``low`` to ``high``; ``whole`` ones only, where said."""

    low: float
    high: float
    default: float | None = None
    whole: bool = False

    def check(self, name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not self.low <= value <= self.high:
            raise UsageError(f"'{name}' must be a number from {self.low:g} to {self.high:g}", repr(value))
        if self.whole and value != int(value):
            raise UsageError(f"'{name}' must be a whole number", repr(value))
        return int(value) if self.whole else float(value)


@dataclass(frozen=True, slots=True)
class Flag:
    """A parameter that is true or false."""

    default: bool | None = False

    def check(self, name: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise UsageError(f"'{name}' must be true or false", repr(value))
        return value


@dataclass(frozen=True, slots=True)
class Choice:
    """A parameter that is one of some texts."""

    of: tuple[str, ...]
    default: str | None = None

    def check(self, name: str, value: Any) -> str:
        if value not in self.of:
            raise UsageError(f"unknown '{name}'", repr(value), nearest(str(value), self.of))
        return str(value)


Parameter: TypeAlias = Number | Flag | Choice


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of step.

    Attributes:
        stage: Whether it is for all images or for augmented copies.
        run: What does it: an item, a context and parameters to an item or, for tiles, several. ``None`` for steps on
            labels and whole data sets, which :mod:`osv_lab.store.versions.generate` does.
        parameters: What it takes.
        any_of: Of these flags one must be true.
    """

    stage: Stage
    run: Callable[..., Any] | None
    parameters: Mapping[str, Parameter]
    any_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chosen:
    """A step with its parameters, checked."""

    name: str
    params: Mapping[str, Any]

    @property
    def kind(self) -> Kind:
        """What the catalogue says of it."""
        return KINDS[self.name]

    def to_plain(self) -> dict[str, Any]:
        """The step as :func:`parse_steps` takes it."""
        return {self.name: dict(self.params) or True}


_PERCENT = Number(0, 100)
_TURNS: Mapping[str, Parameter] = {name: Flag() for name in ("clockwise", "counter-clockwise", "upside-down")}
_FLIPS: Mapping[str, Parameter] = {"horizontal": Flag(), "vertical": Flag()}
_SHEAR: Mapping[str, Parameter] = {"horizontal": Number(0, 45, 0), "vertical": Number(0, 45, 0)}
_LIGHT: Mapping[str, Parameter] = {"brighten": Flag(True), "darken": Flag(True), "percent": Number(0, 99)}
_ZOOM: Mapping[str, Parameter] = {"min": Number(0, 99, 0), "max": Number(0, 99)}

# Which image-level augmentations have a box-level form, under "bb" and their name.
_ALSO_INSIDE: Mapping[str, tuple[Callable[..., Any], Mapping[str, Parameter], tuple[str, ...]]] = {
    "flip": (spatial.flip, _FLIPS, tuple(_FLIPS)),
    "ninety": (spatial.ninety, _TURNS, tuple(_TURNS)),
    "crop": (spatial.crop, _ZOOM, ()),
    "rotate": (spatial.rotate, {"degrees": Number(0, 180)}, ()),
    "shear": (spatial.shear, _SHEAR, ()),
    "brightness": (pixels.brightness, _LIGHT, ("brighten", "darken")),
    "exposure": (pixels.exposure, {"percent": Number(0, 99)}, ()),
    "blur": (pixels.blur, {"pixels": Number(0, 25)}, ()),
    "noise": (pixels.noise, {"percent": Number(0, 25)}, ()),
}

KINDS: Mapping[str, Kind] = {
    "auto-orient": Kind("preprocess", None, {}),
    "resize": Kind(
        "preprocess",
        spatial.resize,
        {
            "width": Number(1, 16384, whole=True),
            "height": Number(1, 16384, whole=True),
            "format": Choice(RESIZE_FORMATS, "Stretch to"),
        },
    ),
    "grayscale": Kind("preprocess", pixels.grayscale, {}),
    "contrast": Kind("preprocess", pixels.contrast, {"type": Choice(CONTRASTS, CONTRASTS[0])}),
    "static-crop": Kind(
        "preprocess",
        spatial.static_crop,
        {"x_min": Number(0, 100, 0), "x_max": Number(0, 100, 100), "y_min": Number(0, 100, 0),
         "y_max": Number(0, 100, 100)},
    ),
    "tile": Kind(
        "preprocess", spatial.tile, {"rows": Number(1, 100, whole=True), "columns": Number(1, 100, whole=True)}
    ),
    "filter-null": Kind("preprocess", None, {"percent": _PERCENT}),
    "remap": Kind("preprocess", None, {}),
    **{name: Kind("augment", run, stated, any_of) for name, (run, stated, any_of) in _ALSO_INSIDE.items()},
    "hue": Kind("augment", pixels.hue, {"degrees": Number(0, 180)}),
    "saturation": Kind("augment", pixels.saturation, {"percent": Number(0, 99)}),
    "cutout": Kind("augment", pixels.cutout, {"count": Number(1, 100, whole=True), "percent": Number(1, 100)}),
    "mosaic": Kind("augment", spatial.mosaic, {}),
    "rgrayscale": Kind("augment", pixels.random_grayscale, {"percent": _PERCENT}),
    **{
        f"bb{name}": Kind("augment", inside_boxes(run), stated, any_of)
        for name, (run, stated, any_of) in _ALSO_INSIDE.items()
    },
}  # fmt: skip
"""Every step by its name. ``remap`` takes ``{"old class": "new class"}``; a new name of ``""`` drops the class."""


def parse_steps(steps: Steps, stage: Stage | None = None) -> list[Chosen]:
    """Steps with their parameters checked.

    Args:
        steps: See :data:`Steps`.
        stage: What they must be for; ``None``: either.

    Raises:
        UsageError: an unknown step or parameter, a value out of range, or a step of the other stage.

    Example:
        >>> parse_steps({"flip": {"horizontal": True}})[0].params
        {'horizontal': True, 'vertical': False}
    """
    return [chosen for name, given in _pairs(steps) if (chosen := _chosen(name, given, stage)) is not None]


def _pairs(steps: Steps) -> list[tuple[str, Any]]:
    if isinstance(steps, str):
        return [(steps, True)]
    if isinstance(steps, Mapping):
        return list(steps.items())
    pairs: list[tuple[str, Any]] = []
    for step in steps:
        if isinstance(step, Chosen):
            pairs.append((step.name, dict(step.params) or True))
        elif isinstance(step, (str, Mapping)):
            pairs += _pairs(step)
        elif isinstance(step, Sequence) and len(step) == 2 and isinstance(step[0], str):
            pairs.append((step[0], step[1]))
        else:
            raise UsageError("not a step", repr(step), 'write {"name": {parameters}}')
    return pairs


def _chosen(name: str, given: Any, stage: Stage | None) -> Chosen | None:
    kind = KINDS.get(name)
    if kind is None:
        fix = "use multiplier=" if name == "image" else nearest(name, KINDS)
        raise UsageError("unknown step", repr(name), fix)
    if stage is not None and kind.stage != stage:
        raise UsageError(f"'{name}' is no {stage} step", f"it is for {kind.stage}", f"put it under {kind.stage}")
    if given is False or given is None:
        return None
    params = {} if given is True else given
    if not isinstance(params, Mapping):
        raise UsageError(f"'{name}' takes parameters by name", repr(given), f"give {_usage(name, kind)}")
    if name == "remap":
        return _remap(params)
    for unknown in set(params) - set(kind.parameters):
        raise UsageError(f"'{name}' has no parameter of this name", repr(unknown), f"give {_usage(name, kind)}")
    checked: dict[str, Any] = {}
    for key, parameter in kind.parameters.items():
        if key not in params and parameter.default is None:
            raise UsageError(f"'{name}' needs '{key}'", repr(dict(params)), f"give {_usage(name, kind)}")
        checked[key] = parameter.check(f"{name}.{key}", params.get(key, parameter.default))
    if kind.any_of and not any(checked[key] for key in kind.any_of):
        raise UsageError(
            f"'{name}' would do nothing", str(checked), f"set one of {', '.join(kind.any_of)} to true"
        )
    for low, high in (("min", "max"), ("x_min", "x_max"), ("y_min", "y_max")):
        if low in checked and float(checked[low]) > float(checked[high]) - (low != "min") * 1e-9:
            raise UsageError(f"'{name}' needs {low} below {high}", str(checked))
    return Chosen(name, checked)


def _remap(params: Mapping[str, Any]) -> Chosen:
    for old, new in params.items():
        if not isinstance(old, str) or not isinstance(new, str):
            raise UsageError("'remap' takes class names", f"{old!r}: {new!r}", 'give {"old": "new"}, "" to drop')
    if not params:
        raise UsageError("'remap' would do nothing", "{}", 'give {"old": "new"}, "" to drop a class')
    return Chosen("remap", dict(params))


def _usage(name: str, kind: Kind) -> str:
    return f'{{"{name}": {{{", ".join(kind.parameters)}}}}}' if kind.parameters else f'{{"{name}": true}}'
