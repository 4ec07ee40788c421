"""Single-coil Cartesian magnetic resonance imaging: y = m * F x, F the centred orthonormal Fourier transform.

k-space is kept as real pairs, (2, H, W) = (real, imaginary), and so is a complex image. There F is orthogonal, s = m.

A real image has X[-k] = conj X[k]. In the basis of the Hartley transform c = Re X - Im X (orthonormal, its own inverse) both
coefficients of a pair (k, -k) are seen by either point: s[k] = sqrt((m[k] + m[-k]) / 2), which is 1 where both or a frequency that
is its own mirror image is measured, and 1 / sqrt 2 where one of the two is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability, Operator, Shape, image_shape
from invsolve.operator.svd import SVD
from invsolve_operators.common import damping, expect, over, select_arguments
from invsolve_operators.mri.sampling import sampled_points
from invsolve_operators.transforms.fourier import fft2, ifft2

SIDES = (-2, -1)


class MRI(Operator):
    """y = m * F x on k-space (2, H, W), 0 where not measured; zero frequency at (H // 2, W // 2), the image's centre there too.

    Args:
        in_shape: (1, H, W) for real images, (2, H, W) for complex ones as (real, imaginary).
        acceleration: how many times fewer points than all; 4 where no mask is given.
        pattern: "equispaced" or "random-lines" (whole columns) or "gaussian" (points), see `sampling.sampling_mask`.
        centre: part of the columns (points) about zero frequency that is always measured.
        seed: of the pattern.
        mask: 1 measured, 0 not, instead of acceleration: (H, W), (1, H, W), or per image (B, 1, H, W); (W,) for whole columns.

    Raises:
        InputError: another number of channels, both acceleration and mask, a mask of another shape, see `sampling_mask`.

    References:
        fastMRI: An Open Dataset and Benchmarks for Accelerated MRI (Zbontar et al., 2018), arXiv:1811.08839.
    """

    traits: ClassVar[frozenset[Capability]] = frozenset({Capability.LINEAR})
    complex_images: ClassVar[str] = "MRI((2, H, W), ...)"  # named where a complex image is refused
    out_shape: Shape
    sampled: Tensor
    s: Tensor

    def __init__(
        self,
        in_shape: Sequence[int],
        acceleration: float | None = None,
        pattern: str = "equispaced",
        centre: float = 0.08,
        seed: int = 0,
        mask: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.in_shape = image_shape(in_shape)
        if self.in_shape[0] not in (1, 2):
            raise InputError(f"MRI takes real images (1, H, W) or complex ones (2, H, W) as (real, imaginary); given {self.in_shape}")
        sides = self.in_shape[1:]
        sampled = sampled_points(sides, mask, acceleration, pattern, centre, seed)
        self.out_shape = (2, *sides)
        self.register_buffer("sampled", sampled)
        self.batch = len(self.sampled) if self.sampled.ndim == 4 else None
        self.real = self.in_shape[0] == 1
        both = self.sampled.double()
        self.register_buffer("s", ((both + opposite(both)) / 2).sqrt() if self.real else both)

    @property
    def supports(self) -> tuple[Tensor | None, ...]:
        """The mask: what is not measured is no data."""
        return (self.sampled,)

    def select(self, items: range) -> Operator:
        """The items' masks."""
        return select_arguments(self, items, "mask")

    def forward(self, x: Tensor) -> Tensor:
        """m * F x."""
        expect(self, x)
        image = x[:, 0] if self.real else joined(x)
        return self.like("sampled", x) * paired(fourier(image))

    def adjoint(self, y: Tensor) -> Tensor:
        """F^* (m * y); its real part for real images."""
        kept = self.like("sampled", y) * y
        return inverse_fourier(joined(kept)).real.unsqueeze(1) if self.real else paired(inverse_fourier(joined(kept)))

    def pinv(self, y: Tensor) -> Tensor:
        """V (1 / s^2) s U^T y: what is not measured is 0."""
        return self.svd().pinv(y)

    def prox(self, z: Tensor, y: Tensor, tau: float | Tensor) -> Tensor:
        """z + V [1 / (s^2 + 1 / tau)] V^T H^T (y - H z)."""
        square = self.like("s", z).square()
        step = self._right_transposed(self.adjoint(y - self(z)))
        return z + self._right(over(step, torch.where(square > 0, square + damping(tau, z), 0)))

    def _right(self, c: Tensor) -> Tensor:
        """V: the Hartley transform for real images, F^* on pairs."""
        return hartley(c) if self.real else paired(inverse_fourier(joined(c)))

    def _right_transposed(self, x: Tensor) -> Tensor:
        return hartley(x) if self.real else paired(fourier(joined(x)))

    def svd(self) -> SVD:
        """s = m for complex images; for real ones see the module."""
        s = self.s.expand(*self.s.shape[:-3], *self.in_shape)
        if not self.real:
            return SVD(s, self._kept, self._kept, self._right, self._right_transposed)
        return SVD(s, self._left, self._left_transposed, self._right, self._right_transposed)

    def _kept(self, c: Tensor) -> Tensor:
        return self.like("sampled", c) * c

    def _over_s(self, c: Tensor) -> Tensor:
        return over(c, self.like("s", c))

    def _left(self, c: Tensor) -> Tensor:
        """m * X of the coefficients c / s: Re X = (c + c') / 2, Im X = (c' - c) / 2 with c'[k] = c[-k]."""
        c = self._over_s(c)
        mirror = opposite(c)
        return self._kept(torch.cat([c + mirror, mirror - c], dim=1) / 2)

    def _left_transposed(self, y: Tensor) -> Tensor:
        """The transpose: (a + b') / (2 s) with a = m (Re y - Im y), b = m (Re y + Im y)."""
        real, imaginary = self._kept(y).split(1, dim=1)
        return self._over_s((real - imaginary + opposite(real + imaginary)) / 2)

    def extra_repr(self) -> str:
        """How much is measured."""
        part = float(self.sampled.mean())
        return f"{super().extra_repr()}, {100 * part:.3g} % of k-space measured (acceleration {1 / max(part, 1e-12):.3g})"

    @classmethod
    def examples(cls) -> list[Operator]:
        """Real and complex images, odd and even sides, every pattern, one mask per image, nothing measured."""
        generator = torch.Generator().manual_seed(0)
        per_image = torch.rand(3, 1, 5, 4, generator=generator) < 0.4
        return [
            cls((1, 8, 8), 2.0),
            cls((2, 7, 10), 2.0, "random-lines"),
            cls((1, 7, 9), 3.0, "gaussian"),
            cls((1, 5, 4), mask=per_image),
            cls((2, 5, 4), mask=per_image),
            cls((1, 3, 4), mask=torch.zeros(3, 4)),
        ]


def joined(x: Tensor) -> Tensor:
    """(B, ..., 2, H, W) as complex (B, ..., H, W)."""
    real, imaginary = x.unbind(-3)
    return torch.complex(real, imaginary)


def paired(c: Tensor) -> Tensor:
    """The inverse of `joined`."""
    return torch.stack([c.real, c.imag], dim=-3)


def fourier(image: Tensor) -> Tensor:
    """Centred orthonormal transform over the last two sides."""
    return torch.fft.fftshift(fft2(torch.fft.ifftshift(image, dim=SIDES), norm="ortho"), dim=SIDES)


def inverse_fourier(kspace: Tensor) -> Tensor:
    """Its inverse."""
    return torch.fft.fftshift(ifft2(torch.fft.ifftshift(kspace, dim=SIDES), norm="ortho"), dim=SIDES)


def hartley(x: Tensor) -> Tensor:
    """Re F x - Im F x of real x: orthonormal and its own inverse."""
    transformed = fourier(x)
    return transformed.real - transformed.imag


def opposite(c: Tensor) -> Tensor:
    """The value at -k for every k, zero frequency at (H // 2, W // 2)."""
    shifts = [1 if side % 2 == 0 else 0 for side in c.shape[-2:]]
    return c.flip(SIDES).roll(shifts, SIDES)
