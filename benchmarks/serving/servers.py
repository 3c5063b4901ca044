"""One contestant in a process of its own: ``python servers.py KIND MODEL PORT``. All share decoding and detector.

The pipeline needs numpy, opencv, pillow, supervision and onnxruntime in the environment of a peer, and this repository
on its path.
"""

from __future__ import annotations

import base64
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def pipeline(model: str, threads: int | None) -> Any:
    """From an encoded image to plain predictions."""
    from osv_lab.detect import load_detector
    from osv_lab.detect.files import plain_detections
    from osv_lab.detect.images import decode_image

    detector = load_detector(model, threads=threads, providers=("cpu",))

    def run(data: bytes) -> list[Any]:
        [found] = detector.predict([decode_image(data)])
        return [dict(one) for one in plain_detections(found)]

    return run


def floor(model: str, port: int) -> None:
    """No server: reads ``{"threads", "seconds", "images"}`` per line, writes images per second and latencies in ms."""
    run = pipeline(model, threads=1)
    for line in sys.stdin:
        asked = json.loads(line)
        images = [Path(one).read_bytes() for one in asked["images"]]
        latencies: list[float] = []
        end = time.perf_counter() + asked["seconds"]

        def work(first: int, images: list[bytes] = images, end: float = end, out: list[float] = latencies) -> None:
            turn = first
            while (started := time.perf_counter()) < end:
                run(images[turn % len(images)])
                out.append((time.perf_counter() - started) * 1000)
                turn += 1

        started = time.perf_counter()
        threads = [threading.Thread(target=work, args=(3 * k,)) for k in range(asked["threads"])]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        rate = len(latencies) / (time.perf_counter() - started)
        print(json.dumps({"rate": rate, "latencies": latencies, "failed": 0}), flush=True)


def ours(model: str, port: int, scheduling: Any = "auto", processes: Any = "auto") -> None:
    from osv_lab.serve.run import run_server

    options: dict[str, Any] = {"scheduling": scheduling, "processes": processes, "providers": ("cpu",)}
    run_server(model, port=port, max_waiting=64, log_level="error", **options)


def ours_threads(model: str, port: int) -> None:
    ours(model, port, processes=0)


def ours_parallel(model: str, port: int) -> None:
    """One core for each image, even where it is alone."""
    ours(model, port, "parallel")


def ours_batch(model: str, port: int) -> None:
    ours(model, port, "batch")


def naive(model: str, port: int) -> None:
    """FastAPI as in tutorials: a sync endpoint, and one session with the runtime's own defaults."""
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Request(BaseModel):
        image_url: str

    run = pipeline(model, threads=None)
    app = FastAPI()

    def predict(request: Request) -> dict[str, Any]:
        return {"predictions": run(base64.b64decode(request.image_url))}

    predict.__annotations__["request"] = Request
    app.post("/predict")(predict)
    uvicorn.run(app, port=port, log_level="error")


def ultralytics(model: str, port: int) -> None:
    """Ultralytics' own pipeline, of the same file, in a sync endpoint; one at a time, since it is not for threads."""
    import os

    # Else it would fetch what it misses.
    os.environ["YOLO_AUTOINSTALL"] = "false"
    import uvicorn
    from fastapi import FastAPI
    from ultralytics import YOLO

    from osv_lab.detect.images import decode_image

    network = YOLO(model, task="detect")
    lock, size = threading.Lock(), _input_size(model)
    app = FastAPI()

    def predict(request: dict[str, str]) -> dict[str, Any]:
        image = decode_image(base64.b64decode(request["image_url"]))
        with lock:
            [found] = network.predict(image, verbose=False, device="cpu", imgsz=size)
        return {"predictions": found.summary()}

    predict.__annotations__["request"] = dict[str, str]
    app.post("/predict")(predict)
    uvicorn.run(app, port=port, log_level="error")


def _input_size(model: str) -> list[int]:
    """Height and width of what the other contestants give the network."""
    from osv_lab.detect import load_detector

    width, height = load_detector(model, threads=1, providers=("cpu",)).describe()["input_size"]
    return [height, width]


def litserve(model: str, port: int) -> None:
    import litserve as ls
    from litserve_server import Api

    server = ls.LitServer(Api(model), accelerator="cpu", workers_per_device=2)
    server.run(port=port, log_level="error", generate_client_file=False)


def mosec(model: str, port: int) -> None:
    import os

    from mosec import Runtime, Server
    from mosec_server import MODEL, Predict

    os.environ[MODEL] = model
    sys.argv = [sys.argv[0], "--port", str(port), "--timeout", "60000", "--log-level", "error"]
    server = Server()
    server.register_runtime({"/predict": [Runtime(Predict, num=2)]})
    server.run()


KINDS = {
    "floor": floor,
    "ours": ours,
    "ours-threads": ours_threads,
    "ours-parallel": ours_parallel,
    "ours-batch": ours_batch,
    "naive": naive,
    "ultralytics": ultralytics,
    "litserve": litserve,
    "mosec": mosec,
}

if __name__ == "__main__":
    KINDS[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
