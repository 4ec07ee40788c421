"""What is left of x0 once x is seen, frequency by frequency, for images whose spectrum falls as that of photographs.

    Cov[x0 | x] ~ V = T^T diag(e sigma^2 / (e + sigma^2)) T,   e_k ~ (f_k + f_0)^-slope,   mean of e = s0^2

T is the orthonormal DCT, f = sqrt((i / h)^2 + (j / w)^2) the frequency of component (i, j) of an image of h x w pixels, f_0 = 1.5 / 64. It
is the covariance of x0 given x where x0 is a stationary Gaussian field with the spectrum e. Two numbers of the prior make it: s0 and
slope. A slope of 0 is white: V = r^2, the same at every frequency.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from invsolve.operator.measurement import Measurement, column, mapped, minus, parts
from invsolve.operator.preconditioners import mirrored
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solvers.diffusion.common import noise_of, real_normal
from invsolve.solvers.lanczos import shifted_solve

FLAT = 1.5 / 64  # f_0: below it a photograph's spectrum stays as it is
PRODUCTS = 15  # with H^T H a step: more change the picture by less than .05 dB


def spectrum(x: Tensor, slope: float, s0: float) -> Tensor:
    """e on the grid of the mirrored image's transform, (2 h, w + 1); a scalar, s0^2, for a slope of 0 or what is no image."""
    if slope == 0 or x.ndim != 4:
        return torch.full((), s0**2, dtype=x.dtype, device=x.device)
    height, width = x.shape[-2:]
    rows = torch.arange(2 * height, dtype=torch.float64, device=x.device)
    rows = torch.minimum(rows, 2 * height - rows) / height
    columns = torch.arange(width + 1, dtype=torch.float64, device=x.device) / width
    shape = (rows.square()[:, None] + columns.square()).sqrt().add(FLAT).pow(-slope)
    return (shape * (s0**2 / shape[:height, :width].mean())).to(x.dtype)


def filtered(x: Tensor, values: Tensor) -> Tensor:
    """T^T diag(values) T x, for values on the grid of `spectrum`."""
    if values.ndim == 0 or not len(x):
        return values * x
    height, width = x.shape[-2:]
    for dim in (-2, -1):
        x = mirrored(x, dim, shared=False)
    return torch.fft.irfft2(torch.fft.rfft2(x) * values, s=x.shape[-2:])[..., :height, :width]


@dataclass(frozen=True)
class Smooth:
    """The covariance above of one problem and prior.

    Args:
        problem: with a linear operator.
        e: the prior's spectrum, on the grid of the mirrored image.
    """

    problem: Problem
    e: Tensor

    @classmethod
    def of(cls, problem: Problem, prior: Denoiser, slope: float | None = None) -> Smooth:
        """That of the prior's s0 and slope."""
        return cls(problem, spectrum(problem.image, prior.slope if slope is None else slope, prior.s0))

    def values(self, sigma: float) -> Tensor:
        """The eigenvalues of V at this level of noise; e for infinity."""
        return self.e if math.isinf(sigma) else self.e * sigma**2 / (self.e + sigma**2)

    def mean(self, x0_hat: Tensor, sigma: float, noise: Measurement | None = None) -> Tensor:
        """x0_hat + V H^T (H V H^T + sigma_y^2)^-1 (y - H x0_hat): the mean of x0 given x and y, with `noise` added to y if given.

        Solved as x0_hat + S u, (1 + S H^T H S / sigma_y^2) u = S H^T (y - H x0_hat) / sigma_y^2 with S = V^(1/2), in PRODUCTS products.
        """
        operator, root, tau = self.problem.operator, self.values(sigma).sqrt(), noise_of(self.problem) ** -2
        left = minus(self.problem.y, operator(x0_hat))
        left = left if noise is None else plus(left, noise)

        def square(u: Tensor) -> Tensor:
            return filtered(operator.adjoint(operator(filtered(u, root))), root)

        right = filtered(operator.adjoint(left), root)
        tau = tau.expand(len(x0_hat)).to(right.dtype)
        return x0_hat + filtered(shifted_solve(square, right * column(tau, right), tau, PRODUCTS), root)

    def draw(self, x0_hat: Tensor, sigma: float, rng: Rng) -> Tensor:
        """One draw from the law of x0 given x and y: the mean for a drawn x0 and a drawn measurement of it."""
        drawn = x0_hat + filtered(rng.normal_like(x0_hat), self.values(sigma).sqrt())
        level = noise_of(self.problem)
        kicks = [real_normal(part, rng) for part in parts(self.problem.y)]
        kicks = [column(level.expand(len(kick)), kick) * kick for kick in kicks]
        return self.mean(drawn, sigma, tuple(kicks) if isinstance(self.problem.y, tuple) else kicks[0])


def plus(first: Measurement, second: Measurement) -> Measurement:
    """The sum of two measurements, part by part."""
    return minus(first, mapped(torch.neg, second))
