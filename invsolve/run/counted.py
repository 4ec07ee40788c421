"""The prior of a run, as the solver sees it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from invsolve.errors import InputError
from invsolve.priors.base import Denoiser, a_denoiser


class Counted(Denoiser):
    """The prior of a run: looks like the denoiser inside, and holds its estimates to x's shape and dtype.

    What else a prior of a class of its own has (a decoder, a method) is reached through it.
    """

    def __init__(self, inner: Denoiser) -> None:
        super().__init__()
        self.inner = inner
        self.take_after(inner)

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The inner denoiser's estimate, in x's dtype.

        Raises:
            InputError: it has another shape than x.
        """
        out = self.inner(x, sigma)
        if out.shape != x.shape:  # broadcasting would turn it into an image
            name = type(self.inner).__name__
            raise InputError(f"prior {name} must return images of shape {tuple(x.shape)}; it gave {tuple(out.shape)}")
        return out.to(x.dtype)

    def unconditional(self) -> Denoiser:
        """The inner denoiser without its condition, counted and held to x's shape and dtype too."""
        return Counted(a_denoiser(self.inner.unconditional(), self.inner))

    def sigmas(self, steps: int, grid: str = "karras", sigma_max: float | None = None) -> list[float]:
        """The inner denoiser's grid."""
        return self.inner.sigmas(steps, grid, sigma_max)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "inner" or name.startswith("__"):
                raise
            return getattr(self.inner, name)
