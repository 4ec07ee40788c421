"""What the command line prints: tables (drawn by rich on a terminal, aligned text elsewhere) and JSON; no control characters."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

import click

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: object) -> str:
    """Text without control characters: a plug-in's or a file's words could move the cursor or recolour the terminal."""
    return CONTROL.sub("", str(text).replace("\t", " "))


def line(text: object) -> str:
    """`clean` on one line."""
    return clean(text).replace("\n", " ")


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
