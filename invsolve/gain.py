"""How strongly an operator acts, |H| per item: what carries a noise level of y into the units of the image.

    sigma_x = sigma_y / |H|

The problem (c H, c y, c sigma_y) has the same sigma_x for every c, so what a solver decides by sigma_x does not depend on the unit of y.
"""

from __future__ import annotations

import torch
from torch import Tensor

from invsolve.noise import Ability, NoiseModel, drawn_level, level_at
from invsolve.operator import Capability, Operator
from invsolve.operator.iterative import inner, norm
from invsolve.operator.measurement import Measurement, column, flat, mapped, parts
from invsolve.rng import Rng

PRODUCTS = 30  # of the power method: within a few per cent where the largest singular values lie close, which is all that is asked


@torch.no_grad()
def operator_gain(operator: Operator, like: Tensor) -> Tensor:
    """|H| per item, (B,), in like's real dtype: from the SVD, else by the power method; of the Jacobian where H is not linear.

    0 where H is 0.

    Args:
        operator: H.
        like: an image batch (B, *in_shape).
    """
    if operator.has(Capability.SVD):
        values = operator.svd().values(like)
        rows = values.reshape(-1, values[0].numel() if operator.batch is not None else values.numel())
        size = rows.abs().amax(1).to(like.device, like.real.dtype).expand(len(like))
    elif operator.has(Capability.ADJOINT):
        size = norm(operator, like, iterations=PRODUCTS)
    else:
        size = slope(operator, like)
    return torch.where(size > 0, size, 0.0)


def slope(operator: Operator, like: Tensor) -> Tensor:
    """|J| of the Jacobian at an image of independent pixels, (B,), or a secant of it where autograd does not go through.

    Every item is asked at the same place, so that its answer does not depend on the batch.
    """
    rng = Rng(0, [0] * len(like), purpose="gain")
    x = rng.uniform(operator.in_shape, like)
    if not operator.has(Capability.DIFFERENTIABLE):
        other = rng.uniform(operator.in_shape, like)
        moved = mapped(torch.sub, operator(x), operator(other))
        return flat(moved).abs().square().sum(1).sqrt() / flat(x - other).square().sum(1).sqrt()
    tiny = torch.finfo(like.real.dtype).tiny
    direction, size = rng.normal(operator.in_shape, like), torch.ones(len(like), dtype=like.real.dtype, device=like.device)
    with torch.inference_mode(False), torch.enable_grad():
        x = x.clone().requires_grad_(True)
        y = parts(operator(x))
        # J v as the derivative in u of <u, J v>, since <u, J v> = <J^T u, v>
        u = tuple(torch.zeros_like(part, requires_grad=True) for part in y)
        (back,) = torch.autograd.grad(y, x, u, create_graph=True)
        for _ in range(PRODUCTS):
            direction = direction / column(inner(direction, direction).sqrt().clamp_min(tiny), direction)
            pushed = torch.autograd.grad(back, u, direction, retain_graph=True, allow_unused=True)
            filled = tuple(torch.zeros_like(part) if one is None else one for one, part in zip(pushed, y, strict=True))
            (direction,) = torch.autograd.grad(y, x, filled, retain_graph=True)
            size = inner(direction, direction).sqrt()
    return size.detach().sqrt()


def noise_level(noise: NoiseModel, y: Measurement, operator: Operator | None = None) -> Tensor:
    """About one standard deviation of the noise in y's units, (B,): its sigma, the root of its mean variance at y, or that of draws.

    Draws are for a model that says none of these: those of `drawn_level` at H(1/2), or at y where no operator is given. An older model that
    writes `spread` is taken at its word. `Problem.level` holds it.

    Raises:
        InputError: nothing can be drawn there.
    """
    rows = flat(y)
    like = rows.real
    if noise.abilities & {Ability.SIGMA, Ability.VARIANCE}:
        return level_at(noise, y)
    if type(noise).spread is not NoiseModel.spread:
        return torch.full((len(rows),), noise.spread(), dtype=like.dtype, device=like.device)
    clean, seen = (y, None) if operator is None else grey_measurement(operator, y)
    return drawn_level(noise, clean, seen)


@torch.no_grad()
def grey_measurement(operator: Operator, y: Measurement) -> tuple[Measurement, Measurement]:
    """H(1/2), and 1 where the operator measures something, both like y."""
    first = parts(y)[0]
    grey = torch.full((len(first), *operator.in_shape), 0.5, dtype=first.real.dtype, device=first.device)
    clean = operator(grey)

    def seen(part: Tensor, support: Tensor | None) -> Tensor:
        ones = torch.ones_like(part.real)
        return ones if support is None else ones * (support != 0).to(ones)

    return clean, mapped(seen, clean, operator.supports)
