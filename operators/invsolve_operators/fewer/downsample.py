"""Downsampling: the mean of blocks, and antialiased bicubic interpolation.

Block mean: within a block the row is 1 / r^2, so s = 1 / r and V is a reflection of the block's r^2 pixels.
Bicubic: H = A_v (x) A_h with two small dense matrices, whose two SVDs give that of H (`separable`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, avg_pool3d

from invsolve.errors import InputError
from invsolve.operator import Operator, Shape, image_shape
from invsolve.operator.svd import SVD
from invsolve_operators.blurs.separable import Separable, fold, sides_first
from invsolve_operators.common import damping, divided, expect, from_phases, rank_is_sure, reflector, to_phases


class BlockMean(Operator):
    """y = mean of each factor x factor block, of volumes of each factor x factor x factor block.

    Args:
        in_shape: (C, H, W), or (C, D, H, W) of volumes.
        factor: side r of the blocks; must divide H and W, of volumes D, too.

    Raises:
        InputError: the factor does not divide all sides.
    """

    channelwise = True
    uniform = True
    out_shape: Shape
    output_range = (0.0, 1.0)
    mirror: Tensor

    def __init__(self, in_shape: Sequence[int], factor: int = 4) -> None:
        super().__init__()
        self.in_shape = image_shape(in_shape, volumes=True)
        self.out_shape = divided(self.in_shape, factor)
        self.factor = self.stride = int(factor)
        self.axes = range(1 - len(self.in_shape), 0)
        self.block = self.factor ** len(self.axes)
        w, beta = reflector(torch.full((self.block,), self.block**-0.5, dtype=torch.float64))
        self.reach = self.factor - 1
        self.register_buffer("mirror", (beta.sqrt() * w).reshape(-1, *[1] * len(self.axes)))

    def forward(self, x: Tensor) -> Tensor:
        """Mean of blocks."""
        expect(self, x)
        return (avg_pool2d if len(self.axes) == 2 else avg_pool3d)(x, self.factor)

    def pinv(self, y: Tensor) -> Tensor:
        """Each value repeated over its block."""
        for axis in self.axes:
            y = y.repeat_interleave(self.factor, axis)
        return y

    def adjoint(self, y: Tensor) -> Tensor:
        """Each value / r^2 over its block, of volumes / r^3."""
        return self.pinv(y / self.block)

    def prox(self, z: Tensor, y: Tensor, tau: float | Tensor) -> Tensor:
        """z + H^+ (y - Hz) / (1 + r^2 / tau), of volumes r^3."""
        return z + self.pinv((y - self(z)) / (1 + self.block * damping(tau, z)))

    def compose(self, inner: Operator) -> Operator | None:
        """After a separable operator: separable, by the matrices of the means; None where its rank would be a matter of rounding."""
        if not isinstance(inner, Separable):
            return None
        means = [torch.eye(side, dtype=torch.float64).repeat_interleave(self.factor, 1) / self.factor for side in self.out_shape[1:]]
        products = [mean.to(m.device) @ m for mean, m in zip(means, inner.matrices(), strict=True)]
        product = Separable(inner.in_shape, *sides_first(products))
        return product if rank_is_sure(product, self.svd().s, inner.s) else None

    def svd(self) -> SVD:
        """s = 1 / r in the first of r^2 planes of the spectrum (C, r^2, H / r, W / r), 0 in the others; of volumes r^-3/2, r^3 planes."""
        r, (channels, *sides) = self.factor, self.out_shape
        s = torch.zeros(channels, self.block, *sides, dtype=torch.float64, device=self.mirror.device)
        s[:, 0] = self.block**-0.5

        def reflect(c: Tensor) -> Tensor:
            w = self.like("mirror", c)
            return c - w * (w * c).sum(2, keepdim=True)

        def first(y: Tensor) -> Tensor:
            return torch.cat([y.unsqueeze(2), y.new_zeros(len(y), channels, self.block - 1, *sides)], dim=2)

        return SVD(
            s,
            lambda c: c[:, :, 0].clone(),
            first,
            lambda c: from_phases(reflect(c), r),
            lambda x: reflect(to_phases(x, r)),
        )

    @classmethod
    def examples(cls) -> list[Operator]:
        """Colour, odd blocks, and factor 1."""
        return [cls((3, 8, 8), 2), cls((1, 9, 15), 3), cls((2, 4, 8), 4), cls((1, 3, 5), 1)]


class Bicubic(Separable):
    """Antialiased bicubic downsampling: each output is a weighted mean of 4 r inputs per axis around the block's centre.

        y[j] = sum_i w((i - c_j) / r) x[i] / sum_i w((i - c_j) / r),   c_j = r (j + 1/2) - 1/2

    Args:
        in_shape: (C, H, W).
        factor: r; must divide H and W.
        boundary: "symmetric" (the edge pixel repeated), "reflect" (not repeated) or "circular".
        a: slope of the cubic at distance 1, -0.5 for Keys's and MATLAB's.

    Raises:
        InputError: the factor does not divide both sides, or another boundary.

    References:
        Cubic Convolution Interpolation for Digital Image Processing (Keys, 1981), the kernel.
        Denoising Diffusion Restoration Models (Kawar et al., 2022), arXiv:2201.11793: the same operator by two 1-D SVDs; there
        1-D singular values below 0.03 are set to 0, here only what the rank rule says.
    """

    uniform = True

    def __init__(self, in_shape: Sequence[int], factor: int = 4, boundary: str = "symmetric", a: float = -0.5) -> None:
        shape = image_shape(in_shape)
        if boundary == "zero":
            raise InputError("boundary must be 'symmetric', 'reflect' or 'circular', since the weights sum to 1 over pixels; given 'zero'")
        _, height, width = divided(shape, factor)
        vertical = bicubic_matrix(shape[1], height, int(factor), boundary, a)
        horizontal = bicubic_matrix(shape[2], width, int(factor), boundary, a)
        super().__init__(shape, vertical, horizontal)
        self.output_range = self.interval()
        self.stride, self.reach = int(factor), math.ceil(2.5 * factor)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Colour, odd factor, a factor that leaves one row, another boundary."""
        return [cls((3, 8, 8), 2), cls((1, 9, 15), 3), cls((1, 4, 8), 4), cls((1, 6, 10), 2, "reflect")]


def cubic(t: Tensor, a: float) -> Tensor:
    """Keys's piecewise cubic on |t| < 2."""
    t = t.abs()
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * (t**3 - 5 * t**2 + 8 * t - 4)
    return torch.where(t <= 1, near, torch.where(t < 2, far, torch.zeros_like(t)))


def bicubic_matrix(rows: int, outputs: int, factor: int, boundary: str, a: float) -> Tensor:
    """(outputs, rows) in float64; every row sums to 1."""
    centre = factor * (torch.arange(outputs, dtype=torch.float64) + 0.5) - 0.5
    reach = math.ceil(2 * factor + 0.5)
    offset = torch.arange(-reach, reach + 1, dtype=torch.float64)
    index = centre.floor()[:, None] + offset
    weight = cubic((index - centre[:, None]) / factor, a)
    weight = weight / weight.sum(1, keepdim=True)
    target, inside = fold(index.long(), rows, boundary)
    return torch.zeros(outputs, rows, dtype=torch.float64).scatter_add_(1, target, weight * inside)
