"""An estimate of how well the clean measurement is met, without the truth: for tuning where nobody has one."""

from __future__ import annotations

import torch
from torch import Tensor

from invsolve.bench.metrics import Case, Metric, measured, residual, undefined
from invsolve.operator.measurement import flat
from invsolve.problem import Problem
from invsolve.rng import Rng

STEP = 0.1  # of the noise: far above float32's rounding in y, far below what a denoiser calls structure


class SURE(Metric):
    """Stein's unbiased risk estimate of the prediction H x_hat, in units of the noise's variance: the case is solved once more.

        SURE = |H x_hat(y) - y|^2 / (m sigma^2) - 1 + 2 div / m,   div = b . (H x_hat(y + eps b) - H x_hat(y)) / eps,   b_j = +-1

    Its mean over the noise is that of |H x_hat - H x|^2 / (m sigma^2) for every x_hat that is smooth in y, whose draws (those of the seed)
    stay the same; it says nothing of what H does not see. NaN for other noise than Gaussian, measurements of several parts, and cases
    without their prior (those that were not just solved by a suite).

    References:
        Estimation of the Mean of a Multivariate Normal Distribution (Stein, 1981).
        Monte-Carlo SURE (Ramani, Blu & Unser, 2008), equation 13.
    """

    label, higher = "SURE", False
    settings = "Stein's estimate of |H x_hat - H x|^2 / (m sigma^2), one random direction, eps = sigma / 10; the truth is not used"

    def measure(self, case: Case) -> Tensor:
        """(B,)."""
        off = residual(case.problem, case.x)
        if off is None or case.prior is None or isinstance(case.problem.y, tuple) or case.problem.y.is_complex():
            return undefined(case)
        problem, y = case.problem, case.problem.y
        kept = measured(problem.operator, len(y)).to(y.device)
        sigma = problem.sigma.reshape(-1, *[1] * (y.ndim - 1))
        b = (Rng(case.solution.seed, problem.items, purpose="sure").uniform(y.shape[1:], y) < 0.5).to(y) * 2 - 1
        moved = Problem(problem.operator, y + STEP * sigma * b, problem.noise, problem.items)
        again = case.solution.solver.solve(moved, case.prior, generator=case.solution.seed, samples=case.solution.samples).mean
        with torch.no_grad():
            change = flat(problem.operator(again) - problem.operator(case.x)).double()  # pyright: ignore[reportOperatorIssue]
        slope = (flat(b).double() * change * kept).sum(1) / (STEP * problem.sigma.double().expand(len(y)))
        return off.double() ** 2 - 1 + 2 * slope / kept.sum(1)
