"""The hooks of plug-ins. A plug-in is a module with functions marked @hookimpl, named in the entry-point group `invsolve`."""

from typing import Any

import pluggy

hookspec = pluggy.HookspecMarker("invsolve")
hookimpl = pluggy.HookimplMarker("invsolve")


@hookspec
def invsolve_register(registry: Any) -> None:
    """Add entries: registry.add(kind, name, "module:attribute", summary="..."). Targets are imported at first use."""


@hookspec
def invsolve_add_commands(commands: Any) -> None:
    """Add sub-commands to the command line: commands.add_command(click_command)."""


@hookspec
def invsolve_solve_finished(problem: Any, solution: Any) -> None:
    """Called after every solve, with the Problem and the Solution: for loggers and trackers."""
