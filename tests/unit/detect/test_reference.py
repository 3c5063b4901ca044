"""Model references on a real MLflow registry, real folders, and no network."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from osv_lab.core.errors import NotFoundError, UnavailableError, UsageError
from osv_lab.detect import load_detector
from osv_lab.detect.files import predict_files
from osv_lab.detect.reference import fetch_weights, resolve_model


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OSV_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def test_paths_and_folders(home: Path, tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"x")
    assert resolve_model("best.pt") == (tmp_path / "best.pt").resolve()
    assert resolve_model(tmp_path) == (tmp_path / "best.pt").resolve()
    (tmp_path / "best.onnx").write_bytes(b"x")
    assert resolve_model(tmp_path).suffix == ".onnx"
    assert resolve_model(tmp_path, prefer=(".pt",)).suffix == ".pt"
    (tmp_path / "other.onnx").write_bytes(b"x")
    assert resolve_model(tmp_path).name == "best.onnx"
    (tmp_path / "best.onnx").rename(tmp_path / "third.onnx")
    with pytest.raises(UsageError, match=r"several models are there: .*other.onnx, third.onnx"):
        resolve_model(tmp_path)
    with pytest.raises(NotFoundError, match=r"bests\.pt; did you mean 'best\.pt'"):
        resolve_model("bests.pt")
    with pytest.raises(NotFoundError, match="there is no folder"):
        resolve_model("nowhere/best.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="no model is in this folder: empty holds no files"):
        resolve_model("empty")


def test_addresses_and_bad_references(home: Path) -> None:
    with pytest.raises(UsageError, match=r"not loaded from an address: https://x\.org/m\.pt; download it"):
        resolve_model("https://x.org/m.pt")
    with pytest.raises(UsageError, match="not a model reference"):
        resolve_model("models:/a/b/c")
    with pytest.raises(NotFoundError, match="no model is registered"):
        resolve_model("models:/cells@champion")
    assert not home.exists(), "asking must not make a store"


def test_published_names(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("the network is down")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("yolo11n", "yolov8n.pt", "yolo26s-seg"):
        stem = name.removesuffix(".pt")
        with pytest.raises(
            UnavailableError, match=rf"{stem}\.pt \(the network is down\); give a .pt .* {stem}\.yaml"
        ):
            resolve_model(name)
    assert resolve_model("yolo11n.yaml") == Path("yolo11n.yaml")
    monkeypatch.setenv("OSV_OFFLINE", "1")
    with pytest.raises(UnavailableError, match="OSV_OFFLINE is set"):
        fetch_weights("yolo11n")
    (home / "models").mkdir(parents=True)
    (home / "models" / "yolo11n.pt").write_bytes(b"x")
    assert fetch_weights("yolo11n") == (home / "models" / "yolo11n.pt").resolve()
    (tmp_path / "yolo11n.pt").write_bytes(b"nearer")
    assert resolve_model("yolo11n") == (tmp_path / "yolo11n.pt").resolve()
    with pytest.raises(UsageError, match="not a name of published weights"):
        fetch_weights("../../etc/passwd")


def test_published_weights_are_fetched_whole_or_not_at_all(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io
    import urllib.request

    class Answer(io.BytesIO):
        url = "https://example.org/yolo11n.pt"
        headers = {"Content-Length": "5"}  # noqa: RUF012

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Answer(b"abc"))
    with pytest.raises(UnavailableError, match="the connection broke after 3 of 5 bytes"):
        fetch_weights("yolo11n")
    assert list((home / "models").iterdir()) == []
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Answer(b"abcde"))
    assert fetch_weights("yolo11n.pt").read_bytes() == b"abcde"


def test_registered_models(
    home: Path, tmp_path: Path, exported: Callable[..., Path], weights: Callable[[str], Path]
) -> None:
    import mlflow
    from mlflow import MlflowClient

    from osv_lab.core.settings import load_settings

    uri = load_settings().tracking_uri
    home.mkdir()
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.create_experiment("cells", artifact_location=(home / "mlartifacts").as_uri())
    run = client.create_run(experiment).info.run_id
    folder = tmp_path / "both"
    folder.mkdir()
    shutil.copy(exported("yolo11n"), folder / "best.onnx")
    shutil.copy(weights("yolo11n"), folder / "best.pt")
    client.log_artifacts(run, str(folder), "model")
    client.create_registered_model("cells")
    version = client.create_model_version("cells", f"runs:/{run}/model", run_id=run)
    client.set_registered_model_alias("cells", "champion", version.version)

    for ref in (
        "models:/cells@champion",
        "models:/cells/1",
        "models:/cells/latest",
        "models:/cells",
        f"runs:/{run}/model",
    ):
        assert resolve_model(ref).name == "best.onnx"
        assert resolve_model(ref).is_relative_to(home / "mlartifacts"), "a file of this machine is not copied"
    assert resolve_model("models:/cells@champion", prefer=(".pt",)).name == "best.pt"
    detector = load_detector("models:/cells@champion")
    assert detector.ref == "models:/cells@champion"

    with pytest.raises(NotFoundError, match="has versions 1 and aliases champion"):
        resolve_model("models:/cells@challenger")
    with pytest.raises(NotFoundError, match="no such registered model: 'cell'; did you mean 'cells'"):
        resolve_model("models:/cell@champion")
    with pytest.raises(NotFoundError, match="cannot be had"):
        resolve_model("runs:/0123456789abcdef0123456789abcdef/model")
    assert mlflow.active_run() is None


def test_files_are_predicted_and_broken_ones_reported(tmp_path: Path, exported: Callable[..., Path]) -> None:
    import cv2

    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(3):
        cv2.imwrite(str(photos / f"{index}.jpg"), cv2.resize(_photo(), (200 + 40 * index, 160)))
    (photos / "broken.png").write_bytes(b"no")
    steps: list[tuple[str, int, int | None]] = []
    report = predict_files(
        load_detector(exported("yolo11n")), [photos, tmp_path / "missing.jpg"], confidence=0.5, batch_size=2,
        progress=lambda *step: steps.append(step),
    )  # fmt: skip
    assert [file.path.name for file in report.files] == ["0.jpg", "1.jpg", "2.jpg", "broken.png", "missing.jpg"]
    assert ["not an image" in file.error for file in report.files][3]
    assert "no such image" in report.files[4].error
    assert "2 files could not be read" in report.summary()
    assert steps[-1] == ("predict", 5, 5)
    assert report.to_dict()["files"][0]["detections"]
    assert any(row.get("problem", "").startswith("not an image") for row in report.rows())
    assert report.exit_code == 0


def _photo() -> object:
    import cv2
    import ultralytics

    return cv2.imread(str(Path(ultralytics.__file__).parent / "assets" / "bus.jpg"))
