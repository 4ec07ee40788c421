"""First-party operators: masks, circular and separable blurs, downsampling, grey from colour.

Classes are imported at first use, so that finding the plug-in does not wait for torch:

    from invsolve_operators import GaussianBlur, Mask
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from invsolve.hookspecs import hookimpl

if TYPE_CHECKING:
    from invsolve_operators.blur import GaussianBlur, KernelBlur, MotionBlur
    from invsolve_operators.colour import Grey
    from invsolve_operators.decimate import BlurDecimate
    from invsolve_operators.downsample import Bicubic, BlockMean
    from invsolve_operators.identity import Identity
    from invsolve_operators.mask import BoxMask, Mask
    from invsolve_operators.separable import SeparableBlur, SeparableGaussianBlur

_HOME = {
    "Bicubic": "downsample",
    "BlockMean": "downsample",
    "BlurDecimate": "decimate",
    "BoxMask": "mask",
    "GaussianBlur": "blur",
    "Grey": "colour",
    "Identity": "identity",
    "KernelBlur": "blur",
    "Mask": "mask",
    "MotionBlur": "blur",
    "SeparableBlur": "separable",
    "SeparableGaussianBlur": "separable",
}

__all__ = [
    "Bicubic",
    "BlockMean",
    "BlurDecimate",
    "BoxMask",
    "GaussianBlur",
    "Grey",
    "Identity",
    "KernelBlur",
    "Mask",
    "MotionBlur",
    "SeparableBlur",
    "SeparableGaussianBlur",
]


@hookimpl
def invsolve_register(registry: Any) -> None:
    """All operators of this package."""

    def add(name: str, cls: str, summary: str) -> None:
        registry.add("operator", name, f"invsolve_operators.{_HOME[cls]}:{cls}", summary=summary)

    add("identity", "Identity", "denoising: y = x + n")
    add("mask", "Mask", "random pixels kept, or any 0/1 mask, also one per image")
    add("box-mask", "BoxMask", "a rectangle missing")
    add("gaussian-blur", "GaussianBlur", "circular Gaussian blur by FFT")
    add("motion-blur", "MotionBlur", "circular motion blur by FFT: a line or a random path")
    add("kernel-blur", "KernelBlur", "circular blur by FFT with any kernel, also one per image")
    add("separable-blur", "SeparableBlur", "blur by two 1-D kernels with zero, reflect, symmetric or circular boundary")
    add("separable-gaussian-blur", "SeparableGaussianBlur", "Gaussian blur with zero, reflect, symmetric or circular boundary")
    add("block-mean", "BlockMean", "super-resolution: mean of factor x factor blocks")
    add("bicubic", "Bicubic", "super-resolution: antialiased bicubic downsampling")
    add("blur-decimate", "BlurDecimate", "super-resolution: circular blur, then the upper-left pixel of each block")
    add("grey", "Grey", "colourisation: weighted mean of the channels")


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"invsolve_operators.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'invsolve_operators' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
