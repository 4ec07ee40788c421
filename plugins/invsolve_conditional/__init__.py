"""Priors trained with the measurement as a condition: super-resolution, colourisation, inpainting and what else was degraded in training.

Importing this module imports neither torch nor deepinv: entries are strings, and classes are imported, at first use.

    from invsolve_conditional import SR3
"""

from pathlib import Path
from typing import Any

from invsolve_weights.places import present
from lazy_loader import attach_stub

from invsolve.plugins import hookimpl

__getattr__, _names, __all__ = attach_stub(__name__, __file__)

NEEDS = 'pip install "deepinv>=0.5.0"'
CASCADE = ("cascade-faces-1", "cascade-faces-2")
SUITE = Path(__file__).parent / "cascade.toml"
# (name, class, weights, summary); one whose weights are not there is not listed.
PRIORS = (
    ("sr3", "SR3", "sr3-faces", "faces x4 by a network that sees y: any sampler draws from p(x | y)"),
    ("regression", "Regression", "regression-faces", "faces x4, E[x | y] by one call of a network: the baseline of sr3"),
    ("partdiff", "PartDiff", "partdiff-faces", "faces x4 by the last 25 of 100 steps, from y upsampled"),
    ("palette", "Palette", "palette-faces", "faces from grey, from any part or from JPEG, by one network"),
    ("idm", "IDM", "idm-faces", "faces by any factor from 1.5 to 8, by one network"),
    ("cascade", "Cascade", " ".join(CASCADE), "faces x16, by 4 and by 4 again, two networks: for the solver cascade"),
)


@hookimpl
def invsolve_register(registry: Any) -> None:
    """The priors; one whose weights are not there is not listed, and says what is missing when it is asked for."""
    for name, cls, weights, summary in PRIORS:
        there = present(*weights.split())
        registry.add("prior", name, f"invsolve_conditional.shipped:{cls}", summary=summary, needs=NEEDS, listed=there)
    if present(*CASCADE):
        registry.add("suite", "cascade", "invsolve_conditional:SUITE", summary="faces x16 by two networks in turn, and by one stage")
    registry.add("prior", "bm3d", "invsolve_conditional.bm3d:BM3D", summary="BM3D, for plug and play: pip install 'invsolve[bm3d]'")


def __dir__() -> list[str]:
    """The public names and the hooks, which the registry looks for here."""
    return sorted({*globals(), *_names()})
