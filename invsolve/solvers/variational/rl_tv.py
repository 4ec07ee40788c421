"""Richardson-Lucy with total variation (EM-TV): the field's own method for counts, whose images cannot go below 0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import torch
from torch import Tensor

from invsolve.noise import PoissonNoise
from invsolve.operator import Capability
from invsolve.operator.measurement import column, mapped
from invsolve.priors.base import Prior
from invsolve.priors.tv import TotalVariation, axes_of, differences, plus_divergence, steepest
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.ranges import need_count
from invsolve.solvers.variational.common import first_image, objective, objective_gaps

LEAST = 0.1  # of a count, in units of the image: what starts at 0 stays there


@dataclass(frozen=True)
class RLTV(Solver):
    """Minimise nll(y, Hx) + weight TV(x) over x >= 0 for counts: a Richardson-Lucy step, then a weighted denoising of what it gives.

        x' = x / (H^T 1) * H^T (y / Hx)
        x <- argmin_{u >= 0}  sum (H^T 1 / (2 gain x)) (u - x')^2 + weight TV(u)

    A fixed point is a minimiser: there (H^T 1 - H^T (y / Hx)) / gain + weight dTV(x) contains 0 where x > 0. With weight 0 it is
    Richardson and Lucy's method, which is EM for the Poisson likelihood. Hx >= 0 must hold for x >= 0, as it does for blurs and
    masks; pixels that no measurement sees are left to TV. Below a tenth of a count y / Hx is what the likelihood goes on with there.

    Args:
        steps: Richardson-Lucy steps; each costs a product with H and one with H^T.
        inner: steps of the denoising's dual, warm-started.

    Raises:
        InputError: steps or inner < 1.

    References:
        Bayesian-Based Iterative Method of Image Restoration (Richardson, 1972); An Iterative Technique for the Rectification of Observed
        Distributions (Lucy, 1974); Richardson-Lucy Algorithm with Total Variation Regularization (Dey et al., 2006), Microscopy Research
        and Technique 69(4); Accurate EM-TV Algorithm in PET with Low SNR (Sawatzky, Brune, Wübbeling, Kösters, Schäfers, Burger, 2008).
        Deviations: Dey et al. take TV's gradient at the old x, which divides by something that may vanish; here as in EM-TV the second
        line is solved, on its dual with steps of its own for every pixel; no damping.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.ADJOINT}), prior=(TotalVariation,), noise=(PoissonNoise,))
    expected_failures: ClassVar[Mapping[str, str]] = {
        "check_divergence": "TV's prox is taken on its dual here, a spoilt prox is not met, a spoilt value shows in the objective only"
    }
    steps: int = 1000
    inner: int = 3

    def __post_init__(self) -> None:
        need_count(self, "steps", "inner")

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """An unusable weight, or complex data."""
        assert isinstance(prior, TotalVariation)
        gaps = objective_gaps(problem, prior)
        if problem.operator.complex_output:
            gaps.append(f"operator {problem.operator.label} gives complex numbers, and counts are real")
        return gaps

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: TotalVariation, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """x is the answer; stats: the objective at x per item."""
        operator, noise = problem.operator, problem.noise
        assert isinstance(noise, PoissonNoise)
        least = column(LEAST * noise.gain / problem.gain, problem.image)
        x = first_image(problem, start)
        x = torch.maximum(x, least) if start is None else x.clamp_min(0)
        dual = start.state.get("dual") if start is not None else None
        dual = torch.zeros_like(differences(x)) if dual is None else dual
        seen = operator.adjoint(mapped(torch.ones_like, problem.y)).clamp_min(0)
        # Seen by nothing: x as it is, with the weight that the rest has on average, or of a count where there is no rest.
        average = seen.mean((1, 2, 3), keepdim=True)
        share = torch.where(seen > 0, seen, torch.where(average > 0, average, noise.gain))
        for index in range(0 if start is None else start.index + 1, self.steps):
            back = operator.adjoint(mapped(lambda y, mean: ratio(y, mean, noise), problem.y, operator(x)))
            risen = torch.where(seen > 0, x * back.clamp_min(0) / share, x)
            spread = noise.gain * x / share.clamp_min(torch.finfo(x.dtype).tiny)
            x, dual = smoothed(prior, risen, spread, dual, self.inner)
            yield Step(index, self.steps, x, x, stats={"objective": objective(problem, prior, x)}, state={"dual": dual})

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps."""
        return [cls(steps=8)]


def ratio(y: Tensor, mean: Tensor, noise: PoissonNoise) -> Tensor:
    """1 - gain d nll / d mean: y / mean, and below the likelihood's floor what it goes on with."""
    least = noise.floor * noise.gain
    return torch.where(mean >= least, y / mean.clamp_min(least), 1 + (y - mean) / least)


def smoothed(prior: TotalVariation, x: Tensor, spread: Tensor, dual: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """argmin_{u >= 0} sum (u - x)^2 / (2 spread) + weight TV(u), and its dual p, |p| <= 1: u = max(x - weight spread D^T p, 0).

    FISTA on the dual. Its Hessian weight^2 D spread D^T is below the diagonal of its absolute row sums, 4 weight^2 (spread_a +
    spread_b) for the difference of pixels a and b, 6 for that of voxels: that gives every pixel a step of its own.
    """
    if prior.weight == 0:
        return x.clamp_min(0), dual
    pull = prior.weight * spread
    beside = reduce(torch.maximum, [neighbour(pull, axis) for axis in axes_of(x)])
    step = (steepest(x) / 2 * (pull + beside)).clamp_min(torch.finfo(x.dtype).tiny).reciprocal()[:, None]
    old, ahead, zero = dual, dual, torch.zeros_like(x)

    def image(p: Tensor) -> Tensor:
        return (x + pull * plus_divergence(zero, p, torch.empty_like(x))).clamp_min(0)

    for index in range(steps):
        new = projected(ahead + step * differences(image(ahead)), prior.isotropic)
        ahead, old = new + index / (index + 5) * (new - old), new
    return image(old), old


def neighbour(x: Tensor, dim: int) -> Tensor:
    """The next pixel's value along a side; the last one's own."""
    return torch.cat([x.narrow(dim, 1, x.shape[dim] - 1), x.narrow(dim, x.shape[dim] - 1, 1)], dim)


def projected(p: Tensor, isotropic: bool) -> Tensor:
    """p onto |p| <= 1, pixel by pixel."""
    if not isotropic:
        return p.clamp(-1, 1)
    return p / p.square().sum(1, keepdim=True).sqrt().clamp_min(1)
