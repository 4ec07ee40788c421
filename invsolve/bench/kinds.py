"""What sort of method a solver with a prior is: the first thing that a comparison of classical and diffusion methods tells apart.

    direct          no prior is asked: interpolation
    variational     a regulariser is minimised together with the data term
    plug-and-play   a denoiser stands in for the prox of one
    diffusion       a denoiser at falling noise levels: samplers, flows, guidance

The first three are the classical ones.
"""

from __future__ import annotations

from functools import cache

from invsolve.plugins import registry
from invsolve.plugins.interrupts import attempted

KINDS = ("direct", "variational", "plug-and-play", "diffusion", "other")
CLASSICAL = KINDS[:3]


@cache
def kind_of(solver: str, prior: str) -> str:
    """The sort of method that a registered solver is with a registered prior; "other" where one is not installed here.

    A regulariser makes a method variational; with a denoiser, solvers of the families `splitting` and `variational` are plug-and-play, the
    others diffusion.
    """
    from invsolve.priors.base import Regulariser

    made, believed = (attempted(lambda one=one: registry().load(*one)) for one in (("solver", solver), ("prior", prior)))
    if isinstance(made, BaseException) or isinstance(believed, BaseException):
        return "other"
    family = str(getattr(made, "__module__", "")).removeprefix("invsolve.solvers.").partition(".")[0]
    if family == "direct":
        return "direct"
    if isinstance(believed, type) and issubclass(believed, Regulariser):
        return "variational"
    return "plug-and-play" if family in ("splitting", "variational") else "diffusion"


def side(kind: str) -> str:
    """Classical or diffusion; "" where that is not known."""
    return "classical" if kind in CLASSICAL else "diffusion" if kind == "diffusion" else ""
