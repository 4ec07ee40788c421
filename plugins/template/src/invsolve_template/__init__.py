"""A plug-in for invsolve: the hook that registers one operator.

Nothing is imported here but the marker: `invsolve list` reads every plug-in, and targets are imported when they are used.
"""

from invsolve import hookimpl
from invsolve.plugins import Registry


@hookimpl
def invsolve_register(registry: Registry) -> None:
    registry.add("operator", "flip", "invsolve_template.flip:Flip", summary="mirror left to right")
