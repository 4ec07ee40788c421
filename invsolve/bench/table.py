"""The console's table: per operator, a row per solver with means and per-image standard deviations."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import IO, Any

from invsolve.bench.clock import said
from invsolve.bench.export import Line, lines, read_rows, read_run
from invsolve.bench.fairness import counted

# Control characters could move the cursor or recolour the terminal.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def plain(text: str) -> str:
    """Without control characters."""
    return CONTROL.sub("", text)


def columns(run: dict[str, Any]) -> list[tuple[str, str, int]]:
    """(name, heading, digits) of the numbers that are shown."""
    metrics = [(name, f"{one['label']} {one['unit']}".strip(), one["digits"]) for name, one in run["metrics"].items()]
    return [*metrics, ("nfe", "NFE", 0), ("seconds", "s/image", 2)]


def cells(line: Line, shown: list[tuple[str, str, int]]) -> list[str]:
    """A line's numbers as text; NFE without spread, for it rarely has one."""
    out = []
    for name, _, digits in shown:
        value = line.numbers.get(name)
        text = "-" if value is None else value.text(digits)
        out.append(text.split(" ")[0] if name == "nfe" else text)
    return out


def note(line: Line) -> str:
    """What to say of a solver that gave no answer, or not to all."""
    if not line.reason:
        return ""
    part = f" ({line.total - line.done} of {line.total})" if line.done else ""
    return plain(f"{line.solver}: {line.status}{part}: {line.reason}")


def print_tables(folder: str | Path, stream: IO[str] | None = None) -> None:
    """Print a run's tables: drawn by rich on a terminal, plain text elsewhere."""
    target: IO[str] = sys.stdout if stream is None else stream
    run, rows = read_run(folder), read_rows(folder)
    if target.isatty():
        _rich(run, rows, target)
    else:
        target.write(format_plain(run, rows))


def footer(run: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    """What the numbers mean."""
    settings = [f"{one['label']}: {one['settings']}{versions(one)}" for one in run["metrics"].values()]
    missing = len(run["cells"]) - len(rows)
    open_cells = [f"incomplete: {missing} of {len(run['cells'])} cells are not there yet"] if missing else []
    return [
        *open_cells,
        *map(plain, counted(rows)),
        "mean ± standard deviation over images",
        *map(plain, said(rows, run["hardware"])),
        *settings,
        *faults(run, rows),
        f"{run['hardware']}; device {run['device']}",
    ]


def versions(metric: dict[str, Any]) -> str:
    """The libraries of a metric, in brackets."""
    found = ", ".join(f"{name} {version}" for name, version in metric["libraries"].items())
    return f" ({found})" if found else ""


def faults(run: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    """Metrics that failed: on how many cells, and why at first."""
    found = {one["label"]: reasons(run, rows, name) for name, one in run["metrics"].items()}
    return [plain(f"{label} failed {len(those)} times: {those[0]}") for label, those in found.items() if those]


def reasons(run: dict[str, Any], rows: list[dict[str, Any]], name: str) -> list[str]:
    """Why a metric failed, each time that it did."""
    of_sets = [found["reason"] for found in run["sets"] if found["metric"] == name and found["reason"]]
    return [*(row["faults"][name] for row in rows if name in row["faults"]), *of_sets]


def in_vain(run: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    """Why a run has no result: every row skipped, or a metric that failed and gave no number anywhere; [] where there is nothing to say."""
    out = []
    if all(row["status"] == "skipped" for row in rows):
        why = dict.fromkeys(row["reason"] for row in rows)
        out.append(plain(f"nothing was solved, {len(rows)} of {len(rows)} rows were skipped: {'; '.join(why)}"))
    for name, one in run["metrics"].items():
        numbers = [row["metrics"].get(name) for row in rows] + [found["value"] for found in run["sets"] if found["metric"] == name]
        why = reasons(run, rows, name)
        if why and all(number is None for number in numbers):
            out.append(plain(f"{one['label']} gave no number in the whole run: {why[0]}"))
    return out


def format_plain(run: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The tables as aligned text."""
    shown, out = columns(run), []
    for operator in dict.fromkeys(row["operator"] for row in rows):
        group = lines(rows, operator, run)
        table = [["solver", *(heading for _, heading, _ in shown)], *([plain(line.solver), *cells(line, shown)] for line in group)]
        widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
        out.append(plain(operator))
        out += [
            "  ".join([row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))]).rstrip()
            for row in table
        ]
        out += [f"  {text}" for line in group if (text := note(line))]
        out.append("")
    return "\n".join([*out, *footer(run, rows)]) + "\n"


def _rich(run: dict[str, Any], rows: list[dict[str, Any]], stream: IO[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console, shown = Console(file=stream), columns(run)
    for operator in dict.fromkeys(row["operator"] for row in rows):
        # Narrow enough for 80 columns: no frame, no blanks around the sign.
        table = Table(title=Text(plain(operator)), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
        table.add_column("solver", overflow="fold")
        for _, heading, _ in shown:
            table.add_column(heading, justify="right")
        group = lines(rows, operator, run)
        for line in group:
            table.add_row(Text(plain(line.solver)), *(text.replace(" ± ", "±") for text in cells(line, shown)))
        console.print(table)
        console.print()
        for line in group:
            if text := note(line):
                console.print(Text(f"  {text}"))
    for text in footer(run, rows):
        console.print(Text(text), style="dim")
