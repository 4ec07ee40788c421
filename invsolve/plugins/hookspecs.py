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


@hookspec(firstresult=True)
def invsolve_load_prior(path: str, options: dict[str, Any]) -> Any:
    """A prior from a weight file or a folder; None if it is not one of yours. The first plug-in that gives one is taken."""


@hookspec(firstresult=True)
def invsolve_find_damage(photo: Any) -> Any:
    """Where a photograph (C, H, W) in [0, 1] is sound: bool (1, H, W), False on dust and scratches; None if that is not your subject."""


@hookspec(firstresult=True)
def invsolve_tune(solver: Any, problem: Any, prior: Any, how: Any, options: dict[str, Any]) -> Any:
    """What serves `solve(..., tune=how)`: an object with solver, prior and solve(problem, **options); None if `how` is none of yours."""


@hookspec(firstresult=True)
def invsolve_calibration(data: dict[str, Any]) -> Any:
    """What calibrated a saved solution's intervals, from the data that its `record()` gave; None if they are none of yours."""


@hookspec
def invsolve_solve_finished(problem: Any, solution: Any) -> None:
    """Called after every solve, with the Problem and the Solution: for loggers and trackers."""
