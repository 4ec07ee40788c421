"""Phase retrieval: only the modulus of the Fourier transform is measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability, Operator, Shape, image_shape
from invsolve.operator.measurement import Measurement, parts
from invsolve_operators.common import expect
from invsolve_operators.mri.cartesian import fourier, inverse_fourier

# Of `guess`. TRUNCATION keeps the few frequencies of a picture's mean from being all that is seen.
POWER_STEPS, TRUNCATION, HYBRID_STEPS, CUT_STEPS, BETA = 60, 9.0, 200, 50, 0.9
TINY, DIGITS = 1e-30, 2.0**20


class PhaseRetrieval(Operator):
    """y = |F pad(x)|, channel by channel, F the centred orthonormal Fourier transform.

    The picture lies in the middle of a frame of zeros, round(oversampling / 8 side) wide on every side. The gradient where y = 0 is
    taken as 0 (a subgradient). y does not tell x from x turned by 180 degrees or shifted within the frame, nor from -x.

    `guess(y)` is where solvers that walk from a first image begin. The spectral start: the image whose transform is largest where y^2 is,

        60 times x <- P^T F^H (min(y^2 / mean y^2, 9) F P x),   |x| = |y|

    alone no better than grey here, since F is not random, but where the hybrid input-output map begins, which knows that outside the
    picture there is nothing and that images are not negative: 200 steps of it (beta .9), then 50 of error reduction. Of 6 grey pictures
    of 32 x 32 it takes the root mean square error of AdamTV(steps=600), which from grey is .135 with noise .01 and .144 with .05, to .113
    and .132. With signed=True x and 1 - x fit alike, and which of the two it finds is chance.

    Args:
        in_shape: (C, H, W).
        oversampling: 2 makes a frame of a quarter side all round: 384 for 256.
        signed: the transform is of 2 x - 1, as methods do whose images live in [-1, 1].

    Raises:
        InputError: oversampling is negative or no number.

    References:
        Diffusion Posterior Sampling (Chung et al., 2023), arXiv:2209.14687, appendix D: oversampling 2, images in [-1, 1] (signed=True,
        the noise of 0.05 is then the same here). DAPS (Zhang et al., 2024), arXiv:2407.01521: the same in [0, 1].
        The start: Phase Retrieval via Wirtinger Flow (Candes et al., 2015), arXiv:1407.1065, algorithm 1, truncated as by Chen and Candes
        (2017), arXiv:1505.05114; Phase retrieval algorithms: a comparison (Fienup, 1982), Applied Optics 21, sections IV and V.
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
        return fourier(self._framed(2 * x - 1 if self.signed else x)).abs()

    def _framed(self, picture: Tensor) -> Tensor:
        rows, columns = self.frame
        return torch.nn.functional.pad(picture, (columns, columns, rows, rows))

    def _inside(self, frame: Tensor) -> Tensor:
        rows, columns = self.frame
        _, height, width = self.in_shape
        return frame[..., rows : rows + height, columns : columns + width]

    def guess(self, y: Measurement) -> Tensor:
        """The spectral start, moved on by the hybrid input-output map; an item and a channel by itself, in units of |y|.

        In double precision from y to one millionth, since the map is chaotic: in another unit y's last digit is another one.
        """
        moduli = parts(y)[0].detach()
        sizes = moduli.double().flatten(2).norm(dim=2)[..., None, None].clamp_min(TINY)
        rounded = (moduli.double() / sizes * DIGITS).round() / DIGITS
        pictures = sizes * torch.stack(
            [self._retrieved(one, self._spectral(one), 1 / size) for one, size in zip(rounded, sizes, strict=True)]
        )
        return ((pictures + 1) / 2 if self.signed else pictures).to(moduli.dtype)

    def _spectral(self, y: Tensor) -> Tensor:
        """The leading vector of P^T F^H T F P, as long as y, (C, H, W)."""
        power = y.square()
        weight = (power / power.mean((-2, -1), keepdim=True).clamp_min(TINY)).clamp_max(TRUNCATION)
        x = torch.ones(self.in_shape, dtype=y.dtype, device=y.device)
        for _ in range(POWER_STEPS):
            x = self._inside(inverse_fourier(weight * fourier(self._framed(x))).real)
            x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(TINY)
        sign = torch.where(x.sum((-2, -1), keepdim=True) < 0, -1.0, 1.0)
        return sign * power.sum((-2, -1), keepdim=True).sqrt() * x

    def _retrieved(self, y: Tensor, x: Tensor, one: Tensor) -> Tensor:
        """Hybrid input-output steps, then error reduction: what breaks the rules is pushed back, then cut; `one` is 1 in y's unit."""
        frame = self._framed(x)
        inside = self._framed(torch.ones_like(x)) > 0
        low, high = (-one, one) if self.signed else (torch.zeros_like(one), torch.full_like(one, math.inf))
        for step in range(HYBRID_STEPS + CUT_STEPS):
            found = fourier(frame)
            back = inverse_fourier(torch.polar(y.clamp_min(0), found.angle())).real
            kept = inside & (back >= low) & (back <= high)
            frame = torch.where(kept, back, frame - BETA * back if step < HYBRID_STEPS else back.clamp(low, high) * inside)
        return self._inside(frame)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Both ranges, not square."""
        return [cls((1, 8, 8)), cls((3, 4, 6), 4.0, signed=True)]
