"""Which answers a rule chooses, how rules are written, and what is refused."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError
from osv_lab.serve.flicker import Flicker
from osv_lab.serve.observe import Observation, appearance
from osv_lab.serve.rules import Memory, bits_between, load_settings, parse_rules, reason

BOX = (1.0, 2.0, 30.0, 40.0)


def seen(*found: tuple[str, float], **more: Any) -> Observation:
    names, scores = [name for name, _ in found], [score for _, score in found]
    about = {"threshold": 0.25, **more}
    return Observation("m.onnx", 100, 80, 0.5, (BOX,) * len(found), tuple(scores), tuple(names), **about)


def why(rules: str, observation: Observation, memory: Memory | None = None) -> str:
    [rule] = parse_rules(rules)
    return reason(rule, observation, memory or Memory())


def test_near_looks_at_the_threshold_of_the_request_or_at_its_own() -> None:
    assert why("near=0.1", seen(("car", 0.35), ("bus", 0.9))) == "car scored 0.35, the threshold is 0.25"
    assert not why("near=0.1", seen(("car", 0.36)))
    assert not why("near=0.1", seen())
    [rule] = load_settings({"rules": [{"near": 0.1, "threshold": 0.5}]}).rules
    assert reason(rule, seen(("car", 0.27), ("bus", 0.6)), Memory()) == "bus scored 0.6, the threshold is 0.5"
    assert not reason(rule, seen(("car", 0.27)), Memory())


def test_counts_and_classes() -> None:
    two = seen(("car", 0.9), ("bus", 0.8))
    assert why("few=2", two) and not why("few=1", two)
    assert why("few=0", seen())
    assert not why("few=0", seen(partial=True)), "of a request for some classes the others are not known"
    assert why("many=2", two) and not why("many=3", two)
    assert why("classes=bus|tram", two) == "bus found"
    assert not why("classes=tram", two)


def test_a_random_share_is_that_share() -> None:
    memory = Memory(chance=random.Random(1))
    chosen = sum(bool(why("random=0.1", seen(), memory)) for _ in range(5000))
    assert 400 < chosen < 600
    assert not any(why("random=0", seen(), memory) for _ in range(100))
    assert all(why("random=1", seen(), memory) for _ in range(100))


def test_novelty_is_far_from_all_that_was_captured() -> None:
    memory = Memory(hashes=[0, 0xFFFF])
    assert not why("novelty=12", seen(hash=0b111), memory)
    assert not why("novelty=12", seen(hash=0xFFFF << 4), memory), "8 bits from the second"
    assert why("novelty=12", seen(hash=0xFFF << 40), memory)
    assert why("novelty", seen(hash=0), Memory()), "the first of all is new"


def test_the_hash_tells_pictures_apart_and_forgives_scaling() -> None:
    noise = np.random.default_rng(3).integers(0, 255, (12, 16, 3), np.uint8)
    picture = cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC)
    other = cv2.resize(noise[::-1], (640, 480), interpolation=cv2.INTER_CUBIC)
    brightness, bits = appearance(picture)
    smaller = appearance(cv2.resize(picture, (320, 240), interpolation=cv2.INTER_AREA))
    darker = appearance((picture * 0.8).astype(np.uint8))
    assert bits_between(bits, smaller[1]) <= 4 and bits_between(bits, darker[1]) <= 6
    assert bits_between(bits, appearance(other)[1]) > 12
    assert brightness == pytest.approx(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).mean() / 255, abs=0.01)
    assert darker[0] == pytest.approx(0.8 * brightness, abs=0.01)


def test_disagreement_is_the_tracker_s() -> None:
    assert not why("disagreement", seen(("car", 0.9)))
    flicker = Flicker(away=2)
    car, bus = seen(("car", 0.9)), seen(("bus", 0.9))
    frames = [(car, [4]), (seen(), []), (car, [4]), (bus, [4]), (bus, [-1]), (bus, [-1]), (bus, [-1]), (bus, [4])]
    said = [why("disagreement", flicker.mark(one, ids)) for one, ids in frames]
    assert said[2] == "track 4 (car) was away for 1 frame"
    assert said[3] == "track 4 was car, is now bus"
    assert [bool(one) for one in said] == [False, False, True, True, False, False, False, False]
    with pytest.raises(UsageError):
        flicker.mark(car, [])


def test_the_same_rules_in_every_way_to_write_them(tmp_path: Path) -> None:
    files = {
        "rules.yaml": "max_files: 7\nrules:\n  - random: 0.5\n  - classes: [a, b]\n    per_hour: 3\n    name: ab\n",
        "rules.json": '{"max_files": 7, "rules": [{"random": 0.5},'
        '{"classes": ["a","b"], "per_hour": 3, "name": "ab"}]}',
        "rules.toml": "max_files = 7\n[[rules]]\nrandom = 0.5\n[[rules]]\n"
        'classes = ["a", "b"]\nper_hour = 3\nname = "ab"',
    }
    read = []
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        read.append(load_settings(str(tmp_path / name)))
    assert read[0] == read[1] == read[2]
    assert read[0].max_files == 7
    assert [(rule.name, rule.per_hour) for rule in read[0].rules] == [("random", 60), ("ab", 3)]
    assert load_settings(" random=0.5 , few=0,novelty").rules[2].value == 12


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "rnadom=0.1",
        "random=1.5",
        "random=x",
        "near=nan",
        "few=-1",
        "few=1.5",
        "many=1e400",
        "novelty=65",
        "classes=",
        "disagreement=perhaps",
        "random=0.1,random=0.2",
        {"rules": []},
        {"rules": "random"},
        {"rules": [{"random": 0.1, "near": 0.1}]},
        {"rules": [{"random": 0.1, "per_hour": -1}]},
        {"rules": [{"random": 0.1, "name": "../x"}]},
        {"rules": [{"random": 0.1}], "max_bytes": 0},
        {"rules": [{"random": 0.1}], "max_gb": 1},
    ],
)
def test_rules_that_are_none_are_refused(wrong: Any) -> None:
    with pytest.raises(UsageError):
        load_settings(wrong)


def test_files_that_are_no_rules(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        load_settings(tmp_path / "none.yaml")
    for name, text in {
        "a.yaml": "rules: [",
        "b.toml": "x",
        "c.json": "3",
        "d.yaml": "!!python/object:os.system x",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(UsageError):
            load_settings(tmp_path / name)


SHARES = st.floats(0, 1, allow_nan=False)
DETECTIONS = st.lists(st.tuples(st.tuples(*[st.floats(-1e5, 1e5)] * 4), SHARES, st.text(max_size=9)), max_size=5)


@given(found=DETECTIONS, hash=st.integers(0, 2**64 - 1), brightness=SHARES, tracked=st.booleans())
def test_an_observation_survives_json(found: list[Any], hash: int, brightness: float, tracked: bool) -> None:
    observation = Observation(
        "m",
        640,
        480,
        brightness,
        tuple(box for box, _, _ in found),
        tuple(score for _, score, _ in found),
        tuple(name for _, _, name in found),
        tuple(range(len(found))),
        hash,
        "ab",
        tracker_id=tuple(range(len(found))) if tracked else None,
    )
    assert Observation.from_json(json.loads(json.dumps(observation.to_json()))) == observation


@pytest.mark.parametrize(
    "change",
    [
        {"xyxy": [[1, 2, 3]]},
        {"xyxy": [[1, 2, 3, None]]},
        {"xyxy": [[1, 2, 3, float("nan")]]},
        {"confidence": []},
        {"width": 0},
        {"width": "x"},
        {"hash": "xyz"},
        {"model": None, "height": None},
        {"class_name": 7},
    ],
)
def test_what_is_no_observation(change: dict[str, Any]) -> None:
    values = replace(seen(("car", 0.9)), class_id=(1,)).to_json()
    Observation.from_json(values)
    with pytest.raises(InvalidDataError):
        Observation.from_json({**values, **change})
