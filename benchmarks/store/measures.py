"""What is measured: pairs of functions that do the same work, ours and FiftyOne's own way.

Each runs in a process of its own, prepared before the clock starts, so that its peak memory is its own. Both sides of
``predict`` use the size the weights were trained at, as they come: FiftyOne pads images to a square, the lab to the
least rectangle.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.store.data import CLASSES, SIZE, detections


@dataclass(frozen=True)
class Setting:
    """Sizes and places of one run."""

    folder: Path
    samples: int
    boxes: int
    predicted: int
    weights: str

    @property
    def yolo(self) -> Path:
        """The data set on disk."""
        return self.folder / "yolo"


def ingest_ours(fo: Any, setting: Setting) -> Callable[[], Any]:
    from osv_lab.store.ingest import ingest

    return lambda: ingest(setting.yolo, "ours")


def ingest_fiftyone(fo: Any, setting: Setting) -> Callable[[], Any]:
    def run() -> None:
        fo.Dataset.from_dir(
            dataset_dir=str(setting.yolo),
            dataset_type=fo.types.YOLOv5Dataset,
            split="train",
            name="fiftyone",
            label_field="ground_truth",
            include_all_data=True,
            persistent=True,
        )

    return run


def predictions_ours(fo: Any, setting: Setting) -> Callable[[], Any]:
    from osv_lab.store.bulk import Writer
    from osv_lab.store.convert.supervision import labels_from

    dataset = fo.load_dataset("ours")
    ids = dataset.values("id")
    found = [detections(index, setting.boxes) for index in range(len(ids))]

    def run() -> None:
        writer = Writer(dataset)
        for start in range(0, len(ids), 256):
            part = zip(ids[start : start + 256], found[start : start + 256], strict=True)
            writer.set_labels("predictions", {sample_id: labels_from(one, SIZE) for sample_id, one in part})
        writer.finish()

    return run


def predictions_fiftyone(fo: Any, setting: Setting) -> Callable[[], Any]:
    dataset = fo.load_dataset("fiftyone")
    found = [detections(index, setting.boxes) for index in range(len(dataset))]
    width, height = SIZE

    def labels(one: Any) -> Any:
        return fo.Detections(
            detections=[
                fo.Detection(
                    label=str(name),
                    bounding_box=[x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height],
                    confidence=score,
                )
                for name, (x0, y0, x1, y1), score in zip(
                    one.data["class_name"], one.xyxy.tolist(), one.confidence.tolist(), strict=True
                )
            ]
        )

    return lambda: dataset.set_values("predictions", [labels(one) for one in found])


def export_ours(fo: Any, setting: Setting) -> Callable[[], Any]:
    from osv_lab.store.export import export

    dataset = fo.load_dataset("ours")
    folder = setting.folder / "export-ours"
    return lambda: export(dataset, folder, "yolo", "ground_truth", CLASSES, link="symlink")


def export_fiftyone(fo: Any, setting: Setting) -> Callable[[], Any]:
    dataset = fo.load_dataset("fiftyone")

    def run() -> None:
        dataset.export(
            export_dir=str(setting.folder / "export-fiftyone"),
            dataset_type=fo.types.YOLOv5Dataset,
            label_field="ground_truth",
            classes=list(CLASSES),
            export_media="symlink",
        )

    return run


def predict_ours(fo: Any, setting: Setting) -> Callable[[], Any]:
    from osv_lab.detect import load_detector
    from osv_lab.store.predict import predict

    view = fo.load_dataset("photos")
    detector = load_detector(setting.weights)
    _warm(detector, view)
    return lambda: predict(view, detector, "ours", confidence=0.05, batch_size=8)


def predict_ours_onnx(fo: Any, setting: Setting) -> Callable[[], Any]:
    from osv_lab.detect import load_detector
    from osv_lab.store.predict import predict

    view = fo.load_dataset("photos")
    detector = load_detector(str(Path(setting.weights).with_suffix(".onnx")))
    _warm(detector, view)
    return lambda: predict(view, detector, "ours_onnx", confidence=0.05, batch_size=8)


def predict_fiftyone(fo: Any, setting: Setting) -> Callable[[], Any]:
    from ultralytics import YOLO

    view = fo.load_dataset("photos")
    model = YOLO(setting.weights)
    view.take(8, seed=51).apply_model(model, label_field="warm", confidence_thresh=0.05, batch_size=8)
    return lambda: view.apply_model(model, label_field="theirs", confidence_thresh=0.05, batch_size=8)


def _warm(detector: Any, view: Any) -> None:
    from osv_lab.detect.images import read_image

    detector.predict([read_image(view.first().filepath)] * 8)


MEASURES: dict[str, Callable[[Any, Setting], Callable[[], Any]]] = {
    "ingest/ours": ingest_ours,
    "ingest/fiftyone": ingest_fiftyone,
    "predictions/ours": predictions_ours,
    "predictions/fiftyone": predictions_fiftyone,
    "export/ours": export_ours,
    "export/fiftyone": export_fiftyone,
    "predict/ours": predict_ours,
    "predict/ours (onnx)": predict_ours_onnx,
    "predict/fiftyone": predict_fiftyone,
}


def measure(name: str, setting: Setting) -> dict[str, float]:
    """Run one measure; seconds and MiB of memory at the peak, and beyond what it started from."""
    import resource

    from osv_lab.store.database import connect

    fo = connect()
    run = MEASURES[name](fo, setting)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mib": peak, "grown_mib": peak - before}
