"""The FiftyOne App with the lab in it: starting it, its plugins, and what these are built from.

``server`` starts the App; ``plugins`` puts the lab's plugins in place; ``places`` says which files a form may touch.
Plugins build on ``operators``, ``form`` and ``panels``, which import FiftyOne; docs/app.md shows how.
"""

from __future__ import annotations

from osv_lab.app.server import open_app, run_app

__all__ = ["open_app", "run_app"]
