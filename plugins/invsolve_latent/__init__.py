"""Latent diffusion: small autoencoders, how they are trained and stored, and priors of their codes.

Importing this module imports no torch: entries are strings, and classes are imported, at first use.

    from invsolve_latent import Latent
"""

from typing import Any

from invsolve_weights.places import present
from lazy_loader import attach_stub

from invsolve.plugins import hookimpl

__getattr__, _names, __all__ = attach_stub(__name__, __file__)


@hookimpl
def invsolve_register(registry: Any) -> None:
    """The priors whose weights are there: they lie outside the package, as the faces they were trained on do not allow more."""
    there = present("faces64-ldm-f4", "faces64-kl-f4")
    summary = "latent diffusion on faces of 64x64; weights outside the package, for non-commercial research"
    registry.add("prior", "faces64-latent", "invsolve_latent.priors:Faces64Latent", summary=summary, listed=there)


def __dir__() -> list[str]:
    """The public names and the hooks, which the registry looks for here."""
    return sorted({*globals(), *_names()})
