"""``osv version``: freeze, look at, compare, move and remove dataset versions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from osv_lab.cli.common import add_verb, add_view_arguments, assignments, progress_of, view_of
from osv_lab.core.errors import UsageError


def add_commands(stages: Any) -> None:
    """``osv version VERB``."""
    stage = stages.add_parser("version", help="dataset versions: freeze, compare, push, pull, restore")
    verbs = stage.add_subparsers(title="what", metavar="WHAT", required=True)

    verb = add_verb(verbs, "create", create, "freeze a dataset's media, splits and labels under a name")
    add_view_arguments(verb)
    verb.add_argument("--name", help="such as v1; default: the next number")
    verb.add_argument("--splits", help="split anew, stratified by class: train=0.8,val=0.1,test=0.1")
    verb.add_argument("--group-by", help="a sample field no value of which may be in two splits")
    verb.add_argument(
        "--steps", metavar="FILE", help="YAML with 'preprocessing' and 'augmentation', as Roboflow's"
    )
    verb.add_argument("--preprocess", action="append", default=[], metavar="STEP", help=_STEP_HELP)
    verb.add_argument(
        "--augment", action="append", default=[], metavar="STEP", help="the same, for training copies"
    )
    verb.add_argument("--multiplier", type=int, default=1, help="images per training image, itself included")
    verb.add_argument("--seed", type=int, help="where chance starts from")
    verb.add_argument("--field", action="append", help="a label field; repeatable (default: the ground truth)")

    verb = add_verb(verbs, "list", list_all, "list the versions here, or on a remote")
    verb.add_argument("dataset", nargs="?")
    _remote(verb, "list what this remote has")

    verb = add_verb(verbs, "show", show, "what a version says of itself")
    verb.add_argument("version", help="DATASET@v1")

    verb = add_verb(verbs, "verify", verify, "read a version whole and check every byte")
    verb.add_argument("version", help="DATASET@v1")

    verb = add_verb(verbs, "diff", diff, "what changed from one version to another")
    verb.add_argument("a", help="DATASET@v1, the one before")
    verb.add_argument("b", help="DATASET@v2, the one after")
    verb.add_argument("--iou", type=float, default=0.5, help="least overlap of what counts as the same object")

    verb = add_verb(verbs, "export", export, "write a version as yolo, coco, voc or cvat, or as its own bytes")
    verb.add_argument("version", help="DATASET@v1")
    verb.add_argument("folder")
    verb.add_argument("--format", default="yolo", help="a format of 'osv export data', or 'raw'")

    for name, command, text in (
        ("push", push, "bring a version to a remote"),
        ("pull", pull, "bring a version from a remote, every byte checked"),
    ):
        verb = add_verb(verbs, name, command, text)
        verb.add_argument("version", help="DATASET@v1")
        _remote(
            verb, "a folder, s3://bucket/folder, or a remote of the DVC project (default: OSV_VERSIONS_REMOTE)"
        )

    verb = add_verb(verbs, "restore", restore, "make the dataset again as it was in a version")
    verb.add_argument("version", help="DATASET@v1")
    verb.add_argument("--as", dest="name", metavar="NAME", help="under another name")
    verb.add_argument("--overwrite", action="store_true", help="in place of the dataset that is there")

    verb = add_verb(verbs, "delete", delete, "delete a version here; remotes and datasets keep what they have")
    verb.add_argument("version", help="DATASET@v1")

    verb = add_verb(verbs, "preview", preview, "draw what steps do to one image, before and after")
    verb.add_argument("image", help="an image file, or a dataset, whose first sample with labels is taken")
    verb.add_argument("folder", help="where the pictures go")
    verb.add_argument("--steps", metavar="FILE")
    verb.add_argument("--preprocess", action="append", default=[], metavar="STEP", help=_STEP_HELP)
    verb.add_argument("--augment", action="append", default=[], metavar="STEP")
    verb.add_argument("--copies", type=int, default=4)
    verb.add_argument("--seed", type=int)


_STEP_HELP = "'grayscale', or with parameters 'resize: {width: 640, height: 640, format: Fit within}'; repeatable"


def _remote(verb: argparse.ArgumentParser, text: str) -> None:
    verb.add_argument("--remote", help=text)
    verb.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="of the remote, such as endpointurl=URL"
    )


def create(args: argparse.Namespace) -> Any:
    from osv_lab.core.settings import SEED
    from osv_lab.store.splits import parse_split
    from osv_lab.store.versions import create_version

    splits = parse_split(args.splits)
    if isinstance(splits, str):
        raise UsageError("--splits takes shares", repr(splits), "write train=0.8,val=0.1,test=0.1")
    before, after = _steps(args)
    with progress_of(args) as progress:
        return create_version(
            view_of(args), args.name, splits, args.group_by, before, after, args.multiplier,
            SEED if args.seed is None else args.seed, fields=args.field, progress=progress,
        )  # fmt: skip


def list_all(args: argparse.Namespace) -> Any:
    from osv_lab.store.versions import list_remote, list_versions

    if args.remote is None:
        return list_versions(args.dataset)
    return list_remote(args.remote, options=assignments(args.option))


def show(args: argparse.Namespace) -> Any:
    from osv_lab.store.versions import find_version

    return find_version(args.version)


def verify(args: argparse.Namespace) -> Any:
    from osv_lab.store.versions import verify

    with progress_of(args) as progress:
        return verify(args.version, progress=progress)


def diff(args: argparse.Namespace) -> Any:
    from osv_lab.store.diff import diff_versions

    return diff_versions(args.a, args.b, args.iou)


def export(args: argparse.Namespace) -> Any:
    from osv_lab.store.versions import export_version, find_version, rebuild

    with progress_of(args) as progress:
        if args.format == "raw":
            rebuild(args.version, args.folder, progress=progress)
            return find_version(args.version)
        return export_version(args.version, args.folder, args.format, progress=progress)


def push(args: argparse.Namespace) -> Any:
    from osv_lab.store.versions import push

    with progress_of(args) as progress:
        return push(args.version, args.remote, options=assignments(args.option), progress=progress)


def pull(args: argparse.Namespace) -> Any:
    from osv_lab.store.versions import pull

    with progress_of(args) as progress:
        return pull(args.version, args.remote, options=assignments(args.option), progress=progress)


def restore(args: argparse.Namespace) -> Any:
    from osv_lab.store.versions import find_version, load_version, restore

    with progress_of(args) as progress:
        if args.name:
            load_version(args.version, args.name, progress=progress)
        else:
            restore(args.version, overwrite=args.overwrite, progress=progress)
    return find_version(args.version)


def delete(args: argparse.Namespace) -> Any:
    from osv_lab.store.versions import delete

    return delete(args.version)


def preview(args: argparse.Namespace) -> Any:
    from osv_lab.core.settings import SEED
    from osv_lab.store.transforms import preview

    before, after = _steps(args)
    sample: Any = args.image
    if not Path(args.image).is_file():
        from osv_lab.store.catalogue import open_dataset

        sample = open_dataset(args.image).first()
    shown = preview(sample, [*before, *after], copies=args.copies, seed=SEED if args.seed is None else args.seed)
    shown.save(args.folder)
    return shown


def _steps(args: argparse.Namespace) -> tuple[list[Any], list[Any]]:
    """Preprocessing and augmentation: those of the file, then those of the command line."""
    import yaml

    stated: dict[str, Any] = {}
    if args.steps:
        try:
            stated = yaml.safe_load(Path(args.steps).read_text("utf-8")) or {}
        except (OSError, yaml.YAMLError) as error:
            raise UsageError("--steps cannot be read", f"{args.steps}: {error}") from None
        if not isinstance(stated, dict) or set(stated) - {"preprocessing", "augmentation"}:
            raise UsageError("--steps needs 'preprocessing' and 'augmentation'", repr(stated)[:200])
    found = []
    for key, given in (("preprocessing", args.preprocess), ("augmentation", args.augment)):
        steps = [stated[key]] if stated.get(key) else []
        found.append([*steps, *(yaml.safe_load(step) for step in given)])
    return found[0], found[1]
