"""Bearer keys: who may ask for what, with nothing in the file that would open the door.

A key file has one key per line: its name, what it may be used for, and the SHA-256 of the key. The keys themselves are
256 random bits, so their digests tell nothing about them and need no slow hash; each is shown once, when it is made.

    # name  scopes  digest
    camera-7  predict  sha256:8d969eef6ecad3c29a3a629280e686cf0c3f5d5a86aff3ca12020c923adc6c92
    prometheus  metrics  sha256:15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225

A file with nothing but a key is read too: that key may be used for everything.

Example:
    >>> key = add_key("keys.txt", "camera-7", ["predict"])
    >>> Keys.from_file("keys.txt").check(f"Bearer {key}", "predict")
    'camera-7'
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osv_lab.core.errors import NotFoundError, OsvError, UsageError, nearest
from osv_lab.core.files import atomic_path
from osv_lab.serve.errors import RequestError

SCOPES = ("predict", "models", "metrics", "sources")
"""What a key may be used for: predictions; listing and changing what is served; the figures for Prometheus;
what the server itself watches."""

_log = logging.getLogger("osv_lab.serve")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HEAD = "# name  scopes  digest\n"


@dataclass(frozen=True, slots=True)
class Key:
    """One key, as it is kept.

    Attributes:
        name: Whose it is; written to logs, never secret.
        scopes: A subset of :data:`SCOPES`.
        digest: SHA-256 of the key.
    """

    name: str
    scopes: frozenset[str]
    digest: bytes


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys a server accepts."""

    keys: tuple[Key, ...]

    @classmethod
    def single(cls, key: str) -> Keys:
        """One key for everything.

        Raises:
            UsageError: it cannot be sent in a header.
        """
        if not key.strip() or not key.isascii() or not key.isprintable():
            raise UsageError(
                "the key cannot be sent in a header", "it is empty or not printable ASCII", "use letters"
            )
        return cls((Key("key", frozenset(SCOPES), _digest(key)),))

    @classmethod
    def from_file(cls, path: str | Path) -> Keys:
        """The keys of a file.

        Raises:
            NotFoundError: there is no such file.
            UsageError: it cannot be read, has no key, or has a line that is none; the line itself is not repeated.
        """
        path = Path(path)
        lines = _lines(_read(path))
        if path.stat().st_mode & 0o004:
            _log.warning("every user of this machine can read the key file %s: chmod 600 it", path.name)
        if len(lines) == 1 and len(lines[0][1].split()) == 1:
            return cls.single(lines[0][1])
        keys = tuple(_parsed(number, line, path) for number, line in lines)
        if not keys:
            raise UsageError("the key file has no key", path.name, "make one: osv key add FILE NAME")
        names = [key.name for key in keys]
        if repeated := [name for name in names if names.count(name) > 1]:
            raise UsageError("two keys have the same name", repeated[0], "rename or remove one")
        return cls(keys)

    def check(self, header: str | None, scope: str) -> str:
        """Whether a request's ``Authorization`` opens the way to ``scope``; gives the name of its key.

        Every key is compared, and digests have one length, so the time tells nothing about the keys.

        Raises:
            RequestError: 401 for no key or a wrong one, 403 for one that is meant for something else.
        """
        kind, _, given = (header or "").partition(" ")
        digest = _digest(given.strip())
        matching = [key for key in self.keys if hmac.compare_digest(key.digest, digest)]
        if kind.lower() != "bearer" or not matching:
            raise RequestError(
                401, "the key is missing or wrong", "", "send the header Authorization: Bearer <key>"
            )
        if scope not in matching[0].scopes:
            may = ", ".join(sorted(matching[0].scopes))
            raise RequestError(403, f"this key is not for {scope}", f"it is for {may}", "use another key")
        return matching[0].name


