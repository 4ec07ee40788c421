"""What the command line prints: tables (drawn by rich on a terminal, aligned text elsewhere) and JSON; no control characters."""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from invsolve.cli.wording import worded
from invsolve.errors import InputError, Note

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: object) -> str:
    """Text without control characters: a plug-in's or a file's words could move the cursor or recolour the terminal."""
    return CONTROL.sub("", str(text).replace("\t", " "))


def duration(seconds: float) -> str:
    """A time for readers: 12 s, 3.4 min, 2.1 h."""
    seconds = max(0.0, seconds)
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def refuse_source(out: str | Path | None, image: str | Path, what: str) -> None:
    """Raise InputError where a result would take the place of the photograph that it is made from."""
    if out is not None and Path(out).resolve() == Path(image).resolve():
        raise InputError(f"--out {out} is the photograph itself, and {what} would take its place; give another name")


def line(text: object) -> str:
    """`clean` on one line."""
    return clean(text).replace("\n", " ")


@contextmanager
def noting(*, echo: bool = True) -> Iterator[list[str]]:
    """While it lasts, warnings of the kind Note, and RuntimeWarnings of our code, are lines `note: ...` on stderr, each once.

    It gives the list of them.

    Args:
        echo: print them, too.
    """
    told: list[str] = []
    with warnings.catch_warnings():
        for kind in (Note, RuntimeWarning):
            warnings.simplefilter("always", kind)
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], filename: str, *place: Any, **options: Any) -> None:
            ours = issubclass(category, Note) or (issubclass(category, RuntimeWarning) and "invsolve" in filename)
            if not ours:
                usual(message, category, filename, *place, **options)
                return
            text = clean(worded(str(message)))
            if text not in told:
                told.append(text)
                if echo:
                    click.echo(f"note: {text}", err=True)

        warnings.showwarning = show  # pyright: ignore[reportAttributeAccessIssue]
        yield told


def print_json(value: Any) -> None:
    """Indented JSON on stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=True))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on stdout."""
    texts = [[line(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*headings, box=None, pad_edge=False, header_style="bold")
        for row in texts:
            table.add_row(*(Text(cell) for cell in row))
        Console().print(table)
        return
    widths = [max(len(row[index]) for row in [list(headings), *texts]) for index in range(len(headings))]
    for row in [list(headings), *texts]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
