"""The command line: `invsolve list | info | plugins | check | which | noise | run | restore | bench`.

Exit codes: 0 fine, 1 failed (or some checks or cells failed), 2 wrong use, 3 environment (a missing dependency, no memory).
Nothing here imports torch, and plug-ins are loaded only by the commands that need them: `--help` answers at once.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

import click

from invsolve.cli.output import clean, noting
from invsolve.errors import DivergedError, InvsolveError, PluginError

FAILED, USAGE, ENVIRONMENT = 1, 2, 3


class Commands(click.Group):
    """A group that turns errors into one clear message and an exit code, and finds the commands of plug-ins at need."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A built-in command, else a plug-in's."""
        return super().get_command(ctx, cmd_name) or plugin_commands().get(cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; errors end in an exit code."""
        debug = bool(ctx.params.get("debug"))
        log = logging.getLogger("invsolve")
        log.addHandler(logging.StreamHandler() if debug else logging.NullHandler())
        try:
            with noting():
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if debug:
                traceback.print_exc()
            click.echo(f"Error: {message(error)}", err=True)
            sys.exit(exit_code(error))


def exit_code(error: Exception) -> int:
    """What the shell is told."""
    if isinstance(error, PluginError) or type(error).__name__ in ("OutOfMemoryError", "MemoryError"):
        return ENVIRONMENT
    if isinstance(error, InvsolveError) and not isinstance(error, DivergedError):
        return USAGE
    return FAILED


def message(error: Exception) -> str:
    """The error for a reader; one that is not ours names its type and the way to its traceback."""
    if isinstance(error, InvsolveError):
        return "\n".join(clean(line) for line in str(error).splitlines())
    if type(error).__name__ in ("OutOfMemoryError", "MemoryError"):
        return f"out of memory ({clean(str(error).splitlines()[0] if str(error) else '')}); take a smaller image or another device"
    return f"unexpected {type(error).__name__}: {clean(str(error))}; invsolve --debug ... shows the traceback"


def plugin_commands() -> dict[str, click.Command]:
    """The commands that plug-ins add; a built-in name cannot be taken."""
    from invsolve.plugins import registry

    found = click.Group()
    registry().add_commands(found)
    return {name: command for name, command in found.commands.items() if name not in main.commands}


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Plug-ins may add commands; invsolve plugins list names them.",
)
@click.version_option(package_name="invsolve")
@click.option("--debug", is_flag=True, help="Show tracebacks and log messages.")
def main(debug: bool) -> None:
    """Imaging inverse problems y = H(x) + n: operators, priors and solvers that compose, plug in and compare fairly."""


def _attach() -> None:
    from invsolve.cli.bench import bench
    from invsolve.cli.catalogue import info, list_entries, plugins
    from invsolve.cli.check import check
    from invsolve.cli.prior import prior_report
    from invsolve.cli.solve import restore, run
    from invsolve.cli.tune import tune
    from invsolve.cli.which import noise, which

    for command in (list_entries, info, plugins, check, which, noise, run, restore, prior_report, bench, tune):
        main.add_command(command)


_attach()

if __name__ == "__main__":
    main()
