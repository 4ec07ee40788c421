"""Some coefficients of an orthogonal transform: y = m * T x with a 0/1 mask m on the plane of coefficients.

T T^T = I, so U = I on the measured entries, V = T^T and s = m; prox and pinv follow in closed form.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability, Operator, Shape, image_shape
from invsolve.operator.svd import SVD
from invsolve.rng import Rng
from invsolve_operators.common import damping, expect, select_arguments
from invsolve_operators.masks.mask import checked_mask


class SampledTransform(Operator):
    """y = m * T x, the base of compressed sensing with a fast transform; y is 0 where nothing is measured.

    A subclass writes `transform` (T) and `inverse` (T^T).

    Args:
        in_shape: (C, H, W).
        mask: 1 measured, 0 not: (H, W), (1, H, W), (C, H, W), or per image (B, 1, H, W), (B, C, H, W).
    """

    traits: ClassVar[frozenset[Capability]] = frozenset({Capability.LINEAR})
    out_shape: Shape
    sampled: Tensor

    def __init__(self, in_shape: Sequence[int], mask: Tensor) -> None:
        super().__init__()
        self.in_shape = self.out_shape = image_shape(in_shape)
        self.register_buffer("sampled", checked_mask(mask, self.out_shape))
        self.batch = len(self.sampled) if self.sampled.ndim == 4 else None

    @abstractmethod
    def transform(self, x: Tensor) -> Tensor:
        """T x, (B, *in_shape) to (B, *out_shape), orthogonal."""

    @abstractmethod
    def inverse(self, c: Tensor) -> Tensor:
        """T^T c."""

    @property
    def supports(self) -> tuple[Tensor | None, ...]:
        """The mask: what is not measured is no data."""
        return (self.sampled,)

    def select(self, items: range) -> Operator:
        """The items' masks."""
        return select_arguments(self, items, "mask")

    def kept(self, c: Tensor) -> Tensor:
        """m * c."""
        return self.like("sampled", c) * c

    def forward(self, x: Tensor) -> Tensor:
        """m * T x."""
        expect(self, x)
        return self.kept(self.transform(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """T^T (m * y)."""
        return self.inverse(self.kept(y))

    def pinv(self, y: Tensor) -> Tensor:
        """T^T (m * y): what is not measured is 0."""
        return self.inverse(self.kept(y))

    def prox(self, z: Tensor, y: Tensor, tau: float | Tensor) -> Tensor:
        """z + T^T m (y - T z) / (1 + 1 / tau)."""
        return z + self.inverse(self.kept(y - self.transform(z)) / (1 + damping(tau, z)))

    def svd(self) -> SVD:
        """s = m, U = I where measured, V = T^T."""
        s = self.sampled.expand(*self.sampled.shape[:-3], *self.out_shape)
        return SVD(s, self.kept, self.kept, self.inverse, self.transform)

    def extra_repr(self) -> str:
        """The fraction measured."""
        return f"{super().extra_repr()}, {100 * float(self.sampled.mean()):.3g} % measured"


def drawn(size: int, count: int, first: Tensor, seed: int, purpose: str) -> Tensor:
    """(size,) with exactly `count` ones: those in `first`, then random ones."""
    score = Rng(seed, (0,), purpose=purpose).uniform((size,), torch.empty(0, dtype=torch.float64))[0]
    score[first] = -1
    chosen = torch.zeros(size)
    chosen[score.argsort()[:count]] = 1
    return chosen


def checked_ratio(ratio: Any) -> float:
    """The part that is measured.

    Raises:
        InputError: not a number in (0, 1].
    """
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio <= 1:
        raise InputError(f"ratio is the part of the coefficients that is measured, a number in (0, 1]; given {ratio!r}")
    return float(ratio)


MOST = 65_536


def checked_count(value: Any, name: str, least: int = 0) -> int:
    """A whole number, of pixels or of images, at most 65536: more would be drawn for hours, or fill any memory.

    Raises:
        InputError: anything else, less than `least` or more than that.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST:
        raise InputError(f"{name} must be a whole number, at least {least} and at most {MOST}; given {value!r}")
    return value
