"""deepinv inside invsolve: the shipped priors, any deepinv physics as an Operator, any deepinv denoiser as a Denoiser.

Importing this module imports neither torch nor deepinv: entries are strings, and classes are imported, at first use.

    from invsolve_deepinv import DeepinvDenoiser, DeepinvOperator
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from invsolve.hookspecs import hookimpl

if TYPE_CHECKING:
    from invsolve_deepinv.denoisers import DeepinvDenoiser
    from invsolve_deepinv.physics import DeepinvOperator
    from invsolve_deepinv.priors import DnCNNPrior, Natural
    from invsolve_deepinv.radon import Radon, filtered_back_projection
    from invsolve_deepinv.to_deepinv import to_deepinv

_HOME = {
    "DeepinvDenoiser": "denoisers",
    "DeepinvOperator": "physics",
    "DnCNNPrior": "priors",
    "Natural": "priors",
    "Radon": "radon",
    "filtered_back_projection": "radon",
    "to_deepinv": "to_deepinv",
}

__all__ = ["DeepinvDenoiser", "DeepinvOperator", "DnCNNPrior", "Natural", "Radon", "filtered_back_projection", "to_deepinv"]

NEEDS = 'pip install "deepinv>=0.5.0"'


@hookimpl
def invsolve_register(registry: Any) -> None:
    """The two shipped priors, the two adapters, and tomography."""
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
    add("operator", "radon", "invsolve_deepinv.radon:Radon", summary="computed tomography: parallel-beam line integrals", needs=NEEDS)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"invsolve_deepinv.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'invsolve_deepinv' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
