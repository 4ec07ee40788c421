"""deepinv inside invsolve: the shipped priors, any deepinv physics as an Operator, any deepinv denoiser as a Denoiser.

Importing this module imports neither torch nor deepinv: entries are strings until they are used.
"""

from typing import Any

from invsolve.hookspecs import hookimpl

NEEDS = 'pip install "deepinv>=0.5.0"'


@hookimpl
def invsolve_register(registry: Any) -> None:
    """The two shipped priors and the two adapters."""
    add = registry.add
    add(
        "prior",
        "natural",
        "invsolve_deepinv.priors:Natural",
        summary="diffusion prior on natural images: a DRUNet in EDM form, trained here",
        needs=NEEDS,
    )
    add(
        "prior",
        "dncnn",
        "invsolve_deepinv.priors:DnCNNPrior",
        summary="DnCNN with a noise map, trained here; sigma up to 0.24",
        needs=NEEDS,
    )
    add("prior", "deepinv-denoiser", "invsolve_deepinv.denoisers:DeepinvModel", summary="any deepinv.models class by its name", needs=NEEDS)
    add("operator", "deepinv", "invsolve_deepinv.physics:DeepinvPhysics", summary="any deepinv.physics class by its name", needs=NEEDS)
