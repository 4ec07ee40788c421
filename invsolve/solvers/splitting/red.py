"""RED: regularisation by denoising, solved for the equation that its iterations obey."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.operator.measurement import column, minus
from invsolve.priors.base import Denoiser, Prior
from invsolve.problem import Problem
from invsolve.ranges import Range, Ranges
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import proximal
from invsolve.solvers.splitting.common import level_gaps, noise_levels
from invsolve.solvers.splitting.hqs import START, for_samplers, spaced
from invsolve.solvers.start import first_image


@dataclass(frozen=True)
class RED(Solver):
    """Solve H^T (Hx - y) / |H|^2 + rho (x - D(x, s)) = 0, the level s falling to its last.

        fixed-point:  x <- argmin_u |Hu - y|^2 / |H|^2 + rho_k |u - D(x, s_k)|^2,   rho_k = strength sigma_x^2 / s_k^2
        gradient:     x <- x - (H^T (Hx - y) / |H|^2 + rho_k (x - D(x, s_k))) / (1 + rho_k)

    (D(x, s) - x) / s^2 is the score of p blurred by s (Tweedie), so with strength 1 a fixed point is a stationary point of the posterior
    under the blurred prior, whatever the denoiser: for N(m, C) the posterior mean under N(m, C + s^2). That is the bias; it goes as s does.

    Args:
        steps: network evaluations.
        form: "fixed-point", by the operator's prox (or some products with it where it has none), or "gradient", by H and H^T alone.
        sigma_start: first level in data units; None for DPIR's 49 / 255 within the prior's range; raised to the last one.
        denoiser_sigma: last level s; None for sigma_x, at least 0.02, within the prior's range: a denoiser told less moves hardly.
        strength: more trusts the denoiser more.
        noise: share of s_k that is added before the denoiser; None: 1 for a network made for samplers, but for the last step (see `hqs`),
            else 0.
        positive: x >= 0: x is cut.

    Raises:
        InputError: a parameter out of its range, or another form.

    References:
        The Little Engine that Could: Regularization by Denoising (Romano, Elad, Milanfar, 2017), arXiv:1611.02862, sections 4 and 5.
        Regularization by Denoising: Clarifications and New Interpretations (Reehorst, Schniter, 2018), arXiv:1806.02296.
        Errata: x^T (x - D(x)) / 2 has the gradient x - D(x), as the paper says, only if D is homogeneous and its Jacobian symmetric, which
        no network has and the exact denoiser of N(m, C) has for m = 0 only. So no objective is claimed or reported here: the equation is.
        Deviations: the level falls, with rho tied to it; the noise, as in Stochastic Denoising Regularization (Renaud et al., 2024),
        arXiv:2402.01779; sigma_x below 0.255 / 255 counts as that.
    """

    ranges: ClassVar[Ranges] = {
        "strength": Range(0.1, 10.0, log=True),
        "denoiser_sigma": Range(0.3, 3.0, log=True, unit="sigma_x"),
    }
    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.ADJOINT}), prior=(Denoiser,))
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.35}
    steps: int = 50
    form: str = "fixed-point"
    sigma_start: float | None = None
    denoiser_sigma: float | None = None
    strength: float = 1.0
    noise: float | None = None
    positive: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.steps, int) or self.steps < 1:
            raise InputError(f"steps must be a whole number, at least 1; given {self.steps!r}")
        if self.form not in ("fixed-point", "gradient"):
            raise InputError(f"form must be 'fixed-point' or 'gradient'; given {self.form!r}")
        for name in ("sigma_start", "denoiser_sigma", "strength"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name} must be positive and finite; given {value}")
        if self.noise is not None and not 0 <= self.noise <= 1:
            raise InputError(f"noise must lie in [0, 1], or be None; given {self.noise}")

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """A level outside the prior's range."""
        assert isinstance(prior, Denoiser)
        return level_gaps(prior, {"sigma_start": self.sigma_start, "denoiser_sigma": self.denoiser_sigma})

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """x is the answer; stats: s_k."""
        levels, operator = self.levels(problem, prior), problem.operator
        share = float(for_samplers(prior)) if self.noise is None else self.noise
        prox = proximal(problem)
        x = first_image(problem, start)
        for index in range(0 if start is None else start.index + 1, self.steps):
            level = levels[index]
            rho = self.strength * (noise_levels(problem) / level) ** 2
            noisy = x + column(share * level, x) * rng.normal_like(x) if share > 0 and index < self.steps - 1 else x
            mean = prior(noisy, level)
            if self.form == "fixed-point":
                x = prox(mean, problem.y, 1 / (rho * problem.gain**2))
            else:
                slope = operator.adjoint(minus(operator(x), problem.y)) / column(problem.gain, x) ** 2
                x = x - (slope + column(rho, x) * (x - mean)) / (1 + column(rho, x))
            x = x.clamp_min(0) if self.positive else x
            yield Step(index, self.steps, x, x, stats={"sigma": level})

    def levels(self, problem: Problem, prior: Denoiser) -> Tensor:
        """s_k, (steps, B)."""
        sigma, (low, high) = noise_levels(problem), prior.sigma_range
        end = sigma.clamp_min(LEAST).clamp(low, high) if self.denoiser_sigma is None else torch.full_like(sigma, self.denoiser_sigma)
        first = end.clamp_min(min(max(START, low), high) if self.sigma_start is None else self.sigma_start)
        falling = (self.steps + 1) // 2
        return torch.cat([spaced(first, end, falling), end.expand(self.steps - falling, -1)])

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps as they come, and by gradients with levels of one's own, noise and x >= 0."""
        return [cls(steps=8), cls(steps=4, form="gradient", sigma_start=0.4, denoiser_sigma=0.08, noise=0.5, positive=True)]


LEAST = 0.02  # of s by rule
