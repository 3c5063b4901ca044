from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osv_lab.core import digests, errors
from osv_lab.core.files import atomic_path, write_atomic
from osv_lab.core.progress import tracked
from osv_lab.core.report import Report, cell, plain
from osv_lab.core.settings import load_settings

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_a_value_and_its_json_have_one_digest(value: object) -> None:
    assert digests.value_digest(value) == digests.value_digest(json.loads(json.dumps(value)))


@given(st.lists(st.text(alphabet="0123456789abcdef", min_size=4), min_size=2, unique=True), st.randoms())
def test_a_set_digest_ignores_order_and_counts_repeats(items: list[str], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(items)
    random.shuffle(shuffled)
    assert digests.set_digest(items) == digests.set_digest(shuffled)
    assert digests.set_digest(items) != digests.set_digest([*items, items[0]])


def test_a_value_that_is_not_a_number_has_no_digest() -> None:
    with pytest.raises(ValueError):
        digests.value_digest(float("nan"))


def test_errors_say_what_was_found_and_what_to_do() -> None:
    error = errors.NotFoundError("no such dataset", "'blod'", errors.nearest("blod", ["blood", "cars"]))
    assert str(error) == "no such dataset: 'blod'; did you mean 'blood'?"
    assert error.to_dict()["exit_code"] == 3
    assert errors.nearest("zzz", ["b", "a"]) == "use one of: a, b"
    assert errors.nearest("zzz", [f"a{number}" for number in range(300)]).endswith(", a133 and 260 more")


def test_exit_codes_differ_by_kind() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.OsvError)
    ]
    codes = [kind.exit_code for kind in kinds]
    assert len(set(codes)) == len(codes)


def test_an_atomic_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    write_atomic(target, "old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half of the ne")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_killed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "weights.bin"
    write_atomic(target, b"old")
    script = (
        "import os, signal; from osv_lab.core.files import atomic_path\n"
        f"with atomic_path({str(target)!r}) as path:\n"
        "    path.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"


def test_written_files_have_the_permissions_of_new_files(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        write_atomic(tmp_path / "a.txt", "text")
    finally:
        os.umask(old)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


@dataclass(frozen=True)
class Scores(Report):
    values: dict[str, float]
    where: Path

    def rows(self):  # type: ignore[no-untyped-def]
        return [{"class": name, "AP": value} for name, value in self.values.items()]


def test_a_report_becomes_values_a_frame_and_html() -> None:
    report = Scores({"RBC <b>": 0.5, "WBC": float("nan")}, Path("a/b"))
    assert report.to_dict() == {"values": {"RBC <b>": 0.5, "WBC": None}, "where": "a/b"}
    assert next(iter(report.to_frame()["AP"])) == 0.5
    html = report._repr_html_()
    assert "RBC &lt;b&gt;" in html and "0.500" in html and "–" in html


@given(st.floats(allow_nan=True, allow_infinity=True) | st.integers() | st.none() | st.text())
def test_every_value_prints_and_becomes_json(value: object) -> None:
    assert isinstance(cell(value), str)
    json.dumps(plain({"value": value, "array": np.array([1.5]), "set": {"b", "a"}}), allow_nan=False)


def test_progress_is_told_of_each_item() -> None:
    seen: list[tuple[str, int, int | None]] = []
    assert list(tracked(iter("abc"), "letters", lambda *step: seen.append(step))) == ["a", "b", "c"]
    assert seen == [("letters", 0, None), ("letters", 1, None), ("letters", 2, None), ("letters", 3, None)]


def test_settings_follow_the_environment_of_the_moment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OSV_HOME", str(tmp_path / "lab"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings = load_settings()
    assert settings.home == tmp_path / "lab"
    assert settings.tracking_uri == f"sqlite:///{tmp_path / 'lab' / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert load_settings().tracking_uri == "http://127.0.0.1:5000"


def test_telemetry_is_off_but_the_user_decides() -> None:
    script = "import os, osv_lab; from osv_lab.core.privacy import turned_on; print(turned_on())"
    clean = {k: v for k, v in os.environ.items() if "TRACK" not in k and "TELEMETRY" not in k}
    run = subprocess.run([sys.executable, "-c", script], env=clean, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
    chosen = {**clean, "FIFTYONE_DO_NOT_TRACK": "false"}
    run = subprocess.run([sys.executable, "-c", script], env=chosen, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "['FIFTYONE_DO_NOT_TRACK=false']"
