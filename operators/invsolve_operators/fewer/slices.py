"""Thick slices: a volume, shown as a stack of images along the channel axis, seen with fewer and thicker slices.

y = A x along the slice axis with A (d, D): a profile about each thick slice's centre. A's SVD is H's, pixel by pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Operator, Shape, image_shape
from invsolve.operator.svd import SVD
from invsolve_operators.common import damping, expect, rank_text, ranked, size
from invsolve_operators.masks.patterns import one_of
from invsolve_operators.sampled import checked_count


class ThroughPlane(Operator):
    """Through-plane downsampling of a volume (D, H, W): slices of D / factor thick ones, in-plane pixels kept.

    Args:
        in_shape: (D, H, W), D the number of thin slices.
        factor: thin slices per thick one; must divide D.
        profile: "box" means of `factor` slices; "gaussian" with a full width at half maximum of `factor` slices, cut at the volume's
            ends and normalised.

    Raises:
        InputError: the factor does not divide D, or another profile.

    References:
        SMORE: A Self-supervised Anti-aliasing and Super-resolution Algorithm for MRI (Zhao et al., 2020), IEEE TMI 40(3), section II: the
        model of thick slices.
    """

    out_shape: Shape
    pointwise = True
    matrix: Tensor
    left: Tensor
    right: Tensor
    s: Tensor

    def __init__(self, in_shape: Sequence[int], factor: int = 4, profile: str = "box") -> None:
        super().__init__()
        self.in_shape = image_shape(in_shape)
        depth = self.in_shape[0]
        if depth % checked_count(factor, "factor", 1):
            raise InputError(f"factor must divide the number of slices; given {factor} for {depth}: crop to {depth - depth % factor}")
        self.out_shape = (depth // factor, *self.in_shape[1:])
        matrix = slice_matrix(depth, factor, one_of(profile, "profile", ("box", "gaussian")))
        left, values, right = torch.linalg.svd(matrix)
        count = len(values)
        s = torch.nn.functional.pad(ranked(values, size(self.out_shape), size(self.in_shape)), (0, depth - count))
        self.register_buffer("matrix", matrix)
        self.register_buffer("left", left)
        self.register_buffer("right", right.mT.contiguous())
        self.register_buffer("s", s[:, None, None])
        self.output_range = (0.0, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """A x along the slices."""
        expect(self, x)
        return mix(self.like("matrix", x), x)

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y."""
        return mix(self.like("matrix", y).mT, y)

    def pinv(self, y: Tensor) -> Tensor:
        """V (1 / s) U^T y."""
        return self.svd().pinv(y)

    def prox(self, z: Tensor, y: Tensor, tau: float | Tensor) -> Tensor:
        """z + V [s / (s^2 + 1 / tau)] U^T (y - H z)."""
        s = self.like("s", z)[: self.out_shape[0]]
        gain = torch.where(s > 0, s / (s.square() + damping(tau, z)), 0)
        c = gain * mix(self.like("left", z).mT, y - self(z))
        return z + mix(self.like("right", z)[:, : self.out_shape[0]], c)

    def svd(self) -> SVD:
        """A's, at every pixel."""
        count, depth = self.out_shape[0], self.in_shape[0]

        def seen(c: Tensor) -> Tensor:
            return (c * (self.like("s", c) > 0))[:, :count]

        def left_transposed(y: Tensor) -> Tensor:
            c = mix(self.like("left", y).mT, y)
            return torch.nn.functional.pad(c, (0, 0, 0, 0, 0, depth - count)) * (self.like("s", y) > 0)

        return SVD(
            self.s.expand(self.in_shape),
            lambda c: mix(self.like("left", c), seen(c)),
            left_transposed,
            lambda c: mix(self.like("right", c), c),
            lambda x: mix(self.like("right", x).mT, x),
        )

    def extra_repr(self) -> str:
        """The rank."""
        return f"{super().extra_repr()}, {rank_text(self.s, size(self.in_shape[1:]))}"

    @classmethod
    def examples(cls) -> list[Operator]:
        """Both profiles, an odd factor, one thick slice."""
        return [cls((8, 3, 4), 2), cls((9, 2, 3), 3, "gaussian"), cls((4, 2, 2), 4), cls((3, 2, 3), 1)]


def mix(matrix: Tensor, x: Tensor) -> Tensor:
    """A matrix on the slice axis of (B, D, H, W)."""
    return torch.einsum("ed,bdhw->behw", matrix, x)


def slice_matrix(depth: int, factor: int, profile: str) -> Tensor:
    """(depth / factor, depth) in float64; every row sums to 1."""
    centre = factor * (torch.arange(depth // factor, dtype=torch.float64) + 0.5) - 0.5
    offset = torch.arange(depth, dtype=torch.float64) - centre[:, None]
    if profile == "box":
        weight = (offset.abs() < factor / 2).double()
    else:
        width = factor / (2 * math.sqrt(2 * math.log(2)))
        weight = torch.exp(-0.5 * (offset / width).square())
    return weight / weight.sum(1, keepdim=True)
