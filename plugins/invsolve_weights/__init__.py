"""Weights from anywhere: files and folders are recognised, checked, loaded and put to the test before they are a prior.

Importing this module imports neither torch nor deepinv; `load_prior(path)` and `invsolve weights` are the ways in.
"""

from typing import Any

from invsolve.plugins import hookimpl


@hookimpl
def invsolve_add_commands(commands: Any) -> None:
    """invsolve weights."""
    from invsolve_weights.commands import weights

    commands.add_command(weights)


@hookimpl
def invsolve_load_prior(path: str, options: dict[str, Any]) -> Any:
    """Weight files and diffusers folders."""
    from invsolve_weights.carded import from_path

    return from_path(path, **options)
