"""Compressed sensing with the Walsh-Hadamard transform, as a single-pixel camera measures.

W = H_a (x) H_b / sqrt(a b) acts on the rows and columns of each channel; W is symmetric and W W = I. Each side is split into
factors of at most 32, H_side = H_32 (x) H_32 (x) ..., and every factor is one product with a small matrix: O(n log n) as the
butterflies of radix 2, with a fifth of their passes over memory, which is what costs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Operator, image_shape
from invsolve_operators.sampled import SampledTransform, checked_count, checked_ratio, drawn


class WalshHadamard(SampledTransform):
    """Some Walsh-Hadamard coefficients of every channel: y = m * (W_H x W_W).

    y is the plane of coefficients in natural (Hadamard) order, 0 where not measured; the same coefficients in every channel.

    Args:
        in_shape: (C, H, W), H and W powers of two, which may differ.
        ratio: part of the coefficients that is measured: exactly round(ratio H W), at least one; 1/4 where no mask is given.
        seed: of the random choice.
        always: how many coefficients of the lowest sequency (sign changes along rows plus columns) are measured in any case; the
            first is the mean of the image.
        mask: 1 measured, 0 not, instead of ratio: (H, W), or (C, H, W), or per image (B, 1, H, W), (B, C, H, W).

    Raises:
        InputError: a side that is no power of two, ratio outside (0, 1], both ratio and mask, `always` larger than the number
            that is measured.

    References:
        Single-Pixel Imaging via Compressive Sampling (Duarte et al., 2008), IEEE Signal Processing Magazine 25(2).
        Denoising Diffusion Restoration Models (Kawar et al., 2022), arXiv:2201.11793, appendix D: the operator. Deviations: there
        the choice may leave out the mean (always=0), and the transform runs along the flattened image, which is the same for
        sides that are powers of two.
    """

    def __init__(
        self, in_shape: Sequence[int], ratio: float | None = None, seed: int = 0, always: int = 1, mask: Tensor | None = None
    ) -> None:
        shape = image_shape(in_shape)
        for side in shape[1:]:
            if side & (side - 1):
                near = 1 << (side.bit_length() - 1)
                raise InputError(
                    f"Walsh-Hadamard needs sides that are powers of two; given {shape}: crop or pad {side} to {near} or {2 * near}"
                )
        if mask is not None and ratio is not None:
            raise InputError("give ratio (random coefficients) or mask (an array), not both")
        super().__init__(shape, chosen(shape, 0.25 if ratio is None else ratio, seed, always) if mask is None else mask)
        self.radices = tuple(tuple(split(side)) for side in shape[1:])
        for radix in {radix for radices in self.radices for radix in radices}:
            self.register_buffer(f"factor_{radix}", hadamard(radix) / radix**0.5, persistent=False)

    def transform(self, x: Tensor) -> Tensor:
        """W_H x W_W, orthonormal."""
        c, width = x, self.in_shape[2]
        for radices, inner in zip(self.radices, (width, 1), strict=True):  # what lies behind a factor: the whole row, or nothing
            for radix in radices:
                factor = self.like(f"factor_{radix}", x)
                c = factor @ c.reshape(-1, radix, inner) if inner > 1 else c.reshape(-1, radix) @ factor
                inner *= radix
        return c.reshape(x.shape)

    def inverse(self, c: Tensor) -> Tensor:
        """The same: W is symmetric and orthogonal."""
        return self.transform(c)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Colour, not square, a side of 1, one mask per image, everything measured."""
        generator = torch.Generator().manual_seed(0)
        per_image = torch.rand(3, 1, 4, 8, generator=generator) < 0.4
        return [cls((3, 8, 8), 0.25), cls((1, 4, 16), 0.5, always=3), cls((2, 1, 2)), cls((2, 4, 8), mask=per_image), cls((1, 8, 4), 1.0)]


def split(side: int) -> list[int]:
    """Powers of two up to 32, as even as they come, whose product is the side; [] for 1."""
    power = side.bit_length() - 1
    count = -(-power // 5)
    return [1 << (power * (index + 1) // count - power * index // count) for index in range(count)]


def hadamard(size: int) -> Tensor:
    """Sylvester's matrix (size, size) of +1 and -1, in float64: the sign of (i, j) is the parity of the bits of i and j."""
    matrix = torch.ones(1, 1, dtype=torch.float64)
    step = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    while len(matrix) < size:
        matrix = torch.kron(step, matrix)
    return matrix


def sequency(side: int) -> Tensor:
    """Number of sign changes of each row of Sylvester's matrix, (side,): a permutation of 0 .. side - 1."""
    index = torch.arange(side)
    reversed_bits = torch.zeros_like(index)
    for bit in range(side.bit_length() - 1):
        reversed_bits = 2 * reversed_bits + (index >> bit & 1)
    changes, shift = reversed_bits.clone(), 1
    while shift < side:  # Gray code to binary
        changes ^= changes >> shift
        shift *= 2
    return changes


def chosen(shape: tuple[int, ...], ratio: float, seed: int, always: int) -> Tensor:
    """(1, H, W) with exactly round(ratio H W) ones, the lowest sequencies first."""
    size = shape[1] * shape[2]
    count = max(1, round(checked_ratio(ratio) * size))
    if checked_count(always, "always") > count:
        raise InputError(f"always = {always} is more than the {count} coefficients that are measured; raise ratio")
    order = sequency(shape[1])[:, None] + sequency(shape[2])
    first = order.flatten().argsort(stable=True)[:always]
    return drawn(size, count, first, seed, "walsh-hadamard").reshape(1, *shape[1:])
