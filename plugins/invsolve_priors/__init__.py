"""The shipped priors, and how they are trained, exported and measured.

Importing this module imports neither torch nor deepinv: entries are strings, and classes are imported, at first use.

    from invsolve_priors import DnCNNPrior, Natural
"""

from typing import Any

from invsolve_weights.places import present
from lazy_loader import attach_stub

from invsolve.plugins import hookimpl

__getattr__, _names, __all__ = attach_stub(__name__, __file__)

NEEDS = 'pip install "deepinv>=0.5.0"'
PRIORS = (
    ("natural", "Natural", "diffusion prior on natural images: a DRUNet in EDM form, trained here"),
    ("dncnn", "DnCNNPrior", "DnCNN with a noise map, trained here; sigma up to 0.24"),
    ("natural-gray", "NaturalGray", "diffusion prior on grey natural images, trained here"),
    ("dncnn-gray", "DnCNNGray", "DnCNN with a noise map for grey images; sigma up to 0.24"),
    ("mnist", "Mnist", "diffusion prior on handwritten digits of 32x32, a toy of under 1 MB"),
    ("faces64", "Faces64", "diffusion prior on faces of 64x64; weights outside the package, for non-commercial research"),
    ("natural-few", "NaturalFew", "few-step map of natural (one call is a draw); weights outside the package"),
    ("mnist-few", "MnistFew", "few-step map of mnist (one call is a digit); weights outside the package"),
)
# The data of the first do not allow it to be shipped; the others are asked for too seldom for the wheel.
OUTSIDE = ("faces64", "natural-few", "mnist-few")


@hookimpl
def invsolve_register(registry: Any) -> None:
    """The shipped priors; one whose weights lie outside the package is listed only where they are."""
    for name, cls, summary in PRIORS:
        there = name not in OUTSIDE or present(name)
        registry.add("prior", name, f"invsolve_priors.shipped:{cls}", summary=summary, needs=NEEDS, listed=there)
    summary = "perceptual distance of photographs by natural's encoder: of LPIPS's form, and not LPIPS"
    registry.add("metric", "encoder-distance", "invsolve_priors.distance:EncoderDistance", summary=summary, needs=NEEDS)


@hookimpl
def invsolve_add_commands(commands: Any) -> None:
    """invsolve train."""
    from invsolve_priors.train_command import train

    commands.add_command(train)


def __dir__() -> list[str]:
    """The public names and the hooks, which the registry looks for here."""
    return sorted({*globals(), *_names()})
