"""``osv``: the stages of the loop as commands. Each is a few lines over one function of the library."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import osv_lab
from osv_lab.core.errors import InterruptedJobError, OsvError, UsageError

Command = Callable[[argparse.Namespace], Any]

EXIT_CODES = """\
exit codes: 0 done; 1 failed; 2 wrong usage; 3 not found; 4 invalid data; 5 something outside is missing;
6 a check said no; 130 interrupted (resumable)."""


# -- commands: arguments in, result out ---------------------------------------------------------------------


def ingest(args: argparse.Namespace) -> Any:
    from osv_lab.store.ingest import ingest

    with _progress(args) as progress:
        return ingest(
            args.source,
            args.dataset,
            format=args.format,
            split=_split(args.split),
            tags=tuple(args.tag),
            on_duplicate=args.on_duplicate,
            progress=progress,
        )


def train(args: argparse.Namespace) -> Any:
    from osv_lab.train.recipe import Recipe
    from osv_lab.train.trainer import train

    settings: dict[str, Any] = Recipe.from_yaml(args.recipe).to_dict() if args.recipe else {}
    for name in ("model", "epochs", "imgsz", "batch", "device"):
        if (value := getattr(args, name)) is not None:
            settings[name] = value
    settings.update(_assignments(args.set))
    recipe = None if args.resume and not settings else Recipe.from_dict({"model": "yolo11n", **settings})
    with _progress(args) as progress:
        return train(
            _view(args),
            recipe,
            dataset_version=args.dataset_version,
            resume=args.resume,
            experiment=args.experiment or args.dataset,
            progress=progress,
        )


def predict(args: argparse.Namespace) -> Any:
    from osv_lab.detect import load_detector

    detector = load_detector(args.model)
    options = {"confidence": args.confidence, "iou": args.iou}
    given = {name: value for name, value in options.items() if value is not None}
    if args.images or Path(args.dataset).is_file():
        from osv_lab.detect.files import predict_files

        with _progress(args) as progress:
            return predict_files(detector, [args.dataset, *args.images], progress=progress, **given)
    from osv_lab.store.predict import predict

    with _progress(args) as progress:
        return predict(_view(args), detector, args.field, batch_size=args.batch, progress=progress, **given)


def evaluate(args: argparse.Namespace) -> Any:
    from osv_lab.evaluate.detection import evaluate

    with _progress(args) as progress:
        return evaluate(_view(args), args.pred, args.gt, args.key, progress=progress)


def export_model(args: argparse.Namespace) -> Any:
    from osv_lab.detect.export import export_model

    artifact = export_model(args.model, format=args.format, imgsz=args.imgsz, out=args.out)
    if args.verify is None:
        return artifact
    from osv_lab.evaluate.verify import verify

    args.dataset = args.verify
    with _progress(args) as progress:
        report = verify(artifact, _view(args), original=args.model, progress=progress)
    if not report.passed:
        from osv_lab.core.errors import CheckFailedError

        raise CheckFailedError("the exported model does not answer as the original does", report.summary())
    return report


def export_data(args: argparse.Namespace) -> Any:
    from osv_lab.store.export import export

    with _progress(args) as progress:
        return export(_view(args), args.folder, args.format, link=args.link, progress=progress)


def track_video(args: argparse.Namespace) -> Any:
    from osv_lab.track.video import track_video
    from osv_lab.track.zones import parse_line, parse_zone

    tracker = {"algorithm": args.tracker, **_assignments(args.set)}
    lines = [parse_line(text, args.anchor) for text in args.line]
    zones = [parse_zone(text, args.anchor) for text in args.zone]
    with _progress(args) as progress:
        return track_video(
            args.video,
            args.model,
            args.out or None,
            tracker=tracker,
            formats=args.format or None,
            confidence=args.confidence,
            iou=args.iou,
            classes=args.classes.split(",") if args.classes else None,
            agnostic=args.agnostic,
            areas=[*lines, *zones],
            every=args.every,
            batch_size=args.batch,
            max_frames=args.frames,
            frame_rate=args.fps,
            stall_s=args.stall_s,
            resume=not args.restart,
            progress=progress,
        )


def track_eval(args: argparse.Namespace) -> Any:
    with _progress(args) as progress:
        if args.result is not None:
            from osv_lab.track.scores import score_files

            return score_files(args.truth, args.result, benchmark=args.benchmark, progress=progress)
        from osv_lab.evaluate.tracking import evaluate_tracks  # type: ignore[import-not-found,unused-ignore]

        args.dataset = args.truth
        return evaluate_tracks(
            _view(args), args.pred, args.gt, benchmark=args.benchmark, iou=args.iou, progress=progress
        )


def register(args: argparse.Namespace) -> Any:
    from osv_lab.train.registry import register

    return register(args.artifact, args.name, alias=args.alias)


def serve(args: argparse.Namespace) -> Any:
    from osv_lab.console import log_to_terminal
    from osv_lab.serve.run import run_server

    log_to_terminal()
    run_server(args.model, host=args.host, port=args.port, **_server_options(args))


def app(args: argparse.Namespace) -> Any:
    from osv_lab.app import run_app

    run_app(args.dataset, host=args.host, port=args.port, view=args.view)


def demo(args: argparse.Namespace) -> Any:
    from osv_lab.demo import demo

    with _progress(args) as progress:
        return demo(
            source=args.source,
            weights=args.weights,
            epochs=args.epochs,
            name=args.name,
            download=args.download,
            progress=progress,
        )


def doctor(args: argparse.Namespace) -> Any:
    from osv_lab.doctor import doctor

    return doctor()


def datasets(args: argparse.Namespace) -> Any:
    from osv_lab.store.catalogue import list_datasets

    return list_datasets()


def models(args: argparse.Namespace) -> Any:
    from osv_lab.train.registry import list_models

    return list_models()


# -- the parser ---------------------------------------------------------------------------------------------


def build_parser() -> argparse.ArgumentParser:
    """The ``osv`` argument parser. Imports nothing heavy."""
    parser = argparse.ArgumentParser(
        prog="osv",
        description="Curate, train, look, serve: the OpenSupervision Lab on the command line.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"osv {osv_lab.__version__}")
    stages = parser.add_subparsers(title="stages", metavar="STAGE", required=True)

    verb = _verb(stages, "demo", demo, "the whole loop on one data set, ending with a served prediction")
    verb.add_argument("--source", help="your images and labels; default: a rendered set with known truth")
    verb.add_argument("--weights", help="a .pt to start from; default: train from scratch")
    verb.add_argument("--epochs", type=int, help="training epochs")
    verb.add_argument("--name", help="name of the dataset and the registered model (default: from the source)")
    verb.add_argument("--download", action="store_true", help="with no --source: fetch a small open data set")

    verb = _verb(stages, "doctor", doctor, "check this machine, and say what to do about each finding")

    verb = _verb(stages, "ingest", ingest, "read images and labels, in any known format, into a dataset")
    verb.add_argument("source", help="a folder, an annotation file, a video, or a zip of these")
    verb.add_argument("dataset", help="the dataset to add to; made if it is not there")
    verb.add_argument("--format", default="auto", help="default: recognised by what is in the source")
    verb.add_argument("--split", help="'train', or shares such as 'train=0.8,val=0.1,test=0.1'")
    verb.add_argument("--tag", action="append", default=[], help="a tag for every new sample; may be repeated")
    verb.add_argument("--on-duplicate", default="skip", choices=("skip", "update", "error"))

    verb = _verb(stages, "datasets", datasets, "list the datasets of this lab")

    verb = _verb(stages, "app", app, "open the FiftyOne App")
    verb.add_argument("dataset", nargs="?", help="the dataset to open")
    verb.add_argument("--view", help="a saved view of it")
    verb.add_argument("--host", default="127.0.0.1")
    verb.add_argument("--port", type=int, default=5151)

    verb = _verb(stages, "train", train, "train a model on a dataset, tracked in MLflow")
    _view_arguments(verb)
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

    verb = _verb(stages, "predict", predict, "write a model's predictions into a dataset, or print those of files")
    verb.add_argument("dataset", help="a dataset, or an image file")
    verb.add_argument("images", nargs="*", help="further image files")
    verb.add_argument("--model", required=True, help="a path or models:/name@alias")
    verb.add_argument("--field", default="predictions")
    verb.add_argument("--split", help="only this split")
    verb.add_argument("--confidence", type=float, help="lowest score kept")
    verb.add_argument("--iou", type=float, help="overlap above which the weaker of two boxes goes")
    verb.add_argument("--batch", type=int, default=8)

    verb = _verb(stages, "evaluate", evaluate, "compare predictions with ground truth")
    _view_arguments(verb)
    verb.add_argument("--pred", default="predictions", help="field with predictions")
    verb.add_argument("--gt", default="ground_truth", help="field with ground truth")
    verb.add_argument("--key", default="eval", help="name of the evaluation in the App")

    _add_track(stages)

    export = stages.add_parser("export", help="export a model for serving, or a dataset in another format")
    kinds = export.add_subparsers(title="what", metavar="WHAT", required=True)
    verb = _verb(kinds, "model", export_model, "export weights, and verify the export on your own samples")
    verb.add_argument("model", help="a path or models:/name@alias")
    verb.add_argument("--format", default="onnx")
    verb.add_argument("--imgsz", type=int)
    verb.add_argument("--out", help="where to write; default: beside the weights")
    verb.add_argument("--verify", metavar="DATASET", help="compare with the original on this dataset")
    verb.add_argument("--split", default="val", help="the split to verify on")
    verb = _verb(kinds, "data", export_data, "write a dataset as yolo, coco, voc or cvat")
    _view_arguments(verb)
    verb.add_argument("folder")
    verb.add_argument("--format", default="yolo")
    verb.add_argument("--link", default="hard", choices=("hard", "symlink", "copy"), help="how media gets there")

    verb = _verb(stages, "register", register, "register an exported model under a name")
    verb.add_argument("artifact")
    verb.add_argument("name")
    verb.add_argument("--alias", help="such as champion")

    verb = _verb(stages, "models", models, "list the registered models")

    verb = _verb(stages, "serve", serve, "answer POST /predict with a model")
    verb.add_argument("model", help="a path or models:/name@alias")
    verb.add_argument("--host", default="127.0.0.1")
    verb.add_argument("--port", type=int, default=8000)
    verb.add_argument("--key-file", help="file with the bearer key that clients must send")
    verb.add_argument(
        "--urls",
        choices=("auto", "on", "off"),
        default="auto",
        help="whether image_url may be an http(s) address (public ones only); auto: on loopback, yes",
    )
    return parser


_TRACK_EXAMPLES = """\
examples:
  osv track cars.mp4 --model yolo11n.onnx --out tracked.mp4 --format mot
  osv track cars.mp4 --model yolo11n.onnx --tracker bytetrack --line gate=0,216,768,216 --anchor center
  osv track rtsp://camera/live --model models:/cars@champion --out today.mp4 --zone lot=0,0,300,0,300,400,0,400
  osv track MOT17-09/ --model yolo11n.onnx --classes person --out results/MOT17-09.txt
  osv track eval MOT17/train results --benchmark mot17
