"""Registered models: versions, aliases, and the gate in front of them."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from tiny_model import write_tiny_model

from osv_lab.core.errors import CheckFailedError, NotFoundError, UsageError
from osv_lab.core.sidecars import read_sidecar, update_sidecar
from osv_lab.detect.reference import resolve_model
from osv_lab.train.aliases import alias_history, rollback
from osv_lab.train.registry import get_version, has_alias, list_models, register, set_alias


def change(model: Path) -> None:
    """Other bytes, as loadable as before."""
    loaded = onnx.load(model)
    loaded.doc_string += "!"
    onnx.save(loaded, model)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = write_tiny_model(tmp_path / "best.onnx")
    (tmp_path / "best.pt").write_bytes(b"weights")
    update_sidecar(path, {"source": str(tmp_path / "best.pt"), "class_names": ["disc"]})
    return path


def test_versions_and_aliases(model: Path) -> None:
    first = register(model, "registry-cells", alias="champion", tags={"why": "test"})
    assert (first.version, first.aliases, first.parity, first.tags) == (
        1,
        ("champion",),
        "unchecked",
        {"why": "test"},
    )
    assert first.ref == "models:/registry-cells@champion"
    assert register(model, "registry-cells").version == 1
    change(model)
    second = register(model, "registry-cells", alias="champion")
    assert (second.version, second.aliases) == (2, ("champion",))
    assert get_version("registry-cells", version=1).aliases == ()
    assert rollback("registry-cells").version == 1
    assert [move.kind for move in alias_history("registry-cells").moves] == ["register", "register", "rollback"]
    assert set_alias("registry-cells", "champion", 1).version == 1
    assert get_version("registry-cells", "champion").version == 1
    assert has_alias("registry-cells", "champion") and not has_alias("registry-cells", "rival")
    assert [one.version for one in list_models("registry-cells")] == [2, 1]
    assert {row["model"] for row in list_models().rows()} >= {"registry-cells"}


def test_a_reference_works_wherever_a_path_does(model: Path) -> None:
    register(model, "registry-ref", alias="champion")
    found = resolve_model("models:/registry-ref@champion")
    assert found.read_bytes() == model.read_bytes()
    assert {path.name for path in found.parent.iterdir()} == {"best.onnx", "best.onnx.osv.json", "best.pt"}
    assert resolve_model("models:/registry-ref/1", prefer=(".pt",)).read_bytes() == b"weights"


def test_what_failed_parity_is_refused(model: Path) -> None:
    update_sidecar(model, {"parity": {"passed": False}})
    with pytest.raises(CheckFailedError, match="not registered"):
        register(model, "registry-refused")
    assert not len(list_models("registry-refused"))
    update_sidecar(model, {"parity": {"passed": True}})
    assert register(model, "registry-refused").parity == "passed"


def test_names_that_do_not_exist_or_cannot(model: Path) -> None:
    register(model, "registry-known", alias="champion")
    with pytest.raises(NotFoundError, match="did you mean 'registry-known'"):
        get_version("registry-knwon")
    with pytest.raises(NotFoundError, match="aliases champion"):
        get_version("registry-known", "chmpion")
    with pytest.raises(UsageError, match="not a name"):
        register(model, "a/b")
    with pytest.raises(UsageError, match="alias 'latest'"):
        register(model, "registry-known", alias="latest")
    with pytest.raises(NotFoundError, match="no such model file"):
        register(model.with_name("none.onnx"), "registry-known")
    with pytest.raises(NotFoundError):
        register(model, "registry-other", run_id="0" * 32)
    assert not len(list_models("registry-other"))


def test_thresholds_reach_copies_of_a_registered_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store on another machine is copied here once, and again when thresholds were chosen since."""
    from osv_lab.detect import load_detector, reference
    from osv_lab.train.thresholds import save_thresholds

    register(model, "registry-sharp", alias="champion")
    monkeypatch.setattr(reference, "_local_path", lambda uri: None)
    before = resolve_model("models:/registry-sharp@champion")
    assert before == resolve_model("models:/registry-sharp@champion")
    saved = save_thresholds(
        "models:/registry-sharp@champion", {"lamp": 0.4, "*": 0.3, "dog": 0.5}, {"objective": "F1"}
    )
    assert saved == "models:/registry-sharp/1"
    after = resolve_model("models:/registry-sharp@champion")
    assert after != before and after.read_bytes() == before.read_bytes()
    thresholds = read_sidecar(after)["thresholds"]
    assert thresholds == {"confidence": {"lamp": 0.4, "*": 0.3}, "objective": "F1"}
    assert read_sidecar(after)["class_names"] == ["disc"]
    assert load_detector("models:/registry-sharp@champion").class_names == ("lamp", "cat")
    save_thresholds("models:/registry-sharp/1", {"*": 0.7}, {})
    again = read_sidecar(resolve_model("models:/registry-sharp@champion"))["thresholds"]
    assert again == {"confidence": {"*": 0.7}, "objective": "F1"}
    with pytest.raises(UsageError, match="register"):
        save_thresholds("runs:/abc/best.onnx", {"*": 0.7}, {})
