"""Complex data of real images: one rule, and the operator that stands between.

Images are real, a complex image with C channels is one of 2 C real ones: first the C real parts, then the C imaginary parts,

    x = torch.cat([z.real, z.imag], dim=1),      AsComplex((2 C, H, W))(x) = z.

On real images the product of complex measurements is <a, b> = Re a^* b, so the adjoint of a complex matrix A is y -> Re A^* y, a real
image. An operator of real images that stands after a complex one in a chain is continued linearly, H z = H Re z + i H Im z, with

    H^* y = A(y) + i A(-i y),      A(y) = H^T y its adjoint on real images, for complex y, and H^T Re y where H gives real y.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator.contract import Operator, Shape
from invsolve.operator.measurement import Measurement, column, mapped, parts
from invsolve.operator.svd import SVD


def paired(z: Tensor) -> Tensor:
    """A complex (B, C, ...) as real (B, 2 C, ...), real parts first; of a real one the imaginary parts are 0."""
    return torch.cat([z.real, z.imag if z.is_complex() else torch.zeros_like(z)], dim=1)


def joined_pairs(x: Tensor) -> Tensor:
    """The inverse of `paired`: real (B, 2 C, ...) as complex (B, C, ...)."""
    real, imaginary = x.chunk(2, dim=1)
    return torch.complex(real.contiguous(), imaginary.contiguous())


def continued(operator: Operator, z: Tensor) -> Measurement:
    """H z for a complex z: as it is where H takes complex images, else H Re z + i H Im z."""
    if operator.complex_input or not z.is_complex():
        return operator(z)
    return mapped(lambda real, imaginary: real + 1j * imaginary, operator(z.real.contiguous()), operator(z.imag.contiguous()))


def continued_adjoint(operator: Operator, y: Measurement) -> Tensor:
    """H^* y for complex images, from the adjoint on real ones: A(y) + i A(-i y)."""
    if operator.complex_input:
        return operator.adjoint(y)
    turned = mapped(lambda part: -1j * part, y)
    return torch.complex(operator.adjoint(taken(operator, y)), operator.adjoint(taken(operator, turned)))


def taken(operator: Operator, y: Measurement) -> Measurement:
    """y without the imaginary parts where the operator gives real numbers: its adjoint on real images does not see them."""
    held = tuple(part if kind else part.real.contiguous() for part, kind in zip(parts(y), operator.complex_outputs, strict=True))
    return held if isinstance(y, tuple) else held[0]


class AsComplex(Operator):
    """z = x_real + i x_imag: a real image with 2 C channels, the C real parts first, as a complex one with C channels.

        H @ AsComplex((2, H, W))      measures complex images with an operator made for (1, H, W)
        AsComplex((2, H, W)) @ H      gives complex y where H gives pairs (2, H, W)

    An isometry: |AsComplex x| = |x|, s = 1, the pseudo-inverse is the adjoint, z -> (Re z, Im z). `AsComplex(...).T` goes from complex
    numbers to pairs.

    Args:
        in_shape: (2 C, H, W), or any shape whose first side is even.

    Raises:
        InputError: an odd number of channels.
    """

    out_shape: Shape
    complex_output = True

    def __init__(self, in_shape: Sequence[int]) -> None:
        super().__init__()
        self.in_shape = tuple(int(side) for side in in_shape)
        if not self.in_shape or min(self.in_shape) < 1 or self.in_shape[0] % 2:
            raise InputError(f"AsComplex takes (2 C, H, W): C real parts, then C imaginary parts; given {tuple(in_shape)}")
        self.out_shape = (self.in_shape[0] // 2, *self.in_shape[1:])

    def forward(self, x: Tensor) -> Tensor:
        """x_real + i x_imag.

        Raises:
            InputError: another shape.
        """
        if x.shape[1:] != self.in_shape:
            raise InputError(f"AsComplex takes x of shape (B, {', '.join(map(str, self.in_shape))}); given {tuple(x.shape)}")
        return joined_pairs(x)

    def adjoint(self, y: Measurement) -> Tensor:
        """(Re y, Im y)."""
        return paired(parts(y)[0])

    def pinv(self, y: Measurement) -> Tensor:
        """(Re y, Im y)."""
        return paired(parts(y)[0])

    def prox(self, z: Tensor, y: Measurement, tau: float | Tensor) -> Tensor:
        """z + (H^T y - z) / (1 + 1 / tau)."""
        weight = 1 / column(tau, z)
        return z + (paired(parts(y)[0]) - z) / (1 + weight)

    def svd(self) -> SVD:
        """s = 1, V the identity, U the operator itself."""
        return SVD(torch.ones(self.in_shape, dtype=torch.float64), joined_pairs, paired, torch.clone, torch.clone)

    @classmethod
    def examples(cls) -> list[Operator]:
        """One and two complex channels, and what is no image."""
        return [cls((2, 4, 5)), cls((4, 3, 3)), cls((6,))]
