"""invsolve bench reproduce: published rows with one's own checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from invsolve.cli.bench_plan import given_pictures
from invsolve.cli.output import line


@click.command("reproduce")
@click.argument("table")
@click.option("--prior", help="The checkpoint: a path, a name, or a table, '{ file = \"ffhq.pt\", range = [-1, 1] }'.")
@click.option("-d", "--data", "data", multiple=True, help="LABEL=FOLDER: the pictures.")
@click.option("--row", "rows", multiple=True, help="Only this row, by its label. Repeatable.")
@click.option("--first", type=click.IntRange(min=2), help="Only so many pictures.")
@click.option("--out", type=click.Path(file_okay=False), help="Folder of the runs; runs/reproduce-TABLE unless said.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, ...")
@click.option("--batch", type=int, default=1, show_default=True, help="Pictures of equal size solved together.")
def reproduce(
    table: str,
    prior: str | None,
    data: tuple[str, ...],
    rows: tuple[str, ...],
    first: int | None,
    out: str | None,
    seed: int,
    device: str,
    batch: int,
) -> None:
    """Run the published rows of TABLE (a name or a TOML file): reproduced, within noise, or not, and which erratum explains it.

    Exit code 1: a row is not reproduced, or has no answer.
    """
    from invsolve.bench.reproduce import load
    from invsolve.bench.reproduce import reproduce as reproduced
    from invsolve.recipe.config import parse_value

    published, _ = load(table)
    click.echo(line(f"{published.title} ({published.source})"))
    if prior is None:
        raise click.UsageError(f"it needs {published.wants}: --prior CHECKPOINT")
    given = given_pictures(data)
    folder = Path(out) if out else Path("runs") / f"reproduce-{Path(table).stem}"
    options = {"seed": seed, "device": device, "batch": batch}
    found = reproduced(table, parse_value(prior), out=folder, given=given, rows=rows, first=first, **options)
    for one in found:
        click.echo(line(one.text))
    if any(one.verdict in ("not reproduced", "no answer") for one in found):
        sys.exit(1)
