"""Phase retrieval: only the modulus of the Fourier transform is measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability, Operator, Shape, image_shape
from invsolve_operators.common import expect
from invsolve_operators.mri.cartesian import fourier


class PhaseRetrieval(Operator):
    """y = |F pad(x)|, channel by channel, F the centred orthonormal Fourier transform.

    The picture lies in the middle of a frame of zeros, round(oversampling / 8 side) wide on every side. The gradient where y = 0 is
    taken as 0 (a subgradient). y does not tell x from x turned by 180 degrees or shifted within the frame, nor from -x.

    Args:
        in_shape: (C, H, W).
        oversampling: 2 makes a frame of a quarter side all round: 384 for 256.
        signed: the transform is of 2 x - 1, as methods do whose images live in [-1, 1].

    Raises:
        InputError: oversampling is negative or no number.

    References:
        Diffusion Posterior Sampling (Chung et al., 2023), arXiv:2209.14687, appendix D: oversampling 2, images in [-1, 1] (signed=True,
        the noise of 0.05 is then the same here). DAPS (Zhang et al., 2024), arXiv:2407.01521: the same in [0, 1].
    """

    traits: ClassVar[frozenset[Capability]] = frozenset({Capability.DIFFERENTIABLE})
    out_shape: Shape

    def __init__(self, in_shape: Sequence[int], oversampling: float = 2.0, signed: bool = False) -> None:
        super().__init__()
        self.in_shape = image_shape(in_shape)
        if isinstance(oversampling, bool) or not isinstance(oversampling, int | float) or not 0 <= oversampling <= 64:
            raise InputError(f"oversampling must be a number in [0, 64]; given {oversampling!r}")
        self.frame = tuple(round(oversampling / 8 * side) for side in self.in_shape[1:])
        channels, height, width = self.in_shape
        self.out_shape = (channels, height + 2 * self.frame[0], width + 2 * self.frame[1])
        self.signed = bool(signed)

    def forward(self, x: Tensor) -> Tensor:
        """|F pad(x)|."""
        expect(self, x)
        rows, columns = self.frame
        picture = 2 * x - 1 if self.signed else x
        return fourier(torch.nn.functional.pad(picture, (columns, columns, rows, rows))).abs()

    @classmethod
    def examples(cls) -> list[Operator]:
        """Both ranges, not square."""
        return [cls((1, 8, 8)), cls((3, 4, 6), 4.0, signed=True)]
