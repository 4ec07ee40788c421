"""Draws from the likelihood times a Gaussian about a point, which a network has no part in.

    exp(-|y - Hx|^2 / (2 sigma_y^2) - |x - z|^2 / (2 r^2))

sigma_y in y's units, at least a thousandth of |H|, so that a problem without noise has a likelihood with a width.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from invsolve.operator import Capability
from invsolve.operator.measurement import column, flat, mapped, minus
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solvers.diffusion.common import noise_of, proximal, real_normal

Draw = Callable[[Tensor, float, Rng], Tensor]  # z, r, rng -> x
INNER = ("exact", "langevin", "hmc")
MOMENTUM = 0.9  # of "hmc": about what the authors of DAPS have tuned (.45 to .95)


def draw_of(problem: Problem, inner: str | None, moves: int, step: float) -> Draw:
    """The draw by name; None: exact for a linear H, else "hmc", which has moved ten times as far after as many moves as "langevin"."""
    if inner == "exact" or (inner is None and problem.operator.has(Capability.ADJOINT)):
        return exact_draw(problem)
    return moved_draw(problem, moves, step, 0.0 if inner == "langevin" else MOMENTUM)


def draw_gaps(problem: Problem, inner: str | None) -> list[str]:
    """Why the draw is not possible: an exact one needs a linear H."""
    if inner == "exact" and not problem.operator.has(Capability.ADJOINT):
        return [f"inner='exact' needs a linear operator, and {problem.operator.label} is none; take inner='hmc' or 'langevin', or None"]
    return []


def exact_draw(problem: Problem) -> Draw:
    """By perturb and solve: x = prox(z + r n2, y + sigma_y n1, r^2 / sigma_y^2)."""
    prox, level = proximal(problem), noise_of(problem)

    def draw(z: Tensor, r: float, rng: Rng) -> Tensor:
        near = z + r * rng.normal_like(z)
        y = mapped(lambda part: part + column(level, part) * real_normal(part, rng), problem.y)
        return prox(near, y, (r / level).square())

    return draw


def moved_draw(problem: Problem, moves: int, step: float, momentum: float) -> Draw:
    """By Langevin moves with a velocity; momentum 0 is plain Langevin.

        v <- m v + sqrt(h) grad log + sqrt(2 (1 - m)) n,   x <- x + sqrt(h) v,   h = step / (1 / r^2 + |H|^2 / sigma_y^2)

    It starts at a draw of the second factor, so that directions that y says nothing of, in which as short a step as the best measured ones
    need would not get anywhere, have their law from the first move on.
    """
    precision = (problem.gain / noise_of(problem)).square()

    def draw(z: Tensor, r: float, rng: Rng) -> Tensor:
        x = z + r * rng.normal_like(z)
        root = column((step / (1 / r**2 + precision)).sqrt(), x)
        v = rng.normal_like(x) if momentum else torch.zeros_like(x)
        for _ in range(moves):
            force = pull(problem, x) + (z - x) / r**2
            v = momentum * v + root * force + math.sqrt(2 * (1 - momentum)) * rng.normal_like(x)
            x = x + root * v
        return x

    return draw


def pull(problem: Problem, x: Tensor) -> Tensor:
    """-grad |y - Hx|^2 / (2 sigma_y^2), (B, *in_shape)."""
    weight = column(noise_of(problem).square(), x)
    if problem.operator.has(Capability.ADJOINT):
        return problem.operator.adjoint(minus(problem.y, problem.operator(x))) / weight
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        misfit = flat(minus(problem.y, problem.operator(x))).abs().square().sum()
        (gradient,) = torch.autograd.grad(misfit, x)
    return -0.5 * gradient / weight
