"""invsolve bench status | doctor | gc: a run's folder, how far it is, what is wrong with it, and what it does not need."""

from __future__ import annotations

import dataclasses
import sys

import click

from invsolve.cli.output import duration, line, print_json, print_table
from invsolve.cli.wording import worded

FOLDER = click.argument("folder", type=click.Path(exists=True, file_okay=False))
JSON = click.option("--json", "as_json", is_flag=True, help="For machines.")
SHOWN = 20  # paths that gc lists


@click.command("status")
@FOLDER
@JSON
def status(folder: str, as_json: bool) -> None:
    """How far the run in FOLDER is: finished, failed, missing, in flight, and the time that is left."""
    from invsolve.bench.health import status as state_of

    state = state_of(folder)
    if as_json:
        print_json(dataclasses.asdict(state))
        return
    counts = ", ".join(f"{count} {name}" for name, count in state.counts.items() if count)
    click.echo(f"{'running' if state.running else 'not running'}: {state.total} cells, {counts}")
    for one in state.flying:
        place = f"{one['operator']} · {one['solver']} · {one['image']}"
        click.echo(line(f"in flight: {place}, for {duration(one['seconds'])} on {one['host']}"))
    for reason, count in state.reasons[:5]:
        click.echo(line(worded(f"failed, {count}: {reason:.200}")))
    if state.counts["missing"]:
        left = "nothing says how long it will take" if state.left is None else f"about {duration(state.left)} left"
        click.echo(left if state.running else f"{left}: invsolve bench run SUITE --out {line(folder)} goes on")


@click.command("doctor")
@FOLDER
@JSON
def doctor(folder: str, as_json: bool) -> None:
    """What is wrong with FOLDER, and what to do: torn, foreign, stale and missing cells, other versions.

    Exit code 1 if there is anything.
    """
    from invsolve.bench.health import doctor as findings

    found = findings(folder)
    if as_json:
        print_json([dataclasses.asdict(one) for one in found])
    elif found:
        print_table(("cells", "what", "for example", "what to do"), [(one.count, one.what, one.example, one.advice) for one in found])
    else:
        click.echo("nothing is wrong")
    sys.exit(1 if found else 0)


@click.command("gc")
@FOLDER
@click.option("--yes", is_flag=True, help="Remove it; without, it is only listed.")
def gc(folder: str, yes: bool) -> None:
    """Remove from FOLDER what the suite as last run there does not use: cells, measurements, torn ones, what killed runs have left."""
    from invsolve.bench.health import gc as collect

    paths, size = collect(folder, remove=yes)
    for path in paths[:SHOWN]:
        click.echo(line(path))
    if len(paths) > SHOWN:
        click.echo(f"... and {len(paths) - SHOWN} more")
    what = f"{len(paths)} folders and files, {size / 1e6:.1f} MB"
    click.echo(f"removed {what}" if yes else f"{what} would be removed by --yes" if paths else "nothing to remove")
