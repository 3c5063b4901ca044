"""The graph that :func:`osv_lab.train.lineage.lineage` cuts from: read from MLflow, version records and datasets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from osv_lab.train import tracking
from osv_lab.train.lineage import Node
from osv_lab.train.registry import list_models
from osv_lab.train.run import run_folders

Edge = tuple[str, str, str]
_PROVENANCE = ("cvat_task", "cvat_task_id", "task_id", "annotation_run", "anno_key")
"""Label attributes that name the annotation task a label came from."""


def build() -> tuple[dict[str, Node], list[Edge]]:
    """All that this lab knows: nodes by id, and edges from what was used to what was made of it."""
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    for node, links in (*_versions(), *_runs(), *_models(), *_datasets()):
        nodes[node.id] = node
        edges += links
    return nodes, [edge for edge in dict.fromkeys(edges) if edge[0] in nodes and edge[1] in nodes]


Found = Iterator[tuple[Node, list[Edge]]]


def _versions() -> Found:
    from osv_lab.store.versions import list_versions

    for one in list_versions().versions:
        own = f"version:{one.ref}"
        detail = {"digest": one.digest, "samples": one.samples, "labels": one.labels, "created": one.created}
        yield Node(own, "version", one.ref, detail), []
        splits = ", ".join(f"{count} {name}" for name, count in one.splits.items())
        yield (
            Node(f"samples:{one.ref}", "samples", f"{one.samples:,} samples of {one.dataset}", {"splits": splits}),
            [(f"samples:{one.ref}", own, "frozen as")],
        )
        yield from _origins(one)


def _origins(version: Any) -> Found:
    """Annotation tasks of a version's labels, and how many of its samples a server captured."""
    from osv_lab.core.errors import OsvError
    from osv_lab.store.versions.manifest import open_manifest
    from osv_lab.store.versions.objects import Objects

    tasks: dict[str, int] = {}
    captured: dict[str, int] = {}
    try:
        for _, entry in open_manifest(Objects(), version.tree).entries():
            for label in entry.all_labels():
                for name in _PROVENANCE:
                    if value := label.attributes.get(name):
                        tasks[str(value)] = tasks.get(str(value), 0) + 1
            if "captured" in entry.tags:
                digest = str(entry.capture.get("digest") or "")
                captured[digest] = captured.get(digest, 0) + 1
    except OsvError:
        return  # The files of a version that was not pulled are elsewhere; its record is still here.
    for task, count in tasks.items():
        yield (
            Node(f"task:{task}", "task", task, {"labels": count}),
            [(f"task:{task}", f"samples:{version.ref}", "labelled")],
        )
    for digest, count in captured.items():
        own = f"capture:{version.ref}:{digest}"
        yield (
            Node(own, "capture", f"{count} captured samples", {"by": digest[:12]}),
            [(own, f"samples:{version.ref}", "became")],
        )


def _runs() -> Found:
    for folder, state in run_folders():
        own = f"run:{state.run_id or folder.path.name}"
        links = []
        if state.version:
            links.append((f"version:{state.dataset}@{state.version}", own, "trained"))
        detail = {
            "run_id": state.run_id,
            "status": state.status,
            "started_from": state.started_from,
            "dataset": f"{state.dataset}@{state.version}" if state.version else state.dataset,
            "dataset_digest": state.digest,
            **{name: round(value, 4) for name, value in state.metrics.items()},
        }
        yield Node(own, "run", folder.path.name, detail), links
        if found := environment_of(state.run_id):
            key = f"environment:{state.run_id}"
            name = f"Python {found.get('python', '?')}, torch {found.get('torch', '?')}"
            yield Node(key, "environment", name, found), [(key, own, "ran")]


def environment_of(run_id: str) -> dict[str, str]:
    """What a run said of its environment; empty where MLflow cannot say."""
    from mlflow.exceptions import MlflowException

    from osv_lab.detect.reference import _artifact_place, _local_path

    try:
        place = (
            _local_path(_artifact_place(tracking.client(), f"runs:/{run_id}/environment.json")) if run_id else None
        )
        return dict(json.loads(place.read_text("utf-8"))) if place and place.is_file() else {}
    except (MlflowException, OSError, ValueError):
        return {}


def _models() -> Found:
    for one in list_models():
        own = f"model:{one.name}/{one.version}"
        detail = {
            "digest": one.digest,
            "file": one.file,
            "parity": one.parity,
            "aliases": list(one.aliases),
            "registered": f"{one.created:%Y-%m-%d %H:%M}",
        }
        yield (
            Node(own, "model", f"models:/{one.name}/{one.version}", detail),
            [(f"run:{one.run_id}", own, "exported and registered")],
        )
        tags = tracking.client().get_model_version(one.name, str(one.version)).tags
        if decision := tags.get("osv.verdict"):
            key = f"verdict:{own}:{tags.get('osv.verdict.at')}"
            said = {
                name: tags.get(f"osv.verdict.{name}", "") for name in ("over", "at", "artifact", "reason", "why")
            }
            yield (
                Node(key, "verdict", f"{decision} {tags.get('osv.verdict.at', '')}", said),
                [(own, key, "judged")],
            )


def _datasets() -> Found:
    """Predictions by the models that made them, and the evaluations that read them."""
    from osv_lab.store.database import connect

    fo = connect()
    digests = {one.digest: f"model:{one.name}/{one.version}" for one in list_models() if one.digest}
    for name in fo.list_datasets():
        dataset = fo.load_dataset(name)
        made = dataset.info.get("predictions") or {}
        for field, by in made.items():
            own = f"predictions:{name}:{field}"
            links = [
                (digests[digest], own, "predicted")
                for one in by.values()
                if (digest := (one.get("detector") or {}).get("digest")) in digests
            ]
            yield Node(own, "predictions", f"{field} of {name}", {"dataset": name, "field": field}), links
        for key in dataset.list_evaluations():
            config = dataset.get_evaluation_info(key).config
            field = getattr(config, "pred_field", "")
            if field in made:
                own = f"evaluation:{name}:{key}"
                yield (
                    Node(own, "evaluation", f"{key} of {name}", {"dataset": name, "key": key}),
                    [(f"predictions:{name}:{field}", own, "evaluated")],
                )
