"""The command line: `invsolve list | info | plugins | check | which | noise | run | restore | bench`, and what plug-ins add.

Exit codes: 0 fine, 1 failed (or some checks or cells failed), 2 wrong use or input, 3 environment (a missing dependency, no memory, no
disk), 130 stopped by Ctrl-C. Nothing here imports torch: `--help` answers at once.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import click

from invsolve.cli.completion import completed, completion
from invsolve.cli.loudness import LOG, console, handling, loud
from invsolve.cli.output import clean, noting
from invsolve.errors import DivergedError, InvsolveError, PluginError

FAILED, USAGE, ENVIRONMENT, INTERRUPTED = 1, 2, 3, 130
PLACES = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError, FileExistsError)  # what a user named


class Commands(click.Group):
    """A group that turns errors into one clear message and an exit code, and finds the commands of plug-ins at need."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A built-in command, else a plug-in's."""
        return super().get_command(ctx, cmd_name) or plugin_commands().get(cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them."""
        return sorted({*super().list_commands(ctx), *plugin_commands()})

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; errors end in an exit code."""
        debug = bool(ctx.params.get("debug"))
        ctx.with_resource(handling(console() if debug else logging.NullHandler(), logging.DEBUG))
        try:
            with noting():
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except (KeyboardInterrupt, click.Abort):
            click.echo("Error: stopped", err=True)
            sys.exit(INTERRUPTED)
        except Exception as error:
            LOG.debug("traceback of the error below", exc_info=error)
            click.echo(f"Error: {message(error)}", err=True)
            sys.exit(exit_code(error))


def exit_code(error: Exception) -> int:
    """What the shell is told."""
    if isinstance(error, PluginError) or short_of_memory(error):
        return ENVIRONMENT
    if isinstance(error, (InvsolveError, *PLACES)) and not isinstance(error, DivergedError):
        return USAGE
    return ENVIRONMENT if isinstance(error, OSError) else FAILED


def short_of_memory(error: Exception) -> bool:
    """Whether memory did not suffice."""
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from invsolve.run.memory import out_of_memory

    return out_of_memory(error)


def message(error: Exception) -> str:
    """The error for a reader; one that is not ours names its type and the way to its traceback."""
    if isinstance(error, InvsolveError):
        from invsolve.cli.wording import worded

        return "\n".join(clean(line) for line in worded(str(error)).splitlines())
    if isinstance(error, OSError):
        place = f": {clean(error.filename)}" if error.filename else ""
        return f"{clean(error.strerror or error)}{place}"
    if short_of_memory(error):
        return f"out of memory ({clean(str(error).splitlines()[0] if str(error) else '')}); take a smaller image or another device"
    return f"unexpected {type(error).__name__}: {clean(str(error))}; invsolve --debug ... shows the traceback"


def plugin_commands() -> dict[str, click.Command]:
    """The commands that plug-ins add; a built-in name cannot be taken."""
    from invsolve.plugins import registry

    found = click.Group()
    registry().add_commands(found)
    return {name: completed(loud(command)) for name, command in found.commands.items() if name not in main.commands}


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="-q, -v and --log go before or after the command. Names are completed by Tab after: invsolve completion --help.",
)
@click.version_option(None, "-V", "--version", package_name="invsolve")
@click.option("--debug", is_flag=True, help="Show tracebacks and log messages.")
def main(debug: bool) -> None:
    """Imaging inverse problems y = H(x) + n: operators, priors and solvers that compose, plug in and compare fairly."""


def _attach() -> None:
    from invsolve.cli.bench import bench
    from invsolve.cli.catalogue import info, list_entries, plugins
    from invsolve.cli.certify import certify
    from invsolve.cli.check import check
    from invsolve.cli.prior import prior_report
    from invsolve.cli.restore import restore
    from invsolve.cli.solve import run
    from invsolve.cli.tune import tune
    from invsolve.cli.which import noise, which

    for command in (list_entries, info, plugins, check, certify, which, noise, run, restore, prior_report, bench, tune, completion):
        main.add_command(command)
    completed(loud(main))


_attach()

if __name__ == "__main__":
    main()
