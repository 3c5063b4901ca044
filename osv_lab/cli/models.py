"""``osv train``, ``predict``, ``evaluate``, ``export model``, ``register``, ``models`` and ``serve``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from osv_lab.cli.common import (
    add_confidence,
    add_narrowing,
    add_verb,
    add_view_arguments,
    assignments,
    progress_of,
    view_of,
)
from osv_lab.core.errors import NotFoundError, UsageError


def add_commands(stages: Any) -> None:
    """The commands that make, try and pick models."""
    verb = add_verb(stages, "train", train, "train a model on a dataset, tracked in MLflow")
    add_view_arguments(verb)
    verb.add_argument("--model", help="a .pt, a .yaml architecture, or an architecture's name (default yolo11n)")
    verb.add_argument("--epochs", type=int)
    verb.add_argument("--imgsz", type=int, help="side of the network's input in pixels")
    verb.add_argument("--batch", type=int)
    verb.add_argument("--device", help="'cpu', '0', ...")
    verb.add_argument("--recipe", help="a YAML file with these and further settings")
    verb.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one further recipe setting")
    verb.add_argument("--dataset-version", help="a name for exactly this data, such as v1")
    verb.add_argument("--experiment", help="MLflow experiment (default: the dataset's name)")
    verb.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=False,
        metavar="RUN",
        help="continue the newest unfinished run, or RUN",
    )

    verb = add_verb(
        stages, "predict", predict, "write a model's predictions into a dataset, or print those of files"
    )
    verb.add_argument("dataset", help="a dataset, or an image file")
    verb.add_argument("images", nargs="*", help="further image files")
    verb.add_argument("--model", required=True, help="a path or models:/name@alias")
    verb.add_argument("--field", default="predictions")
    add_narrowing(verb)
    add_confidence(verb, "lowest score kept")
    verb.add_argument("--iou", type=float, help="overlap above which the weaker of two boxes goes")
    verb.add_argument("--batch", type=int, default=8)

    verb = add_verb(stages, "evaluate", evaluate, "compare predictions with ground truth")
    add_view_arguments(verb)
    verb.add_argument("--pred", default="predictions", help="field with predictions")
    verb.add_argument("--gt", default="ground_truth", help="field with ground truth")
    verb.add_argument("--key", default="eval", help="name of the evaluation in the App")
    verb.add_argument("--masks", action="store_true", help="compare masks, not boxes")


def add_export(kinds: Any) -> None:
    """``osv export model``."""
    verb = add_verb(kinds, "model", export_model, "export weights, and verify the export on your own samples")
    verb.add_argument("model", help="a path or models:/name@alias")
    verb.add_argument("--format", default="onnx", help="onnx (default), openvino or litert")
    verb.add_argument("--imgsz", type=int)
    verb.add_argument("--out", help="where to write; default: beside the weights")
    verb.add_argument(
        "--int8",
        metavar="DATASET",
        help="quantise to 8 bits, calibrated on the train split of this dataset or version (NAME@v1)",
    )
    verb.add_argument("--verify", metavar="DATASET", help="compare with the original on this dataset")
    verb.add_argument("--split", default="val", help="the split to verify on")


def add_serving(stages: Any) -> None:
    """The commands of the registry and the server."""
    verb = add_verb(stages, "register", register, "register an exported model under a name")
    verb.add_argument("artifact")
    verb.add_argument("name")
    verb.add_argument("--alias", help="such as champion")

    verb = add_verb(stages, "models", models, "list the registered models")

    verb = add_verb(stages, "serve", serve, "answer POST /predict with a model")
    verb.add_argument("model", help="a path or models:/name@alias")
    verb.add_argument("--host", default="127.0.0.1")
    verb.add_argument("--port", type=int, default=8000)
    verb.add_argument("--key-file", help="file of the keys that clients must send; see osv key add")
    verb.add_argument(
        "--urls",
        choices=("auto", "on", "off"),
        default="auto",
        help="whether image_url may be an http(s) address (public ones only); auto: on loopback, yes",
    )
    verb.add_argument(
        "--scheduling",
        choices=("auto", "parallel", "batch"),
        default="auto",
        help="single images side by side, or batches that grow with the load; auto: what is faster here",
    )
    verb.add_argument(
        "--processes",
        type=processes,
        default="auto",
        metavar="N",
        help="worker processes that compute and are replaced when they die; 0: threads of this one; default: one per "
        "core, or one alone for a model that runs in batches",
    )
    verb.add_argument("--max-batch", type=int, help="most images in one batch; default: measured")
    verb.add_argument(
        "--lone-threads",
        type=int,
        metavar="N",
        help="cores for an image while there is no other; default: all where that is measured to be faster",
    )
    verb.add_argument("--queue", type=int, default=16, help="requests in the house at once; further ones get 503")
    verb.add_argument("--deadline", type=float, default=10.0, help="seconds a request may wait before it gets 503")
    verb.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="MODEL",
        help="what else may be loaded over HTTP: a file, a folder of .onnx files, models:/name (repeatable)",
    )

    verb.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="NAME=PLACE",
        help="what the server may watch by itself: an address (rtsp://...), a camera's index, a video file, a folder "
        "of videos (repeatable); cameras and streams are watched from the start",
    )
    verb.add_argument(
        "--track",
        choices=("bytetrack", "botsort", "none"),
        default="bytetrack",
        help="the tracker of streams and sources that do not ask for another",
    )
    verb.add_argument(
        "--capture",
        metavar="RULES",
        help="keep images worth a second look: random=0.01,near=0.1,few=0,many=50,classes=a|b,novelty, or a file of "
        "rules (.yaml, .json, .toml); nothing is kept without",
    )
    verb.add_argument(
        "--capture-to",
        metavar="FOLDER",
        help="where they are kept (captures, in the lab's folder); see osv captures",
    )
    verb.add_argument(
        "--drift",
        metavar="FILE",
        help="a drift reference; default: the one in the model's sidecar, where it has one",
    )

    key = stages.add_parser("key", help="make and remove the keys that a server asks for")
    verbs = key.add_subparsers(title="what", metavar="WHAT", required=True)
    verb = add_verb(verbs, "add", key_add, "make a key: print it, once, and write its digest to a key file")
    verb.add_argument("file", help="for osv serve --key-file; made if it is not there")
    verb.add_argument("name", help="whose key it is")
    verb.add_argument(
        "--scope",
        action="append",
        choices=("predict", "models", "metrics", "sources"),
        help="what it is for (predict); repeatable",
    )
    verb = add_verb(verbs, "remove", key_remove, "take a key out of a key file")
    verb.add_argument("file")
    verb.add_argument("name")


def train(args: argparse.Namespace) -> Any:
    from osv_lab.train.recipe import Recipe
    from osv_lab.train.trainer import train

    settings: dict[str, Any] = Recipe.from_yaml(args.recipe).to_dict() if args.recipe else {}
    for name in ("model", "epochs", "imgsz", "batch", "device"):
        if (value := getattr(args, name)) is not None:
            settings[name] = value
    settings.update(assignments(args.set))
    recipe = None if args.resume and not settings else Recipe.from_dict({"model": "yolo11n", **settings})
    with progress_of(args) as progress:
        return train(
            view_of(args),
            recipe,
            dataset_version=args.dataset_version,
            resume=args.resume,
            experiment=args.experiment,
            progress=progress,
        )


def predict(args: argparse.Namespace) -> Any:
    from osv_lab.detect import load_detector
    from osv_lab.detect.files import IMAGE_SUFFIXES

    if Path(args.dataset).suffix.lower() in IMAGE_SUFFIXES and not Path(args.dataset).exists():
        raise NotFoundError("no such image file", args.dataset)
    detector = load_detector(args.model)
    options = {"confidence": args.confidence, "iou": args.iou}
    given = {name: value for name, value in options.items() if value is not None}
    if args.images or Path(args.dataset).is_file():
        from osv_lab.detect.files import predict_files

        with progress_of(args) as progress:
            return predict_files(detector, [args.dataset, *args.images], progress=progress, **given)
    from osv_lab.store.predict import predict

    with progress_of(args) as progress:
        return predict(view_of(args), detector, args.field, batch_size=args.batch, progress=progress, **given)


def evaluate(args: argparse.Namespace) -> Any:
    from osv_lab.evaluate.detection import evaluate

    with progress_of(args) as progress:
        return evaluate(view_of(args), args.pred, args.gt, args.key, masks=args.masks, progress=progress)


def export_model(args: argparse.Namespace) -> Any:
    from osv_lab.detect.export import export_model

    if args.int8 is not None and args.format != "onnx":
        from osv_lab.core.errors import UsageError

        raise UsageError("only ONNX files are quantised", f"--int8 with --format {args.format}", "leave one out")
    artifact = export_model(args.model, format=args.format, imgsz=args.imgsz, out=args.out)
    if args.int8 is not None:
        from osv_lab.evaluate.quantize import quantize

        with progress_of(args) as progress:
            artifact = quantize(
                artifact, view_of(argparse.Namespace(dataset=args.int8, split="train")), progress=progress
            )
    if args.verify is None:
        return artifact
    from osv_lab.evaluate.verify import verify

    args.dataset = args.verify
    with progress_of(args) as progress:
        report = verify(artifact, view_of(args), original=args.model, progress=progress)
    if not report.passed:
        from osv_lab.core.errors import CheckFailedError

        raise CheckFailedError("the exported model does not answer as the original does", report.summary())
    return report


def register(args: argparse.Namespace) -> Any:
    from osv_lab.train.registry import register

    return register(args.artifact, args.name, alias=args.alias)


def models(args: argparse.Namespace) -> Any:
    from osv_lab.train.registry import list_models

    return list_models()


def serve(args: argparse.Namespace) -> Any:
    from osv_lab.console import log_to_terminal
    from osv_lab.serve.run import run_server

    log_to_terminal()
    run_server(args.model, host=args.host, port=args.port, **_server_options(args))


def processes(text: str) -> int | str:
    """``--processes``: a number, or ``auto``."""
    return text if text == "auto" else int(text)


def _server_options(args: argparse.Namespace) -> dict[str, Any]:
    options: dict[str, Any] = {} if args.urls == "auto" else {"allow_urls": args.urls == "on"}
    options |= {"scheduling": args.scheduling, "max_batch": args.max_batch}
    options |= {"lone_threads": args.lone_threads, "also": args.also}
    options |= {"processes": args.processes, "max_waiting": args.queue, "deadline_s": args.deadline}
    options |= {"sources": _sources(args.source), "track": args.track != "none" and args.track}
    options |= {"capture": args.capture, "capture_to": args.capture_to}
    if args.drift:
        options["drift"] = args.drift
    if args.key_file:
        from osv_lab.serve.keys import KeyFile

        options["key"] = KeyFile(args.key_file)
    return options


def _sources(given: list[str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for one in given:
        name, equals, place = one.partition("=")
        if not equals or not place or name in named:
            what = "two sources have the same name" if name in named else "--source takes NAME=PLACE"
            raise UsageError(what, repr(name), "for example --source gate=rtsp://10.0.0.7/live")
        named[name] = place
    return named


def key_add(args: argparse.Namespace) -> Any:
    from osv_lab.serve.keys import add_key

    # Printed once and kept nowhere: the file holds its digest.
    return add_key(args.file, args.name, args.scope or ("predict",))


def key_remove(args: argparse.Namespace) -> Any:
    from osv_lab.serve.keys import remove_key

    remove_key(args.file, args.name)
