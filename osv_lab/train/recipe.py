"""A recipe: everything that decides how a model is trained, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from osv_lab.core.digests import value_digest
from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError, nearest
from osv_lab.core.settings import SEED
from osv_lab.train.rules import (
    AUGMENTATION,
    FIELDS,
    OPTIONS,
    RESERVED,
    TASKS,
    Rule,
    Task,
    architectures,
    check_batch,
    check_device,
    shown,
    task_of_name,
)

_NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Recipe:
    """How to train: the model to start from and every setting.

    Attributes:
        model: A ``.pt`` file to start from, a ``.yaml`` architecture to train from scratch, ``models:/name@alias``,
            or an architecture's name ("yolo11n"), which takes its published weights where they can be had.
        task: ``detect``, ``segment``, ``pose``, ``obb`` or ``classify``; ``None`` takes what the model's name states,
            else ``detect``.
        epochs: Passes over the training split.
        imgsz: Side of the square image the network sees, in pixels; a multiple of 32.
        batch: Images per step.
        seed: Where every random choice starts from.
        device: ``cpu``, ``mps``, ``cuda:0``; ``None`` takes the best there is.
        lr0: First learning rate; ``None`` leaves it to the optimizer's default.
        optimizer: ``auto`` chooses optimizer and learning rate by the number of steps.
        patience: Epochs without a better model before training stops; 0 never stops early.
        workers: Processes that load images; used on a GPU only.
        augmentation: Strengths by Ultralytics' names (``{"mosaic": 0.5, "fliplr": 0}``); others keep their default.
        options: Further Ultralytics settings by name (see :data:`osv_lab.train.rules.OPTIONS`).

    Raises:
        UsageError: a setting has the wrong type or range, or does not exist; the nearest valid name is given.

    Example:
        >>> Recipe("yolo11n", epochs=10).task
        'detect'
        >>> Recipe.from_dict({"model": "yolo11n.yaml", "epoch": 10})
        Traceback (most recent call last):
        osv_lab.core.errors.UsageError: no such recipe setting: 'epoch'; did you mean 'epochs'?
    """

    model: str
    task: Task | None = None
    epochs: int = 50
    imgsz: int = 640
    batch: int | float = 16
    seed: int = SEED
    device: str | None = None
    lr0: float | None = None
    optimizer: str = "auto"
    patience: int = 20
    workers: int = 4
    augmentation: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {"model": _check_model(self.model)}
        checked["task"] = _check_task(self.task, checked["model"])
        for name, rule in FIELDS.items():
            value = getattr(self, name)
            checked[name] = None if name == "lr0" and value is None else rule.check(name, value)
        _check_imgsz(checked["imgsz"])
        checked["batch"] = check_batch(self.batch)
        checked["device"] = check_device(self.device)
        checked["augmentation"] = _check_mapping("augmentation", self.augmentation, AUGMENTATION)
        checked["options"] = _check_mapping("options", self.options, OPTIONS)
        if checked["lr0"] is not None and checked["optimizer"] == "auto":
            raise UsageError(
                "recipe setting 'lr0' has no effect while 'optimizer' is 'auto', which picks its own",
                f"lr0={checked['lr0']}",
                "name the optimizer too (optimizer='SGD' or 'AdamW'), or leave lr0 out",
            )
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Recipe:
        """A recipe from one flat mapping, in which augmentations and options may stand beside the fields.

        Raises:
            UsageError: as for :class:`Recipe`; also for a key that does not exist or that the lab sets itself.
        """
        if not isinstance(settings, Mapping):
            raise UsageError("a recipe must be a mapping of settings", shown(settings))
        own = {one.name for one in fields(cls)}
        values: dict[str, Any] = {}
        nested: dict[str, Any] = {}
        for name in ("augmentation", "options"):
            given = settings.get(name) or {}
            if not isinstance(given, Mapping):
                raise UsageError(f"recipe setting '{name}' must be a mapping", shown(given))
            nested[name] = dict(given)
        for name, value in settings.items():
            if name in AUGMENTATION:
                nested["augmentation"][name] = value
            elif name in OPTIONS:
                nested["options"][name] = value
            elif name not in own:
                raise _unknown(name, own | AUGMENTATION.keys() | OPTIONS.keys())
            elif name not in nested:
                values[name] = value
        if "model" not in values:
            raise UsageError("a recipe needs a model", "no setting 'model'", "set model, for example 'yolo11n'")
        return cls(**values, **nested)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Recipe:
        """A recipe from a YAML file with the same keys as :meth:`from_dict`.

        Raises:
            NotFoundError: no such file.
            InvalidDataError: the file is not YAML.
            UsageError: as for :meth:`from_dict`.
        """
        import yaml

        file = Path(path)
        if not file.is_file():
            raise NotFoundError("no such recipe file", file)
        try:
            settings = yaml.safe_load(file.read_text("utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InvalidDataError("a recipe file cannot be read as YAML", f"{file}: {error}") from error
        return cls.from_dict(settings if settings is not None else {})

    def to_dict(self) -> dict[str, Any]:
        """The settings as one flat mapping that :meth:`from_dict` reads back."""
        own = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**{name: own[name] for name in own if name not in {"augmentation", "options"}}, **own["augmentation"],
                **own["options"]}  # fmt: skip

    def digest(self) -> str:
        """A digest of all settings: equal recipes, equal digests."""
        return value_digest(self.to_dict())


def _unknown(name: object, allowed: set[str]) -> UsageError:
    if name in RESERVED:
        return UsageError("a recipe cannot set this, the lab does", repr(name), "leave it out")
    return UsageError("no such recipe setting", repr(name), nearest(str(name), allowed))


def _check_mapping(kind: str, given: Any, rules: Mapping[str, Rule]) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise UsageError(f"recipe setting '{kind}' must be a mapping", shown(given))
    for name in given:
        if name not in rules:
            raise _unknown(name, set(rules))
    return MappingProxyType({name: rules[name].check(name, given[name]) for name in sorted(given)}) or _NONE


def _check_imgsz(imgsz: int) -> None:
    if imgsz % 32:
        below = imgsz // 32 * 32
        raise UsageError(
            "recipe setting 'imgsz' must be a multiple of 32",
            imgsz,
            f"use {below} or {below + 32}" if below else "",
        )


def _check_model(model: Any) -> str:
    if not isinstance(model, (str, Path)) or not str(model).strip():
        raise UsageError("recipe setting 'model' must be a file, a name or a models:/ reference", shown(model))
    text = str(model).strip()
    suffix = Path(text).suffix.lower()
    if text.startswith(("models:/", "runs:/")) or suffix in {".pt", ".yaml", ".yml"}:
        return text
    if suffix in {".onnx", ".xml", ".engine", ".torchscript", ".tflite", ".mlpackage"}:
        raise UsageError(
            "an exported model cannot be trained", text, "start from the .pt file that it was exported from"
        )
    known = architectures()
    if known and text.lower() not in known:
        raise UsageError(
            "no such model", repr(text), nearest(text.lower(), known) + " (or give a .pt or .yaml file)"
        )
    return text


def _check_task(task: Any, model: str) -> Task:
    stated = None if model.startswith(("models:/", "runs:/")) else task_of_name(model)
    if task is None:
        return stated or "detect"
    if task not in TASKS:
        raise UsageError(
            "recipe setting 'task' must be one of " + ", ".join(TASKS), shown(task), nearest(str(task), TASKS)
        )
    bare = Path(model).suffix.lower() != ".pt"
    if bare and (stated or "detect") != task and model.lower().removesuffix(".yaml") in architectures():
        raise UsageError(
            "the recipe's model is not for its task",
            f"model {model!r} is for '{stated or 'detect'}', task is '{task}'",
            "leave 'task' out, or take the architecture for it",
        )
    checked: Task = task
    return checked
