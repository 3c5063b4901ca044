"""The server as a process of its own, configured by environment variables; see README.md beside this file.

Run ``python server/main.py``.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from osv_lab.core.errors import OsvError, UsageError

if TYPE_CHECKING:
    from osv_lab.serve.keys import KeyFile
    from osv_lab.serve.limits import Limits

Value = TypeVar("Value")


def options(environment: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of :func:`osv_lab.serve.run.run_server` from environment variables.

    Raises:
        UsageError: a variable is missing or cannot be used.
    """
    ref = environment.get("OSV_MODEL", "").strip()
    if not ref:
        raise UsageError("no model to serve", "OSV_MODEL is not set", "set it to a path or models:/name@alias")
    given: dict[str, Any] = {"ref": ref, "host": environment.get("OSV_HOST", "127.0.0.1")}
    given["port"] = _read(environment, "OSV_PORT", int, 8000)
    given["workers"] = _read(environment, "OSV_WORKERS", int, None)
    given["processes"] = _read(environment, "OSV_PROCESSES", _number_or_auto, "auto")
    given["scheduling"] = environment.get("OSV_SCHEDULING") or "auto"
    given["max_batch"] = _read(environment, "OSV_BATCH", _positive_int, None)
    given["lone_threads"] = _read(environment, "OSV_LONE_THREADS", _positive_int, None)
    given["max_waiting"] = _read(environment, "OSV_QUEUE", _positive_int, 16)
    given["deadline_s"] = _read(environment, "OSV_DEADLINE_S", _positive, 10.0)
    given["also"] = [one.strip() for one in environment.get("OSV_ALSO", "").split(",") if one.strip()]
    given["manage"] = _read(environment, "OSV_MANAGE", _flag, None)
    given["sources"] = _read(environment, "OSV_SOURCES", _named, {})
    given["track"] = _read(environment, "OSV_TRACK", _tracker, "bytetrack")
    given["allow_anonymous"] = _read(environment, "OSV_ALLOW_ANONYMOUS", _flag, False)
    given["allow_urls"] = _read(environment, "OSV_ALLOW_URLS", _flag_or_hosts, None)
    given["log_level"] = environment.get("OSV_LOG_LEVEL", "info").lower()
    given["key"] = _key(environment)
    given["limits"] = _limits(environment)
    given["capture"] = environment.get("OSV_CAPTURE", "").strip() or None
    given["capture_to"] = environment.get("OSV_CAPTURE_TO", "").strip() or None
    return given


def main() -> int:
    """Serve until told to stop; an error is one line and an exit code."""
    from osv_lab.serve.run import run_server

    try:
        run_server(**options(os.environ))
    except OsvError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


def _read(environment: Mapping[str, str], name: str, kind: Callable[[str], Value], default: Any) -> Value | Any:
    text = environment.get(name, "").strip()
    if not text:
        return default
    try:
        return kind(text)
    except ValueError:
        # Addresses may hold passwords.
        found = "" if name == "OSV_SOURCES" else repr(text)
        raise UsageError(f"{name} cannot be used", found, "see server/README.md") from None


def _limits(environment: Mapping[str, str]) -> Limits:
    from osv_lab.serve.limits import FetchPolicy, Limits

    kinds: dict[str, Callable[[str], Any]] = {
        "max_image_bytes": _positive_int,
        "max_pixels": _positive_int,
        "max_batch": _positive_int,
        "max_batch_bytes": _positive_int,
        "body_timeout_s": _positive,
        "max_streams": _positive_int,
        "stream_idle_s": _positive,
    }
    given = {name: _read(environment, f"OSV_{name.upper()}", kind, None) for name, kind in kinds.items()}
    fetch = {
        "max_bytes": given["max_image_bytes"],
        "timeout_s": _read(environment, "OSV_FETCH_TIMEOUT_S", _positive, None),
        "networks": _read(environment, "OSV_ALLOW_NETWORKS", _networks, None),
    }
    policy = FetchPolicy(**{name: value for name, value in fetch.items() if value is not None})
    return Limits(**{name: value for name, value in given.items() if value is not None}, fetch=policy)


def _number_or_auto(text: str) -> int | Literal["auto"]:
    if text.lower() == "auto":
        return "auto"
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise ValueError(text)
    return value


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _networks(text: str) -> tuple[str, ...]:
    networks = tuple(one.strip() for one in text.split(",") if one.strip())
    for one in networks:
        ipaddress.ip_network(one)
    return networks


def _named(text: str) -> dict[str, str]:
    named: dict[str, str] = {}
    for one in text.split():
        name, _, place = one.partition("=")
        if not name or not place or name in named:
            raise ValueError(text)
        named[name] = place
    return named


def _tracker(text: str) -> str | bool:
    if text not in ("bytetrack", "botsort", "none"):
        raise ValueError(text)
    return False if text == "none" else text


def _flag(text: str) -> bool:
    values = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if text.lower() not in values:
        raise ValueError(text)
    return values[text.lower()]


def _flag_or_hosts(text: str) -> bool | list[str]:
    try:
        return _flag(text)
    except ValueError:
        return [host.strip() for host in text.split(",") if host.strip()]


def _key(environment: Mapping[str, str]) -> str | KeyFile | None:
    file = environment.get("OSV_KEY_FILE")
    if not file:
        return environment.get("OSV_KEY") or None
    from osv_lab.serve.keys import KeyFile

    try:
        return KeyFile(file)
    except OsvError as error:
        raise UsageError(f"OSV_KEY_FILE: {error.what}", error.found, error.fix) from None


if __name__ == "__main__":
    sys.exit(main())
