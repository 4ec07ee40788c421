"""Pixels that are known exactly: an answer holds them to the bit, and how well it meets them."""

from __future__ import annotations

import torch
from torch import Tensor

from invsolve.noise import Ability
from invsolve.operator import Capability, Operator, Stack
from invsolve.operator.algebra import Scaled
from invsolve.operator.measurement import column, parts
from invsolve.problem import Problem


def known(problem: Problem) -> tuple[Tensor, Tensor] | None:
    """Where masks show the image, bool, (1 or B, C, H, W), and what of it, (B, C, H, W); None where H is none.

    A mask in another unit, c M, and several masks of one image, a Stack of them, are masks too.
    """
    operator = problem.operator
    every = list(operator.parts) if isinstance(operator, Stack) else [operator]
    if len(every) != len(parts(problem.y)):
        return None
    shown, values = None, None
    for one, y in zip(every, parts(problem.y), strict=True):
        found = shown_by(one, y)
        if found is None:
            return None
        shown, values = found if shown is None or values is None else (shown | found[0], torch.where(shown, values, found[1]))
    return None if shown is None or values is None else (shown, values)


def shown_by(operator: Operator, y: Tensor) -> tuple[Tensor, Tensor] | None:
    """That of one mask."""
    factor = 1.0
    while isinstance(operator, Scaled):  # the same pixels are known in another unit
        operator, factor = operator.parts[0], factor * operator.factor
    mask = getattr(operator, "mask", None) if Capability.MASK in operator.capabilities else None
    if not isinstance(mask, Tensor) or y.shape[1:] != operator.in_shape:
        return None
    mask = mask if mask.ndim == len(operator.in_shape) + 1 else mask[None]
    return (mask != 0).expand(-1, *operator.in_shape), y if factor == 1 else y / factor


@torch.no_grad()
def pasted(problem: Problem, x: Tensor) -> Tensor:
    """x with y in the pixels that a mask shows and that carry no noise; x itself where there are none.

    Args:
        problem: of the image.
        x: (B, *in_shape).
    """
    found = known(problem)
    if found is None or Ability.SIGMA not in problem.noise.abilities:
        return x
    exact = problem.sigma.expand(len(x)) == 0
    if not bool(exact.any()):
        return x
    shown, values = found
    return torch.where(shown & column(exact, x).bool(), values.to(x.dtype), x)


@torch.no_grad()
def seam(problem: Problem, x: Tensor) -> Tensor | None:
    """How much more neighbours differ across the border of what is known than on either side of it, (B,); None without any border.

        rms of x_p - x_q over neighbours p, q of which one is known  /  the same over those of which both or neither are

    1 is a seam that cannot be seen.
    """
    found = known(problem)
    if found is None or x.ndim != 4:
        return None
    shown = found[0].expand(len(x), -1, -1, -1)
    totals = []
    for across in (True, False):
        square, count = x.new_zeros(len(x)), x.new_zeros(len(x))
        for dim in (-2, -1):
            border = shown.narrow(dim, 1, shown.shape[dim] - 1) != shown.narrow(dim, 0, shown.shape[dim] - 1)
            chosen = border if across else ~border
            square += (x.diff(dim=dim).square() * chosen).flatten(1).sum(1)
            count += chosen.flatten(1).sum(1)
        totals.append((square / count).sqrt())
    found = totals[0] / totals[1]
    return None if bool(found.isnan().all()) else found
