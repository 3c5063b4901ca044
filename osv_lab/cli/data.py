"""``osv ingest``, ``datasets``, ``app`` and ``export data``: what goes in and out of the store."""

from __future__ import annotations

import argparse
from typing import Any

from osv_lab.cli.common import add_verb, add_view_arguments, progress_of, view_of
from osv_lab.core.errors import UsageError


def add_commands(stages: Any) -> None:
    """The commands of the store."""
    verb = add_verb(stages, "ingest", ingest, "read images and labels, in any known format, into a dataset")
    verb.add_argument("source", help="a folder, an annotation file, a video, or a zip of these")
    verb.add_argument("dataset", help="the dataset to add to; made if it is not there")
    verb.add_argument("--format", default="auto", help="default: recognised by what is in the source")
    verb.add_argument("--split", help="'train', or shares such as 'train=0.8,val=0.1,test=0.1'")
    verb.add_argument("--tag", action="append", default=[], help="a tag for every new sample; may be repeated")
    verb.add_argument("--on-duplicate", default="skip", choices=("skip", "update", "error"))

    verb = add_verb(stages, "datasets", datasets, "list the datasets of this lab")

    verb = add_verb(stages, "erase", erase, "erase samples and all that the lab has of their media, for good")
    add_view_arguments(verb)
    verb.add_argument("--samples", nargs="+", metavar="ID", help="ids of the samples")
    verb.add_argument("--outside", action="store_true", help="also remove their files outside the lab's folder")
    verb.add_argument("--yes", action="store_true", help="do it; without this only a look at what would go")

    verb = add_verb(stages, "app", app, "open the FiftyOne App")
    verb.add_argument("dataset", nargs="?", help="the dataset to open")
    verb.add_argument("--view", help="a saved view of it")
    verb.add_argument("--host", default="127.0.0.1")
    verb.add_argument("--port", type=int, default=5151)
    verb.add_argument(
        "--import-root",
        action="append",
        default=[],
        metavar="FOLDER",
        help="a folder that forms in the App may read from (repeatable; also OSV_IMPORT_ROOTS)",
    )


def add_export(kinds: Any) -> None:
    """``osv export data``."""
    verb = add_verb(kinds, "data", export_data, "write a dataset as yolo, coco, voc or cvat")
    add_view_arguments(verb)
    verb.add_argument("folder")
    verb.add_argument("--format", default="yolo")
    verb.add_argument("--link", default="hard", choices=("hard", "symlink", "copy"), help="how media gets there")


def ingest(args: argparse.Namespace) -> Any:
    from osv_lab.store.ingest import ingest
    from osv_lab.store.splits import parse_split

    with progress_of(args) as progress:
        return ingest(
            args.source,
            args.dataset,
            format=args.format,
            split=parse_split(args.split),
            tags=tuple(args.tag),
            on_duplicate=args.on_duplicate,
            progress=progress,
        )


def datasets(args: argparse.Namespace) -> Any:
    from osv_lab.store.catalogue import list_datasets

    return list_datasets()


def erase(args: argparse.Namespace) -> Any:
    from osv_lab.store.erase import erase

    if not (args.samples or args.split or args.view or args.query):
        raise UsageError(
            "which samples are to be erased?",
            f"all of '{args.dataset}'",
            "say --samples, --split, --view or --query",
        )
    view = view_of(args)
    if args.samples:
        view = view.select(args.samples)
    with progress_of(args) as progress:
        return erase(view, dry_run=not args.yes, outside=args.outside, progress=progress)


def app(args: argparse.Namespace) -> Any:
    from osv_lab.app import run_app

    run_app(args.dataset, host=args.host, port=args.port, view=args.view, import_roots=args.import_root)


def export_data(args: argparse.Namespace) -> Any:
    from osv_lab.store.export import export

    with progress_of(args) as progress:
        return export(view_of(args), args.folder, args.format, link=args.link, progress=progress)
