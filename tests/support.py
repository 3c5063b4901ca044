"""What several test modules share and no fixture can give: paths and result types."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def shared_data() -> Path | None:
    """The folder with real data, or ``None`` in a clone that has none (tests then use generated data)."""
    folder = Path(os.environ.get("OSV_SHARED_DATA") or ROOT.parent / "shared" / "data")
    return folder if folder.is_dir() else None


@dataclass(frozen=True)
class DemoRun:
    """One run of ``osv demo`` with every way out of this machine closed."""

    report: dict[str, Any]
    home: Path
    network_log: Path
    stderr: str
