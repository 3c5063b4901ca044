"""Makes ``tests/data/tiny.tflite``, in an environment with ``litert-torch``: ``python tests/tiny_tflite.py``.

A network of one cell that finds one ``lamp`` at ``(16, 8, 48, 24)`` of 64 x 64 pixels, as sure as the image is bright.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

PATH = Path(__file__).parent / "data" / "tiny.tflite"
SAID = {"task": "detect", "names": {"0": "bolt", "1": "lamp"}, "imgsz": [64, 64], "stride": 32, "batch": 1}
SAID |= {"end2end": False, "head": "Detect", "args": {"nms": None}}


def main() -> None:
    import litert_torch
    import torch

    class Tiny(torch.nn.Module):
        """``(1, 3, 64, 64)`` to ``(1, 4 + 2, 84)``, boxes relative to the image, as Ultralytics has them."""

        def __init__(self) -> None:
            super().__init__()
            box, lamp = torch.zeros(1, 6, 84), torch.zeros(1, 6, 84)
            box[0, :4, 0] = torch.tensor([0.5, 0.25, 0.5, 0.25])
            lamp[0, 5, 0] = 1
            self.register_buffer("box", box)
            self.register_buffer("lamp", lamp)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.box + self.lamp * image.mean(dim=(1, 2, 3)).reshape(1, 1, 1)

    litert_torch.convert(Tiny().eval(), (torch.zeros(1, 3, 64, 64),)).export(str(PATH))
    with zipfile.ZipFile(PATH, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", json.dumps(SAID))


if __name__ == "__main__":
    main()
