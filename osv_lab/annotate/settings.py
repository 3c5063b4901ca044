"""Where the CVAT server is and who we are there. Secrets are never printed, logged or stored in a dataset."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from osv_lab.core.errors import InvalidDataError, NotFoundError, UsageError, nearest
from osv_lab.core.settings import load_settings

FILE = "cvat.toml"
_KEYS = ("url", "username", "password", "token", "organization")
_ENVIRONMENT = {
    "url": "OSV_CVAT_URL",
    "username": "OSV_CVAT_USER",
    "password": "OSV_CVAT_PASSWORD",
    "token": "OSV_CVAT_TOKEN",
    "organization": "OSV_CVAT_ORGANIZATION",
}


@dataclass(frozen=True, slots=True)
class CvatSettings:
    """How to reach a CVAT server.

    Attributes:
        url: Scheme, host and port, such as ``https://cvat.example.org``.
        username: Who logs in with ``password``; without both there is a ``token``.
        password: Never shown.
        token: A personal access token with write access; never shown.
        organization: The organisation's short name; ``""`` is the user's own workspace.
    """

    url: str
    username: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    organization: str = ""


def cvat_settings(
    url: str | None = None,
    credentials: tuple[str, str] | None = None,
    token: str | None = None,
    organization: str | None = None,
) -> CvatSettings:
    """The settings: what is given, else the environment's, else those of ``cvat.toml`` in the lab's folder.

    Credentials are taken from the first of the three that has any, so that a token in the file never meets a password
    of the environment.

    Args:
        url: As ``OSV_CVAT_URL``.
        credentials: User and password, as ``OSV_CVAT_USER`` and ``OSV_CVAT_PASSWORD``.
        token: As ``OSV_CVAT_TOKEN``.
        organization: As ``OSV_CVAT_ORGANIZATION``.

    Raises:
        NotFoundError: nothing says where the server is, or who we are.
        UsageError: a URL without a scheme, or both kinds of credentials.
        InvalidDataError: others than its owner can read the file, or it cannot be read.

    Example:
        >>> cvat_settings("http://localhost:8080", ("ann", "secret"))
        CvatSettings(url='http://localhost:8080', username='ann', organization='')
    """
    user, password = credentials or ("", "")
    given = {"url": url, "username": user, "password": password, "token": token, "organization": organization}
    layers = [given, {key: os.environ.get(name) for key, name in _ENVIRONMENT.items()}]
    if not (_complete(layers[0]) and _complete(layers[1])):
        layers.append(_file(load_settings().home / FILE))
    stated_url = _first(layers, "url")
    if not stated_url:
        raise NotFoundError(
            "no CVAT server is named", fix=f"give url=, or set {_ENVIRONMENT['url']}, or write {FILE}"
        )
    who = next((one for one in layers if one.get("token") or one.get("password")), None)
    if who is None:
        raise NotFoundError(
            "no credentials for the CVAT server",
            stated_url,
            f"set {_ENVIRONMENT['token']}, or {_ENVIRONMENT['username']} and {_ENVIRONMENT['password']}",
        )
    if who.get("token") and who.get("password"):
        raise UsageError("both a token and a password are given", fix="give one of them")
    if who.get("password") and not who.get("username"):
        raise UsageError("a password without a user name", fix=f"set {_ENVIRONMENT['username']} too")
    return CvatSettings(
        check_url(stated_url),
        str(who.get("username") or "") if who.get("password") else "",
        str(who.get("password") or ""),
        str(who.get("token") or ""),
        next((str(one["organization"]) for one in layers if one.get("organization") is not None), ""),
    )


def check_url(url: str) -> str:
    """The server's address without a closing slash.

    Raises:
        UsageError: no scheme, no host, or a password inside.
    """
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError("a CVAT address needs its scheme", repr(url), "write http://host:port or https://host")
    if parts.username or parts.password:
        raise UsageError("a CVAT address with a password in it", parts.hostname, "give credentials apart from it")
    return url.strip().rstrip("/")


def save_settings(settings: CvatSettings) -> Path:
    """Write ``cvat.toml``, readable by its owner only, in place of the one that is there."""
    path = load_settings().home / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{key} = {_quoted(getattr(settings, key))}" for key in _KEYS if getattr(settings, key)]
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    # Made with its permissions, so that there is no moment at which others could read it.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join([*lines, ""]))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _complete(values: Mapping[str, Any]) -> bool:
    return bool(values.get("url") and (values.get("token") or values.get("password")))


def _first(layers: Sequence[Mapping[str, Any]], key: str) -> str:
    return next((str(one[key]) for one in layers if one.get(key)), "")


def _file(path: Path) -> dict[str, Any]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return {}
    if os.name == "posix" and stat.S_IMODE(found.st_mode) & 0o077:
        raise InvalidDataError(
            "others than its owner can read the file with the CVAT credentials", path, f"chmod 600 {path}"
        )
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        # The parser's message may quote the line, and with it the secret.
        raise InvalidDataError("the CVAT settings cannot be read", path, 'write KEY = "VALUE" lines') from None
    for key, value in values.items():
        if key not in _KEYS:
            raise InvalidDataError("an unknown CVAT setting", f"{key!r} in {path}", nearest(key, _KEYS))
        if not isinstance(value, str):
            raise InvalidDataError("a CVAT setting that is no text", f"{key!r} in {path}", "put it in quotes")
    return values


def _quoted(value: str) -> str:
    import json

    # JSON's strings are TOML's basic strings.
    return json.dumps(value)
