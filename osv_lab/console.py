"""What the command line and the demo share: tables, progress with time left, and one-line errors on a terminal."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from osv_lab.core.report import Report, cell, plain

if TYPE_CHECKING:
    from osv_lab.core.errors import OsvError
    from osv_lab.core.progress import Progress

MAX_ROWS = 40


def show(result: Any, as_json: bool = False) -> None:
    """Print a result: a table under its summary line, or one JSON document with ``as_json``."""
    if as_json:
        json.dump(plain(result), sys.stdout, ensure_ascii=False, indent=2)
        sys.stdout.write("\n")
        return
    if not isinstance(result, Report):
        sys.stdout.write(f"{result}\n")
        return
    sys.stdout.write(f"{result.summary()}\n")
    print_rows(list(result.highlights()))


def print_rows(rows: list[Any], title: str | None = None, max_rows: int = MAX_ROWS) -> None:
    """Print mappings as a table; what is left out of a long one is said in its last line."""
    if not rows:
        return
    from rich.console import Console
    from rich.table import Table

    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = Table(title=title, box=None, pad_edge=False, header_style="bold", title_justify="left")
    for column in columns:
        numeric = all(isinstance(row.get(column), (int, float, type(None))) for row in rows)
        table.add_column(str(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows[:max_rows]:
        table.add_row(*(_markup(cell(row.get(column))) for column in columns))
    # A pipe has no width: wrapping there would break what scripts read.
    width = None if sys.stdout.isatty() else 200
    console = Console(width=width, highlight=False)
    console.print(table)
    if len(rows) > max_rows:
        console.print(f"… and {len(rows) - max_rows} more rows (--json has all)")


def show_error(error: OsvError, as_json: bool = False, stream: TextIO | None = None) -> None:
    """Print an error as one line on standard error, or as JSON on standard output."""
    if as_json:
        json.dump(error.to_dict(), sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")
        return
    (stream or sys.stderr).write(f"osv: {_printable(str(error))}\n")


def _printable(text: str) -> str:
    """Names that are not UTF-8 carry surrogates, which a terminal cannot take."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _markup(text: str) -> str:
    """Text for rich, to which brackets mean colours."""
    return _printable(text).replace("[", "\\[")


def log_to_terminal() -> None:
    """Show what the library itself logs, on standard error."""
    logger = logging.getLogger("osv_lab")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("osv: %(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)


@contextlib.contextmanager
def progress_on_terminal(quiet: bool = False) -> Iterator[Progress]:
    """A :class:`~osv_lab.core.progress.Progress` that draws bars with time left, on standard error.

    Where standard error is no terminal (a log, CI) each stage prints a line when it starts and when it is done.
    """
    if quiet:
        yield lambda label, done, total: None
    elif sys.stderr.isatty():
        with _bars() as progress:
            yield progress
    else:
        yield _Lines()


class _Lines:
    """Progress for logs: one line per finished stage."""

    def __init__(self) -> None:
        self._finished: set[str] = set()

    def __call__(self, label: str, done: int, total: int | None, /) -> None:
        if total is not None and done >= total and label not in self._finished:
            self._finished.add(label)
            sys.stderr.write(f"  {label}: {done} done\n")
        elif done == 0:
            self._finished.discard(label)


@contextlib.contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=False) as bars:
        tasks: dict[str, Any] = {}

        def progress(label: str, done: int, total: int | None, /) -> None:
            if label not in tasks:
                tasks[label] = bars.add_task(label, total=total)
            bars.update(tasks[label], completed=done, total=total)

        yield progress
