"""Iterations and time of IterativeProx with and without a preconditioner, on blurs that have no closed form.

python benchmarks/micro/preconditioners.py
"""

from __future__ import annotations

import time
import warnings

import torch
from invsolve_operators import GaussianBlur, Mask, PaddedBlur, SeparableGaussianBlur

from invsolve import IterativeProx

SIDE = 256


def disc(radius: int) -> torch.Tensor:
    """Out of focus: the mean over a disc, which is not separable."""
    axis = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = (axis[:, None].square() + axis.square() <= radius**2).double()
    return kernel / kernel.sum()


def main() -> None:
    """One row per operator, tau and preconditioner."""
    shape = (3, SIDE, SIDE)
    generator = torch.Generator().manual_seed(0)
    cases = {
        "disc of radius 4, reflect": PaddedBlur(shape, disc(4), "reflect"),
        "disc of radius 4, symmetric": PaddedBlur(shape, disc(4), "symmetric"),
        "Gaussian of 2 pixels, reflect": SeparableGaussianBlur(shape, 2.0, "reflect"),
        "disc of radius 4, zero": PaddedBlur(shape, disc(4), "zero"),
        "70 % of a Gaussian blur of 2 pixels": Mask(shape, keep=0.7) @ GaussianBlur(shape, 2.0),
        "70 % of a disc of radius 4, reflect": Mask(shape, keep=0.7) @ PaddedBlur(shape, disc(4), "reflect"),
    }
    x = torch.rand(1, *shape, generator=generator)
    x = GaussianBlur(shape, 1.0)(x)
    print("| operator | tau | preconditioner | iterations | seconds | error bound, rms |")
    print("|---|---|---|---|---|---|")
    warnings.simplefilter("ignore")
    for name, operator in cases.items():
        y = operator(x)
        y = y + 0.01 * torch.randn(y.shape, generator=generator)
        z = x + 0.1 * torch.randn(x.shape, generator=generator)
        for tau in (10.0, 1e3):
            for kind in (None, "circular", "symmetric", "reflect"):
                wrapped = IterativeProx(operator, 1e-4, 2000, kind)
                wrapped.solve_prox(z, y, 1.0)
                start = time.perf_counter()
                found = wrapped.solve_prox(z, y, tau)
                seconds = time.perf_counter() - start
                rms = float(found.bound) / x.numel() ** 0.5
                print(f"| {name} | {tau:g} | {kind or 'none'} | {int(found.iterations)} | {seconds:.2f} | {rms:.1e} |", flush=True)


if __name__ == "__main__":
    main()
