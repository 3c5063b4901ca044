"""The loop as the product's first users write it: five lines, a request, a batch."""

from __future__ import annotations

import base64
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from osv_lab.store.synthetic import render_dataset

SCRIPT = """
import sys
import osv_lab as osv

lab = osv.Lab("my_project")
lab.upload_data("./images", "my_project")
run = lab.train("yolov8n", dataset_version="v1", epochs=1, imgsz=64, batch=8)
print("started from:", run.started_from, flush=True)
lab.deploy("best.pt")
images = sorted(str(path) for path in __import__("pathlib").Path("images").rglob("*.jpg"))
found = lab.predict_batch(images, batch_size=8)
assert len(found) == len(images), (len(found), len(images))
print("batch:", [type(one).__name__ for one in found][:1], flush=True)
lab.server.run_server(port=int(sys.argv[1]))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_the_first_users_script(tmp_path: Path) -> None:
    render_dataset(tmp_path / "images", {"train": 12, "val": 6, "test": 6}, (128, 128))
    (tmp_path / "first.py").write_text(SCRIPT)
    port = free_port()
    log = tmp_path / "log.txt"
    with open(log, "w") as out:
        process = subprocess.Popen(
            [sys.executable, "first.py", str(port)],
            cwd=tmp_path,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OSV_HOME": str(tmp_path / "lab"), "PYTHONUNBUFFERED": "1"},
        )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 300
        while True:
            try:
                if httpx.get(f"{url}/ready", timeout=2).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)
        # No network here: a bare name starts from scratch, and the run says so.
        assert "started from: scratch" in log.read_text()

        image = next((tmp_path / "images").rglob("*.jpg"))
        encoded = base64.b64encode(image.read_bytes()).decode()
        for image_url in (encoded, f"data:image/jpeg;base64,{encoded}"):
            body = {"image_url": image_url, "confidence_threshold": 0.5}
            response = httpx.post(f"{url}/predict", json=body, timeout=60)
            assert response.status_code == 200, response.text
            answer = response.json()
            assert answer["image"] == {"width": 128, "height": 128}
            assert all(p["confidence"] >= 0.5 for p in answer["predictions"])

        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) in (0, 130, -signal.SIGINT)
    finally:
        process.kill()
