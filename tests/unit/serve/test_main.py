"""Settings of the server process: what an environment becomes, and what none can be."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest
from support import ROOT

from osv_lab.core.errors import UsageError


@pytest.fixture(scope="module")
def main() -> ModuleType:
    spec = importlib.util.spec_from_file_location("server_main", ROOT / "server" / "main.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_limits(main: ModuleType) -> None:
    given = main.options(
        {
            "OSV_MODEL": "a.onnx",
            "OSV_MAX_IMAGE_BYTES": "1000",
            "OSV_MAX_PIXELS": "2000",
            "OSV_MAX_BATCH": "3",
            "OSV_BODY_TIMEOUT_S": "2.5",
            "OSV_FETCH_TIMEOUT_S": "1.5",
            "OSV_ALLOW_URLS": "store.lan, minio:9000",
            "OSV_ALLOW_NETWORKS": "10.0.0.0/8, fd00::/8",
        }
    )
    limits = given["limits"]
    assert (limits.max_image_bytes, limits.max_pixels, limits.max_batch, limits.body_timeout_s) == (
        1000,
        2000,
        3,
        2.5,
    )
    assert (limits.fetch.max_bytes, limits.fetch.timeout_s) == (1000, 1.5)
    assert limits.fetch.networks == ("10.0.0.0/8", "fd00::/8")
    assert given["allow_urls"] == ["store.lan", "minio:9000"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OSV_MAX_PIXELS", "0"),
        ("OSV_MAX_PIXELS", "many"),
        ("OSV_MAX_IMAGE_BYTES", "1.5"),
        ("OSV_BODY_TIMEOUT_S", "-1"),
        ("OSV_BODY_TIMEOUT_S", "nan"),
        ("OSV_FETCH_TIMEOUT_S", "inf"),
        ("OSV_ALLOW_NETWORKS", "10.0.0.1/8"),
        ("OSV_ALLOW_NETWORKS", "lan"),
    ],
)
def test_what_cannot_be(main: ModuleType, name: str, value: str) -> None:
    with pytest.raises(UsageError, match=name):
        main.options({"OSV_MODEL": "a.onnx", name: value})
