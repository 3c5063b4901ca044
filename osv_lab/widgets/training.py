"""The recipe form and the training board: set up a run, start it, watch its curves, stop and resume it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import traitlets

from osv_lab.core.errors import OsvError, UsageError
from osv_lab.core.report import plain
from osv_lab.train import background
from osv_lab.train.recipe import Recipe
from osv_lab.train.rules import AUGMENTATION, FIELDS, OPTIONS, TASKS, Rule
from osv_lab.train.run import RunFolder, RunState, find_run, run_folders
from osv_lab.widgets.base import Answer, LabWidget, action
from osv_lab.widgets.front import script, style
from osv_lab.widgets.tables import svg_lines

MOST_RUNS = 12


class TrainingBoard(LabWidget):
    """Set up a training run, start it in a process of its own, and watch it, with the runs before it.

    The page asks for news while it is in sight; no thread runs in the kernel. Training goes on while cells run; it
    stops, resumably, when told to or when the kernel ends.

    Args:
        dataset: A dataset, its name, or a version (``"blood@v1"``), with the splits ``train`` and ``val``.
        recipe: What the form begins with.
        experiment: MLflow's experiment; by default the dataset's name.
        every_s: Seconds between two looks.
        link: A session of the App, if any.
        key: See :class:`~osv_lab.widgets.base.LabWidget`.

    Attributes:
        settings: The form as it stands, as :meth:`~osv_lab.train.recipe.Recipe.from_dict` takes it.
        run: The run whose curves are shown.

    Example:
        >>> board = TrainingBoard("cells", Recipe("yolo11n", epochs=20))
        >>> board.recipe.epochs                                   # as the form stands: lab.train(board.recipe) takes it
        20
    """

    heading = "Training"
    _esm = script("chart.js", "watch.js", "training.js")
    _css = style("parts.css", "training.css")

    settings = traitlets.Dict().tag(sync=True)
    run = traitlets.Unicode("").tag(sync=True)

    def __init__(
        self,
        dataset: Any,
        recipe: Recipe | None = None,
        *,
        experiment: str | None = None,
        every_s: float = 2,
        link: Any = None,
        key: str | None = None,
    ) -> None:
        self._dataset = dataset if isinstance(dataset, str) else str(dataset.name)
        self.experiment = experiment or self._dataset.partition("@")[0]
        self._every_s = every_s
        first = recipe or Recipe("yolo11n.yaml")
        super().__init__(self._dataset, link=link, key=key, settings=_set(first))

    @property
    def recipe(self) -> Recipe:
        """The form as a recipe.

        Raises:
            UsageError: a setting cannot be used.
        """
        return Recipe.from_dict({name: value for name, value in self.settings.items() if value not in ("", None)})

    def _load(self) -> None:
        self.data = {"form": _form(), "every": self._every_s, **self._news()}

    def _look(self) -> None:
        self.data = {**self.data, **self._news()}

    def _news(self) -> dict[str, Any]:
        runs = [(folder, state) for folder, state in run_folders() if state.experiment == self.experiment]
        process = background.current(self.experiment)
        alive = process is not None and process.running
        told = [_told(folder, state) for folder, state in reversed(runs[-MOST_RUNS:])]
        names = [one["name"] for one in told]
        if alive and names and told[0]["status"] in ("preparing", "training", "trained"):
            self.run = names[0]
        elif self.run not in names:
            self.run = names[0] if names else ""
        problem = process.said() if process is not None and not alive and process.code not in (0, 130) else ""
        news = {"runs": told, "running": alive, "problem": problem, "experiment": self.experiment}
        return dict(plain(news))

    @action
    def look(self) -> Answer:
        """Read the runs again."""
        self._look()
        return None

    @action
    def check(self) -> Answer:
        """Whether the form can be used, and the recipe's digest."""
        try:
            return {"good": True, "digest": self.recipe.digest()[:12]}
        except OsvError as error:
            return {"good": False, "problem": str(error)}

    @action
    def start(self) -> Answer:
        """Start training as the form says."""
        background.start(self._dataset, self.recipe, experiment=self.experiment)
        self._look()
        return {"note": f"training {self._dataset} in a process of its own"}

    @action
    def stop(self) -> Answer:
        """Stop the training that was started here."""
        process = background.current(self.experiment)
        if process is None or not process.running:
            raise UsageError("nothing is training here", repr(self.experiment))
        process.stop()
        return {"note": "told to stop; the run can be resumed"}

    @action
    def resume(self, run: str) -> Answer:
        """Go on with a run."""
        find_run(run)
        background.start(self._dataset, None, experiment=self.experiment, resume=run)
        self._look()
        return {"note": f"going on with {run}"}

    @action
    def use(self, run: str) -> Answer:
        """Put a run's recipe into the form."""
        self.settings = _set(Recipe.from_dict(find_run(run)[1].recipe))
        return {"note": f"the form has the recipe of {run}"}

    def _static(self) -> str:
        shown = next((one for one in self.data["runs"] if one["name"] == self.run), None)
        if shown is None:
            return "<p class='osv-static-note'>no run yet</p>"
        columns = [name for name in ("mAP50", "mAP50-95") if name in shown["history"]]
        epochs = shown["history"]["epoch"]
        lines = [(name, epochs, [_number(one) for one in shown["history"][name]], None) for name in columns]
        return svg_lines(lines, "epoch", "mAP") + find_run(self.run)[0].report()._repr_html_()


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _set(recipe: Recipe) -> dict[str, Any]:
    """A recipe's settings that say something, as a form holds them."""
    return {name: value for name, value in recipe.to_dict().items() if value is not None}


def _told(folder: RunFolder, state: RunState) -> dict[str, Any]:
    rows = folder.history()
    columns = list(dict.fromkeys(name for row in rows for name in row)) or ["epoch"]
    total = int(state.recipe.get("epochs") or 0)
    return {
        "name": folder.path.name,
        "status": state.status,
        "epochs": max(state.epochs, len(rows)),
        "total": total,
        "seconds": state.seconds,
        "started": state.created[:16].replace("T", " "),
        "model": state.model or state.recipe.get("model", ""),
        "metrics": state.metrics,
        "mlflow": state.run_id,
        "error": state.error,
        "notes": state.notes,
        "history": {name: [row.get(name) for row in rows] for name in columns},
    }


def _form() -> list[dict[str, Any]]:
    """The settings a form offers, in groups, each with its rule."""
    default = {one.name: one.default for one in dataclasses.fields(Recipe)}
    text = Rule("text", "a .pt to start from, a .yaml to train from scratch, a name, or models:/name@alias")
    main: Mapping[str, Rule] = {
        "model": text,
        "task": Rule("text", "what is learned", choices=("", *TASKS)),
        "epochs": FIELDS["epochs"],
        "imgsz": FIELDS["imgsz"],
        "batch": Rule("number", "images per step", 1),
        "device": Rule("text", "cpu, cuda:0, ...; empty takes the best"),
    }
    more = {name: rule for name, rule in FIELDS.items() if name not in main}
    groups = {"Run": main, "Optimisation": more, "Augmentation": AUGMENTATION, "Further settings": OPTIONS}
    return [
        {
            "group": group,
            "fields": [
                {
                    "name": name,
                    "kind": rule.kind,
                    "meaning": rule.meaning,
                    "low": rule.low if math.isfinite(rule.low) else None,
                    "high": rule.high if math.isfinite(rule.high) else None,
                    "choices": list(rule.choices),
                    "default": plain(default.get(name)) if not callable(default.get(name)) else None,
                }
                for name, rule in rules.items()
            ],
        }
        for group, rules in groups.items()
    ]
