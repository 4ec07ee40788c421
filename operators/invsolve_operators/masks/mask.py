"""Inpainting: y = m * x with a 0/1 mask m on the full image grid.

H = diag(m), so U = V = I and s = m.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability, Operator, Shape, image_shape
from invsolve.operator.svd import SVD
from invsolve.operator.windows import Window
from invsolve.rng import Rng
from invsolve_operators.common import damping, expect, select_arguments, size


class Mask(Operator):
    """Keep some pixels, set the others to 0: y = m * x.

    Args:
        in_shape: (C, H, W), or (C, D, H, W) of volumes.
        keep: fraction of the pixels kept, in [0, 1]: exactly round(keep H W) positions (of volumes round(keep D H W)), chosen at random,
            the same in every channel; 0.5 where neither `keep` nor `mask` is given. (B,) for one fraction, and other positions, per image.
        seed: of the random positions.
        mask: 1 known, 0 missing (or bool): (H, W), (1, H, W), (C, H, W), or per image (B, 1, H, W), (B, C, H, W); of volumes the same
            with D before H.

    Raises:
        InputError: both keep and mask, keep outside [0, 1], a mask of another shape or with values other than 0 and 1.
    """

    traits: ClassVar[frozenset[Capability]] = frozenset({Capability.LINEAR, Capability.MASK})
    output_range = (0.0, 1.0)
    mask: Tensor

    def __init__(self, in_shape: Sequence[int], keep: float | Tensor | None = None, seed: int = 0, mask: Tensor | None = None) -> None:
        super().__init__()
        self.in_shape = self.out_shape = image_shape(in_shape, volumes=True)
        if mask is not None and keep is not None:
            raise InputError("give keep (random pixels) or mask (an array), not both")
        chosen = random_mask(self.in_shape, 0.5 if keep is None else keep, seed) if mask is None else checked_mask(mask, self.in_shape)
        rank = len(self.in_shape)
        self.batch = len(chosen) if chosen.ndim > rank else None
        self.channelwise = chosen.shape[-rank] == 1 or self.in_shape[0] == 1
        self.register_buffer("mask", chosen)

    def select(self, items: range) -> Operator:
        """The items' masks."""
        if "mask" in self.arguments and type(self) is Mask:
            return select_arguments(self, items, "mask")
        return Mask(self.in_shape, mask=self.mask[list(items)]).to(self.device)

    def window(self, window: Window) -> Operator:
        """The mask of the window."""
        return Mask((self.in_shape[0], window.height, window.width), mask=window.of(self.mask)).to(self.device)

    def forward(self, x: Tensor) -> Tensor:
        """m * x."""
        expect(self, x)
        return self.like("mask", x) * x

    def adjoint(self, y: Tensor) -> Tensor:
        """m * y."""
        return self.like("mask", y) * y

    def pinv(self, y: Tensor) -> Tensor:
        """m * y: missing pixels are 0."""
        return self.like("mask", y) * y

    def prox(self, z: Tensor, y: Tensor, tau: float | Tensor) -> Tensor:
        """z + m (y - z) / (1 + 1 / tau)."""
        return z + self.like("mask", z) * (y - z) / (1 + damping(tau, z))

    def compose(self, inner: Operator) -> Operator | None:
        """A mask of a mask is the mask of what both keep."""
        return Mask(self.in_shape, mask=self.mask * inner.mask).to(self.device) if isinstance(inner, Mask) else None

    def svd(self) -> SVD:
        """U = V = I and s = m."""
        s = self.mask.expand(*self.mask.shape[: -len(self.in_shape)], *self.in_shape)
        return SVD(s, self.adjoint, self.adjoint, torch.clone, torch.clone)

    def extra_repr(self) -> str:
        """The fraction kept."""
        return f"{super().extra_repr()}, {100 * float(self.mask.mean()):.3g} % kept"

    @classmethod
    def examples(cls) -> list[Operator]:
        """Random pixels, a colour mask on an odd size, one mask per image."""
        generator = torch.Generator().manual_seed(0)
        colour = torch.rand(3, 5, 7, generator=generator) < 0.6
        per_image = torch.rand(3, 1, 6, 5, generator=generator) < 0.4
        return [
            cls((3, 8, 8), keep=0.3),
            cls((3, 5, 7), mask=colour),
            cls((2, 6, 5), mask=per_image),
            cls((1, 4, 4), keep=0.0),
            cls((1, 4, 5), torch.tensor([0.2, 0.9])),
        ]


