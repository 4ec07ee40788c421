"""invsolve bench time: the seconds of a run's solvers once more, in turns, with their spread."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from invsolve.cli.bench_plan import CHOICES
from invsolve.cli.bench_workers import going_on
from invsolve.cli.output import line, print_json, print_table
from invsolve.cli.wording import worded

if TYPE_CHECKING:
    from invsolve.bench.timing import Clocked

NUMBERS = ("seconds", "seconds_median", "seconds_low", "seconds_high", "processor_seconds")
COUNTS = ("timings", "timings_busy", "timings_another")


@click.command("time")
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True, help="Timings of each cell.")
@CHOICES[0]
@CHOICES[1]
@click.option("--pictures", type=click.IntRange(min=1), default=1, show_default=True, help="So many of each operator and solver.")
@click.option("--limit", type=click.FloatRange(min=0, min_open=True), help="Leave out cells that took more seconds.")
@click.option("--suite", help="The suite that was run, where its file names pictures or weights beside it.")
@click.option("--fresh", is_flag=True, help="Take what is timed again.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def time_again(
    ctx: click.Context,
    folder: str,
    repeats: int,
    solvers: tuple[str, ...],
    operators: tuple[str, ...],
    pictures: int,
    limit: float | None,
    suite: str | None,
    fresh: bool,
    as_json: bool,
) -> None:
    """Time the solvers of the run in FOLDER again, all of them in turns, so that tables have the median and its spread.

    Leave the machine alone meanwhile. Run again it goes on, and takes what is missing; Ctrl-C finishes the timing in flight, exit code 130.
    Exit code 1: a solver gave no answer, or on the CPU another one than the stored.
    """
    from invsolve.bench import Suite, write_report
    from invsolve.bench.clock import said
    from invsolve.bench.export import read_run
    from invsolve.bench.timing import time_run

    chosen = None if suite is None else Suite.load(suite)
    options: Any = {"solvers": solvers, "operators": operators, "pictures": pictures, "limit": limit, "fresh": fresh}
    with going_on(ctx):
        found = time_run(folder, repeats=repeats, suite=chosen, **options)
    report = write_report(folder)
    if as_json:
        print_json([plain(one) for one in found])
    else:
        print_table(
            ("operator", "solver", "picture", "once", "median", "spread", "processor", "repeats", "answer"), [row(one) for one in found]
        )
        for text in said([one.row for one in found if one.row], read_run(folder)["hardware"]):
            click.echo(line(text))
        click.echo(f"report: {line(report)}")
    sys.exit(1 if any(failed(one) for one in found) else 0)


def failed(one: Clocked) -> bool:
    """Whether a repeat had no answer, or on the CPU another one."""
    return one.failed or (bool(one.doubt) and one.row.get("device") == "cpu")


def plain(one: Clocked) -> dict[str, Any]:
    """For JSON."""
    numbers = {name: one.row.get(name) for name in NUMBERS} | {name: one.row.get(name, 0) for name in COUNTS}
    return {"operator": one.operator, "solver": one.solver, "image": one.image, **numbers, "reason": one.reason, "doubt": one.doubt}


def row(one: Clocked) -> tuple[Any, ...]:
    """A cell as text."""
    once, median, low, high, processor = (digits(one.row.get(name)) for name in NUMBERS)
    spread = f"{low} to {high}" if one.row.get("timings") else "-"
    another = f"another answer in {one.row.get('timings_another')}: {one.doubt}" if one.doubt else ""
    answer = another or ("same answer" if one.row.get("timings") else "-")
    said = f"{answer}; {worded(one.reason)}" if one.reason and answer != "-" else worded(one.reason) or answer
    return (one.operator, one.solver, one.image, once, median, spread, processor, one.row.get("timings", 0), said)


def digits(value: float | None) -> str:
    """Three digits."""
    return "-" if value is None else f"{value:.3g}"
