"""Autolabel on a dataset, and with CVAT: what people made stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from annotation_people import Annotator, labels_of
from scripted_detector import ScriptedDetector

from osv_lab.annotate import AnnotationLoop
from osv_lab.annotate.autolabel import autolabel
from osv_lab.core.errors import InterruptedJobError, UsageError
from osv_lab.lab import Lab

SURE, UNSURE = ("cat", 0.9, (2.0, 2.0, 20.0, 20.0)), ("dog", 0.4, (30.0, 20.0, 60.0, 40.0))


def names(dataset: Any, field: str = "auto") -> list[list[str]]:
    dataset.reload()
    return [[box.label for box in sample[field].detections] for sample in dataset]


def test_proposals_say_who_made_them_and_whether_to_look(pets: Any) -> None:
    report = autolabel(pets, ScriptedDetector(SURE, UNSURE), "auto")
    assert (report.labelled, report.proposals, report.trusted, report.images) == (6, 12, 6, (6, 0))
    assert report.why == {"low confidence": 6}
    sure, unsure = pets.first()["auto"].detections
    assert (sure.osv_trusted, sure.osv_model, sure.osv_source) == (True, "scripted@1", "auto")
    assert sure.confidence == pytest.approx(0.9)
    assert (unsure.osv_trusted, unsure.osv_why) == (False, "low confidence")
    assert len(report.view("uncertain")) == 6
    assert report.boxes(trusted=True).count("auto.detections") == 6
    assert len(report.view("trusted")) == 0


def test_the_same_run_again_does_nothing_and_another_detector_replaces_only_proposals(pets: Any) -> None:
    autolabel(pets, ScriptedDetector(SURE, UNSURE), "auto")
    sample = pets.first()
    sample["auto"].detections[1].osv_source = "manual"
    sample.save()
    person = sample["auto"].detections[1].id
    before = labels_of(pets, "auto")
    again = ScriptedDetector(SURE, UNSURE)
    report = autolabel(pets, again, "auto")
    assert (again.images, report.kept, report.labelled) == (0, 6, 0)
    assert labels_of(pets, "auto") == before
    autolabel(pets, ScriptedDetector(SURE, ref="scripted@2"), "auto")
    assert names(pets) == [["dog", "cat"], *[["cat"]] * 5]
    assert pets.first()["auto"].detections[0].id == person


def test_labels_of_others_stay_and_disagreement_is_shown_beside_them(fo: Any, pets: Any) -> None:
    for sample in pets.limit(2):
        sample["gt"] = fo.Detections(
            detections=[fo.Detection(label="cow", bounding_box=[2 / 64, 2 / 48, 18 / 64, 18 / 48])]
        )
        sample.save()
    before = [sample["gt"].to_dict()["detections"] for sample in pets.limit(2)]
    report = autolabel(pets, ScriptedDetector(SURE, UNSURE), "gt")
    pets.reload()
    after = [sample["gt"].to_dict()["detections"] for sample in pets.limit(2)]
    assert [some[0] for some in after] == [some[0] for some in before]
    assert [[box["label"] for box in some] for some in after] == [["cow", "dog"]] * 2
    assert after[0][1]["osv_why"] == "low confidence, not in people's labels"
    assert (report.disagreements, report.staying) == (2, 2)
    said = report.view("disagreements").first()["gt_disagreements"].detections[0]
    assert (said.label, said.was, said.of_label) == ("cat", "cow", str(before[0][0]["_id"]))


def test_classes_become_labels_and_some_none(pets: Any) -> None:
    report = autolabel(pets, ScriptedDetector(SURE, UNSURE), "auto", {"cat": "animal", "d*": None})
    assert set(report.classes) == {"animal"}
    with pytest.raises(UsageError, match="no such class"):
        autolabel(pets, ScriptedDetector(SURE), "auto", {"cta": "cat"})
    with pytest.raises(UsageError, match="between 0 and 1"):
        autolabel(pets, ScriptedDetector(SURE), "auto", thresholds={"cat": 25})
    with pytest.raises(UsageError, match="another kind"):
        autolabel(pets, ScriptedDetector(SURE), "weather")


def test_an_interrupted_run_goes_on_where_it_stopped(pets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("osv_lab.annotate.autolabel.WRITE_EVERY", 2)

    class Stopping(ScriptedDetector):
        def predict(self, images: Any, **options: Any) -> Any:
            if self.images == 4:
                raise KeyboardInterrupt
            return super().predict(images, **options)

    with pytest.raises(InterruptedJobError, match="4 images were done"):
        autolabel(pets, Stopping(SURE), "auto", batch_size=2)
    rest = ScriptedDetector(SURE)
    report = autolabel(pets, rest, "auto", batch_size=2)
    assert (rest.images, report.kept, report.labelled, report.proposals) == (2, 4, 2, 6)


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_labelled(pets: Any) -> None:
    Path(pets.first().filepath).write_bytes(b"no image")
    report = autolabel(pets, ScriptedDetector(SURE), "auto")
    assert (report.labelled, len(report.problems), report.exit_code) == (5, 1, 0)


def test_a_field_that_somebody_writes_meanwhile_loses_nothing(pets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import fiftyone as fo

    from osv_lab.annotate import autolabel_write as module

    plain, mine = module.replace_labels, fo.Detection(label="mine", bounding_box=[0.8, 0.1, 0.1, 0.1])

    def late(*args: Any, **options: Any) -> Any:
        if not pets.first()["auto"] or not pets.first()["auto"].detections:
            sample = pets.first()
            sample["auto"] = fo.Detections(detections=[mine])
            sample.save()
        return plain(*args, **options)

    monkeypatch.setattr(module, "replace_labels", late)
    autolabel(pets, ScriptedDetector(SURE), "auto")
    assert names(pets) == [["mine", "cat"], *[["cat"]] * 5]


def test_what_annotators_went_over_is_theirs(loop: AnnotationLoop, pets: Any) -> None:
    report = autolabel(pets, ScriptedDetector(SURE, UNSURE), "auto")
    loop.send(report.view("uncertain").limit(1), "key", "auto")
    person = Annotator(loop.connection, loop.list().runs[0]["task"])
    wrong = next(one for one in person.objects() if one["label_id"] == person.labels["dog"])
    person.do("delete", wrong)
    person.finish()
    loop.pull("key")
    again = autolabel(
        pets, ScriptedDetector(("cat", 0.9, (3.0, 3.0, 20.0, 20.0)), UNSURE, ref="scripted@2"), "auto"
    )
    first, *others = pets.select_fields("auto")
    kept, new = first["auto"].detections
    assert (kept.osv_model, kept.label) == ("scripted@1", "cat")
    assert (new.label, new.osv_why) == ("dog", "low confidence, not in people's labels")
    assert all(box.osv_model == "scripted@2" for sample in others for box in sample["auto"].detections)
    assert again.proposals == 12


def test_the_lab_loads_the_model_by_its_reference(pets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("osv_lab.detect.load_detector", lambda ref: ScriptedDetector(SURE, ref=ref))
    report = Lab(pets.name).autolabel("best.onnx", "auto", ontology={"d*": None})
    assert (report.model, report.classes) == ("best.onnx", {"cat": (6, 6)})
    assert pets.first()["auto"].detections[0].osv_model == "best.onnx"
