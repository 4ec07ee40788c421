"""DPS: diffusion posterior sampling, the likelihood's gradient taken through the network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.noise import Ability
from invsolve.operator import Capability
from invsolve.operator.measurement import Measurement, column, flat, mapped, minus
from invsolve.plugins.former import without
from invsolve.priors.base import Denoiser
from invsolve.priors.meter import network_time
from invsolve.problem import Problem
from invsolve.ranges import Range, Ranges
from invsolve.rng import Rng
from invsolve.schedule import DiscreteVP
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import Restorer, estimate, generic_step, initial, inner_norm
from invsolve.unit import Unit

LIMIT = 2.0  # of scale: at it, what a step changes in the residual along the largest singular vector is twice that residual
SCALE, AUTHORS_SCALE = 1.5, 0.5


@dataclass(frozen=True)
class DPS(Restorer):
    """Guide every estimate by the gradient of the likelihood through the network, then go to the next noise level.

        x0~ = x0_hat - scale sigma_t^2 grad_{x_t} 1/2 sum_j (y - H x0_hat(x_t))_j^2 / (v_j + |H|^2 sigma_t^2)
        x_s = x0~ + sigma_s (sqrt(1 - zeta) (x_t - x0~) / sigma_t + sqrt(zeta) z);   the last step returns x0~

    v = Var[y | H x0_hat] entry by entry. Works for any differentiable operator (|H| is then that of its Jacobian) and any noise.

    At scale 1 this is Tweedie's formula for p(x | y), with p(y | x_t) = N(H x0_hat, v + |H|^2 sigma_t^2). What a step does to a residual
    along a singular vector s is at most its scale s^2 / |H|^2, since the network's Jacobian does not exceed 1: nothing is overshot below
    scale 2, and nothing depends on the number of measurements, on the unit of y, or on where the grid puts its steps. The noise weakens
    the pull by itself where sigma_t < sigma_y / |H|: the last steps do not fit it.

    zeta = 1 gives one good picture, whose spread says little: on photographs (`natural`, sigma_y .05) the variance of samples is .03 to
    .12 of the squared error of their mean. zeta = None is the ancestral step of the paper: .33 to .56, and each sample 1.5 to 2.5 dB worse,
    since an exact draw has twice the squared error of the posterior mean. Where singular values span two decades the weak ones are hardly
    served. benchmarks/results/dps.md has the figures; the law under a Gaussian prior is held by the tests.

    Args:
        steps: network evaluations, each with a backward pass.
        scale: weight of the likelihood, 0 <= scale < 2; None for 1.5, which serves every operator, size, noise level and grid that was
            tried. With authors=True their zeta, 0.3 (deblurring, super-resolution) to 1 (phase retrieval), None for 0.5 (inpainting).
        zeta: share of fresh noise, 0 to 1; None for the ancestral share 1 - (sigma_s / sigma_t)^2.
        grid: name of the sigma grid; a DiffusionPrior brings its own levels.
        sigma_max: first noise level in data units; None for 20 standard deviations of the prior's data.
        authors: their recurrence, sigma_y and zeta unused, from the top of the prior's range:
            x_s = ancestral(x_t, x0_hat) - n (scale / w) sqrt((1 + w^2 sigma_t^2) (1 + w^2 sigma_s^2)) grad_{x_t} |y - H x0_hat(x_t)|,
            n the number of the authors' 1000 steps between the two levels, which is 1 on their own grid (`vp-respaced`, 1000 steps):
            one scale means the same guidance on any grid. w is the width of the prior's unit, 2 for [-1, 1].

    Raises:
        InputError: scale is negative, not finite, or 2 and more without authors=True; zeta is not between 0 and 1.

    References:
        Diffusion Posterior Sampling for General Noisy Inverse Problems (Chung et al., 2023), arXiv:2209.14687, algorithm 1.
        Deviations: the paper's step has a length that does not shrink with the residual, so that its zeta must be tuned anew for every
        size, operator, noise and grid, and loses to the prior alone where the noise is large; v + |H|^2 sigma^2 in its place is
        the bound Cov[x0 | x_t] <= sigma_t^2 of the covariance that Pseudoinverse-Guided Diffusion Models (Song et al., 2023) use. zeta is
        DiffPIR's. With authors=True: their code's norm, not its square (the paper's zeta_i = zeta' / |y - H x0_hat| makes both agree).
        Everywhere: norms are per item, so that a batch is its items; a residual of 0 has gradient 0, not NaN; noise whose variance
        differs from entry to entry (Poisson) weights them, by sqrt(mean v / v), v taken at y, in the norm of authors=True instead of the
        authors' division by |y|; v is at least that of one count; noise where a mask measures nothing does not enter (E9), since a
        Problem sets y to 0 there. With authors=True it agrees with their code to 3e-13 on shared noise, 1000 steps
        (benchmarks/results/parity.md).
    """

    ranges: ClassVar[Ranges] = {"scale": Range(0.2, 1.95), "zeta": Range(0.0, 1.0)}
    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.DIFFERENTIABLE}), noise=frozenset(), gradient=True)
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.35, "cov": 0.6, "trace": (0.4, 0.6)}
    reach: ClassVar[float] = 20.0
    steps: int = 100
    scale: float | None = None
    zeta: float | None = 1.0
    grid: str = "karras"
    sigma_max: float | None = None
    authors: bool = False

    def __post_init__(self) -> None:
        if self.scale is not None and not (math.isfinite(self.scale) and self.scale >= 0):
            raise InputError(f"scale must be finite and not negative; given {self.scale}")
        if self.scale is not None and self.scale >= LIMIT and not self.authors:
            raise InputError(
                f"scale must be below 2, where a step overshoots the data (1.5 is the default); given {self.scale}. "
                "Values tuned for a norm's gradient belong to DPS(authors=True)"
            )
        if self.zeta is not None and not 0 <= self.zeta <= 1:
            raise InputError(f"zeta must be between 0 and 1, or None for ancestral steps; given {self.zeta}")

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer."""
        sigmas = self.sigmas(prior)
        first, x = initial(problem, prior, rng, sigmas[0], start)
        total = len(sigmas) - 1
        for index in range(first, total):
            sigma, following = sigmas[index], sigmas[index + 1]
            x0_hat, gradient, residual = self.guide(problem, prior, x, sigma)
            if self.authors:
                x = generic_step(x, x0_hat, sigma, following, 1.0, rng) - self._length(prior.unit, sigma, following) * gradient
            else:
                guided = x0_hat - (SCALE if self.scale is None else self.scale) * gradient
                x = generic_step(x, guided, sigma, following, self._eta(sigma, following), rng)
            yield Step(index, total, x, x0_hat, following, stats={"residual": residual})

    def guide(self, problem: Problem, prior: Denoiser, x: Tensor, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
        """x0_hat, the gradient in x of the misfit, and |y - H x0_hat| per item."""
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            x0_hat = estimate(prior, x, sigma)
            clean = problem.operator(x0_hat)
            residual = flat(minus(problem.y, clean))
            misfit = self._misfit(problem, residual, mapped(torch.detach, clean), sigma)
            with network_time():  # the backward pass is the network's time too
                (gradient,) = torch.autograd.grad(misfit.sum(), x)
        return x0_hat.detach(), gradient, inner_norm(residual.detach())

    def _misfit(self, problem: Problem, residual: Tensor, clean: Measurement, sigma: float) -> Tensor:
        """What is made smaller, (B,): sigma^2 times the likelihood's -log, or the authors' norm."""
        if self.authors:
            spread = variances(problem, problem.y)
            weight = torch.where(spread > 0, (spread.mean(1, keepdim=True) / spread).sqrt(), 1.0)
            return inner_norm(weight * residual)
        width = variances(problem, clean) + column(problem.gain * sigma, residual).square()
        return 0.5 * (sigma**2 / width * residual.abs().square()).sum(1)

    def _length(self, unit: Unit, sigma: float, following: float) -> float:
        """What multiplies the norm's gradient: the authors' step from a VP state in their unit to a VE state in [0, 1]."""
        scale = AUTHORS_SCALE if self.scale is None else self.scale
        level, after = unit.sigma(sigma), unit.sigma(following)
        return crossed(level, after) * scale / unit.width * math.sqrt((1 + level**2) * (1 + after**2))

    def _eta(self, sigma: float, following: float) -> float:
        """The generic step's eta that makes a share zeta of the next level's noise fresh."""
        return 1.0 if self.zeta is None else math.sqrt(self.zeta / (1 - (following / sigma) ** 2))

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps, with fresh noise, ancestral, and as the authors have it."""
        return [cls(steps=8), cls(steps=4, zeta=None), cls(steps=4, scale=0.3, authors=True)]


def variances(problem: Problem, clean: Measurement) -> Tensor:
    """Var[y | clean] entry by entry, (B, m), at least that of one count; (B, 1) for noise that is even or does not say."""
    if Ability.VARIANCE not in problem.noise.abilities or Ability.SIGMA in problem.noise.abilities:
        return problem.level[:, None].square()
    return flat(problem.noise.variance(clean)).real.clamp_min(problem.noise.quantum**2)


def crossed(sigma: float, following: float) -> float:
    """How many of the authors' 1000 steps lie between two levels of a network's unit; 1000 from their top to 0."""
    return _time(sigma) - _time(following)


def _time(sigma: float) -> float:
    """The (fractional) index of a level on the authors' schedule; -1 for 0, the state that their last step leads to."""
    return -1.0 if sigma == 0 else float(DiscreteVP().time(torch.tensor(sigma, dtype=torch.float64)))


without(__name__, {"residual_weight": "(v.mean(1, keepdim=True) / v).sqrt() with v = variances(problem, problem.y), which stands here"})
