"""Colourisation: y = sum_c w_c x_c.

Per pixel one row w, so s = |w| and V is the reflection that swaps w / |w| and the first unit vector.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Operator, image_shape
from invsolve.operator.svd import SVD
from invsolve_operators.common import damping, expect, reflector


class Grey(Operator):
    """One grey channel from the colour channels: y = sum_c w_c x_c.

    Args:
        in_shape: (C, H, W), C at least 2.
        weights: C numbers, not all 0; default the mean, 1 / C each.

    Raises:
        InputError: one channel, another number of weights, weights that are not finite or all 0.
    """

    pointwise = True
    uniform = True
    weights: Tensor
    length: Tensor
    mirror: Tensor

    def __init__(self, in_shape: Sequence[int], weights: Sequence[float] | Tensor | None = None) -> None:
        super().__init__()
        self.in_shape = image_shape(in_shape)
        channels = self.in_shape[0]
        if channels < 2:
            raise InputError(f"grey takes images of two channels or more, in_shape (3, H, W) for colour; given {self.in_shape}")
        self.out_shape = (1, *self.in_shape[1:])
        w = torch.full((channels,), 1 / channels, dtype=torch.float64) if weights is None else torch.as_tensor(weights, dtype=torch.float64)
        if w.shape != (channels,) or not bool(torch.isfinite(w).all()) or not bool((w != 0).any()):
            raise InputError(f"weights must be {channels} finite numbers, not all 0; given {weights}")
        self.register_buffer("weights", w[:, None, None].clone())
        self.register_buffer("length", w.norm())
        vector, beta = reflector(w / w.norm())
        self.register_buffer("mirror", (beta.sqrt() * vector)[:, None, None])
        if bool((w >= 0).all()) and abs(float(w.sum()) - 1) < 1e-6:
            self.output_range = (0.0, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Weighted sum over the channels."""
        expect(self, x)
        return (self.like("weights", x) * x).sum(1, keepdim=True)

    def adjoint(self, y: Tensor) -> Tensor:
        """w_c y."""
        return self.like("weights", y) * y

    def pinv(self, y: Tensor) -> Tensor:
        """w_c y / |w|^2."""
        return self.adjoint(y) / self.like("length", y) ** 2

    def prox(self, z: Tensor, y: Tensor, tau: float | Tensor) -> Tensor:
        """z + w (y - w^T z) / (|w|^2 + 1 / tau)."""
        return z + self.adjoint((y - self(z)) / (self.like("length", z) ** 2 + damping(tau, z)))

    def reflect(self, x: Tensor) -> Tensor:
        """P x per pixel: V and its own transpose."""
        w = self.like("mirror", x)
        return x - w * (w * x).sum(1, keepdim=True)

    def svd(self) -> SVD:
        """s = |w| in the first channel of the spectrum (C, H, W), 0 in the others."""
        s = torch.zeros(self.in_shape, dtype=self.length.dtype, device=self.length.device)
        s[0] = self.length

        def first(y: Tensor) -> Tensor:
            return torch.cat([y, y.new_zeros(len(y), self.in_shape[0] - 1, *self.in_shape[1:])], dim=1)

        return SVD(s, lambda c: c[:, :1].clone(), first, self.reflect, self.reflect)

    @classmethod
    def examples(cls) -> list[Operator]:
        """The mean, luma weights on an odd size, one channel, a weight of each sign."""
        return [cls((3, 8, 8)), cls((3, 5, 7), weights=[0.299, 0.587, 0.114]), cls((2, 4, 4)), cls((2, 4, 3), weights=[1.0, -0.5])]
