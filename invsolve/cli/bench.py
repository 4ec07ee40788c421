"""invsolve bench: suites of operators, solvers and images; a run goes on where it was stopped."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import click

from invsolve.cli.bench_benchopt import benchopt
from invsolve.cli.bench_health import doctor, gc, status
from invsolve.cli.bench_plan import choices, chosen_suite, plan, refuse_choices
from invsolve.cli.bench_report import compare, export, report
from invsolve.cli.bench_reproduce import reproduce
from invsolve.cli.bench_time import time_again
from invsolve.cli.bench_workers import Batch, going_on, spreading
from invsolve.cli.output import line, print_json, print_table
from invsolve.cli.wording import worded


@click.group(short_help="Compare solvers on a suite.")
def bench() -> None:
    """Compare solvers: list the suites, plan and run one, write its report."""


bench.add_command(plan)
bench.add_command(status)
bench.add_command(doctor)
bench.add_command(gc)
for one in (report, compare, export):
    bench.add_command(one)
export.add_command(benchopt)
bench.add_command(reproduce)
bench.add_command(time_again)


@bench.command("list")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def list_suites(as_json: bool) -> None:
    """The suites that are installed."""
    from invsolve.bench import list_suites as suites

    found = suites()
    if as_json:
        keys = ("name", "title", "summary", "plugin", "operators", "solvers", "error")
        print_json([{key: getattr(suite, key) for key in keys} for suite in found])
        return
    rows = [(suite.name, suite.error or suite.title or suite.summary, len(suite.operators), len(suite.solvers)) for suite in found]
    print_table(("name", "title", "operators", "solvers"), rows)


def print_example(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    """A suite that runs, and the end."""
    from invsolve.bench.suite import EXAMPLE

    if wanted:
        click.echo(EXAMPLE, nl=False)
        ctx.exit()


@bench.command("run")
@click.argument("suite")
@click.option(
    "--example", is_flag=True, is_eager=True, expose_value=False, callback=print_example, help="Print a suite that runs, and stop."
)
@choices
@click.option("--out", type=click.Path(file_okay=False), help="Folder of the run; runs/SUITE unless said.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, ...")
@click.option("--batch", type=Batch(), default=1, show_default=True, help="Pictures of equal size solved together; auto: as memory allows.")
@click.option("--fresh", is_flag=True, help="Compute finished cells again.")
@click.option("--limit", type=click.FloatRange(min=0, min_open=True), help="Seconds that a cell may take; no limit unless said.")
@spreading
@click.pass_context
def run_suite(
    ctx: click.Context,
    suite: str,
    solvers: tuple[str, ...],
    operators: tuple[str, ...],
    data: tuple[str, ...],
    out: str | None,
    seed: int,
    device: str,
    batch: int | Literal["auto"],
    fresh: bool,
    limit: float | None,
    workers: int | None,
    scheduler: str | None,
) -> None:
    """Run SUITE (a name or a TOML file); run again with the same --out, it goes on where it stopped.

    Ctrl-C finishes the cells in flight, a second one stops at once; exit code 130. Exit code 1: a row failed, every row was skipped, or a
    metric failed wherever it was to be taken.
    """
    from invsolve.bench import run as run_rows
    from invsolve.bench import write_report
    from invsolve.bench.export import read_run
    from invsolve.bench.own import own_suite
    from invsolve.bench.table import in_vain, print_tables

    folder = Path(out) if out else Path("runs") / Path(suite).stem
    own = own_suite(suite)
    if own is not None:
        refuse_choices(suite, solvers, operators, data)
        if device != "cpu" or batch != 1:
            raise click.UsageError(f"{suite} runs on the CPU and makes its own batches; leave out --device and --batch")
        if workers is not None or scheduler is not None:
            raise click.UsageError(f"{suite} runs itself, in this process; leave out --workers and --scheduler")
        with going_on(ctx, folder):
            page, sound = own.run(folder, seed=seed, fresh=fresh, limit=limit)
        click.echo(f"page: {line(page)}")
        sys.exit(0 if sound else 1)
    chosen = chosen_suite(suite, solvers, operators, data)
    options: Any = {"batch": batch, "fresh": fresh, "limit": limit, "workers": workers, "scheduler": scheduler}
    with going_on(ctx, folder):
        rows = run_rows(chosen, out=folder, seed=seed, device=device, **options)
    print_tables(folder)
    click.echo(f"report: {line(write_report(folder))}")
    vain = in_vain(read_run(folder), rows)
    for one in vain:
        click.echo(f"Error: {line(worded(one))}", err=True)
    if vain or any(row["status"] in ("failed", "diverged") for row in rows):
        sys.exit(1)
