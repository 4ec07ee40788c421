"""Blur of an image that goes on beyond its edges as one says, with any kernel.

H = K P: P continues the image (or not, "valid"), K convolves and keeps what is whole. There is no closed SVD, pinv or prox unless
the kernel is separable (`SeparableBlur`) or the boundary circular (`KernelBlur`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability, Operator, image_shape
from invsolve_operators.blurs import kernels
from invsolve_operators.blurs.separable import fold
from invsolve_operators.common import expect, select_arguments
from invsolve_operators.masks.patterns import one_of
from invsolve_operators.transforms.fourier import averages, checked_kernel, irfft2, pairs, rfft2

BOUNDARIES = ("reflect", "symmetric", "zero", "valid")


class Continued(Operator):
    """Base of blurs of an image that goes on beyond its edges.

    Attributes:
        rows, columns: along each side, which pixel each padded place reads, -1 for none; see `place`.
        boundary: its name.
    """

    rows: Tensor
    columns: Tensor
    boundary: str

    def _pad(self, x: Tensor) -> Tensor:
        """The image continued: places that read nothing (index -1) are 0."""
        rows, columns = self.rows, self.columns
        wide = x[..., rows.clamp_min(0), :][..., columns.clamp_min(0)]
        return wide * ((rows >= 0)[:, None] & (columns >= 0)) if self.boundary == "zero" else wide

    def _pad_transposed(self, wide: Tensor) -> Tensor:
        """Every place given back to the pixel it read."""
        rows, columns = self.rows, self.columns
        wide = wide * ((rows >= 0)[:, None] & (columns >= 0)) if self.boundary == "zero" else wide
        _, height, width = self.in_shape
        tall = wide.new_zeros(*wide.shape[:-2], height, wide.shape[-1]).index_add(-2, rows.clamp_min(0), wide)
        return tall.new_zeros(*tall.shape[:-1], width).index_add(-1, columns.clamp_min(0), tall)


class PaddedBlur(Continued):
    """y = k * x with the image continued by reflection, by zeros, or not at all; linear, with the exact adjoint.

    `IterativeProx(H)` and `IterativePinv(H)` add what has no closed form; `KrylovSVD(H, rank)` an SVD of the leading part.

    Args:
        in_shape: (C, H, W).
        kernel: (kh, kw), or one per image (B, kh, kw); centre at index k // 2, used as given.
        boundary: "reflect" (edge pixel not repeated), "symmetric" (repeated), "zero", or "valid": only pixels whose whole
            neighbourhood is in the image, (H - kh + 1, W - kw + 1) of them.

    Raises:
        InputError: another boundary, a kernel that is complex, empty, not finite, or larger than a "valid" image.
    """

    traits: ClassVar[frozenset[Capability]] = frozenset({Capability.LINEAR})
    channelwise = True
    uniform = True
    kernel: Tensor
    transfer: Tensor

    def __init__(self, in_shape: Sequence[int], kernel: Tensor | Sequence[Sequence[float]], boundary: str = "reflect") -> None:
        super().__init__()
        self.in_shape = image_shape(in_shape)
        channels, height, width = self.in_shape
        value = checked_kernel(torch.as_tensor(kernel))
        self.batch = len(value) if value.ndim == 3 else None
        # The place of an entry is its window's first pixel where nothing is padded, and the middle one elsewhere.
        self.reach = max(value.shape[-2:]) - 1 if boundary == "valid" else max(value.shape[-2:]) // 2
        self.boundary = one_of(boundary, "boundary", BOUNDARIES)
        size = tuple(value.shape[-2:])
        if boundary == "valid":
            sides = tuple(side - extent + 1 for side, extent in zip((height, width), size, strict=True))
            if min(sides) < 1:
                raise InputError(f"a valid blur needs an image at least as large as the kernel; given {height} x {width} and {size}")
        else:
            sides = (height, width)
        self.out_shape = (channels, *sides)
        # Along each side: which pixel each padded place reads, and whether it reads one at all.
        for name, count, extent in (("rows", height, size[0]), ("columns", width, size[1])):
            self.register_buffer(name, place(count, extent, boundary), persistent=False)
        # Beyond what is padded there are zeros up to sides that a transform is fast on: 524 = 4 * 131 takes four times 540.
        self.grid = [int(next_fast_len(len(side), real=True) or 0) for side in (self.rows, self.columns)]
        canvas = torch.zeros(*value.shape[:-2], *self.grid, dtype=torch.float64)
        canvas[..., : size[0], : size[1]] = value
        self.register_buffer("kernel", value)
        self.register_buffer("transfer", pairs(rfft2(canvas).unsqueeze(-3)))
        self.first = (size[0] - 1, size[1] - 1)
        self.output_range = (0.0, 1.0) if averages(value) else None

    def select(self, items: range) -> Operator:
        """The items' kernels."""
        return select_arguments(self, items, "kernel")

    def forward(self, x: Tensor) -> Tensor:
        """K P x: on the padded grid a circular convolution, of which the places whose sum does not wrap are kept."""
        expect(self, x)
        transfer = torch.view_as_complex(self.like("transfer", x))
        wide = irfft2(transfer * rfft2(self._zeros_after(self._pad(x))), s=self.grid)
        return wide[..., self.first[0] : len(self.rows), self.first[1] : len(self.columns)].contiguous()

    def adjoint(self, y: Tensor) -> Tensor:
        """P^T K^T y."""
        transfer = torch.view_as_complex(self.like("transfer", y))
        wide = self._zeros_after(torch.nn.functional.pad(y, (self.first[1], 0, self.first[0], 0)))
        whole = irfft2(transfer.conj() * rfft2(wide), s=self.grid)
        return self._pad_transposed(whole[..., : len(self.rows), : len(self.columns)])

    def _zeros_after(self, wide: Tensor) -> Tensor:
        """Up to the sides of the transform."""
        height, width = (side - given for side, given in zip(self.grid, wide.shape[-2:], strict=True))
        return torch.nn.functional.pad(wide, (0, width, 0, height))

    def extra_repr(self) -> str:
        """The kernel's size and the boundary."""
        return f"{super().extra_repr()}, kernel {tuple(self.kernel.shape)}, {self.boundary}"

    @classmethod
    def examples(cls) -> list[Operator]:
        """Every boundary; even kernels, larger than the image, one per image."""
        draw = kernels.drawn(0)
        return [
            cls((3, 8, 8), draw(3, 4)),
            cls((1, 5, 4), draw(7, 6), "symmetric"),
            cls((2, 6, 5), draw(3, 2, 3), "zero"),
            cls((1, 7, 6), draw(4, 3) - 0.1, "valid"),
        ]


def place(count: int, extent: int, boundary: str) -> Tensor:
    """For each padded place along a side, the index of the pixel it reads; -1 for none."""
    if boundary == "valid":
        return torch.arange(count)
    before = extent - 1 - extent // 2
    index = torch.arange(-before, count + extent // 2)
    target, inside = fold(index, count, boundary)
    return torch.where(inside > 0, target, -1)
