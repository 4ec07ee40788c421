"""OT-ODE: the flow's own ODE with the likelihood's gradient taken through the network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.operator.measurement import column, minus
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import Restorer, generic_step, initial, noise_of, proximal, white_spread
from invsolve.solvers.guidance.common import from_rows, linearised, rows_of
from invsolve.solvers.paths import ahead
from invsolve.solvers.ranges import need_count, need_name

Back = Callable[[Tensor], Tensor]  # v -> (dx0_hat / dx)^T v


@dataclass(frozen=True)
class OTODE(Restorer):
    """Follow the deterministic path of p(x | y) from noise to an image, with p(y | x_t) = N(H x0_hat, sigma_y^2 + H C H^T).

        x0~ = x0_hat + gamma sigma^2 J^T H^T (sigma_y^2 + H C H^T)^-1 (y - H x0_hat),   J = dx0_hat / dx_t
        x_s = x0~ + sigma_s (x_t - x0~) / sigma_t;   the last step returns x0~

    C = Cov[x0 | x_t] = sigma^2 J (Tweedie's second formula, for every prior) makes x0~ = E[x0 | x_t, y] for every Gaussian prior, and the
    path exact up to its steps; C = r^2, r^2 = s0^2 sigma^2 / (s0^2 + sigma^2), as in the paper, for white ones only. Fresh noise would put
    errors of C right; here there is none, and they stay.

    In a flow's own variables x_t / t is the state here and sigma = (1 - t) / t in the prior's unit ([-1, 1]).

    Args:
        steps: network evaluations, each with backward passes: 1 for "white", `products` for "tweedie".
        covariance: C, "tweedie" or "white".
        products: of J with a vector, for "tweedie": directions of y in which sigma_y^2 + H C H^T is inverted; exact with as many as y has.
            A network's J is not symmetric: from the second on directions follow rounding, so that two machines may part (`natural`, six
            steps of 3 products: .2; of 1: 2e-6), and 5 from 20 s0 on are not stable.
        gamma: "constant", 1, or "schedule", sqrt(t / (t^2 + (1 - t)^2)): for "white", the paper's two.
        order: of the steps: 2, by the line through two estimates (DPM-Solver++ 2M), or 1, Euler's, as in the paper. With 30 steps the
            covariance is 1 % off at 2 and 12 % too small at 1, whose narrower draws of photographs are .6 to 1.4 dB nearer.
        grid: name of the sigma grid.
        sigma_max: first noise level in data units; None for 20 s0 on the grid `karras`.

    Raises:
        InputError: a field out of its range.

    References:
        Training-free Linear Image Inverses via Flows (Pokle et al., 2024), arXiv:2310.04432, algorithm 1.
        Deviations: C of Tweedie's formula, which is ours, by default; levels of the grid, which lie denser at small noise, in place of
        equal steps of t from t0 = .1 to .4 on; the start, which is t0 y + (1 - t0) z there. For the path of a diffusion and that of a flow
        with straight paths of one point are one: x0_hat is the same object. With covariance="white", order=1, s0 = 1/2 and their levels it
        agrees with the code of PnP-Flow's authors to 1e-15 (benchmarks/results/parity.md).
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.ADJOINT}), gradient=True)
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.35, "cov": 0.25, "trace": (0.9, 1.15)}
    steps: int = 30
    covariance: str = "tweedie"
    products: int = 1
    gamma: str = "constant"
    order: int = 2
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        need_count(self, "products")
        if self.order not in (1, 2):
            raise InputError(f"order must be 1 or 2; given {self.order}")
        need_name(self, "covariance", ("tweedie", "white"))
        need_name(self, "gamma", ("constant", "schedule"))

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer."""
        sigmas = self.sigmas(prior)
        prox = proximal(problem)
        first, x = initial(problem, prior, rng, sigmas[0], start, prox)
        total = len(sigmas) - 1
        before = (start.state["estimate"], sigmas[first - 1]) if start is not None and "estimate" in start.state else None
        for index in range(first, total):
            sigma, following = sigmas[index], sigmas[index + 1]
            x0_hat, back = linearised(prior, x, sigma)
            if self.covariance == "tweedie":
                moved = x0_hat + self._exact(problem, x0_hat, back, sigma)
            else:
                r = white_spread(prior, sigma)
                pulled = prox(x0_hat, problem.y, r / noise_of(problem).square()) - x0_hat
                moved = x0_hat + self.weight(prior, sigma) * sigma**2 / r * back(pulled)
            estimated = moved if self.order == 1 else ahead(moved, before, sigma, following)
            x, before = generic_step(x, estimated, sigma, following, 0.0, rng), (moved, sigma)
            yield Step(index, total, x, x0_hat, following, state={"estimate": moved})

    def weight(self, prior: Denoiser, sigma: float) -> float:
        """gamma_t, t = 1 / (1 + sigma) in the prior's unit."""
        t = 1 / (1 + prior.unit.sigma(sigma))
        return 1.0 if self.gamma == "constant" else math.sqrt(t / (t**2 + (1 - t) ** 2))

    def _exact(self, problem: Problem, x0_hat: Tensor, back: Back, sigma: float) -> Tensor:
        """C H^T (sigma_y^2 + H C H^T)^-1 (y - H x0_hat), C = sigma^2 J^T."""
        operator, precision = problem.operator, 1 / noise_of(problem).square()
        residual = minus(problem.y, operator(x0_hat))

        def spread(rows: Tensor) -> Tensor:
            return rows_of(operator(sigma**2 * back(operator.adjoint(from_rows(rows, residual)))))

        right = rows_of(residual)
        solved = column(precision, right) * positive_solve(spread, right, precision, self.products)
        return sigma**2 * back(operator.adjoint(from_rows(solved, residual)))

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps with each covariance."""
        return [cls(steps=8), cls(steps=4, covariance="white", gamma="schedule", order=1, sigma_max=2.0)]


def positive_solve(apply: Callable[[Tensor], Tensor], right: Tensor, tau: Tensor, products: int) -> Tensor:
    """About (1 + tau A)^-1 b for an A that should be symmetric and positive and, of a network, is only nearly so.

        d = Q (1 + tau (T)_+)^-1 Q^T b,   T the symmetric part of Q^T A Q, Q an orthonormal basis of b, A b, ...

    (T)_+ has its negative eigenvalues put to 0, so that |d| <= |b| whatever A is; of an A as it should be, d is the iterate of conjugate
    gradients, and exact with as many products as b has numbers.

    Args:
        apply: v -> A v, on rows (B, m).
        right: b, (B, m), real.
        tau: (B,), not negative.
        products: with A.
    """
    count, tiny = min(products, right.shape[1]), torch.finfo(right.dtype).tiny
    basis, images = right.new_zeros(len(right), count, right.shape[1]), right.new_zeros(len(right), count, right.shape[1])
    direction, scale = right / right.norm(dim=1, keepdim=True).clamp_min(tiny), right.new_zeros(len(right), 1)
    for index in range(count):
        basis[:, index], images[:, index] = direction, apply(direction)
        rest, held = images[:, index], basis[:, : index + 1]
        scale = torch.maximum(scale, rest.norm(dim=1, keepdim=True))
        for _ in range(2):  # twice is enough
            rest = rest - torch.einsum("bkm,bk->bm", held, torch.einsum("bkm,bm->bk", held, rest))
        length = rest.norm(dim=1, keepdim=True)
        going = length > right.shape[1] * torch.finfo(right.dtype).eps * scale
        direction = torch.where(going, rest / length.clamp_min(tiny), 0.0)
    inner = basis @ images.mT
    sound = inner.isfinite().all(2).all(1)[:, None, None]  # LAPACK raises where a network has diverged; the run's own check says it better
    values, vectors = torch.linalg.eigh(torch.where(sound, 0.5 * (inner + inner.mT), 0.0))
    turned = torch.einsum("bkj,bk->bj", vectors, torch.einsum("bkm,bm->bk", basis, right))
    turned = torch.einsum("bkj,bj->bk", vectors, turned / (1 + tau[:, None] * values.clamp_min(0)))
    return torch.einsum("bkm,bk->bm", basis, turned)
