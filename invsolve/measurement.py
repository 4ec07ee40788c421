"""Small helpers for y, which is a tensor (B, *out_shape) or, for a Stack, a tuple of such tensors."""

import torch
from torch import Tensor

Measurement = Tensor | tuple[Tensor, ...]


def parts(y: Measurement) -> tuple[Tensor, ...]:
    """The tensors y consists of."""
    return y if isinstance(y, tuple) else (y,)


def minus(a: Measurement, b: Measurement) -> Measurement:
    """a - b, part by part."""
    if isinstance(a, tuple):
        return tuple(p - q for p, q in zip(a, parts(b), strict=True))
    return a - parts(b)[0]


def flat(y: Measurement) -> Tensor:
    """(B, m): all measurements of an item in one row."""
    rows = [part.flatten(1) for part in parts(y)]
    return rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)


def column(value: float | Tensor, like: Tensor) -> Tensor:
    """A scalar or a (B,) tensor as something that multiplies like (B, ...) item by item."""
    value = torch.as_tensor(value, dtype=like.real.dtype, device=like.device)
    return value if value.ndim == 0 else value.reshape(-1, *[1] * (like.ndim - 1))
