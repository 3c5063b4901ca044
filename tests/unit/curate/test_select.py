"""select(): each strategy picks what it says; ``osv curate`` prints what the functions return."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from osv_lab.cli import main
from osv_lab.core.errors import UsageError
from osv_lab.curate.select import farthest_first, select


@pytest.fixture
def pool(fo: Any, dataset_name: str, photos: list[Path]) -> Any:
    """Twelve photos; 3 is full of doubt, 7 shows the rare class, 9 labelled ones show the common one."""
    dataset = fo.Dataset(dataset_name)
    box = [0.1, 0.1, 0.2, 0.2]
    for i, path in enumerate(photos[:12]):
        doubt = 0.5 if i == 3 else 0.95
        name = "rare" if i == 7 else "common"
        found = [fo.Detection(label=name, bounding_box=box, confidence=doubt) for _ in range(2)]
        sample = fo.Sample(str(path), tags=["train"], predictions=fo.Detections(detections=found))
        sample["ground_truth"] = fo.Detections(
            detections=[fo.Detection(label="common", bounding_box=box)] * (i < 9)
        )
        dataset.add_sample(sample)
    return dataset


def test_each_strategy_picks_what_it_says_and_tells_why(pool: Any) -> None:
    ids = pool.values("id")
    unsure = select(pool, 2, "uncertainty")
    assert unsure.picks[0].sample == ids[3] and "2 objects (common)" in unsure.picks[0].why
    needed = select(pool, 2, "class_need")
    assert needed.picks[0].sample == ids[7] and "rare" in needed.picks[0].why
    assert {ids[3], ids[7]} <= {one.sample for one in select(pool, 6, "mix").picks}
    assert unsure.view().values("id") == [one.sample for one in unsure.picks]


def test_diversity_leaves_copies_for_last(pool: Any) -> None:
    points = np.repeat(np.eye(3), 4, axis=0)
    report = select(pool, 3, "diversity", embeddings=points)
    places = [pool.values("id").index(one.sample) for one in report.picks]
    assert sorted(place // 4 for place in places) == [0, 1, 2]
    by_hash = select(pool, 50, "diversity")
    assert len({one.sample for one in by_hash.picks}) == 12


def test_every_point_is_near_a_pick() -> None:
    points = np.random.default_rng(5).normal(size=(300, 4))
    picked = points[[place for place, _ in farthest_first(points, 20)]]
    covered = np.linalg.norm(points[:, None] - picked[None], axis=2).min(axis=1).max()
    between = np.linalg.norm(picked[:, None] - picked[None], axis=2)
    # The guarantee of k-centre greedy: no point is farther from the picks than the picks are from each other.
    assert covered <= between[~np.eye(20, dtype=bool)].min() + 1e-9


def test_what_cannot_be_picked_by_is_refused(pool: Any) -> None:
    with pytest.raises(UsageError, match="did you mean 'diversity'"):
        select(pool, 3, "diverse")
    for bad in (np.zeros((2, 2)), np.zeros(len(pool)), np.full((len(pool), 2), np.nan)):
        with pytest.raises(UsageError, match="finite numbers per sample"):
            select(pool, 3, "diversity", embeddings=bad)
    with pytest.raises(UsageError, match="not a field of Detections"):
        select(pool, 3, pred_field="filepath")


def test_the_commands_print_the_reports(pool: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> Any:
        code = main(["curate", *words, "--json", "--quiet"])
        return code, json.loads(capsys.readouterr().out)

    code, quality = run("quality", pool.name)
    assert code == 0 and quality["samples"] == 12
    code, health = run("health", pool.name, "--query", "class:common")
    assert code == 0 and health["samples"] == 9
    code, errors = run("label-errors", pool.name)
    assert code == 0 and errors["labels"] == 9
    code, picks = run("select", pool.name, "4", "--strategy", "class_need")
    assert code == 0 and len(picks["picks"]) == 4
    code, error = run("health", pool.name, "--query", "class:")
    assert code == 2 and "column 7" in error["what"]
