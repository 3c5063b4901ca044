"""Make the database ready: one call, before anything touches FiftyOne's datasets."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from osv_lab.core.errors import InvalidDataError, UnavailableError, require_extra
from osv_lab.core.privacy import silence

SELECTION_TIMEOUT_MS = 5000
"""How long a configured server may take to answer before it counts as absent."""

_PORT = "FIFTYONE_PRIVATE_DATABASE_PORT"
_lock = threading.Lock()
_ready_for: int | None = None


def connect() -> ModuleType:
    """Make the database ready and return the ``fiftyone`` module. Cheap after the first time.

    The first of these that is there is used:

    1. a server that is configured: ``FIFTYONE_DATABASE_URI``, or ``database_uri`` in FiftyOne's configuration;
    2. a server of the configured database folder that is running already, started by any process of this user;
    3. the ``mongod`` inside FiftyOne's package (its own, or the fallback wheel's), else one on ``PATH``, started
       on that folder. It stays up while any process that called this function lives, and stops after the last.

    Returns:
        The module ``fiftyone``.

    Raises:
        UnavailableError: none of them works. The error says why and what to do.

    Example:
        >>> fo = connect()
        >>> fo.load_dataset("cells").count("ground_truth.detections")
        30
    """
    global _ready_for
    silence()
    if _ready_for != os.getpid():
        with _lock:
            if _ready_for != os.getpid():
                _connect(_import_fiftyone())
                _ready_for = os.getpid()
    return sys.modules["fiftyone"]


def _import_fiftyone() -> ModuleType:
    """FiftyOne, imported so that it does not matter whether MLflow was imported before.

    MLflow brings ``importlib_metadata``, which makes a missing key of a package's metadata an error for everyone in the
    process; FiftyOne's ``eta`` asks for its author and has none.
    """
    import importlib
    from email.message import Message
    from importlib import metadata

    original: Any = metadata.metadata

    def tolerant(name: str) -> Message:
        found = Message()
        for key, value in original(name).items():
            found[key] = value
        return found

    try:
        metadata.metadata = tolerant  # type: ignore[assignment]
        importlib.import_module("eta.constants")
        metadata.metadata = original
        return importlib.import_module("fiftyone")
    except ImportError as error:
        raise require_extra("fiftyone", "store") from error
    finally:
        metadata.metadata = original


def _connect(fo: ModuleType) -> None:
    import fiftyone.core.odm as foo
    from pymongo.errors import PyMongoError

    if fo.config.database_uri is not None:
        _check_uri(fo.config.database_uri)
    elif not _runs_inside_a_service():
        port, version = _own_server(fo)
        os.environ[_PORT] = str(port)
        if version < (7,):
            # FiftyOne's documented way to use a server older than the one it would have installed.
            fo.config.database_validation = False
            os.environ["FIFTYONE_DATABASE_VALIDATION"] = "false"
    try:
        foo.get_db_conn().command("ping")
    except (PyMongoError, OSError, RuntimeError) as error:
        raise UnavailableError("the database cannot be used", error, "run `osv doctor`") from error


def _runs_inside_a_service() -> bool:
    """A service that FiftyOne started was given its server's port, and keeps no server of its own."""
    return bool(os.environ.get("FIFTYONE_DISABLE_SERVICES")) and bool(os.environ.get(_PORT))


def _own_server(fo: ModuleType) -> tuple[int, tuple[int, ...]]:
    """Port and version of the server of the configured folder."""
    import fiftyone.constants as foc

    from osv_lab.store import mongod

    program = mongod.find_mongod(Path(foc.FIFTYONE_DB_BIN_DIR))
    version = mongod.version_of(program)
    return mongod.share_or_start(Path(fo.config.database_dir), program), version


def _check_uri(uri: str) -> None:
    """Fail fast and plainly on a server that does not answer; FiftyOne itself would wait half a minute."""
    import pymongo
    from pymongo.errors import PyMongoError

    fix = "start that server, or unset FIFTYONE_DATABASE_URI (and database_uri in FiftyOne's config) to use a local one"
    try:
        client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(
            uri, serverSelectionTimeoutMS=SELECTION_TIMEOUT_MS, connectTimeoutMS=SELECTION_TIMEOUT_MS
        )
        with client:
            client.admin.command("ping")
    except PyMongoError as error:
        reason = str(error).split(", Timeout")[0].split(" (configured")[0]
        raise UnavailableError(
            "the configured database does not answer", f"{_without_secret(uri)}: {reason}", fix
        ) from error


def _without_secret(uri: str) -> str:
    """The address without its password, fit for a log."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://***@{rest.rpartition('@')[2]}" if "@" in rest else uri


_NOT_STORABLE = "a sample cannot be stored"
_SMALLER = "split its labels over several samples"
_TOO_LARGE = 10334
"""The server's code for a document over MongoDB's 16 MiB."""


@contextlib.contextmanager
def database_errors() -> Iterator[None]:
    """Errors of the database and its driver as the library's own.

    Raises:
        InvalidDataError: a document that cannot be stored.
        UnavailableError: anything else; says so when the disk is full.
    """
    from bson.errors import BSONError
    from pymongo.errors import BulkWriteError, DocumentTooLarge, PyMongoError

    try:
        yield
    except BulkWriteError as error:
        problems = error.details.get("writeErrors", [])
        reason = problems[0].get("errmsg", "") if problems else str(error)
        raise UnavailableError(
            "the database refused to write", f"{reason}{_disk_hint()}", "check its disk with `osv doctor`"
        ) from error
    except (DocumentTooLarge, BSONError, UnicodeError, OverflowError) as error:
        raise InvalidDataError(_NOT_STORABLE, str(error)[:200], _SMALLER) from error
    except PyMongoError as error:
        if getattr(error, "code", None) == _TOO_LARGE:
            raise InvalidDataError(_NOT_STORABLE, str(error).partition(" First")[0], _SMALLER) from error
        fix = "check it with `osv doctor`, then run the same again"
        raise UnavailableError("the database did not answer", f"{error}{_disk_hint()}", fix) from error


def _disk_hint() -> str:
    """What to know about the disk of a local database that just failed."""
    fo = sys.modules["fiftyone"]
    if fo.config.database_uri is not None:
        return ""
    try:
        free = shutil.disk_usage(fo.config.database_dir).free >> 20
    except OSError:
        return ""
    return f" ({free} MiB free in {fo.config.database_dir})" if free < _LITTLE_MIB else ""


_LITTLE_MIB = 512
