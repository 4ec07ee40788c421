"""What decoupled and few-step solvers share: the way from a noisy state to an image in a few calls."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor

from invsolve.priors.base import Denoiser
from invsolve.rng import Rng
from invsolve.schedule import karras
from invsolve.solvers.diffusion.common import estimate, generic_step


def descend(prior: Denoiser, x: Tensor, sigma: float, calls: int, rng: Rng, eta: float = 0.0) -> Tensor:
    """An image from a state at level sigma, in `calls` generic steps: of the ODE (eta 0), or of the ancestral chain (eta 1).

    With eta = 0 it is a few-step map, x0 = f(x, sigma), which one call of a prior with `few_step` is, whatever `calls` says; of others,
    calls = 1 is the denoiser's mean. The levels are those of `karras` with one more, but for the lowest, which costs a call as others do
    and changes least; at the lowest level that the prior is good for one call is all.

    Args:
        prior: the denoiser.
        x: (B, C, H, W), with noise of level sigma.
        sigma: in data units.
        calls: network evaluations, at least 1.
        rng: of eta > 0; nothing is drawn otherwise.
        eta: share of fresh noise.
    """
    if prior.few_step and eta == 0:
        return estimate(prior, x, sigma)
    low = prior.sigma_range[0]
    levels = [*(karras(calls + 1, low, sigma)[:calls] if sigma > low * (1 + 1e-6) else [sigma]), 0.0]
    before: tuple[Tensor, float] | None = None
    for level, following in pairwise(levels):
        x0_hat = estimate(prior, x, level)
        x = generic_step(x, ahead(x0_hat, before, level, following), level, following, eta, rng)
        before = (x0_hat, level)
    return x


def ahead(x0_hat: Tensor, before: tuple[Tensor, float] | None, sigma: float, following: float) -> Tensor:
    """The estimate half way to the next level, by the line through this one and the one before it, in log sigma; second order.

        x0_hat + (x0_hat - before) log(sigma / following) / (2 log(sigma_before / sigma))

    At the first level, and to level 0, x0_hat itself.

    References:
        DPM-Solver++ (Lu et al., 2022), arXiv:2211.01095, algorithm 2 (2M), and with noise its appendix.
    """
    if before is None or following == 0:
        return x0_hat
    old, level = before
    return x0_hat + (x0_hat - old) * (math.log(sigma / following) / (2 * math.log(level / sigma)))