class KeyFile:
    """The keys of a file, as the file is now: a key that is taken out is refused from the next request on.

    While the file cannot be used (it is gone, or somebody is in the middle of a line) the keys before stay.

    Raises:
        NotFoundError, UsageError: the file cannot be used at the start; see :meth:`Keys.from_file`.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._seen = self._stamp()
        self.keys = Keys.from_file(path)

    def check(self, header: str | None, scope: str) -> str:
        """See :meth:`Keys.check`."""
        if (stamp := self._stamp()) != self._seen:
            self._seen = stamp
            try:
                self.keys = Keys.from_file(self._path)
            except OsvError as error:
                _log.warning("the key file changed and cannot be used; the keys before stay: %s", error)
            else:
                _log.info("the key file changed: %d keys", len(self.keys.keys))
        return self.keys.check(header, scope)

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            state = self._path.stat()
        except OSError:
            return None
        return state.st_mtime_ns, state.st_ino, state.st_size


KeySource = str | Keys | KeyFile
"""One key for everything, keys, or a file of keys."""


def add_key(path: str | Path, name: str, scopes: Sequence[str] = ("predict",)) -> str:
    """Make a key, write its digest to a key file (made where there is none, for its owner only), and give the key.

    Raises:
        UsageError: a name that is taken or cannot be used, no scope or one there is not, a file of another kind.
    """
    path = Path(path)
    if not _NAME.fullmatch(name):
        raise UsageError("this is no name for a key", repr(name), "use letters, digits, dots and dashes")
    _checked_scopes(scopes)
    present = _entries(path) if path.exists() else []
    if name in (key.name for key in present):
        raise UsageError("the key file has a key of this name", name, "remove it first, or use another name")
    key = "osv_" + secrets.token_urlsafe(32)
    _write(path, [*present, Key(name, frozenset(scopes), _digest(key))])
    return key


def remove_key(path: str | Path, name: str) -> None:
    """Take a key out of a key file; a server that was given the file refuses it from the next request on.

    Raises:
        NotFoundError: there is no such file, or no key of this name in it.
    """
    present = _entries(Path(path))
    left = [key for key in present if key.name != name]
    if len(left) == len(present):
        raise NotFoundError("the key file has no such key", name, nearest(name, [key.name for key in present]))
    _write(Path(path), left)


def accepted_keys(keys: KeySource | None) -> Keys | KeyFile | None:
    """What checks a request's key; ``None`` where none is asked for."""
    return Keys.single(keys) if isinstance(keys, str) else keys


def key_dependency(accepted: Keys | KeyFile | None) -> list[Any]:
    """What a FastAPI route lists as ``dependencies`` to ask for a key; nothing where there are no keys.

    The scope is that of the path: ``/models…``, ``/metrics…`` and ``/sources…`` have their own, ``/drift`` is
    ``metrics``, all else is ``predict``.
    """
    if accepted is None:
        return []
    from fastapi import Depends
    from fastapi.security import HTTPBearer
    from starlette.requests import HTTPConnection

    bearer = HTTPBearer(auto_error=False, description="The server's key.")

    async def check(connection: HTTPConnection) -> None:
        accepted.check(connection.headers.get("authorization"), scope_of(connection.url.path))

    check.__annotations__["connection"] = HTTPConnection  # FastAPI looks names up in the module, not here
    return [Depends(bearer), Depends(check)]


def scope_of(path: str) -> str:
    """The scope a path needs.

    Example:
        >>> scope_of("/models/swap"), scope_of("/predict/batch")
        ('models', 'predict')
    """
    first = path.strip("/").partition("/")[0]
    first = "metrics" if first == "drift" else first
    return first if first in SCOPES else "predict"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFoundError("there is no such key file", path.name, "make one: osv key add FILE NAME") from None
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise UsageError("the key file cannot be read", f"{path.name} ({reason})", "give a text file") from None


def _lines(text: str) -> list[tuple[int, str]]:
    numbered = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in numbered if line and not line.startswith("#")]


def _entries(path: Path) -> list[Key]:
    return [_parsed(number, line, path) for number, line in _lines(_read(path))]


def _parsed(number: int, line: str, path: Path) -> Key:
    words = line.split()
    if len(words) != 3 or not _NAME.fullmatch(words[0]) or not _DIGEST.fullmatch(words[2]):
        raise UsageError(
            "a line of the key file is no key",
            f"line {number} of {path.name}",
            "write: name scope,scope sha256:<digest>; or make a new file: osv key add FILE NAME",
        )
    scopes = words[1].split(",")
    _checked_scopes(scopes)
    return Key(words[0], frozenset(scopes), bytes.fromhex(words[2].removeprefix("sha256:")))


def _checked_scopes(scopes: Iterable[str]) -> None:
    names = list(scopes)
    if not names:
        raise UsageError("a key needs a scope", "none", "use one of: " + ", ".join(SCOPES))
    for name in names:
        if name not in SCOPES:
            raise UsageError("there is no such scope", repr(name), nearest(name, SCOPES))


def _write(path: Path, keys: Iterable[Key]) -> None:
    rows = [f"{key.name}  {','.join(sorted(key.scopes))}  sha256:{key.digest.hex()}\n" for key in keys]
    with atomic_path(path) as temporary:
        temporary.chmod(0o600)
        temporary.write_text(_HEAD + "".join(rows), encoding="utf-8")
