"""What the operators of this package share: shape checks, the rank rule per item, damping, reflections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from invsolve.errors import InputError, did_you_mean
from invsolve.operator import Capability, Operator, Shape
from invsolve.operator.measurement import column
from invsolve.operator.svd import rank_rule

HALVES = (torch.float16, torch.bfloat16)


def expect(operator: Operator, x: Tensor) -> None:
    """Raise InputError unless x is a floating (B, *in_shape): broadcasting would otherwise hide a wrong channel count."""
    if not isinstance(x, Tensor):
        raise InputError(f"{operator.label} takes a tensor; given {type(x).__name__}: torch.as_tensor(...) makes one")
    if not (x.is_floating_point() or x.is_complex()):
        raise InputError(f"{operator.label} takes images in [0, 1] of a floating type; given {x.dtype}: x.float() / 255 for 8 bits")
    if x.dtype in HALVES and Capability.MASK not in operator.traits:
        raise InputError(f"{operator.label} computes in float32 or float64; given {x.dtype}. Networks may run in bfloat16 (precision=)")
    if x.shape[1:] != operator.in_shape:
        raise InputError(f"{operator.label} takes x of shape (B, {', '.join(map(str, operator.in_shape))}); given {tuple(x.shape)}")


def divided(shape: Shape, factor: int) -> Shape:
    """(C, H / factor, W / factor), of volumes (C, D / factor, H / factor, W / factor).

    Raises:
        InputError: the factor is not a positive int that divides all sides.
    """
    channels, *sides = shape
    if isinstance(factor, bool) or int(factor) != factor or factor < 1 or any(side % factor for side in sides):
        near = f"; crop to {' x '.join(str(side - side % int(factor)) for side in sides)}" if factor >= 1 else ""
        names, given = "height and width" if len(sides) == 2 else "depth, height and width", " x ".join(map(str, sides))
        raise InputError(f"factor must be a positive int that divides {names}; given {factor} for {given}{near}")
    return (channels, *(side // int(factor) for side in sides))


def ranked(s: Tensor, rows: int, columns: int, *, batched: bool = False) -> Tensor:
    """`rank_rule`, item by item where s leads with a batch: an item's rank does not depend on its batch."""
    return torch.stack([rank_rule(one, rows, columns) for one in s]) if batched else rank_rule(s, rows, columns)


def rank_is_sure(product: Operator, outer: Tensor, inner: Tensor) -> bool:
    """Whether no singular value of a product lies within the rounding of its factors, whose singular values these are.

    Rounding of a product is relative to |A| |B|, which may be far above |A B|: what is 0 in a factor is then not 0 in the product.
    """
    s = product.svd().s
    rows, columns = math.prod(product.out_shapes[0]), size(product.in_shape)
    floor = torch.finfo(s.dtype).eps * max(rows, columns) * float(outer.max() * inner.max())
    return not bool(((s > 0) & (s <= floor)).any())


def rank_text(s: Tensor, repeats: int = 1) -> str:
    """How many singular values count, for an operator's repr."""
    return f"{repeats * int((s > 0).sum())} of {repeats * s.numel()} singular values above eps max(m, n) s_max"


def check_boundary(boundary: str, allowed: Sequence[str]) -> None:
    """Raise InputError unless it is one of those."""
    if boundary not in allowed:
        raise InputError(f"no boundary '{boundary}'{did_you_mean(boundary, allowed)} There are: {', '.join(allowed)}")


def damping(tau: float | Tensor, like: Tensor) -> Tensor:
    """1 / tau shaped to meet `like`, (B, 1, ...) or a scalar: 0 for tau = inf and inf for tau = 0.

    Raises:
        InputError: a number below 0, or NaN (a tensor is not looked at: that would wait for the device).
    """
    if not isinstance(tau, Tensor) and not tau >= 0:
        raise InputError(f"tau must not be negative or NaN; given {tau}")
    return 1 / column(tau, like)


def over(c: Tensor, h: Tensor) -> Tensor:
    """c / h, and 0 where h = 0; also its derivative in c, which a division by 0 under `torch.where` turns into NaN."""
    return torch.where(h != 0, c / torch.where(h != 0, h, 1), 0)


def to_phases(x: Tensor, factor: int) -> Tensor:
    """(B, C, H, W) to its factor^2 polyphase images, (B, C, r^2, H / r, W / r), of volumes likewise; the first holds the first pixels."""
    batch, channels, *sides = x.shape
    small, count = [side // factor for side in sides], len(sides)
    blocks = x.reshape(batch, channels, *(part for side in small for part in (side, factor)))
    inside, outside = range(3, 3 + 2 * count, 2), range(2, 2 + 2 * count, 2)
    return blocks.permute(0, 1, *inside, *outside).reshape(batch, channels, factor**count, *small)


def from_phases(phases: Tensor, factor: int) -> Tensor:
    """The inverse of `to_phases`."""
    batch, channels, _, *small = phases.shape
    count = len(small)
    blocks = phases.reshape(batch, channels, *[factor] * count, *small)
    turns = [axis for index in range(count) for axis in (2 + count + index, 2 + index)]
    return blocks.permute(0, 1, *turns).reshape(batch, channels, *(side * factor for side in small))


def reflector(v: Tensor) -> tuple[Tensor, Tensor]:
    """w and beta of the symmetric reflection P = I - beta w w^T that swaps the unit vector v and e_0."""
    w = v.clone()
    w[0] -= 1
    square = w.dot(w)
    return w, 2 / square if square > 0 else torch.zeros_like(square)


def size(shape: Shape) -> int:
    """Number of entries."""
    return math.prod(shape)


def select_arguments(operator: Operator, items: range, *names: str) -> Operator:
    """The operator made anew with some per-item arguments restricted to `items`."""
    changed = {name: torch.as_tensor(operator.arguments[name])[list(items)] for name in names}
    chosen = type(operator)(**{**operator.arguments, **changed})
    return chosen.to(operator.device)


def positive(value: Any, name: str) -> float:
    """A number above 0.

    Raises:
        InputError: anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise InputError(f"{name} must be a positive number; given {value!r}")
    return float(value)
