"""Priors whose posterior mean is exact and that the core does not need: a stationary Gaussian field, a Levy process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.priors.base import Denoiser, Prior
from invsolve.rng import Rng
from invsolve_benchmarks.truth.increments import KINDS
from invsolve_benchmarks.truth.lattice import Lattice


class FieldPrior(Denoiser):
    """A stationary Gaussian field on a torus: x0 ~ N(mean, F^-1 diag(S) F), S(f) ~ (f^2 + floor^2)^(-slope / 2).

        D(x, sigma) = mean + F^-1 S / (S + sigma^2) F (x - mean)

    Args:
        side: height and width.
        slope: of the power spectrum; natural pictures have 2 to 3.
        std: standard deviation of a pixel.
        mean: of every pixel.
        floor: the frequency below which the spectrum is flat, in cycles per picture.

    Raises:
        InputError: a side, a std or a floor that is not positive.
    """

    spectrum: Tensor

    def __init__(self, side: int = 8, slope: float = 3.0, std: float = 0.25, mean: float = 0.5, floor: float = 2.0) -> None:
        super().__init__()
        if not (side > 0 and std > 0 and floor > 0):
            raise InputError(f"side, std and floor must be positive; given {side}, {std}, {floor}")
        f = torch.fft.fftfreq(side, dtype=torch.float64) * side
        power = (f[:, None].square() + f[None, :].square() + floor**2) ** (-slope / 2)
        self.register_buffer("spectrum", power * std**2 / power.mean())
        self.mean, self.s0, self.centre, self.in_shape = float(mean), float(std), float(mean), (1, side, side)

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The Wiener filter at this level."""
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
        level = level.reshape(-1, 1, 1, 1) if level.ndim else level
        power = self.spectrum.to(x)
        half = power[:, : power.shape[1] // 2 + 1]
        return self.mean + torch.fft.irfft2(torch.fft.rfft2(x - self.mean) * (half / (half + level**2)), s=x.shape[-2:])

    def sample(self, shape: Sequence[int], rng: Rng, like: Tensor) -> Tensor:
        """(B, *shape) draws from the prior."""
        z = torch.fft.fft2(rng.normal(shape, like))
        return self.mean + torch.fft.ifft2(z * self.spectrum.to(like).sqrt()).real

    @classmethod
    def examples(cls) -> list[Prior]:
        """8 x 8."""
        return [cls(8)]


class LevyPrior(Denoiser):
    """A process with independent increments, (1, 1, n): x_1 ~ N(1/2, start^2), x_{k+1} = x_k + u_k.

    E[x0 | x0 + sigma n = x] by forward and backward messages on a lattice of spacing sigma / 3 at most; convolution with the increments'
    law is a product with their characteristic function, so that an atom at 0 is as exact as a density (`lattice.Lattice`). Against a
    lattice of half the spacing the estimate differs by less than 1e-4 sigma (a test). Computed in float64.

    Autograd: the Jacobian is Cov[x0 | x] / sigma^2, symmetric, so a product from the left is a directional derivative; it is taken by a
    central difference of relative error 1e-5. There is no second derivative.

    Args:
        increments: "laplace", "student" (three degrees of freedom) or "bernoulli-laplace".
        size: n.
        std: of an increment.
        start: standard deviation of x_1.

    Raises:
        InputError: another name, size < 2, or a deviation that is not positive.

    References:
        Stochastic Models for Sparse and Piecewise-Smooth Signals (Unser and Tafti, 2011), for the processes; A statistical framework to
        benchmark posterior samplers on them: Bohra et al. (2023), arXiv:2304.12031.
    """

    def __init__(self, increments: str = "laplace", size: int = 16, std: float = 0.06, start: float = 0.1) -> None:
        super().__init__()
        if increments not in KINDS:
            raise InputError(f"increments must be one of {', '.join(KINDS)}; given {increments!r}")
        if size < 2 or not (std > 0 and start > 0):
            raise InputError(f"size must be at least 2, std and start positive; given {size}, {std}, {start}")
        self.law, self.start, self.in_shape = type(KINDS[increments])(std), float(start), (1, 1, int(size))
        variances = start**2 + std**2 * torch.arange(size, dtype=torch.float64)
        self.s0, self.sigma_range = float(variances.mean().sqrt()), (0.01, 80.0)
        self.lattice = Lattice(self.law, self.start, 8 * float(variances[-1].sqrt()))

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """E[x0 | x], each level of the batch on a lattice of its own."""
        rows, level = x.flatten(1).double(), torch.as_tensor(sigma, dtype=torch.float64).reshape(-1).expand(len(x))
        out = torch.zeros_like(rows)
        for one in level.unique():
            chosen = level == one
            out = out.index_put((chosen.nonzero()[:, 0],), Estimate.apply(rows[chosen], float(one), self.lattice))
        return out.reshape(x.shape).to(x.dtype)

    def sample(self, shape: Sequence[int], rng: Rng, like: Tensor) -> Tensor:
        """(B, *shape) draws; every item has a stream of its own."""
        rows = []
        for stream, item in zip(rng.streams, rng.items, strict=True):
            one = Rng(0, [item])
            one.streams = [stream]
            wide = torch.zeros(tuple(shape), dtype=torch.float64)
            steps = self.law.sample(one, wide)
            steps[..., 0] = 0.5 + self.start * one.normal((), wide)[0]
            rows.append(steps.cumsum(-1))
        return torch.stack(rows).to(like)

    @classmethod
    def examples(cls) -> list[Prior]:
        """Eight samples of each law."""
        return [cls(name, 8) for name in KINDS]


class Estimate(torch.autograd.Function):
    """The lattice's estimate with its Jacobian by the rule that it is symmetric."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sigma: float, lattice: Lattice) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """E[x0 | x]."""
        ctx.save_for_backward(x)
        ctx.sigma, ctx.lattice = sigma, lattice
        return lattice.estimate(x, sigma)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """J g = (D(x + e g) - D(x - e g)) / (2 e), e g being a thousandth of sigma at most."""
        (x,), sigma = ctx.saved_tensors, ctx.sigma
        size = gradient.abs().amax(1, keepdim=True).clamp_min(1e-300)
        e = 1e-3 * sigma
        ends = ctx.lattice.estimate(torch.cat([x + e / size * gradient, x - e / size * gradient]), sigma)
        return (ends[: len(x)] - ends[len(x) :]) * size / (2 * e), None, None
