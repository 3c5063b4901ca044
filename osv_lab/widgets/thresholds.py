"""The threshold explorer: precision, recall, counts and borderline predictions as a slider moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from osv_lab.core.errors import UsageError
from osv_lab.detect.confidence import OTHERS, limit_of
from osv_lab.evaluate.thresholds import choose_thresholds, passing
from osv_lab.widgets.base import Answer, LabWidget, action
from osv_lab.widgets.crops import crops
from osv_lab.widgets.front import script, style
from osv_lab.widgets.tables import svg_lines

if TYPE_CHECKING:
    from osv_lab.evaluate.thresholds import Thresholds

EXAMPLES = 12


class ThresholdExplorer(LabWidget):
    """Choose confidence thresholds with your own eyes.

    Args:
        what: Thresholds (:func:`~osv_lab.evaluate.thresholds.choose_thresholds`), an evaluation's report, or a dataset
            or view together with ``eval_key``.
        objective: What the thresholds to begin with are chosen for; see there.
        eval_key: The evaluation, of a dataset or view.
        options: Further options of ``choose_thresholds``.
        link: A session of the App, if any.
        key: See :class:`~osv_lab.widgets.base.LabWidget`.

    Attributes:
        confidences: The thresholds as the sliders stand, by class; every ``predict(confidence=...)`` takes them.

    Example:
        >>> explorer = ThresholdExplorer(lab.evaluate())          # shown where a cell ends with it
        >>> explorer.load()
        >>> explorer.confidences
        {'RBC': 0.51, 'WBC': 0.48, '*': 0.44}
    """

    heading = "Thresholds"
    _esm = script("chart.js", "gallery.js", "thresholds.js")
    _css = style("parts.css", "thresholds.css")

    confidences = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        what: Any,
        objective: str = "f1",
        *,
        eval_key: str | None = None,
        link: Any = None,
        key: str | None = None,
        **options: Any,
    ) -> None:
        self._what, self._objective, self._eval_key, self._options = what, objective, eval_key, options
        self._thresholds: Thresholds | None = None
        name = getattr(what, "dataset", None)
        name = name if isinstance(name, str) else str(what._dataset.name)
        super().__init__(f"{name}, {getattr(what, 'key', eval_key)}", link=link, key=key)

    @property
    def thresholds(self) -> Thresholds:
        """What was chosen to begin with, with every curve; ``.save(model)`` keeps those, :meth:`save` the sliders'."""
        if self._thresholds is None:
            self.load()
        if self._thresholds is None:
            raise UsageError("there are no thresholds", str(self.told.get("found", "")))
        return self._thresholds

    def save(self, model: str) -> Any:
        """Keep the thresholds as the sliders stand with a model; see ``Thresholds.save``."""
        from osv_lab.train.thresholds import save_thresholds

        chosen = self.thresholds
        on = {"objective": "by hand", "chosen_on": f"{chosen.dataset}/{chosen.key}", "images": chosen.images}
        return save_thresholds(
            model, dict(self.confidences), on, [one.name for one in chosen.curves if len(one.score)]
        )

    def _load(self) -> None:
        if hasattr(self._what, "curves") and hasattr(self._what, "confidences"):
            found: Thresholds = self._what
        else:
            found = choose_thresholds(self._what, self._objective, key=self._eval_key, **self._options)
        self._thresholds = found
        if not any(len(curve.score) for curve in found.curves):
            self.say("empty", "No predictions were evaluated", found.pred_field, "predict, then evaluate")
            return
        self.confidences = dict(found.confidences)
        self.data = {
            "objective": found.objective,
            "others": OTHERS,
            "best": dict(found.confidences),
            "images": found.images,
            "notes": list(found.notes),
            "classes": [
                {"name": one.name, "objects": one.objects, "rows": len(one.score)} for one in found.curves
            ],
        }

    @action
    def curves(self) -> Answer:
        """Of each class its scores, ascending, and true and false predictions of at least each, as float32."""
        packed = [
            np.ascontiguousarray(np.stack([one.score, one.true, one.false]), dtype="<f8").tobytes()
            for one in self.thresholds.curves
        ]
        return {"classes": [one.name for one in self.thresholds.curves]}, packed

    @action
    def examples(self, name: str, confidence: float) -> Answer:
        """Pictures of the predictions nearest to a threshold, on both sides of it; ``""`` means all classes."""
        from osv_lab.store.bulk_documents import boxes_in, read_documents
        from osv_lab.store.catalogue import open_dataset

        chosen = self.thresholds
        view = open_dataset(chosen.dataset).load_evaluation_view(chosen.key)
        near: list[tuple[float, str, Mapping[str, Any]]] = [
            (abs(box["confidence"] - confidence), str(document["_id"]), box)
            for document in self._documents(view, read_documents)
            for box in boxes_in(document, chosen.pred_field)
            if name in ("", box["label"]) and box.get("confidence") is not None
        ]
        near.sort(key=lambda one: one[0])
        near = near[:EXAMPLES]
        pairs = [(str(box.get(f"{chosen.key}_id") or ""), str(box["_id"])) for _, _, box in near]
        cut = crops(view.select([sample for _, sample, _ in near]), chosen.gt_field, chosen.pred_field, pairs)
        pairs_told = [
            {
                "text": f"{one.label['label']} {one.label['confidence']:.2f} "
                + ("passes" if one.label["confidence"] > confidence else "does not pass"),
                "tone": "good" if one.label.get(chosen.key) == "tp" else "bad",
            }
            for one in cut
        ]
        return {"pictures": pairs_told, "name": name}, [one.jpeg for one in cut]

    def _documents(self, view: Any, read: Any) -> Any:
        """The evaluated samples' predictions, read once."""
        if not hasattr(self, "_read_documents"):
            self._read_documents = read(view, [self.thresholds.pred_field])
        return self._read_documents

    @action
    def passing(self) -> Answer:
        """Open the samples in the App, with only the predictions that pass."""
        from osv_lab.store.catalogue import open_dataset

        chosen = self.thresholds
        view = open_dataset(chosen.dataset).load_evaluation_view(chosen.key)
        return self.show(passing(view, chosen.pred_field, dict(self.confidences)))

    def _static(self) -> str:
        lines = []
        for curve in self.thresholds.curves:
            at = limit_of(dict(self.confidences), curve.name)
            lines.append((curve.name, curve.cuts, curve.f1, at))
        return svg_lines(lines, "confidence", "F1") + self.thresholds._repr_html_()
