"""H = I: plain denoising."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from invsolve.operator import Operator, image_shape
from invsolve.operator.svd import SVD
from invsolve_operators.common import damping, expect


class Identity(Operator):
    """y = x.

    Args:
        in_shape: (C, H, W), or (C, D, H, W) of volumes.
    """

    output_range = (0.0, 1.0)
    uniform = True

    def __init__(self, in_shape: Sequence[int]) -> None:
        super().__init__()
        self.in_shape = self.out_shape = image_shape(in_shape, volumes=True)

    def forward(self, x: Tensor) -> Tensor:
        """x."""
        expect(self, x)
        return x.clone()

    def adjoint(self, y: Tensor) -> Tensor:
        """y."""
        return y.clone()

    def svd(self) -> SVD:
        """U = V = I, s = 1."""
        return SVD(torch.ones(self.in_shape, dtype=torch.float64), torch.clone, torch.clone, torch.clone, torch.clone)

    def prox(self, z: Tensor, y: Tensor, tau: float | Tensor) -> Tensor:
        """z + (y - z) / (1 + 1 / tau)."""
        return z + (y - z) / (1 + damping(tau, z))

    def compose(self, inner: Operator) -> Operator | None:
        """The other operator."""
        return inner

    def composed_into(self, outer: Operator) -> Operator | None:
        """The other operator."""
        return outer

    @classmethod
    def examples(cls) -> list[Operator]:
        """Colour, and grey of odd size."""
        return [cls((3, 8, 8)), cls((1, 5, 7))]
