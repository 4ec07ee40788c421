"""First-party operators: masks, blurs, fewer pixels, colour, compressed sensing, magnetic resonance, nonlinear cameras.

Classes are imported at first use, so that finding the plug-in does not wait for torch:

    from invsolve_operators import GaussianBlur, Mask

A new operator is a file in the folder of its family, and a line in `__init__.pyi`.
"""

from typing import Any

from lazy_loader import attach_stub

from invsolve.plugins import hookimpl
from invsolve.plugins.former import moved
from invsolve.plugins.listing import listed

__getattr__, _names, __all__ = attach_stub(__name__, __file__)

MOVED = {
    "invsolve_operators.blocks": "invsolve_operators.transforms.blocks",
    "invsolve_operators.blur": "invsolve_operators.blurs.blur",
    "invsolve_operators.camera": "invsolve_operators.nonlinear.camera",
    "invsolve_operators.coils": "invsolve_operators.mri.coils",
    "invsolve_operators.decimate": "invsolve_operators.fewer.decimate",
    "invsolve_operators.downsample": "invsolve_operators.fewer.downsample",
    "invsolve_operators.drawn_masks": "invsolve_operators.masks.drawn",
    "invsolve_operators.film": "invsolve_operators.masks.film",
    "invsolve_operators.fourier": "invsolve_operators.transforms.fourier",
    "invsolve_operators.hadamard": "invsolve_operators.transforms.hadamard",
    "invsolve_operators.jpeg": "invsolve_operators.nonlinear.jpeg",
    "invsolve_operators.kernel_files": "invsolve_operators.blurs.kernel_files",
    "invsolve_operators.kernels": "invsolve_operators.blurs.kernels",
    "invsolve_operators.mask": "invsolve_operators.masks.mask",
    "invsolve_operators.mask_files": "invsolve_operators.masks.files",
    "invsolve_operators.mosaic": "invsolve_operators.colour.mosaic",
    "invsolve_operators.padded": "invsolve_operators.blurs.padded",
    "invsolve_operators.phase": "invsolve_operators.nonlinear.phase",
    "invsolve_operators.presets_blurs": "invsolve_operators.fewer.presets",
    "invsolve_operators.presets_masks": "invsolve_operators.masks.presets",
    "invsolve_operators.rounding": "invsolve_operators.nonlinear.rounding",
    "invsolve_operators.sampling": "invsolve_operators.mri.sampling",
    "invsolve_operators.sense": "invsolve_operators.mri.sense",
    "invsolve_operators.separable": "invsolve_operators.blurs.separable",
    "invsolve_operators.slices": "invsolve_operators.fewer.slices",
}
GONE = {"invsolve_operators.catalogue": "listed(invsolve_operators.__file__) of invsolve.plugins.listing: (name, class, summary) of each"}
moved(MOVED, GONE)


@hookimpl
def invsolve_register(registry: Any) -> None:
    """All operators of this package."""
    for name, target, summary in listed(__file__):
        registry.add("operator", name, f"invsolve_operators{target}", summary=summary)


def __dir__() -> list[str]:
    """The public names and the hooks, which the registry looks for here."""
    return sorted({*globals(), *_names()})
