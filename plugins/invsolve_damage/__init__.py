"""Dust and scratches on photographs: a prior that is told whether a picture is damaged, and the masks that it finds.

Importing this module imports neither torch nor deepinv: entries are strings, and what they name is imported at first use.

    from invsolve_damage import find_damage
"""

from typing import Any

from invsolve_weights.places import present
from lazy_loader import attach_stub

from invsolve.plugins import hookimpl

__getattr__, _names, __all__ = attach_stub(__name__, __file__)


@hookimpl
def invsolve_register(registry: Any) -> None:
    """The prior, listed where its weights are there."""
    summary, needs = "photographs, clean or damaged like film: finds dust and scratches", 'pip install "deepinv>=0.5.0"'
    registry.add("prior", "damage", "invsolve_damage.shipped:damage", summary=summary, needs=needs, listed=present("damage"))


@hookimpl
def invsolve_add_commands(commands: Any) -> None:
    """invsolve mask."""
    from invsolve_damage.commands import mask

    commands.add_command(mask)


@hookimpl
def invsolve_find_damage(photo: Any) -> Any:
    """By the segmenter, at the threshold for restoration; all is sound where hardly a pixel is damaged beyond doubt.

    At a score of 4 it calls .0 to .1 % of a clean dev photograph damaged (of lettering .7 %), and of one with 2 % of damage 1.4 % and more.
    """
    from invsolve_damage.finding import find_damage

    found = find_damage(photo, method="segment", generous=True)
    return found.keep if float((found.score > 4).double().mean()) > 0.004 else found.keep.new_ones(found.keep.shape)


def __dir__() -> list[str]:
    """The public names and the hooks, which the registry looks for here."""
    return sorted({*globals(), *_names()})
