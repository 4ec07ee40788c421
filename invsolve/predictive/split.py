"""What the data determine of an answer, and what the prior filled in.

    x = A^+ A x + (I - A^+ A) x

The first part is all that A sees of x, the second lies in its null space: any other picture there explains y as well. A^+ A is exact where
the operator has a pinv in closed form. A blur has hardly a null space, but little of a fine structure comes through the noise; so with
noise the share is weighed by how far the measurement moves the answer:

    x - m = W (x - m) + (I - W) (x - m),   W = (A^T A + (sigma/s)^2)^-1 A^T A

the answer of linear estimation for pixels of variance s^2 about m. For sigma to 0 it is A^+ A.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.noise import Ability
from invsolve.operator import Capability, IterativePinv, IterativeProx
from invsolve.problem import Problem


@dataclass(frozen=True)
class Split:
    """Two parts of an image, (B, C, H, W) each, that add to it (about `centre`).

    Args:
        determined: what the data say.
        filled: what the prior said.
        centre: what both are counted from; 0 without noise.
    """

    determined: Tensor
    filled: Tensor
    centre: float = 0.0

    def share(self, region: Tensor | None = None) -> Tensor:
        """Which share of the energy the prior filled in, (B,), of the whole image or of a region (bool, broadcast over the batch)."""
        one = torch.ones_like(self.filled, dtype=torch.bool) if region is None else checked(region, self.filled)
        kept = one.to(self.filled.dtype)
        prior, data = ((part.square() * kept).flatten(1).sum(1) for part in (self.filled, self.determined))
        return torch.where(prior + data > 0, prior / (prior + data), torch.zeros_like(prior))


def checked(region: Tensor, like: Tensor) -> Tensor:
    """A region as (B, C, H, W), bool.

    Raises:
        InputError: another kind or shape, or an empty one.
    """
    if not isinstance(region, Tensor) or region.dtype != torch.bool:
        given = region.dtype if isinstance(region, Tensor) else type(region).__name__
        raise InputError(f"a region is a bool tensor that is true inside; given {given}")
    try:
        wide = region.to(like.device).expand_as(like)
    except RuntimeError:
        raise InputError(f"a region of shape {tuple(region.shape)} does not fit images {tuple(like.shape)}") from None
    if not bool(wide.flatten(1).any(1).all()):
        raise InputError("a region must hold at least a pixel of every image")
    return wide


def split(problem: Problem, x: Tensor, *, noise: bool = False, spread: float = 0.25, centre: float = 0.5) -> Split:
    """Part an image into what the data determine and what they leave open.

    Args:
        problem: whose linear H (and noise) is meant.
        x: (B, *in_shape).
        noise: weigh by the noise, see above; else the null space alone.
        spread, centre: s and m, of photographs in [0, 1] unless said.

    Raises:
        InputError: H is not linear, x has another shape, a spread that is not above 0, noise without a level.
    """
    operator = problem.operator
    if not operator.has(Capability.LINEAR):
        raise InputError(f"{operator.label} is not linear, so that no part of the image is its null space")
    if not isinstance(x, Tensor) or x.shape[1:] != torch.Size(operator.in_shape):
        given = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise InputError(f"x must have shape (B, *{operator.in_shape}); given {given}")
    with torch.no_grad():
        if not noise:
            inverse = operator if operator.has(Capability.PINV) else IterativePinv(operator)
            determined = inverse.pinv(operator(x))
            return Split(determined, x - determined)
        if not (math.isfinite(spread) and spread > 0):
            raise InputError(f"spread must be above 0; given {spread}")
        if Ability.SIGMA not in problem.noise.abilities:
            raise InputError(f"{problem.noise} has no one level to weigh by; split(..., noise=False) parts by the null space alone")
        solver = operator if operator.has(Capability.PROX) else IterativeProx(operator)
        moved = x - centre
        # The prox at 0 is (H^T H + 1/tau)^-1 H^T H v.
        tau = (spread / problem.sigma.clamp_min(1e-6 * problem.gain).to(x)).square()
        determined = solver.prox(torch.zeros_like(moved), operator(moved), tau)
        return Split(determined, moved - determined, centre)
