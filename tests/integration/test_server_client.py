"""The client, with a server and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest
from server_requests import IMAGE, TEXT, model, server
from stream_support import png

from osv_lab.core.errors import InvalidDataError, NotFoundError, UnavailableError, UsageError
from osv_lab.serve.client import Client
from osv_lab.serve.run import ServerHandle

__all__ = ["model", "server"]


def test_the_client(server: ServerHandle, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(IMAGE)
    with Client(server.url) as client:
        assert client.health()
        assert client.models()[0]["ref"] == "tiny.onnx"
        for image in (path, str(path), IMAGE, cv2.imread(str(path)), f"data:image/png;base64,{TEXT}"):
            found = client.predict(image, confidence_threshold=0.5)
            assert (found.width, found.height, len(found)) == (64, 64, 1)
            detections = found.to_supervision()
            assert detections.xyxy.tolist() == [[22, 22, 42, 42]]
            assert detections.data["class_name"].tolist() == ["lamp"]
        assert found.rows()[0]["class"] == "lamp"
        assert "1 objects" in found.summary()
        nothing = client.predict(path, confidence_threshold=0.99)
        assert len(nothing.to_supervision()) == 0
        with pytest.raises(InvalidDataError, match="did you mean 'lamp'"):
            client.predict(path, classes=["lapm"])
        with pytest.raises(NotFoundError):
            client.predict(tmp_path / "none.png")

        levels = [90, 100, 110, 120, 130, 140, 150, 160, 170, 180, 190, 200, 210]
        images: list[Any] = [png(level) for level in levels]
        images[3], images[7] = tmp_path / "none.png", b"no image at all, only words"
        results = client.predict_batch(images, batch_size=4)
        assert len(results) == len(images)
        for index, (level, result) in enumerate(zip(levels, results, strict=True)):
            if index in (3, 7):
                assert result.error is not None
                assert result.error["what"] in result.summary()
                with pytest.raises(InvalidDataError):
                    result.to_supervision()
            else:
                assert round(result.predictions[0]["confidence"] * 255) == level
        assert client.predict_batch([]) == []


def test_a_client_without_a_server() -> None:
    with Client("http://127.0.0.1:9") as client:
        assert not client.health()
        with pytest.raises(UnavailableError, match="osv serve"):
            client.predict(IMAGE)
    with pytest.raises(UsageError):
        Client("127.0.0.1:8000")
