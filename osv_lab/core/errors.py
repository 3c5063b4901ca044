"""The one family of errors every face prints, and the exit codes scripts can rely on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class OsvError(Exception):
    """Something the user can act on: what was wrong, what was found, what to do.

    Args:
        what: What was wrong, as one short clause ("no such dataset").
        found: What was found instead (the offending value, the names that do exist).
        fix: What to do about it, as an instruction.

    Attributes:
        exit_code: The process exit code the command line uses for this kind of error.

    Example:
        >>> str(OsvError("no such dataset", "'blod'", "did you mean 'blood'?"))
        "no such dataset: 'blod'; did you mean 'blood'?"
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, found: object = "", fix: str = "") -> None:
        self.what = what
        self.found = str(found)
        self.fix = fix
        super().__init__(what, self.found, fix)

    def __str__(self) -> str:
        text = f"{self.what}: {self.found}" if self.found else self.what
        return f"{text}; {self.fix}" if self.fix else text

    def to_dict(self) -> dict[str, str | int]:
        """The error as plain values, for ``--json`` and HTTP bodies."""
        return {
            "error": type(self).__name__,
            "what": self.what,
            "found": self.found,
            "fix": self.fix,
            "exit_code": self.exit_code,
        }


class UsageError(OsvError):
    """An argument, option or setting that cannot be used as given."""

    exit_code = 2


class NotFoundError(OsvError):
    """A file, dataset, field, run or model that does not exist."""

    exit_code = 3


class InvalidDataError(OsvError):
    """Data that cannot be read, or that contradicts itself."""

    exit_code = 4


class UnavailableError(OsvError):
    """Something outside the process is missing: a database, a network, a package, a device."""

    exit_code = 5


class CheckFailedError(OsvError):
    """A gate said no: parity, health or a required threshold was not met."""

    exit_code = 6


class InterruptedJobError(OsvError):
    """The user stopped a job that can be resumed; ``fix`` says how."""

    exit_code = 130


_MOST_NAMES = 40


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A "did you mean" clause for a misspelt name, or the allowed names when none is near.

    Example:
        >>> nearest("epoch", ["epochs", "batch"])
        "did you mean 'epochs'?"
    """
    import difflib

    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    more = len(names) - _MOST_NAMES
    return "use one of: " + ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def require_extra(module: str, extra: str) -> OsvError:
    """The error for an import that failed because an optional extra is not installed."""
    return UnavailableError(
        "a needed package is not installed", f"no module '{module}'", f'pip install "osv-lab[{extra}]"'
    )
