"""What solvers of a stated objective nll(y, Hx) + weight R(x) share: the first image, and what they must refuse."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from invsolve.linalg import inner
from invsolve.measurement import column, flat, parts
from invsolve.noise import GaussianNoise, NoNoise
from invsolve.operator import Capability, Operator
from invsolve.priors.base import Regulariser
from invsolve.problem import Problem
from invsolve.solution import Step


def fill(y: Tensor, mask: Tensor) -> Tensor:
    """y where mask is not 0, elsewhere a smooth guess from coarser and coarser means of what is seen (push and pull)."""
    seen = (mask != 0).to(y.dtype).expand_as(y)
    if y.shape[-1] == 1 and y.shape[-2] == 1:
        return torch.where(seen > 0, y, 0.5)
    amount, total = (nn.functional.avg_pool2d(part, 2, ceil_mode=True) for part in (seen, y * seen))
    coarse = fill(total / amount.clamp_min(torch.finfo(y.dtype).tiny), amount)
    smooth = nn.functional.interpolate(coarse, size=y.shape[-2:], mode="bilinear", align_corners=False)
    return torch.where(seen > 0, y, smooth)


def enlarge(y: Tensor, shape: tuple[int, ...]) -> Tensor:
    """An image-like y as an image of the wanted shape: bicubic in space; one channel is repeated."""
    if y.shape[-2:] != shape[-2:]:
        y = nn.functional.interpolate(y, size=shape[-2:], mode="bicubic", align_corners=False)
    return y.expand(len(y), *shape).clone()


def scaled_adjoint(operator: Operator, y: Tensor | tuple[Tensor, ...]) -> Tensor:
    """c H^T y with c per item so that H (c H^T y) is as near to y as it can be; 0 where H^T y = 0."""
    back = operator.adjoint(y)
    again, rows = flat(operator(back)), flat(y)
    size = inner(again, again)
    factor = torch.where(size > 0, inner(again, rows) / size.clamp_min(torch.finfo(size.dtype).tiny), 0.0)
    return column(factor, back) * back


@torch.no_grad()
def first_image(problem: Problem, start: Step | None) -> Tensor:
    """Where to begin: the start's x, or y where it looks like the image, or what the operator can give back.

    y itself (a mask's gaps filled, a small y enlarged, one channel repeated), else H^+ y, else H^T y scaled, else grey 1/2.
    """
    if start is not None:
        return start.x
    operator, y = problem.operator, problem.y
    shape = problem.image.shape[1:]
    if isinstance(y, Tensor) and not y.is_complex() and operator.output_range == (0.0, 1.0) and y.ndim == len(shape) + 1 == 4:
        if y.shape[1:] == shape and operator.has(Capability.MASK):
            return fill(y, operator.like("mask", y))
        if y.shape[1] in (1, shape[0]):
            return enlarge(y, tuple(shape))
    if operator.has(Capability.PINV):
        return operator.pinv(y).detach()
    if operator.has(Capability.ADJOINT):
        return scaled_adjoint(operator, y).detach()
    return torch.full_like(problem.image, 0.5)


def objective_gaps(problem: Problem, prior: Regulariser) -> list[str]:
    """Why nll + weight R is no objective: no noise, or a weight that is not a non-negative number."""
    gaps = []
    noise = problem.noise
    if isinstance(noise, NoNoise):
        gaps.append("without noise nll is 0 or infinite, so there is no objective; give GaussianNoise(sigma) with sigma > 0")
    elif isinstance(noise, GaussianNoise) and not bool((noise.sigma > 0).all()):
        gaps.append(f"sigma must be positive for every item, or nll is infinite; its smallest value is {float(noise.sigma.min()):g}")
    if not (math.isfinite(prior.weight) and prior.weight >= 0):
        gaps.append(f"the weight of prior {type(prior).__name__} must be finite and not negative; given {prior.weight}")
    return gaps


def objective(problem: Problem, prior: Regulariser, x: Tensor) -> Tensor:
    """nll(y, Hx) + weight R(x) per item, (B,)."""
    return problem.noise.nll(problem.y, problem.operator(x)) + prior.weight * prior.value(x)


def rms(x: Tensor) -> Tensor:
    """Root mean square per item, (B,)."""
    return x.flatten(1).square().mean(1).sqrt()


def levels(problem: Problem) -> Tensor:
    """sigma_y as (B,), in y's dtype."""
    return problem.sigma.expand(len(parts(problem.y)[0]))
