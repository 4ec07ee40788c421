"""What decoupled and few-step solvers share: the way from a noisy state to an image in a few calls, and the ends of their ranges."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from torch import Tensor

from invsolve.errors import InputError
from invsolve.priors.base import Denoiser
from invsolve.rng import Rng
from invsolve.schedule import karras
from invsolve.solvers.diffusion.common import estimate, generic_step


def descend(prior: Denoiser, x: Tensor, sigma: float, calls: int, rng: Rng, eta: float = 0.0) -> Tensor:
    """An image from a state at level sigma, in `calls` generic steps: of the ODE (eta 0), or of the ancestral chain (eta 1).

    With eta = 0 it stands in for a consistency model, x0 = f(x, sigma), which one call of such a network is; calls = 1 is the denoiser's
    mean. The levels are those of `karras` with one more, but for the lowest, which costs a call as others do and changes least; at
    the lowest level that the prior is good for one call is all.

    Args:
        prior: the denoiser.
        x: (B, C, H, W), with noise of level sigma.
        sigma: in data units.
        calls: network evaluations, at least 1.
        rng: of eta > 0; nothing is drawn otherwise.
        eta: share of fresh noise.
    """
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


def white_spread(prior: Denoiser, sigma: float) -> float:
    """r^2 = s0^2 sigma^2 / (s0^2 + sigma^2): the variance of x0 given x of a white prior."""
    return prior.s0**2 * sigma**2 / (prior.s0**2 + sigma**2)


def need_count(solver: Any, *names: str) -> None:
    """Raise InputError unless these fields are whole numbers, at least 1."""
    for name in names:
        value = getattr(solver, name)
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{name} must be a whole number, at least 1; given {value!r}")


def need_between(solver: Any, name: str, low: float, high: float = math.inf, *, ends: str = "()") -> None:
    """Raise InputError unless a field lies between low and high; `ends` as in interval notation, "[)" with low and without high."""
    value = getattr(solver, name)
    if value is None:
        return
    above = value >= low if ends[0] == "[" else value > low
    below = value <= high if ends[1] == "]" else value < high
    if not (above and below):
        raise InputError(f"{name} must lie in {ends[0]}{low:g}, {high:g}{ends[1]}; given {value}")


def need_name(solver: Any, name: str, allowed: tuple[str, ...]) -> None:
    """Raise InputError unless a field is one of some names (or None, where it is None by default)."""
    value = getattr(solver, name)
    if value is not None and value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(map(repr, allowed))}; given {value!r}")
