"""Networks that other packages bring, read from the files of what is installed and run by definitions of our own.

Nothing of these packages is shipped or imported here, and no pickle runs: `pip install 'invsolve[third-party]'`, without their own
dependencies `pip install --no-deps stlpips-pytorch==0.0.2 galaxygrad==0.1.5 demosaicnet==0.0.14`. What is not installed is not listed, and
says what to install when it is asked for by name.

    from invsolve_third_party import Galaxy
"""

from typing import Any

from lazy_loader import attach_stub

from invsolve.plugins import hookimpl
from invsolve_third_party.installed import DEMOSAICNET, GALAXYGRAD, STLPIPS_FILES

__getattr__, _names, __all__ = attach_stub(__name__, __file__)

HOME = "invsolve_third_party"
ENTRIES = (
    ("metric", "stlpips", f"{HOME}.stlpips:STLPIPS", STLPIPS_FILES, "shift-tolerant LPIPS by AlexNet, of the package stlpips-pytorch"),
    ("prior", "galaxy", f"{HOME}.galaxy:Galaxy", GALAXYGRAD, "diffusion prior on galaxies of 64x64, of the package galaxygrad"),
    ("solver", "demosaicnet", f"{HOME}.demosaic:DemosaicNet", DEMOSAICNET, "a Bayer mosaic by one call of a network, of demosaicnet"),
)


@hookimpl
def invsolve_register(registry: Any) -> None:
    """The entries; one whose package is not installed is not listed, and says what is missing when it is asked for."""
    for kind, name, target, package, summary in ENTRIES:
        registry.add(kind, name, target, summary=summary, needs=package.advice, listed=package.present())


def __dir__() -> list[str]:
    """The public names and the hooks, which the registry looks for here."""
    return sorted({*globals(), *_names()})
