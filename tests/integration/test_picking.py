"""Two models of different quality on real images: compared, judged, promoted, and taken back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from model_variants import with_shifted_classes
from support import shared_data

from osv_lab.cli import main
from osv_lab.core.errors import CheckFailedError, NotFoundError, UsageError
from osv_lab.evaluate.comparison import compare
from osv_lab.evaluate.comparison_report import ComparisonReport
from osv_lab.evaluate.promotion import promote
from osv_lab.train.aliases import alias_history, move_alias, rollback
from osv_lab.train.registry import get_version

DATA = shared_data()
pytestmark = pytest.mark.skipif(DATA is None, reason="needs BCCD and its model in the shared data")

VARIANTS = {
    "champion": {"RBC": -2.5, "WBC": -2.5},
    "uneven": {"Platelets": -2.5},  # Better overall, worse on one class.
    "better": {},
}


@dataclass
class Cells:
    view: Any
    versions: dict[str, int]
    name: str


@pytest.fixture(scope="module")
def cells(fo: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cells]:
    from osv_lab.detect.export import export_model
    from osv_lab.evaluate.verify import verify
    from osv_lab.store.ingest import ingest
    from osv_lab.store.versions import create_version
    from osv_lab.train.registry import register

    assert DATA is not None
    folder = tmp_path_factory.mktemp("picking")
    ingest(DATA / "bccd", "picking-cells")
    dataset = fo.load_dataset("picking-cells")
    create_version(dataset, "v1")
    source = folder / "source.pt"
    shutil.copy(DATA / "models" / "bccd_yolo11n.pt", source)
    versions = {}
    for name, shifts in VARIANTS.items():
        weights = folder / name / "best.pt"
        weights.parent.mkdir()
        with_shifted_classes(source, weights, shifts)
        artifact = export_model(weights, imgsz=320)
        verify(artifact, dataset.match_tags("val").limit(8), original=weights)
        versions[name] = register(artifact, "picking").version
    yield Cells(dataset.match_tags("test"), versions, "picking")
    fo.delete_dataset("picking-cells")


@pytest.fixture(scope="module")
def report(cells: Cells) -> ComparisonReport:
    from osv_lab.detect import load_detector
    from osv_lab.evaluate.detection import evaluate
    from osv_lab.store.predict import predict

    for name in ("champion", "uneven"):
        predict(cells.view, load_detector(f"models:/picking/{cells.versions[name]}"), name)
        evaluate(cells.view, name, key=f"e_{name}")
    return compare(cells.view, "e_champion", "e_uneven", n_boot=200)


def found_by(sample: Any, field: str, thresholds: Any) -> tuple[set[str], set[str]]:
    """Brute force: ids of the objects found, and of the false positives, one prediction after the other."""
    found, false = set(), set()
    predictions = sample[field].detections if sample[field] else []
    for one in sorted(predictions, key=lambda one: -one.confidence):
        best, best_iou = None, 0.5
        for truth in sample.ground_truth.detections:
            if truth.label == one.label and truth.id not in found:
                value = iou(one.bounding_box, truth.bounding_box, sample)
                if value >= best_iou:
                    best, best_iou = truth.id, value
        if one.confidence < thresholds[one.label]:
            continue
        if best is None:
            false.add(one.id)
        else:
            found.add(best)
    return found, false


def iou(a: Any, b: Any, sample: Any) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return float(both / (a[2] * a[3] + b[2] * b[3] - both))


def test_the_counts_are_those_of_brute_force(cells: Cells, report: ComparisonReport) -> None:
    expected = dict.fromkeys(("fixed", "broken", "both_right", "both_wrong"), 0)
    false = [0, 0]
    said: dict[str, str] = {}
    for sample in cells.view:
        (a, fp_a), (b, fp_b) = (
            found_by(sample, field, report.confidence[side]) for side, field in enumerate(report.fields)
        )
        false[0] += len(fp_a)
        false[1] += len(fp_b)
        for truth in sample.ground_truth.detections:
            key = {(0, 1): "fixed", (1, 0): "broken", (1, 1): "both_right", (0, 0): "both_wrong"}[
                truth.id in a, truth.id in b
            ]
            expected[key] += 1
            said[truth.id] = key
    assert dict(report.objects) == expected and expected["fixed"] > 20 and expected["broken"] > 5
    fp = report.false_positives
    assert (fp["fp_gone"] + fp["fp_kept"], fp["fp_new"] + fp["fp_kept"]) == tuple(false)
    for what, count in expected.items():
        view = report.view(what)
        assert view.count("ground_truth.detections") == count
        assert {said[i] for row in view.values("ground_truth.detections.id") for i in row} == {what}
    assert report.view("fp_new").count("uneven.detections") == fp["fp_new"]
    assert report.view("fp_gone").count("champion.detections") == fp["fp_gone"]
    broken = report.view("broken").values("e_champion_to_e_uneven_broken")
    assert broken == sorted(broken, reverse=True)


def test_the_metrics_are_the_evaluations(cells: Cells, report: ComparisonReport) -> None:
    from osv_lab.evaluate.detection import evaluate

    for side, name in enumerate(("champion", "uneven")):
        alone = evaluate(cells.view, name, key=f"e_{name}")
        for metric, value in (("mAP50-95", alone.map50_95), ("mAP50", alone.map50)):
            one = report.of("all", "all", metric)
            assert (one.a, one.b)[side] == pytest.approx(value, abs=1e-9)
        for known in alone.classes:
            one = report.of("class", known.name)
            assert (one.a, one.b)[side] == pytest.approx(known.ap, abs=1e-9)
            one = report.of("class", known.name, "recall")
            assert (one.a, one.b)[side] == pytest.approx(known.recall, abs=1e-9)
    platelets = report.of("class", "Platelets")
    assert platelets.high < 0 < report.of("class", "RBC").low
    assert report.of().images == 72 and report.of("size", "medium").objects > 20
    with pytest.raises(NotFoundError, match="did you mean"):
        report.of("class", "Platelet")


def test_time_size_and_what_can_be_looked_at(report: ComparisonReport) -> None:
    assert report.cost is not None and report.cost.size_bytes[0] == report.cost.size_bytes[1] > 1e6
    assert min(report.cost.median_ms) > 0 and report.cost.images == 30
    picture = report.picture(2)
    assert picture.ndim == 3 and picture.dtype == np.uint8 and picture.shape[1] > 3 * 400
    assert len(report.plot().data) == len(report.highlights())
    assert [trace.name for trace in report.plot("objects").data] == ["fixed", "broken"]
    assert report.to_frame()["p"].between(0, 1).all() and report._repr_html_()
    json.dumps(report.to_dict())


def test_slices_by_field(cells: Cells, report: ComparisonReport) -> None:
    again = compare(cells.view, "champion", "uneven", 100, slices=["e_champion_fp"], models=None, confidence=0.25)
    some = [one for one in again.differences if one.kind == "e_champion_fp" and one.metric == "mAP50"]
    assert sum(one.images for one in some) == 72 and sum(one.objects for one in some) == again.of().objects
    with pytest.raises(NotFoundError, match="no such field"):
        compare(cells.view, "champion", "uneven", 100, slices=["wether"])
    with pytest.raises(NotFoundError, match="did you mean 'champion'"):
        compare(cells.view, "champon", "uneven", 100)


def test_a_model_that_is_better_overall_and_worse_on_one_class_is_refused(
    cells: Cells, capsys: pytest.CaptureFixture[str]
) -> None:
    from osv_lab.train import tracking

    options = {"view": cells.view, "margin": 0.05, "max_latency_ratio": 3.0, "n_boot": 300}
    name, numbers = cells.name, cells.versions
    first = promote(f"models:/{name}/{numbers['champion']}", **options)
    assert first.decision == "promoted" and first.champion is None
    assert get_version(name, "champion").version == numbers["champion"]

    refused = promote(f"models:/{name}/{numbers['uneven']}", **options)
    assert refused.comparison is not None and refused.comparison.of().difference > 0
    assert refused.decision == "refused" and refused.exit_code == 6
    assert [one.split(" fell")[0] for one in refused.regressed] == ["class Platelets"]
    assert [gate.name for gate in refused.gates if not gate.passed] == ["slices"]
    assert "class Platelets fell by" in refused.summary()
    assert any(one.startswith("size small") for one in refused.unjudged)
    assert get_version(name, "champion").version == numbers["champion"]
    assert len(refused.view("broken"))

    tags = tracking.client().get_model_version(name, str(numbers["uneven"])).tags
    assert tags["osv.verdict"] == "refused" and "Platelets" in tags["osv.verdict.why"]
    run_id, _, inside = refused.stored.removeprefix("runs:/").partition("/")
    import mlflow.artifacts

    kept = mlflow.artifacts.load_dict(tracking.client().get_run(run_id).info.artifact_uri + "/" + inside)
    assert kept["decision"] == "refused" and kept["comparison"]["objects"] == dict(refused.comparison.objects)

    command = ["promote", f"models:/{name}/{numbers['uneven']}", "picking-cells", "--split", "test", "--json"]
    command += ["--margin", "0.05", "--max-latency-ratio", "3", "--quiet"]
    assert main(command) == 6
    assert json.loads(capsys.readouterr().out)["decision"] == "refused"
    assert main([*command, "--force"]) == 2
    with pytest.raises(UsageError, match="only with a reason"):
        promote(f"models:/{name}/{numbers['uneven']}", force=True, reason=" ", **options)

    forced = promote(f"models:/{name}/{numbers['uneven']}", force=True, reason="Platelets go elsewhere", **options)
    assert (forced.decision, forced.reason) == ("forced", "Platelets go elsewhere")
    tags = tracking.client().get_model_version(name, str(numbers["uneven"])).tags
    assert (tags["osv.verdict"], tags["osv.verdict.reason"]) == ("forced", "Platelets go elsewhere")
    assert get_version(name, "champion").version == numbers["uneven"]

    better = promote(f"models:/{name}/{numbers['better']}", **options)
    assert better.decision == "promoted" and all(gate.passed for gate in better.gates), better.summary()
    with pytest.raises(UsageError, match="already"):
        promote(f"models:/{name}/{numbers['better']}", **options)

    moves = [(move.kind, move.before, move.to) for move in alias_history(name).moves]
    one, two, three = numbers["champion"], numbers["uneven"], numbers["better"]
    assert moves == [("promote", None, one), ("forced", one, two), ("promote", two, three)]
    assert rollback(name).version == two
    assert main(["rollback", name, "--json"]) == 0 and get_version(name, "champion").version == one
    with pytest.raises(NotFoundError, match="no earlier version"):
        rollback(name)
    with pytest.raises(CheckFailedError, match="meanwhile"):
        move_alias(name, "champion", three, expected=two)


def test_too_little_evidence_time_and_parity_refuse(cells: Cells) -> None:
    from osv_lab.train.registry import set_alias

    set_alias(cells.name, "small", cells.versions["champion"])
    verdict = promote(
        f"models:/{cells.name}/{cells.versions['better']}", "small", view=cells.view.limit(9), n_boot=100,
        max_latency_ratio=3.0, max_latency_ms=1e-3, strict=True,
    )  # fmt: skip
    failed = {gate.name: gate.found for gate in verdict.gates if not gate.passed}
    assert "9 images" in failed["evidence"] and "too few" in failed["evidence"]
    assert "above 0.001 ms" in failed["latency"] and "too few objects" in failed["slices"]


def test_a_move_that_was_killed_before_it_happened_is_not_in_the_history(cells: Cells) -> None:
    from osv_lab.train import tracking

    name, one, two = cells.name, cells.versions["champion"], cells.versions["better"]
    move_alias(name, "killed", one, expected=None)
    written = json.dumps(
        [
            {"to": one, "before": None, "at": "2026-01-01", "kind": "promote", "reason": ""},
            {"to": two, "before": one, "at": "2026-01-02", "kind": "promote", "reason": ""},
        ]
    )
    tracking.client().set_registered_model_tag(name, "osv.alias_history.killed", written)
    assert [move.to for move in alias_history(name, "killed").moves] == [one]
    tracking.client().set_registered_model_alias(name, "killed", str(two))
    assert alias_history(name, "killed").moves[-1].to == two
    tracking.client().set_registered_model_alias(name, "killed", str(cells.versions["uneven"]))
    assert alias_history(name, "killed").moves[-1].kind == "elsewhere"
    assert rollback(name, "killed").version == two
