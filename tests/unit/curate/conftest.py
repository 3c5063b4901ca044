"""Photos to curate: real ones where they are, else rendered ones."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from support import shared_data


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Forty different photos, at most 640 pixels wide."""
    shared = shared_data()
    if shared is not None and (folder := shared / "bccd" / "BCCD" / "JPEGImages").is_dir():
        return sorted(folder.glob("*.jpg"))[:40]
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(51)
    for number in range(40):
        picture = np.full((480, 640, 3), 180, np.uint8)
        for _ in range(30):
            centre = random.integers(0, (640, 480)).tolist()
            cv2.circle(picture, centre, int(random.integers(15, 60)), random.integers(40, 220, 3).tolist(), -1)
        cv2.imwrite(str(folder / f"{number:03d}.jpg"), cv2.GaussianBlur(picture, (0, 0), 1))
    return sorted(folder.glob("*.jpg"))
