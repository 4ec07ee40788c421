"""invsolve bench plan, and which part of a suite the commands of bench take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from invsolve.cli.output import duration, print_json, print_table

if TYPE_CHECKING:
    from invsolve.bench.suite import Suite

CHOICES = (
    click.option("-s", "--only-solver", "solvers", multiple=True, help="Only this solver: its label, name, or a pattern. Repeatable."),
    click.option("-o", "--only-operator", "operators", multiple=True, help="Only this operator. Repeatable."),
    click.option(
        "-d",
        "--data",
        "data",
        multiple=True,
        help="Only this data set; LABEL=FOLDER gives pictures (a folder, a zip, an npz file) in its place. Repeatable.",
    ),
)


def choices(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options -s, -o and -d."""
    for option in reversed(CHOICES):
        command = option(command)
    return command


def given_pictures(data: Sequence[str]) -> dict[str, str]:
    """The folders of LABEL=FOLDER, by label."""
    return dict(one.split("=", 1) for one in data if "=" in one)


def chosen_suite(name: str, solvers: Sequence[str], operators: Sequence[str], data: Sequence[str]) -> Suite:
    """A suite with the user's pictures, or the part of it that was asked for.

    Raises:
        UnknownNameError, InputError: as `Suite.load` and `Suite.only`.
    """
    from invsolve.bench.suite import Suite

    return Suite.load(name, given_pictures(data)).only(solvers, [one for one in data if "=" not in one], operators)


def refuse_choices(suite: str, *chosen: Sequence[str]) -> None:
    """Raise UsageError where parts are asked for of a suite that runs itself."""
    if any(chosen):
        raise click.UsageError(f"{suite} runs itself and has no parts to choose; leave out -s, -o and -d")


@click.command("plan")
@click.argument("suite")
@choices
@click.option("--out", type=click.Path(file_okay=False), help="Folder of the run, whose records are used; runs/SUITE unless said.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, ...")
@click.option("--probe", type=click.FloatRange(min=0), default=2.0, show_default=True, help="Seconds of a probe per column; 0: none.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def plan(
    suite: str,
    solvers: tuple[str, ...],
    operators: tuple[str, ...],
    data: tuple[str, ...],
    out: str | None,
    device: str,
    probe: float,
    as_json: bool,
) -> None:
    """What SUITE would take: cells, network evaluations, time and peak memory; nothing is run but a probe of each column."""
    from invsolve.bench.forecast import forecast
    from invsolve.bench.own import own_suite

    own = own_suite(suite)
    if own is not None and own.solvers:  # a table of published rows has none, and no run
        refuse_choices(suite, solvers, operators, data)
        if as_json:
            print_json({"title": own.title, "solvers": own.solvers, "operators": own.operators})
            return
        click.echo(f"{own.title}: {len(own.solvers)} solvers, {len(own.operators)} problems")
        click.echo(f"it runs itself, so nothing is known before; invsolve bench run {suite} --limit SECONDS bounds an answer's time")
        return
    folder = Path(out) if out else Path("runs") / Path(suite).stem
    columns = forecast(chosen_suite(suite, solvers, operators, data), out=folder, device=device, probe=probe)
    total = {
        "cells": sum(one.cells for one in columns),
        "there": sum(one.there for one in columns),
        "seconds": sum(one.left or 0 for one in columns),
        "unknown": sum(one.left is None and not one.source.startswith("skipped") for one in columns),
        "peak_bytes": max((one.peak_bytes for one in columns if one.peak_bytes is not None), default=None),
    }
    if as_json:
        print_json({"columns": [{**vars(one), "left": one.left} for one in columns], **total})
        return
    heads = ("operator", "solver", "settings", "cells", "there", "NFE", "back", "s/image", "to do", "peak", "from")
    print_table(heads, [row(one) for one in columns])
    unknown = f", {total['unknown']} columns unknown" if total["unknown"] else ""
    sums = f"{total['cells']} cells, {total['there']} there; about {duration(total['seconds'])} on this machine{unknown}"
    click.echo(f"{sums}; peak {size(total['peak_bytes'])}")


def row(one: Any) -> tuple[Any, ...]:
    """A column as text."""
    counts = tuple("-" if value is None else f"{value:.0f}" for value in (one.nfe, one.backward))
    seconds = "-" if one.seconds is None else f"{one.seconds:.2f}"
    left = "-" if one.left is None else duration(one.left)
    return (one.operator, one.solver, one.settings, one.cells, one.there, *counts, seconds, left, size(one.peak_bytes), one.source)


def size(count: int | None) -> str:
    """Bytes in MB."""
    return "-" if count is None else f"{count / 1e6:.0f} MB"