"""
_TRACK_VERBS = ("video", "eval")


def _add_track(stages: Any) -> None:
    """``osv track VIDEO``, which is short for ``osv track video VIDEO``, and ``osv track eval``."""
    track = stages.add_parser(
        "track",
        help="track the objects of a video or stream, count at lines, score tracks",
        description="Track the objects of a video. Without a verb, 'video' is meant.",
        epilog=_TRACK_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = track.add_subparsers(title="what", metavar="[video] VIDEO | eval", required=True)
    verb = _verb(
        verbs, "video", track_video, "track the objects of a video, an image folder, a camera or a stream"
    )
    verb.epilog, verb.formatter_class = _TRACK_EXAMPLES, argparse.RawDescriptionHelpFormatter
    verb.add_argument("video", help="a video file, a folder of images, a camera's index, or a stream's address")
    verb.add_argument("--model", required=True, help="a path or models:/name@alias")
    verb.add_argument("--tracker", default="botsort", help="botsort (default), bytetrack or deepsort")
    verb.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the tracker")
    verb.add_argument(
        "--out",
        action="append",
        metavar="FILE",
        help=".mp4 for the annotated video, .txt for MOTChallenge, .coco.json, .json; or a folder; may be repeated",
    )
    verb.add_argument(
        "--format", action="append", help="video, mot, coco or json: a further file beside --out; may be repeated"
    )
    verb.add_argument("--line", action="append", default=[], metavar="[NAME=]X1,Y1,X2,Y2", help="count crossings")
    verb.add_argument("--zone", action="append", default=[], metavar="NAME=X1,Y1,X2,Y2,...", help="count visits")
    verb.add_argument(
        "--anchor", default="bottom_center", help="the point of a box that crosses (bottom_center, center, ...)"
    )
    verb.add_argument("--classes", metavar="A,B", help="track only these classes")
    verb.add_argument("--confidence", type=float, default=0.1, help="lowest score the tracker is given (0.1)")
    verb.add_argument(
        "--iou", type=float, default=0.7, help="overlap above which the weaker of two boxes goes (0.7)"
    )
    verb.add_argument("--agnostic", action="store_true", help="... also of two classes")
    verb.add_argument("--every", type=int, default=1, metavar="N", help="look at every N-th frame only")
    verb.add_argument("--frames", type=int, metavar="N", help="stop after N frames")
    verb.add_argument("--fps", type=float, help="frames per second, where the source does not say")
    verb.add_argument("--batch", type=int, default=8, help="frames per run of the network")
    verb.add_argument("--stall-s", type=float, default=30.0, help="seconds without a frame that end a stream (30)")
    verb.add_argument("--restart", action="store_true", help="begin anew where an earlier run was interrupted")

    verb = _verb(verbs, "eval", track_eval, "score tracks by HOTA, MOTA, IDF1 and their kin, per sequence")
    verb.epilog, verb.formatter_class = _TRACK_EXAMPLES, argparse.RawDescriptionHelpFormatter
    verb.add_argument("truth", help="a MOT truth file, a folder of sequences, or (without RESULT) a dataset")
    verb.add_argument("result", nargs="?", help="a MOT result file, or a folder with one per sequence")
    verb.add_argument(
        "--benchmark", choices=("mot17", "mot20"), help="MOTChallenge's preprocessing; default: none"
    )
    verb.add_argument("--pred", default="frames.tracks", help="of a dataset: the field with tracks")
    verb.add_argument("--gt", default="frames.ground_truth", help="of a dataset: the field with the truth")
    verb.add_argument("--iou", type=float, default=0.5, help="of a dataset: least overlap of a match")
    verb.add_argument("--split", help="of a dataset: only this split")
    verb.add_argument("--view", help="of a dataset: a saved view")


def _with_verb(argv: Sequence[str]) -> list[str]:
    """``track VIDEO`` as ``track video VIDEO``. A file called ``eval`` is ``./eval``."""
    words = list(argv)
    if words[:1] == ["track"] and words[1:] and words[1] not in (*_TRACK_VERBS, "-h", "--help"):
        words.insert(1, "video")
    return words


def _verb(stages: Any, name: str, command: Command, text: str) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = stages.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    verb.set_defaults(command=command)
    verb.add_argument("--json", action="store_true", help="print the result, or the error, as JSON")
    verb.add_argument("--debug", action="store_true", help="show a traceback when something fails")
    verb.add_argument("--quiet", action="store_true", help="no progress")
    return verb


def _view_arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("dataset")
    verb.add_argument("--split", help="only this split")
    verb.add_argument("--view", help="a saved view of the dataset")


# -- from arguments to what functions take ------------------------------------------------------------------


def _progress(args: argparse.Namespace) -> Any:
    from osv_lab.console import progress_on_terminal

    return progress_on_terminal(quiet=args.quiet)


def _view(args: argparse.Namespace) -> Any:
    from osv_lab.store.catalogue import open_dataset, open_view

    name = getattr(args, "view", None)
    view = open_view(args.dataset, name) if name else open_dataset(args.dataset).view()
    return view.match_tags(args.split) if args.split else view


def _split(text: str | None) -> str | dict[str, float] | None:
    """``"train"`` or ``"train=0.8,val=0.2"``."""
    if text is None or "=" not in text:
        return text
    try:
        return {name.strip(): float(share) for name, share in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise UsageError(
            "--split is a name or shares", repr(text), "write train, or train=0.8,val=0.1,test=0.1"
        ) from None


def _assignments(items: Sequence[str]) -> dict[str, Any]:
    """``["lr0=0.01", "name=x"]`` as typed values, by YAML's rules."""
    import yaml

    settings = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError("--set takes KEY=VALUE", repr(item), "for example --set lr0=0.005")
        settings[key.strip()] = yaml.safe_load(value)
    return settings


def _server_options(args: argparse.Namespace) -> dict[str, Any]:
    options: dict[str, Any] = {} if args.urls == "auto" else {"allow_urls": args.urls == "on"}
    if not args.key_file:
        return options
    try:
        return {**options, "key": Path(args.key_file).read_text().strip()}
    except OSError as error:
        raise UsageError("the key file cannot be read", f"{args.key_file} ({error.strerror})") from error


# -- running ------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = build_parser().parse_args(_with_verb(sys.argv[1:] if argv is None else argv))
    from osv_lab import console

    try:
        result = args.command(args)
    except OsvError as error:
        if args.debug:
            raise
        console.show_error(error, args.json)
        return error.exit_code
    except KeyboardInterrupt:
        if args.debug:
            raise
        stopped = InterruptedJobError("interrupted", fix="run the same command again to go on")
        console.show_error(stopped, args.json)
        return stopped.exit_code
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; there is nobody left to tell.
        sys.stderr.close()
        return 1
    if result is not None:
        console.show(result, args.json)
    return int(getattr(result, "exit_code", 0))


if __name__ == "__main__":
    raise SystemExit(main())
