"""Settings by trade: what to train, predict, slice and keep where one looks at cells, at traffic, at shelves.

A preset is a YAML file of keyword arguments, a section per method of :class:`osv_lab.Lab`, and a reason for each:

    preset = load_preset("blood_cells")
    lab.train(**preset.train)
    lab.predict(run.weights, split="test", **preset.predict)

Copy one, change what your data says, and give its path instead of its name.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError, nearest
from osv_lab.core.report import Report

SECTIONS: Mapping[str, str] = {
    "train": "osv_lab.train.recipe:Recipe",
    "predict": "osv_lab.store.predict:predict",
    "select": "osv_lab.curate.select:select",
    "slices": "osv_lab.evaluate.slices:slices",
    "choose_thresholds": "osv_lab.evaluate.thresholds:choose_thresholds",
    "track": "osv_lab.store.tracks:track",
    "serve": "osv_lab.serve.run:start_server",
}
"""The sections, and the function that takes the settings of each."""

_FOLDER = Path(__file__).parent


def presets() -> tuple[str, ...]:
    """The names of the presets that come with the lab.

    >>> presets()
    ('blood_cells', 'parts', 'retail_shelves', 'traffic')
    """
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


@dataclass(frozen=True)
class Preset(Report):
    """Settings for a kind of data; every section is a mapping of keyword arguments.

    Attributes:
        name: Its name, or its file's.
        about: What data it is for.
        train: For ``lab.train``.
        first_look: What to change in ``train`` for a first look on a CPU:
            ``lab.train(**preset.train | preset.first_look)``.
        predict: For ``lab.predict``.
        select: For ``lab.select``.
        slices: For ``lab.slices``.
        choose_thresholds: For ``lab.choose_thresholds``.
        track: For ``lab.track``.
        serve: For ``lab.server.start``.
        why: The reason for a section's settings, by section.
    """

    name: str
    about: str = ""
    train: Mapping[str, Any] = field(default_factory=dict)
    first_look: Mapping[str, Any] = field(default_factory=dict)
    predict: Mapping[str, Any] = field(default_factory=dict)
    select: Mapping[str, Any] = field(default_factory=dict)
    slices: Mapping[str, Any] = field(default_factory=dict)
    choose_thresholds: Mapping[str, Any] = field(default_factory=dict)
    track: Mapping[str, Any] = field(default_factory=dict)
    serve: Mapping[str, Any] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)

    def rows(self) -> list[Mapping[str, Any]]:
        """One row per section that has settings."""
        return [
            {
                "section": section,
                "settings": ", ".join(f"{key}={value}" for key, value in getattr(self, section).items()),
                "why": self.why.get(section, ""),
            }
            for section in ("train", "first_look", *(name for name in SECTIONS if name != "train"))
            if getattr(self, section)
        ]

    def summary(self) -> str:
        """What it is for."""
        return f"{self.name}: {self.about}"


def load_preset(name: str | Path) -> Preset:
    """A preset that comes with the lab, by name, or one of your own, by the path of its YAML file.

    Raises:
        NotFoundError: no such preset or file.
        InvalidDataError: the file is not YAML.
        UsageError: a section or a setting that does not exist, or a training setting that cannot be.

    Example:
        >>> load_preset("blood_cells").train["flipud"]
        0.5
        >>> load_preset("blood_cell")
        Traceback (most recent call last):
        osv_lab.core.errors.NotFoundError: no such preset: 'blood_cell'; did you mean 'blood_cells'?
    """
    import yaml

    path = _FOLDER / f"{name}.yaml" if str(name) in presets() else Path(name)
    if not path.is_file():
        raise NotFoundError("no such preset", repr(str(name)), nearest(str(name), presets()))
    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidDataError("a preset cannot be read as YAML", f"{path}: {error}") from error
    known = [one.name for one in fields(Preset) if one.name != "name"]
    if not isinstance(found, dict):
        raise UsageError("a preset must be a mapping of sections", path, f"sections are {', '.join(known)}")
    for section, settings in found.items():
        if section not in known:
            raise UsageError("no such section of a preset", repr(section), nearest(str(section), known))
        if not isinstance(settings, str if section == "about" else dict):
            raise UsageError(f"section '{section}' of a preset has no settings", repr(settings), "give key: value")
    preset = Preset(path.stem, **found)
    _check(preset)
    return preset


def _check(preset: Preset) -> None:
    from osv_lab.train.recipe import Recipe

    for training in (preset.train, {**preset.train, **preset.first_look}):
        Recipe.from_dict({"model": "yolo11n", **training})
    for section, place in SECTIONS.items():
        if section == "train" or not getattr(preset, section):
            continue
        module, _, function = place.partition(":")
        accepted = list(inspect.signature(getattr(importlib.import_module(module), function)).parameters)
        for setting in getattr(preset, section):
            if setting not in accepted:
                raise UsageError(f"'{section}' has no setting", repr(setting), nearest(setting, accepted))
