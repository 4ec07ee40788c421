"""Small helpers for y, which is a tensor (B, *out_shape) or, for a Stack, a tuple of such tensors."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from invsolve.errors import InputError

Measurement = Tensor | tuple[Tensor, ...]


def parts(y: Measurement) -> tuple[Tensor, ...]:
    """The tensors y consists of."""
    return y if isinstance(y, tuple) else (y,)


def mapped(function: Callable[..., Tensor], y: Measurement, *others: Any) -> Measurement:
    """function(part of y, parts of the others...), part by part: a tuple where y is one."""
    results = tuple(function(*those) for those in zip(parts(y), *map(parts, others), strict=True))
    return results if isinstance(y, tuple) else results[0]


def minus(a: Measurement, b: Measurement) -> Measurement:
    """a - b, part by part."""
    return mapped(torch.sub, a, b)


def flat(y: Measurement) -> Tensor:
    """(B, m): all measurements of an item in one row."""
    rows = [part.flatten(1) for part in parts(y)]
    return rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)


def column(value: float | Tensor, like: Tensor) -> Tensor:
    """A scalar or a (B,) tensor as something that multiplies like (B, ...) item by item.

    Raises:
        InputError: as many values as items are needed, or one.
    """
    value = torch.as_tensor(value, dtype=like.real.dtype, device=like.device)
    if value.ndim and like.ndim and value.numel() not in (1, len(like)):
        raise InputError(f"one value for all items or one for each of {len(like)} is needed; given {tuple(value.shape)}")
    return value if value.ndim == 0 else value.reshape(-1, *[1] * (like.ndim - 1))
