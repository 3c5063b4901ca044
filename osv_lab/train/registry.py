"""Registered models: a name, numbered versions, and aliases such as ``champion`` that point at one of them."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osv_lab.core.errors import CheckFailedError, NotFoundError, UnavailableError, UsageError, nearest
from osv_lab.core.modelfiles import model_digest, model_files
from osv_lab.core.report import Report
from osv_lab.core.settings import load_settings
from osv_lab.core.sidecars import read_sidecar, sidecar_path, update_sidecar
from osv_lab.train import tracking

if TYPE_CHECKING:
    from osv_lab.detect.export import Artifact
    from osv_lab.detect.parity import ParityReport

_DIGEST = "osv.digest"
_PARITY = "osv.parity"


@dataclass(frozen=True)
class ModelVersion(Report):
    """One version of a registered model.

    Attributes:
        name: The registered model.
        version: Its number, from 1.
        aliases: Aliases that point at it.
        file: The model file's name.
        digest: SHA-256 of the model (:func:`osv_lab.core.modelfiles.model_digest`).
        parity: ``passed``, or ``unchecked`` where the file was never compared with its original.
        run_id: The MLflow run that it came from, or that holds its files.
        created: When it was registered.
        tags: Further tags.
    """

    name: str
    version: int
    aliases: tuple[str, ...]
    file: str
    digest: str
    parity: str
    run_id: str
    created: datetime.datetime
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def ref(self) -> str:
        """The reference that works wherever a path does."""
        return f"models:/{self.name}@{self.aliases[0]}" if self.aliases else f"models:/{self.name}/{self.version}"

    def rows(self) -> list[Mapping[str, Any]]:
        return [
            {
                "model": self.name,
                "version": self.version,
                "aliases": ", ".join(self.aliases),
                "file": self.file,
                "parity": self.parity,
                "registered": f"{self.created:%Y-%m-%d %H:%M}",
                "digest": self.digest[:12],
            }
        ]

    def summary(self) -> str:
        return f"{self.ref} (version {self.version}, {self.file}, parity {self.parity})"


@dataclass(frozen=True)
class Models(Report):
    """Registered models and their versions, newest version first."""

    versions: tuple[ModelVersion, ...]

    def rows(self) -> list[Mapping[str, Any]]:
        return [row for version in self.versions for row in version.rows()]

    def summary(self) -> str:
        return f"{len({version.name for version in self.versions})} models, {len(self.versions)} versions"

    def __iter__(self) -> Iterator[ModelVersion]:
        return iter(self.versions)

    def __len__(self) -> int:
        return len(self.versions)


def register(
    artifact: str | Path | Artifact,
    name: str,
    *,
    run_id: str | None = None,
    alias: str | None = None,
    tags: Mapping[str, str] | None = None,
    parity: ParityReport | None = None,
) -> ModelVersion:
    """Register a model file under a name. The same file again is the same version.

    The version holds the file, its sidecar, and the ``.pt`` it was exported from where that is still there.

    Args:
        artifact: A model file, or what :func:`osv_lab.detect.export.export_model` returned.
        name: The registered model; made if missing.
        run_id: The MLflow run that trained it. Without one, a run is made to hold the files.
        alias: Points at this version afterwards ("champion").
        tags: Further tags of the version.
        parity: How the file compares with its original; by default what its sidecar says.

    Raises:
        NotFoundError: no such file or run.
        CheckFailedError: the file failed its parity check.
        InvalidDataError: an exported file that cannot be loaded.
        UsageError: a name or alias that MLflow does not allow.

    Example:
        >>> register("candidate.onnx", "cells", alias="challenger").summary()
        'models:/cells@challenger (version 2, candidate.onnx, parity unchecked)'
    """
    path = artifact if isinstance(artifact, Path) else Path(str(getattr(artifact, "path", artifact)))
    if not path.is_file():
        raise NotFoundError("no such model file", path)
    checked = _parity(path, parity)
    if path.suffix.lower() in (".onnx", ".xml", ".tflite"):
        from osv_lab.detect import load_detector

        load_detector(path)  # what cannot be loaded now could not be served later
    digest = model_digest(path)
    store = tracking.client()
    with _allowed(name, alias):
        found = next((one for one in _versions(name) if one.tags.get(_DIGEST) == digest), None)
        if found is None:
            if parity is not None:
                update_sidecar(path, {"parity": parity.to_dict()})
            holder = run_id or _holding_run(name, digest)
            place = f"registered/{digest[:12]}"
            tracking.log_files(holder, dict.fromkeys(_files(path), place))
            _make_model(name)
            known = {_DIGEST: digest, _PARITY: checked, "osv.file": path.name, **(tags or {})}
            found = store.create_model_version(name, f"runs:/{holder}/{place}", run_id=holder, tags=known)
            if not run_id:
                tracking.end_run(holder, "FINISHED")
        else:
            for key, value in {_PARITY: checked, **(tags or {})}.items():
                store.set_model_version_tag(name, found.version, key, value)
    if alias:
        from osv_lab.train.aliases import ANY, move_alias

        move_alias(name, alias, int(found.version), expected=ANY, kind="register")
    return get_version(name, version=int(found.version))


def list_models(name: str | None = None) -> Models:
    """All registered models' versions, or those of one model, newest first."""
    store = tracking.client()
    names = [name] if name else sorted(model.name for model in _pages(store.search_registered_models))
    return Models(tuple(version for one in names for version in _described(one)))