class BoxMask(Mask):
    """A rectangle missing.

    Args:
        in_shape: (C, H, W).
        box: (height, width) of the missing rectangle, or one side of a square; half of each side by default.
        position: (row, column) of its upper-left pixel; centred by default.

    Raises:
        InputError: the box does not lie within the image.
    """

    def __init__(self, in_shape: Sequence[int], box: int | Sequence[int] | None = None, position: Sequence[int] | None = None) -> None:
        shape = image_shape(in_shape)
        sides = shape[1:]
        extent = tuple(side // 2 for side in sides) if box is None else (box, box) if isinstance(box, int) else tuple(map(int, box))
        corner = tuple((side - part) // 2 for side, part in zip(sides, extent, strict=False)) if position is None else tuple(position)
        if (
            len(extent) != 2
            or len(corner) != 2
            or any(part < 1 or first < 0 or first + part > side for side, part, first in zip(sides, extent, corner, strict=True))
        ):
            raise InputError(f"the box {extent} at {corner} does not lie within {sides[0]} x {sides[1]} pixels")
        mask = torch.ones(1, *sides)
        mask[:, corner[0] : corner[0] + extent[0], corner[1] : corner[1] + extent[1]] = 0
        super().__init__(shape, mask=mask)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Centred, and at a given place on an odd size."""
        return [cls((3, 8, 8)), cls((1, 9, 6), box=(4, 2), position=(0, 3))]


def random_mask(shape: Shape, keep: float | Tensor, seed: int, item: int = 0) -> Tensor:
    """(1, *sides) with exactly round(keep prod(sides)) ones; (B, 1, *sides) for a keep of shape (B,), item i's own whatever B is."""
    if isinstance(keep, Tensor) and keep.ndim == 1 and len(keep):
        return torch.stack([random_mask(shape, float(one), seed, index) for index, one in enumerate(keep)])
    if not isinstance(keep, int | float) or not 0 <= keep <= 1:
        raise InputError(f"keep is the fraction of pixels kept and must be a number in [0, 1] (an array goes to mask=); given {keep}")
    count = size(shape[1:])
    order = Rng(seed, (item,), purpose="mask").uniform((count,), torch.empty(0, dtype=torch.float64))[0].argsort()
    mask = torch.zeros(count)
    mask[order[: round(keep * count)]] = 1
    return mask.reshape(1, *shape[1:])


def checked_mask(mask: Tensor, shape: Shape) -> Tensor:
    """As 0/1 floats (1 or C, *sides) or (B, 1 or C, *sides)."""
    value, rank = torch.as_tensor(mask).to(torch.float32, copy=True), len(shape)
    value = value[None] if value.ndim == rank - 1 else value
    if value.ndim not in (rank, rank + 1) or value.shape[-rank] not in (1, shape[0]) or value.shape[1 - rank :] != shape[1:]:
        sides = "H, W" if rank == 3 else "D, H, W"
        allowed = f"({sides}), (1, {sides}), (C, {sides}), (B, 1, {sides}) or (B, C, {sides})"
        raise InputError(f"mask must be {allowed} for (C, {sides}) = {shape}; given {tuple(torch.as_tensor(mask).shape)}")
    if not value.numel():
        raise InputError(f"mask holds no entries; given {tuple(value.shape)}")
    if not bool(((value == 0) | (value == 1)).all()):
        raise InputError("mask must hold only 0 (missing) and 1 (known); threshold it first, e.g. mask > 0.5")
    return value
