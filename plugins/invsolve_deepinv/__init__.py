"""deepinv inside invsolve: the shipped priors, its physics as Operators and back, its denoisers as Denoisers, tomography.

Importing this module imports neither torch nor deepinv: entries are strings, and classes are imported, at first use.

    from invsolve_deepinv import DeepinvDenoiser, DeepinvOperator, Radon, to_deepinv
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from invsolve.plugins.hookspecs import hookimpl
from invsolve_deepinv.places import file_of

if TYPE_CHECKING:
    from invsolve_deepinv.denoisers import DeepinvDenoiser
    from invsolve_deepinv.physics import DeepinvOperator
    from invsolve_deepinv.priors import DnCNNPrior, Natural
    from invsolve_deepinv.radon import Radon, filtered_back_projection
    from invsolve_deepinv.views import to_deepinv

# Public name -> module. A module must not bear a public name: importing it would put the module in the name's place.
_HOME = {
    "DeepinvDenoiser": "denoisers",
    "DeepinvOperator": "physics",
    "DnCNNPrior": "priors",
    "Natural": "priors",
    "Radon": "radon",
    "filtered_back_projection": "radon",
    "to_deepinv": "views",
}

__all__ = ["DeepinvDenoiser", "DeepinvOperator", "DnCNNPrior", "Natural", "Radon", "filtered_back_projection", "to_deepinv"]

NEEDS = 'pip install "deepinv>=0.5.0"'


@hookimpl
def invsolve_register(registry: Any) -> None:
    """The shipped priors, the two adapters, and tomography."""
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
    add(
        "prior",
        "natural-gray",
        "invsolve_deepinv.priors:NaturalGray",
        summary="diffusion prior on grey natural images, trained here",
        needs=NEEDS,
    )
    add(
        "prior",
        "dncnn-gray",
        "invsolve_deepinv.priors:DnCNNGray",
        summary="DnCNN with a noise map for grey images; sigma up to 0.24",
        needs=NEEDS,
    )
    add(
        "prior",
        "mnist",
        "invsolve_deepinv.priors:Mnist",
        summary="diffusion prior on handwritten digits of 32x32, a toy of under 1 MB",
        needs=NEEDS,
    )
    if file_of("faces64").is_file():  # its data do not allow it to be shipped
        add(
            "prior",
            "faces64",
            "invsolve_deepinv.priors:Faces64",
            summary="diffusion prior on faces of 64x64; weights outside the package, for non-commercial research",
            needs=NEEDS,
        )
    add("prior", "deepinv-denoiser", "invsolve_deepinv.denoisers:DeepinvModel", summary="any deepinv.models class by its name", needs=NEEDS)
    add("operator", "deepinv", "invsolve_deepinv.physics:DeepinvPhysics", summary="any deepinv.physics class by its name", needs=NEEDS)
    add("operator", "radon", "invsolve_deepinv.radon:Radon", summary="computed tomography: parallel-beam line integrals", needs=NEEDS)


@hookimpl
def invsolve_add_commands(commands: Any) -> None:
    """invsolve weights, invsolve train."""
    from invsolve_deepinv.commands import weights
    from invsolve_deepinv.train_command import train

    commands.add_command(weights)
    commands.add_command(train)


@hookimpl
def invsolve_load_prior(path: str, options: dict[str, Any]) -> Any:
    """Weight files and diffusers folders."""
    from invsolve_deepinv.priors import from_path

    return from_path(path, **options)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"invsolve_deepinv.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'invsolve_deepinv' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