def get_version(name: str, alias: str | None = None, *, version: int | None = None) -> ModelVersion:
    """One version, by alias or number; the newest without either.

    Raises:
        NotFoundError: no such model, alias or version; what there is is named.
    """
    versions = _described(name)
    if not versions:
        names = {one.name for one in list_models()}
        raise NotFoundError(
            "no such registered model", repr(name), nearest(name, names) if names else "register one"
        )
    for one in versions:
        if (alias in one.aliases) if alias else (version in {None, one.version}):
            return one
    aliases = sorted({known for one in versions for known in one.aliases})
    numbers = ", ".join(str(one.version) for one in versions)
    raise NotFoundError(
        f"model '{name}' has no {'alias' if alias else 'version'} like that",
        repr(alias or version),
        f"it has versions {numbers} and aliases {', '.join(aliases) or '(none)'}",
    )


def has_alias(name: str, alias: str) -> bool:
    """Whether a registered model has an alias."""
    return any(alias in one.aliases for one in _described(name))


def set_alias(name: str, alias: str, version: int) -> ModelVersion:
    """Point an alias at a version, taking it from any other; :func:`osv_lab.train.aliases.move_alias` remembers moves.

    Raises:
        NotFoundError: no such model or version.
        UsageError: an alias that MLflow does not allow.
    """
    found = get_version(name, version=version)
    with _allowed(name, alias):
        tracking.client().set_registered_model_alias(name, alias, str(found.version))
    return get_version(name, version=version)


def _parity(path: Path, parity: ParityReport | None) -> str:
    """``passed`` or ``unchecked``; an artifact that failed is refused."""
    said = parity.to_dict() | {"passed": parity.passed} if parity is not None else read_sidecar(path).get("parity")
    if not said:
        return "unchecked"
    if not said.get("passed"):
        raise CheckFailedError(
            "this artifact does not answer as its original does, so it is not registered",
            parity.summary() if parity is not None else f"{path.name}: its parity check failed",
            "export it again, or look at verify()'s report",
        )
    return "passed"


def _files(path: Path) -> list[Path]:
    """The model's files, its sidecar, and the weights that it was exported from."""
    source = Path(str(read_sidecar(path).get("source") or path.with_suffix(".pt")))
    files = [*model_files(path), sidecar_path(path)]
    if source.suffix == ".pt" and source.is_file() and source != path:
        files += [source, sidecar_path(source)]
    return [file for file in files if file.is_file()]


def _make_model(name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        tracking.client().create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _holding_run(name: str, digest: str) -> str:
    """A run for files that no training run of this lab made."""
    return tracking.start_run(
        f"register-{name}-{digest}", f"register {name}", name, {"osv.kind": "registered file"}
    )


def _pages(search: Any, *arguments: Any, **options: Any) -> Iterator[Any]:
    from mlflow.exceptions import MlflowException

    token = None
    while True:
        try:
            page = search(*arguments, page_token=token, **options)
        except MlflowException as error:
            cause = str(error).rpartition(": ")[2].strip('")')
            raise UnavailableError(
                "the model registry cannot be read",
                f"{load_settings().tracking_uri}: {cause[:200]}",
                "is MLflow up? MLFLOW_TRACKING_URI names it",
            ) from error
        yield from page
        token = page.token
        if not token:
            return


def _versions(name: str) -> list[Any]:
    quoted = name.replace("'", "''")
    found = _pages(tracking.client().search_model_versions, f"name='{quoted}'")
    return sorted(found, key=lambda one: int(one.version), reverse=True)


def _described(name: str) -> list[ModelVersion]:
    from mlflow.exceptions import MlflowException

    versions = _versions(name)
    if not versions:
        return []
    try:
        pointed = tracking.client().get_registered_model(name).aliases
    except MlflowException as error:
        raise UnavailableError("the model registry cannot be read", error) from error
    return [
        ModelVersion(
            name=name,
            version=int(one.version),
            aliases=tuple(sorted(alias for alias, number in pointed.items() if int(number) == int(one.version))),
            file=one.tags.get("osv.file", ""),
            digest=one.tags.get(_DIGEST, ""),
            parity=one.tags.get(_PARITY, "unchecked"),
            run_id=one.run_id or "",
            created=datetime.datetime.fromtimestamp(one.creation_timestamp / 1000, datetime.UTC),
            tags={key: value for key, value in one.tags.items() if not key.startswith("osv.")},
        )
        for one in versions
    ]


@contextmanager
def _allowed(name: str, alias: str | None) -> Iterator[None]:
    """MLflow's refusals as the lab's errors."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code == "INVALID_PARAMETER_VALUE":
            given = f"'{name}'" + (f", alias '{alias}'" if alias else "")
            raise UsageError("not a name for a registered model or alias", given, str(error)) from error
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise NotFoundError("MLflow does not know this", error) from error
        raise UnavailableError("the model registry refused", error) from error
