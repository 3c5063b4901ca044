"""Model references: a path, an Ultralytics name, or a model in MLflow, brought to a file on this machine."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from osv_lab.core.digests import bytes_digest
from osv_lab.core.errors import (
    InvalidDataError,
    NotFoundError,
    UnavailableError,
    UsageError,
    nearest,
    require_extra,
)
from osv_lab.core.files import atomic_path
from osv_lab.core.modelfiles import model_files
from osv_lab.core.privacy import silence
from osv_lab.core.settings import load_settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

WEIGHTS_URL = "https://github.com/ultralytics/assets/releases/download/v8.4.0/"
"""Where Ultralytics publishes its weights."""

MAX_WEIGHTS_BYTES = 1 << 30
"""A published file larger than this is refused."""

_SUFFIXES = (".onnx", ".xml", ".tflite", ".pt")
_PUBLISHED = re.compile(
    r"(yolov?\d{1,2}(\.\d)?[a-z]{1,2}\d?u?|rtdetr-[a-z]\w*)(-(cls|seg|pose|obb|oiv7|world|worldv2|p2|p6))*",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>[^/@]+))?")


def resolve_model(ref: object, *, prefer: Sequence[str] = _SUFFIXES) -> Path:
    """The file a model reference stands for.

    Args:
        ref: A path to a file, or to a folder that holds one; ``models:/name@alias``, ``models:/name/3`` or
            ``models:/name/latest`` (a registered model in MLflow), ``runs:/run_id/path`` (a run's artifact); or an
            Ultralytics name: ``yolo11n`` and ``yolo11n.pt`` are that file here or in the lab's models folder, else
            the published weights; ``yolo11n.yaml`` is the untrained architecture.
        prefer: Which file to take of a folder that holds several kinds.

    Returns:
        An existing file; for an architecture, its bare name.

    Raises:
        NotFoundError: nothing is there; what is there instead is named.
        UnavailableError: published weights that cannot be fetched, or MLflow is not installed.
        UsageError: a web address, or a reference that cannot be read.

    Example:
        >>> resolve_model("models:/cells@champion").name
        'best.onnx'
    """
    text = os.fspath(ref) if isinstance(ref, os.PathLike) else str(getattr(ref, "path", ref))
    if text.startswith("models:/"):
        return _registered(text, prefer)
    if text.startswith("runs:/"):
        return _choose(_download(_client(), text, text), prefer, text)
    if re.match(r"[a-z][a-z0-9+.-]+://", text, re.IGNORECASE):
        raise UsageError("a model is not loaded from an address", text, "download it, then give its path")

    path = Path(text).expanduser()
    if path.is_file():
        return path.resolve()
    if path.is_dir():
        return _choose(path.resolve(), prefer, text)
    bare = path.name == text and _PUBLISHED.fullmatch(Path(text).stem if path.suffix in (".pt", ".yaml") else text)
    if bare and path.suffix == ".yaml":
        return path
    if bare:
        return fetch_weights(text)
    raise NotFoundError("no such model", _shown(text), _siblings(path))


def fetch_weights(name: str, *, timeout_s: float = 10.0) -> Path:
    """Weights that Ultralytics publishes: from the lab's models folder, else downloaded into it once.

    Args:
        name: ``"yolo11n"`` or ``"yolo11n.pt"``.
        timeout_s: How long to wait for an answer, at each step.

    Returns:
        The file. Like any ``.pt`` it is loaded weights-only.

    Raises:
        UnavailableError: it cannot be fetched; both ways out are named. So too, at once, where ``OSV_OFFLINE`` is set.
        UsageError: not a name that Ultralytics could have published.
    """
    stem = name.removesuffix(".pt")
    if not _PUBLISHED.fullmatch(stem):
        raise UsageError("not a name of published weights", f"'{name}'", "use one like yolo11n or yolov8s-seg")
    for folder in (Path.cwd(), load_settings().models_dir):
        if (folder / f"{stem}.pt").is_file():
            return (folder / f"{stem}.pt").resolve()
    target = load_settings().models_dir / f"{stem}.pt"
    if os.environ.get("OSV_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise _cannot_fetch(stem, "OSV_OFFLINE is set")
    import urllib.error
    import urllib.request

    try:
        request = urllib.request.Request(f"{WEIGHTS_URL}{stem}.pt", headers={"User-Agent": "osv-lab"})
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            if urlparse(answer.url).scheme != "https":
                raise _cannot_fetch(stem, f"redirected to {answer.url}")
            with atomic_path(target) as temporary:
                _copy(answer, temporary)
    except urllib.error.HTTPError as error:
        raise _cannot_fetch(stem, f"the server answered {error.code} {error.reason}") from None
    except (OSError, ValueError) as error:
        raise _cannot_fetch(stem, str(getattr(error, "reason", error)) or type(error).__name__) from None
    return target.resolve()


def _copy(answer: Any, target: Path) -> None:
    size = 0
    with open(target, "wb") as file:
        while block := answer.read(1 << 20):
            size += len(block)
            if size > MAX_WEIGHTS_BYTES:
                raise InvalidDataError("the published weights are too large", f"over {MAX_WEIGHTS_BYTES:,} bytes")
            file.write(block)
    expected = answer.headers.get("Content-Length")
    if expected and int(expected) != size:
        raise OSError(f"the connection broke after {size:,} of {int(expected):,} bytes")


def _cannot_fetch(stem: str, why: str) -> UnavailableError:
    return UnavailableError(
        "the published weights cannot be fetched",
        f"{stem}.pt ({why})",
        f"give a .pt file by its path, or train the architecture from scratch with {stem}.yaml",
    )


def _client() -> MlflowClient:
    silence()
    settings = load_settings()
    database = settings.tracking_uri.removeprefix("sqlite:///")
    if database != settings.tracking_uri and not Path(database).is_file():
        raise NotFoundError(
            "no model is registered", f"there is no MLflow store at {database}", "register one first"
        )
    try:
        from mlflow import MlflowClient
    except ImportError:
        raise require_extra("mlflow", "train") from None
    return MlflowClient(tracking_uri=settings.tracking_uri, registry_uri=settings.tracking_uri)


def _registered(ref: str, prefer: Sequence[str]) -> Path:
    found = registered_version(ref)
    source = _client().get_model_version_download_uri(found.name, found.version)
    # What is known about a version may be added to later; a copy on this machine is then made anew.
    identity = "/".join(filter(None, [found.name, str(found.version), found.tags.get("osv.sidecar")]))
    return _choose(_download(_client(), source, identity), prefer, ref)


def registered_version(ref: str) -> ModelVersion:
    """MLflow's version that ``models:/name@alias``, ``models:/name/3`` or ``models:/name`` stands for.

    Raises:
        NotFoundError: there is none; what there is is named.
        UsageError: not such a reference.
    """
    parts = _REFERENCE.fullmatch(ref)
    if parts is None:
        raise UsageError("not a model reference", f"'{ref}'", "write models:/name@alias or models:/name/3")
    client = _client()
    from mlflow.exceptions import MlflowException

    name, alias, version = parts["name"], parts["alias"], parts["version"]
    try:
        if alias:
            found = client.get_model_version_by_alias(name, alias)
        elif version and version != "latest":
            found = client.get_model_version(name, version)
        else:
            versions = client.search_model_versions(f"name = '{name}'")
            if not versions:
                raise NotFoundError("no such registered model", f"'{name}'", _known_models(client, name))
            found = max(versions, key=lambda one: int(one.version))
    except MlflowException:
        raise _not_registered(client, name, ref) from None
    return found


def _not_registered(client: MlflowClient, name: str, ref: str) -> NotFoundError:
    from mlflow.exceptions import MlflowException

    try:
        versions = client.search_model_versions(f"name = '{name}'")
        if not versions:
            return NotFoundError("no such registered model", f"'{name}'", _known_models(client, name))
        aliases = sorted(client.get_registered_model(name).aliases)
    except MlflowException as error:
        return NotFoundError("the model registry cannot be asked", f"{ref}: {error}")
    numbers = ", ".join(sorted((str(one.version) for one in versions), key=int))
    return NotFoundError(
        "the registered model has no such version",
        ref,
        f"it has versions {numbers} and aliases {', '.join(aliases) or 'none'}",
    )


def _known_models(client: MlflowClient, name: str) -> str:
    names = [model.name for model in client.search_registered_models(max_results=100)]
    return nearest(name, names) if names else "register one first"


def _download(client: MlflowClient, uri: str, identity: str) -> Path:
    """An artifact folder on this machine: where it lies if that is here, else a copy in the lab's models folder."""
    from mlflow.exceptions import MlflowException

    try:
        place = _artifact_place(client, uri)
        here = _local_path(place)
        if here is not None:
            if here.exists():
                return here
            raise NotFoundError("the model's files are gone", str(here), f"{uri} is still registered")
        key = bytes_digest(f"{load_settings().tracking_uri}\n{identity}\n{uri}".encode())[:20]
        target = load_settings().models_dir / "mlflow" / key
        if target.is_dir():
            return target
        import shutil
        import tempfile

        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        from mlflow.artifacts import download_artifacts

        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as temporary:
            got = Path(
                download_artifacts(artifact_uri=uri, dst_path=temporary, tracking_uri=load_settings().tracking_uri)
            )
            whole = Path(temporary) / "whole"
            if got.is_file():
                whole.mkdir()
                shutil.move(got, whole / got.name)
            else:
                shutil.move(got, whole)
            if not target.exists():
                whole.replace(target)
        return target
    except (MlflowException, OSError) as error:
        raise NotFoundError("the model's files cannot be had", f"{uri}: {error}") from None


def _artifact_place(client: MlflowClient, uri: str) -> str:
    """The address behind ``runs:/id/path``; any other address is its own."""
    if not uri.startswith("runs:/"):
        return uri
    run_id, _, inside = uri.removeprefix("runs:/").strip("/").partition("/")
    root = str(client.get_run(run_id).info.artifact_uri).rstrip("/")
    return f"{root}/{inside}" if inside else root


def _local_path(uri: str) -> Path | None:
    parsed = urlparse(uri)
    if parsed.scheme == "file":
        return Path(unquote(parsed.path))
    return Path(uri) if parsed.scheme == "" and uri.startswith("/") else None


def _choose(place: Path, prefer: Sequence[str], ref: str) -> Path:
    """The model file of a folder: the first preferred kind, and of several ``best`` before the only one."""
    if place.is_file():
        return place
    files = sorted(file for file in place.iterdir() if file.is_file())
    for suffix in (*prefer, *_SUFFIXES):
        of_kind = [file for file in files if file.suffix.lower() == suffix and _is_model(file)]
        best = [file for file in of_kind if file.stem == "best"]
        if len(best or of_kind) == 1:
            return (best or of_kind)[0]
        if of_kind:
            raise UsageError(
                "several models are there",
                f"{ref}: {', '.join(file.name for file in of_kind)}",
                "name one of them",
            )
    found = ", ".join(file.name for file in files[:8]) or "no files"
    raise NotFoundError(
        "no model is in this folder",
        f"{_shown(ref)} holds {found}",
        "a model is an .onnx, .pt, .tflite or OpenVINO .xml file",
    )


def _is_model(file: Path) -> bool:
    """Whether a file of a model's suffix is one: an ``.xml`` without weights is some other document."""
    return file.suffix.lower() != ".xml" or len(model_files(file)) > 1


def _siblings(path: Path) -> str:
    try:
        names = [file.name for file in path.parent.iterdir() if file.suffix in (*_SUFFIXES, ".yaml")][:200]
    except OSError:
        return f"there is no folder {_shown(path.parent)}"
    return nearest(path.name, names) if names else "give a path, an Ultralytics name, or models:/name@alias"


def _shown(path: object) -> str:
    return str(path).encode("utf-8", "backslashreplace").decode()
