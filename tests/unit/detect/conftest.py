"""Small real models: Ultralytics architectures with weights that are random but answer decidedly."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

SIZE = 160


def photos() -> list[np.ndarray]:
    """Real photos of three shapes: portrait, landscape, nearly square."""
    from osv_lab.detect.images import read_image
    from osv_lab.detect.ultralytics import import_ultralytics

    assets = Path(import_ultralytics().__file__).parent / "assets"
    bus, zidane = read_image(assets / "bus.jpg"), read_image(assets / "zidane.jpg")
    return [bus, zidane, np.ascontiguousarray(bus[:, :600])]


@pytest.fixture(scope="session")
def images() -> list[np.ndarray]:
    return photos()


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``weights("yolo11n-seg")``: a ``.pt`` of that architecture whose scores differ from cell to cell."""
    folder = tmp_path_factory.mktemp("weights")

    def make(name: str) -> Path:
        path = folder / f"{name}.pt"
        if path.is_file():
            return path
        from osv_lab.detect.ultralytics import import_torch, quiet

        torch = import_torch()
        from ultralytics import YOLO

        torch.manual_seed(0)
        with quiet():
            model = YOLO(f"{name}.yaml")
        network: Any = model.model
        inputs = np.stack([cv2.resize(photo, (SIZE, SIZE)) for photo in photos()])
        with torch.no_grad():
            if "cls" not in name:
                _make_decided(torch, network, 0.015 if "obb" in name else 0.06)
            # Statistics of real photos, so that the signal survives to the head.
            for module in network.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.momentum = 1.0
            network.train()
            network(torch.from_numpy(inputs).permute(0, 3, 1, 2).float() / 255)
            network.eval()
        with quiet():
            model.save(path)
        return path

    return make


def _make_decided(torch: Any, network: Any, spread: float) -> None:
    head = f"model.{len(network.model) - 1}."
    for name, parameter in network.named_parameters():
        parts = name.split(".")
        if name.startswith(head) and parts[-2] == "2" and any(part.endswith("cv3") for part in parts):
            parameter.data = (
                torch.randn_like(parameter) * spread if parts[-1] == "weight" else torch.full_like(parameter, -1.5)
            )


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, weights: Callable[[str], Path]) -> Callable[..., Path]:
    """``exported("yolo11n", nms=True)``: Ultralytics' own export of those weights."""
    folder = tmp_path_factory.mktemp("exported")

    def make(name: str, **options: Any) -> Path:
        tag = "".join(f"-{key}-{value}" for key, value in options.items())
        path = folder / f"{name}{tag}.onnx"
        if not path.is_file():
            from ultralytics import YOLO

            from osv_lab.detect.exporter import _silence

            with _silence():
                model = YOLO(weights(name))
                model.model.pt_path = str(folder / f"{name}{tag}.pt")
                model.export(
                    **{
                        "format": "onnx",
                        "imgsz": SIZE,
                        "dynamic": True,
                        "simplify": False,
                        "verbose": False,
                        **options,
                    }
                )
        return path

    return make


@pytest.fixture(scope="session")
def shared() -> Path | None:
    """The folder with real data, or ``None`` in a clone that has none."""
    folder = Path(os.environ.get("OSV_SHARED_DATA") or Path(__file__).parents[4] / "shared" / "data")
    return folder if folder.is_dir() else None
