"""Blur that changes over the image: a grid of kernels, between which every pixel's is interpolated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability, Operator, Window, image_shape
from invsolve_operators.blurs import kernels as drawings
from invsolve_operators.blurs.kernel_files import read_kernels
from invsolve_operators.blurs.padded import Continued, place
from invsolve_operators.common import expect
from invsolve_operators.masks.patterns import one_of
from invsolve_operators.transforms.fourier import averages, irfft2, rfft2

BOUNDARIES = ("reflect", "symmetric", "zero", "circular")


class TiledBlur(Continued):
    """y = sum_rs w_rs (k_rs * x): the kernel of a pixel is a mean of the nearest four of a grid; linear, with the exact adjoint.

    The weights are bilinear between the middles of R x S equal tiles, constant beyond the outer ones, and sum to 1 at every pixel, so that
    kernels that sum to 1 leave a constant as it is. `IterativeProx(H)` adds the prox that most solvers want.

        H^T y = sum_rs k_rs^T * (w_rs y)

    Args:
        in_shape: (C, H, W).
        kernels: (R, S, kh, kw), used as given; or a file of kernels, each divided by its sum, as many as `grid` says, row by row. Centre
            at index k // 2. None for no blur.
        grid: (R, S), for a file.
        boundary: how the image goes on: "reflect" (edge pixel not repeated), "symmetric" (repeated), "zero" or "circular".
        part: (top, left, height, width): the image is that part, from (top, left) on, of one of height x width pixels that the grid is
            laid over; None: of all of it.

    Raises:
        InputError: kernels of another rank, complex, empty or not finite; a file with another number of them; another boundary; a part
            that lies outside.

    References:
        Restoring Images Degraded by Spatially Variant Blur (Nagy, O'Leary, 1998), SIAM J. Sci. Comput. 19(4): a piecewise constant, or
        here linear, interpolation of kernels. Efficient Filter Flow (Hirsch, Sra, Schoelkopf, Harmeling, 2010), CVPR, weights the image
        in place of the output, which does not keep a constant at borders.
    """

    traits: ClassVar[frozenset[Capability]] = frozenset({Capability.LINEAR})
    channelwise = True
    kernels: Tensor
    down: Tensor
    across: Tensor

    def __init__(
        self,
        in_shape: Sequence[int],
        kernels: Tensor | Sequence[Sequence[Sequence[Sequence[float]]]] | str | Path | None = None,
        grid: Sequence[int] | None = None,
        boundary: str = "symmetric",
        part: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.in_shape = self.out_shape = image_shape(in_shape)
        _, height, width = self.in_shape
        value = from_file(kernels, grid) if isinstance(kernels, str | Path) else checked_grid(kernels)
        self.boundary = one_of(boundary, "boundary", BOUNDARIES)
        top, left, whole_height, whole_width = (0, 0, height, width) if part is None else map(int, part)
        if min(top, left) < 0 or top + height > whole_height or left + width > whole_width:
            raise InputError(f"part {tuple(part or ())} is (top, left, height, width) of an image that holds {height} x {width} from there")
        extent = tuple(value.shape[-2:])
        for name, count, side in (("rows", height, extent[0]), ("columns", width, extent[1])):
            self.register_buffer(name, place(count, side, self.boundary), persistent=False)
        self.register_buffer("kernels", value)
        self.register_buffer("down", hats(value.shape[0], whole_height)[:, top : top + height])
        self.register_buffer("across", hats(value.shape[1], whole_width)[:, left : left + width])
        self.spans = tuple([run_of(row) for row in weights] for weights in (self.down, self.across))
        self.reach = max(extent) // 2
        self.place = (top, left, whole_height, whole_width)
        self.output_range = (0.0, 1.0) if averages(value.flatten(0, 1)) else None

    def window(self, window: Window) -> Operator:
        """The same blur on the window: its pixels keep their kernels."""
        top, left, height, width = self.place
        part = (top + window.top, left + window.left, height, width)
        return TiledBlur((self.in_shape[0], window.height, window.width), self.kernels, None, self.boundary, part).to(self.device)

    def _tiles(self, like: Tensor) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
        """Of every kernel that is used: the rows and columns of its entries, their weights, and the kernel."""
        down, across, kernels = self.like("down", like), self.like("across", like), self.like("kernels", like)
        for r, vertical in enumerate(self.spans[0]):
            for s, horizontal in enumerate(self.spans[1]):
                if vertical.start < vertical.stop and horizontal.start < horizontal.stop:
                    yield vertical, horizontal, down[r, vertical, None] * across[s, None, horizontal], kernels[r, s]

    def forward(self, x: Tensor) -> Tensor:
        """sum_rs w_rs (k_rs * x)."""
        expect(self, x)
        y, wide = torch.zeros_like(x), self._pad(x)
        for rows, columns, weight, kernel in self._tiles(x):
            kh, kw = kernel.shape
            part = wide[..., rows.start : rows.stop + kh - 1, columns.start : columns.stop + kw - 1]
            sides = part.shape[-2:]
            blurred = irfft2(rfft2(on(sides, kernel)) * rfft2(part), s=sides)[..., kh - 1 :, kw - 1 :]
            y[..., rows, columns] += weight * blurred
        return y

    def adjoint(self, y: Tensor) -> Tensor:
        """sum_rs k_rs^T * (w_rs y), every padded place given back to the pixel it read."""
        wide = y.new_zeros(*y.shape[:-2], len(self.rows), len(self.columns))
        for rows, columns, weight, kernel in self._tiles(y):
            kh, kw = kernel.shape
            part = torch.nn.functional.pad(weight * y[..., rows, columns], (kw - 1, 0, kh - 1, 0))
            sides = part.shape[-2:]
            back = irfft2(rfft2(on(sides, kernel)).conj() * rfft2(part), s=sides)
            wide[..., rows.start : rows.stop + kh - 1, columns.start : columns.stop + kw - 1] += back
        return self._pad_transposed(wide)

    def extra_repr(self) -> str:
        """The grid, the kernels' size and the boundary."""
        return f"{super().extra_repr()}, kernels {tuple(self.kernels.shape)}, {self.boundary}"

    @classmethod
    def examples(cls) -> list[Operator]:
        """Every boundary, even kernels, larger than a tile, a part of a larger image."""
        draw = drawings.drawn(0)
        return [
            cls((3, 8, 8), draw(2, 2, 3, 3)),
            cls((1, 9, 7), draw(3, 1, 4, 2), boundary="reflect"),
            cls((2, 6, 5), draw(2, 3, 3, 5), boundary="zero"),
            cls((1, 5, 6), draw(1, 2, 3, 4), boundary="circular"),
            cls((1, 5, 4), draw(2, 2, 3, 3), part=(3, 1, 12, 9)),
        ]


def hats(count: int, length: int) -> Tensor:
    """(count, length): weights that are 1 in the middle of each of `count` equal parts and fall linearly to 0 in the next one's."""
    middle = (torch.arange(count, dtype=torch.float64) + 0.5) * length / count - 0.5
    place_of = torch.arange(length, dtype=torch.float64).clamp(float(middle[0]), float(middle[-1]))
    return (1 - (place_of - middle[:, None]).abs() * count / length).clamp_min(0)


def run_of(weights: Tensor) -> slice:
    """Where weights are above 0: one run of places."""
    found = weights.nonzero()[:, 0].tolist()
    return slice(found[0], found[-1] + 1) if found else slice(0, 0)


def on(sides: Sequence[int], kernel: Tensor) -> Tensor:
    """A kernel in the corner of zeros."""
    height, width = sides
    return torch.nn.functional.pad(kernel, (0, width - kernel.shape[1], 0, height - kernel.shape[0]))


def checked_grid(kernels: object) -> Tensor:
    """(R, S, kh, kw) in float64."""
    value = torch.ones(1, 1, 1, 1) if kernels is None else torch.as_tensor(kernels)
    if value.ndim != 4 or not value.numel() or value.is_complex() or not bool(torch.isfinite(value).all()):
        raise InputError(f"kernels must be a real, finite grid of kernels (R, S, kh, kw); given shape {tuple(value.shape)}, {value.dtype}")
    return value.to(torch.float64)


def from_file(path: str | Path, grid: Sequence[int] | None) -> Tensor:
    """(R, S, kh, kw) of a file, each kernel divided by its sum; smaller ones in the middle of zeros."""
    found = read_kernels(path)
    rows, columns = (1, len(found)) if grid is None else map(int, grid)
    if rows * columns != len(found) or (grid is None and len(found) > 1):
        raise InputError(f"{path} holds {len(found)} kernels; say how they lie on the image by grid=(rows, columns), row by row")
    if any(not float(kernel.sum()) > 0 for kernel in found):
        raise InputError(f"{path}: a kernel sums to 0 or less, which no blur does")
    height, width = (max(kernel.shape[side] for kernel in found) for side in (0, 1))
    made = torch.zeros(len(found), height, width, dtype=torch.float64)
    for one, kernel in zip(made, found, strict=True):
        top, left = height // 2 - kernel.shape[0] // 2, width // 2 - kernel.shape[1] // 2
        one[top : top + kernel.shape[0], left : left + kernel.shape[1]] = kernel / kernel.sum()
    return checked_grid(made.reshape(rows, columns, height, width))
