"""What `bench run` says about workers, batches and Ctrl-C."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from invsolve.cli.output import line

F = TypeVar("F", bound=Callable[..., Any])
INTERRUPTED = 130  # what shells say of a program that Ctrl-C ended


class Batch(click.ParamType):
    """A number of pictures, or auto."""

    name = "number|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or the word."""
        return value if value == "auto" else click.IntRange(min=1).convert(value, param, ctx)


def spreading(command: F) -> F:
    """The options --workers and --scheduler."""
    workers = click.option("--workers", type=click.IntRange(min=1), help="Processes of a local dask cluster; none unless said.")
    scheduler = click.option("--scheduler", metavar="ADDRESS", help="A dask scheduler elsewhere, tcp://HOST:8786, in place of --workers.")
    return workers(scheduler(command))


@contextmanager
def going_on(ctx: click.Context, folder: Path | None = None) -> Iterator[None]:
    """Ctrl-C inside ends with how to go on, and exit code 130.

    Args:
        ctx: of the command, `bench run` or another of bench that goes on.
        folder: for --out, where the command has it.
    """
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"stopped: what is finished is kept. Go on with\n  {line(shlex.join(again(ctx, folder)))}", err=True)
        sys.exit(INTERRUPTED)


def again(ctx: click.Context, folder: Path | None) -> list[str]:
    """The command that goes on: what was given, with its folder, and nothing computed twice."""
    arguments = [str(ctx.params[one.name or ""]) for one in ctx.command.params if isinstance(one, click.Argument)]
    words = ["invsolve", "bench", ctx.command.name or "", *arguments]
    for option in ctx.command.params:
        name = option.name or ""
        given = name in ctx.params and (source := ctx.get_parameter_source(name)) is not None and source.name == "COMMANDLINE"
        if given and isinstance(option, click.Option) and name not in ("out", "fresh"):
            value = ctx.params[name]
            for one in value if isinstance(value, tuple) else [value]:
                words += [max(option.opts, key=len), *([] if option.is_flag else [str(one)])]
    return words if folder is None else [*words, "--out", str(folder)]
