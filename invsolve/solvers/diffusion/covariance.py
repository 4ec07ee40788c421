"""What is left of x0 once x is seen, frequency by frequency, for images whose spectrum falls as that of photographs.

    Cov[x0 | x] ~ V = T^T diag(e sigma^2 / (e + sigma^2)) T,   e_k ~ (f_k + f_0)^-slope,   mean of e = s0^2

T is the orthonormal DCT, f = sqrt((i / h)^2 + (j / w)^2) the frequency of component (i, j) of an image of h x w pixels, f_0 = 1.5 / 64. It
is the covariance of x0 given x where x0 is a stationary Gaussian field with the spectrum e. Two numbers of the prior make it: s0 and
slope. A slope of 0 is white: V = r^2, the same at every frequency.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from invsolve.operator.measurement import Measurement, column, mapped, minus, parts
from invsolve.operator.preconditioners import convolved
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solvers.diffusion.common import noise_of, proximal, real_normal
from invsolve.solvers.start import SLACK, chebyshev, seen_share

FLAT = 1.5 / 64  # f_0: below it a photograph's spectrum stays as it is
# Steps of the iteration, and the eigenvalues it is made for: what lies below them (the middle of a large hole) comes in over the levels.
PRODUCTS, SPREAD = 20, 100.0
COARSE = 0.05  # of the noise in units of the image, for which that is enough
FIRST = 4, 20.0  # times as many, and for so much more, where there is no estimate to start from


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
    if x.ndim != 4 or values.shape[-2:].numel() == 1 or not len(x):
        return values * x
    return convolved(x, values)


@dataclass(frozen=True)
class Smooth:
    """The covariance above of one problem and prior.

    Args:
        problem: with a linear operator.
        e: the prior's spectrum, on the grid of the mirrored image.
    """

    problem: Problem
    e: Tensor

    @cached_property
    def share(self) -> Tensor:
        """About the mean diagonal of H^T H / |H|^2, (B,)."""
        return seen_share(self.problem)

    @classmethod
    def of(cls, problem: Problem, prior: Denoiser, slope: float | None = None) -> Smooth:
        """That of the prior's s0 and slope; made once for a problem, with which it is kept, as its gain is."""
        key = (prior.slope if slope is None else slope, prior.s0)
        kept = vars(problem).setdefault("smooth", {})
        if key not in kept:
            kept[key] = cls(problem, spectrum(problem.image, *key))
        return kept[key]

    def values(self, sigma: float) -> Tensor:
        """The eigenvalues of V at this level of noise; e for infinity."""
        return self.e if math.isinf(sigma) else self.e * sigma**2 / (self.e + sigma**2)

    def mean(self, x0_hat: Tensor, sigma: float, noise: Measurement | None = None) -> Tensor:
        """x0_hat + V H^T (H V H^T + sigma_y^2)^-1 (y - H x0_hat): the mean of x0 given x and y, with `noise` added to y if given.

        As x0_hat + d, (H^T H + sigma_y^2 V^-1) d = H^T (y - H x0_hat), by Chebyshev's iteration, preconditioned by c + sigma_y^2 V^-1
        (c the mean diagonal of H^T H), with noise of COARSE at least and then, from there, with the noise that there is: the first fills
        large holes soon. No coefficient depends on y: x is affine in y, and rounding is not blown up as it is in the directions of
        conjugate gradients, which would make an item's image depend on its batch.
        """
        y = self.problem.y if noise is None else plus(self.problem.y, noise)
        if self.e.ndim == 0:  # white: the closed form, where there is one
            return proximal(self.problem)(x0_hat, y, self.values(sigma) / noise_of(self.problem).square())
        right = self.problem.operator.adjoint(minus(y, self.problem.operator(x0_hat))) / column(self.problem.gain, x0_hat) ** 2
        level = noise_of(self.problem) / self.problem.gain
        found = self._solved(right, torch.zeros_like(right), level.clamp_min(COARSE), sigma)
        if self.quiet is not None:
            found = torch.where(self.quiet, self._solved(right, found, level, sigma), found)
        return x0_hat + found

    @cached_property
    def quiet(self) -> Tensor | None:
        """Where the noise is below COARSE, (B, 1, 1, 1); None if nowhere.

        By a thousandth at least: noise of COARSE itself, which people do give, would be on either side by how its unit rounds.
        """
        found = noise_of(self.problem) / self.problem.gain < COARSE * (1 - 1e-3)
        return column(found, self.problem.image).bool() if bool(found.any()) else None

    def _solved(self, right: Tensor, d: Tensor, level: Tensor, sigma: float) -> Tensor:
        """(H^T H / |H|^2 + level^2 V^-1) d = right, from d."""
        operator, size = self.problem.operator, column(self.problem.gain, d) ** 2
        seen, pull = column(self.share, d), column(level, d) ** 2 / self.values(sigma)

        def apply(d: Tensor) -> Tensor:
            return operator.adjoint(operator(d)) / size + filtered(d, pull)

        def divided(r: Tensor) -> Tensor:
            return filtered(r, 1 / (seen + pull))

        least = pull.amin((-2, -1), keepdim=True)
        largest = ((SLACK + least) / (seen + least)).clamp_min(1.0)
        more, wider = FIRST if math.isinf(sigma) else (1, 1.0)
        return chebyshev(apply, divided, right, d, largest, PRODUCTS * more, SPREAD * wider)

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
