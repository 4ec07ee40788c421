"""invsolve bench report, compare and export: what was run, for people and for other programs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from invsolve.cli.output import line, print_json

RUN = click.Path(exists=True, file_okay=False)


@click.command("report")
@click.argument("folder", type=RUN)
@click.option("--latex", "tables", is_flag=True, help="Write tables.tex too, for booktabs.")
@click.option("--figures", type=click.Choice(["pdf", "svg", "png"]), help="Write the figures too, into the folder figures.")
def report(folder: str, tables: bool, figures: str | None) -> None:
    """Print the tables of a run and write its report.html again."""
    from invsolve.bench import write_report
    from invsolve.bench.export import read_rows, read_run
    from invsolve.bench.table import print_tables

    print_tables(folder)
    click.echo(f"report: {line(write_report(folder))}")
    if tables:
        from invsolve.bench.formats import exported
        from invsolve.io.files import write_text

        target = Path(folder) / "tables.tex"
        write_text(target, str(exported(folder, "latex")))
        click.echo(f"tables: {line(target)}")
    if figures:
        from invsolve.bench.plots import write_figures

        made = write_figures(folder, read_run(folder), read_rows(folder), figures)
        click.echo(f"figures: {len(made)} in {line(Path(folder) / 'figures')}")


@click.command("compare")
@click.argument("first", type=RUN)
@click.argument("second", type=RUN)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def compare(first: str, second: str, as_json: bool) -> None:
    """Compare two runs on the measurements that both have: differences with intervals, and what differs in versions and settings."""
    from invsolve.bench.cells import encode
    from invsolve.bench.compare import compare as compared

    found = compared(first, second)
    if as_json:
        print_json(encode(found.plain()))
    else:
        click.echo(found.text(), nl=False)


class Export(click.Group):
    """`export FOLDER` is `export rows FOLDER`; other commands here are formats of another shape."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the usual command in front of what names none."""
        usual = args and args[0] not in self.commands and args[0] not in ctx.help_option_names
        return super().parse_args(ctx, ["rows", *args] if usual else args)


export = Export("export", help="Write a run for other programs: export FOLDER --format csv|json|latex|parquet.")


@export.command("rows")
@click.argument("folder", type=RUN)
@click.option("--format", "kind", type=click.Choice(["csv", "json", "latex", "parquet"]), default="csv", show_default=True)
@click.option("--out", type=click.Path(dir_okay=False), help="File to write; stdout unless said.")
def rows(folder: str, kind: str, out: str | None) -> None:
    """Write the rows of a run as CSV, JSON, LaTeX or Parquet (extra parquet)."""
    from invsolve.bench.formats import exported
    from invsolve.errors import InputError
    from invsolve.io.files import write_bytes

    found = exported(folder, kind)
    if out is not None:
        write_bytes(Path(out), found if isinstance(found, bytes) else found.encode())
        click.echo(f"{kind}: {line(out)}")
        return
    if isinstance(found, bytes):
        if sys.stdout.isatty():
            raise InputError(f"{kind} is no text for a terminal; say where it goes: --out rows.{kind}")
        sys.stdout.buffer.write(found)
    else:
        click.echo(found, nl=False)
