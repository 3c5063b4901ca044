"""The track inspector in real JupyterLab in Chromium: ``python -m benchmarks.widgets [--frames 1000] [--tracks 50]``.

First paint, scrub rate with a cold and a warm cache, memory of kernel and page, and how long a frame takes to be seen
after a jump: as a JPEG picture over the widget's connection, against seeking the whole file as a ``<video>`` from a
Blob in the same page. The clip is generated (1280x720, H.264).
"""

from __future__ import annotations

import argparse
import base64
import os
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.widgets.scripts import CACHED, JUMPS, SCRUB, VIDEO, WATCH

if TYPE_CHECKING:
    from playwright.sync_api import Page

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

SIZE, RATE = (1280, 720), 25
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
         "--enable-precise-memory-info", "--js-flags=--expose-gc"]  # fmt: skip

SETUP = """\
import gc, psutil
from osv_lab.store.catalogue import open_dataset
from osv_lab.widgets import TrackInspector
clip = open_dataset("clip")
def rss():
    gc.collect()
    return round(psutil.Process().memory_info().rss / 2**20)
before = rss()
print(before)
"""


def make_clip(folder: Path, frames: int, tracks: int) -> Path:
    """A clip whose boxes drift over a moving ground, and a dataset of it with the boxes as tracks."""
    import av

    from osv_lab.store.database import connect
    from osv_lab.store.ingest import ingest
    from osv_lab.store.tracks import write_tracks
    from osv_lab.track.tracks import Tracks

    rng = np.random.default_rng(51)
    extent = rng.uniform(40, 120, (tracks, 2))
    place = rng.uniform(0, 1, (tracks, 2)) * (np.array(SIZE) - extent)
    speed = rng.uniform(-3, 3, (tracks, 2))
    ground = rng.integers(60, 190, (SIZE[1] // 8, SIZE[0] // 8 + frames // 4 + 1, 3), dtype=np.uint8)
    path, rows = folder / "clip.mp4", []
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = *SIZE, "yuv420p", 250
        for frame in range(1, frames + 1):
            place += speed
            over = (place < 0) | (place + extent > SIZE)
            speed[over] *= -1
            place = np.clip(place, 0, np.array(SIZE) - extent)
            at = frame // 4
            image = np.kron(ground[:, at : at + SIZE[0] // 8], np.ones((8, 8, 1), np.uint8))
            for k, ((x, y), (w, h)) in enumerate(zip(place, extent, strict=True)):
                image[int(y) : int(y + h), int(x) : int(x + w)] = (37 * k % 256, 91 * k % 256, 151 * k % 256)
                if (frame + 19 * k) % 400 > 12:
                    rows.append((frame, k + 1, x, y, x + w, y + h))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    fo = connect()
    ingest(path, "clip")
    columns = np.array(rows)
    found = Tracks(columns[:, 0], columns[:, 1], columns[:, 2:], None, columns[:, 1].astype(int) % 3)
    write_tracks(fo.load_dataset("clip").first(), found, class_names={0: "car", 1: "person", 2: "bike"})
    return path


def spread(times: list[float]) -> str:
    """Median and 95th percentile, in milliseconds."""
    return f"median {np.median(times):.0f} ms, 95 % under {np.quantile(times, 0.95):.0f} ms"


def measure(path: Path, folder: Path, frames: int) -> None:
    """Open the inspector in a notebook and print what it does."""
    from notebook_driver import JupyterLab
    from playwright.sync_api import sync_playwright

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = os.environ.get("OSV_CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)))
    lab = JupyterLab(folder, port)
    lab.write("b.ipynb", [SETUP, "inspector = TrackInspector(clip, 'frames.tracks'); inspector", "print(rss())"])
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
            page = browser.new_context(viewport={"width": 1280, "height": 1100}).new_page()
            page.set_default_timeout(180_000)
            notebook = lab.open(page, "b.ipynb")
            kernel = int(notebook.run(0, timeout_s=300))
            before = memory(page)
            page.evaluate(WATCH)
            notebook.run(1, wait=False)
            painted = page.evaluate("async () => await window.painted")
            print(f"first paint, a frame with its boxes, after the cell is run: {painted:.0f} ms")
            print_scrub("cold", page.evaluate(SCRUB, 5))
            began = time.perf_counter()
            page.wait_for_function(CACHED, arg=frames)
            print(f"the whole clip is in the page {time.perf_counter() - began:.1f} s after that")
            print_scrub("warm", page.evaluate(SCRUB, 5))
            some = np.random.default_rng(1).integers(1, frames + 1, 40).tolist()
            print(f"jump to a frame, picture in the page: {spread(page.evaluate(JUMPS, some))}")
            after = memory(page)
            print(f"kernel: {kernel} MiB before, {int(notebook.run(2))} MiB with the inspector")
            print(f"page's JavaScript heap: {before[0]:.0f} MiB before, {after[0]:.0f} MiB with it")
            print(f"page's process: {before[1]:.0f} MiB before, {after[1]:.0f} MiB with it")
            notebook.run(1)
            page.wait_for_function("() => document.querySelector('.osv-tracks')?.dataset.picture === '1'")
            print(f"jump to a frame, picture from the kernel: {spread(page.evaluate(JUMPS, some[:12]))}")
            data = base64.b64encode(path.read_bytes()).decode()
            print(
                f"the same, the file as a <video> from a Blob: {spread(page.evaluate(VIDEO, [data, some, RATE]))}"
            )
            browser.close()
    finally:
        lab.close()


def memory(page: Page) -> tuple[float, float]:
    """The page's JavaScript heap and its process, MiB."""
    import psutil

    children = psutil.Process().children(recursive=True)
    renderers = [one for one in children if "--type=renderer" in one.cmdline()]
    heap = page.evaluate("() => (window.gc?.(), performance.memory.usedJSHeapSize)")
    return heap / 2**20, max(one.memory_info().rss for one in renderers) / 2**20


def print_scrub(cache: str, found: dict[str, float]) -> None:
    print(
        f"scrub, {cache} cache: {found['paints']:.0f} frames a second painted with their boxes, {found['exact']:.0f} "
        f"with their own picture at once; screen {found['screens']:.0f} Hz, longest gap {found['longest']:.0f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--tracks", type=int, default=50)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="osv-bench-") as place:
        folder = Path(place)
        os.environ |= {
            "OSV_HOME": str(folder / "home"),
            "FIFTYONE_DATABASE_DIR": str(folder / "db"),
            "FIFTYONE_SHOW_PROGRESS_BARS": "false",
        }
        path = make_clip(folder, args.frames, args.tracks)
        size = path.stat().st_size / 2**20
        print(f"{args.frames} frames of {SIZE[0]}x{SIZE[1]} with {args.tracks} tracks, {size:.1f} MiB")
        (folder / "notebooks").mkdir()
        measure(path, folder / "notebooks", args.frames)


if __name__ == "__main__":
    main()
