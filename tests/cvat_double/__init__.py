"""A CVAT server in this process: real HTTP on loopback, the protocol of CVAT 2.54, and its unkindness.

Everything that a client sees was held against a running CVAT 2.54 (``tests/integration/test_cvat_double.py`` runs on
both). Whatever CVAT loses, accepts or forgets in silence, this server does too; see the module of each part.
"""

from __future__ import annotations

from cvat_double.server import CvatDouble

__all__ = ["CvatDouble"]
