"""invsolve bench export benchopt: a suite as a benchmark of benchopt."""

from __future__ import annotations

import click

from invsolve.cli.bench_plan import choices, chosen_suite
from invsolve.cli.output import line


@click.command("benchopt")
@click.argument("folder", type=click.Path(file_okay=False))
@click.option("--suite", required=True, help="A suite: its name or TOML file.")
@choices
def benchopt(folder: str, suite: str, solvers: tuple[str, ...], operators: tuple[str, ...], data: tuple[str, ...]) -> None:
    """Write a suite into FOLDER as a benchmark that `benchopt test` and `benchopt run` take."""
    from invsolve.bench.benchopt import export

    made = export(chosen_suite(suite, solvers, operators, data), folder)
    click.echo(f"benchmark: {line(made)}; benchopt run {line(made)}")
