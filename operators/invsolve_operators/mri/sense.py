"""Multi-coil Cartesian MRI (SENSE): y_c = m * F (S_c x), S_c the complex sensitivity of coil c."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability, Operator, image_shape
from invsolve.rng import Rng
from invsolve_operators.common import expect, select_arguments
from invsolve_operators.mri.cartesian import fourier, inverse_fourier, joined, paired
from invsolve_operators.mri.sampling import sampled_points


class SENSE(Operator):
    """y_c = m * F (S_c x), k-space of every coil as (coils, 2, H, W), 0 where not measured.

    There is no closed SVD, pinv or prox: `IterativeProx(H)` and `IterativePinv(H)` (CG-SENSE) are the explicit approximations. With
    sum_c |S_c|^2 <= 1 the norm is at most 1.

    Args:
        in_shape: (1, H, W) for real images (the image's phase then belongs into the maps), (2, H, W) for complex ones.
        maps: sensitivities, (coils, H, W) complex or (coils, 2, H, W) as (real, imaginary); per image with a leading B. None makes
            eight smooth ones, see `smooth_maps`.
        acceleration, pattern, centre, seed, mask: as in `MRI`; one mask serves all coils.

    Raises:
        InputError: another number of channels, maps of another shape or not finite, both acceleration and mask, batch sizes that differ.

    References:
        SENSE: Sensitivity Encoding for Fast MRI (Pruessmann et al., 1999), Magnetic Resonance in Medicine 42(5).
        Advances in Sensitivity Encoding with Arbitrary k-Space Trajectories (Pruessmann et al., 2001), MRM 46(4): by CG.
    """

    traits: ClassVar[frozenset[Capability]] = frozenset({Capability.LINEAR})
    complex_images: ClassVar[str] = "SENSE((2, H, W), ...)"  # named where a complex image is refused
    sampled: Tensor
    maps: Tensor

    def __init__(
        self,
        in_shape: Sequence[int],
        maps: Tensor | None = None,
        acceleration: float | None = None,
        pattern: str = "equispaced",
        centre: float = 0.08,
        seed: int = 0,
        mask: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.in_shape = image_shape(in_shape)
        if self.in_shape[0] not in (1, 2):
            raise InputError(f"SENSE takes real images (1, H, W) or complex ones (2, H, W) as (real, imaginary); given {self.in_shape}")
        sides = self.in_shape[1:]
        sampled = sampled_points(sides, mask, acceleration, pattern, centre, seed)
        self.register_buffer("maps", checked_maps(smooth_maps(8, sides) if maps is None else maps, sides))
        self.out_shape = (self.maps.shape[-4], 2, *sides)
        self.register_buffer("sampled", sampled)
        sizes = {len(value) for value, rank in ((self.sampled, 4), (self.maps, 5)) if value.ndim == rank}
        if len(sizes) > 1:
            raise InputError(f"maps are for {len(self.maps)} images, masks for {len(self.sampled)}")
        self.batch = next(iter(sizes), None)
        self.real = self.in_shape[0] == 1

    @property
    def supports(self) -> tuple[Tensor | None, ...]:
        """The mask, for every coil."""
        return (self._mask(self.sampled),)

    def _mask(self, sampled: Tensor) -> Tensor:
        return sampled.unsqueeze(-4)

    def select(self, items: range) -> Operator:
        """The items' maps and masks."""
        per_item = [name for name, value, rank in (("mask", self.sampled, 4), ("maps", self.maps, 5)) if value.ndim == rank]
        return select_arguments(self, items, *per_item)

    def forward(self, x: Tensor) -> Tensor:
        """m * F (S_c x)."""
        expect(self, x)
        image = x if self.real else joined(x).unsqueeze(1)
        return self._mask(self.like("sampled", x)) * paired(fourier(joined(self.like("maps", x)) * image))

    def adjoint(self, y: Tensor) -> Tensor:
        """sum_c conj(S_c) F^* (m * y_c); its real part for real images."""
        coils = inverse_fourier(joined(self._mask(self.like("sampled", y)) * y))
        image = (joined(self.like("maps", y)).conj() * coils).sum(1)
        return image.real.unsqueeze(1) if self.real else paired(image)

    def extra_repr(self) -> str:
        """Coils, and how much is measured."""
        part = float(self.sampled.mean())
        return f"{super().extra_repr()}, {self.maps.shape[-4]} coils, {100 * part:.3g} % of k-space measured"

    @classmethod
    def examples(cls) -> list[Operator]:
        """Real and complex images, odd sides, maps and masks per image."""
        generator = torch.Generator().manual_seed(0)
        maps = torch.randn(3, 2, 2, 5, 4, generator=generator, dtype=torch.float64)
        masks = torch.rand(3, 1, 5, 4, generator=generator) < 0.5
        return [
            cls((1, 8, 8), acceleration=2.0),
            cls((2, 7, 6), smooth_maps(3, (7, 6)), 2.0, "random-lines"),
            cls((2, 5, 4), maps, mask=masks),
            cls((1, 5, 4), maps[0], mask=masks),
        ]


def checked_maps(maps: Tensor, sides: Sequence[int]) -> Tensor:
    """(coils, 2, H, W) or (B, coils, 2, H, W) in float64."""
    value = torch.as_tensor(maps)
    value = paired(value.to(torch.complex128)) if value.is_complex() else value.to(torch.float64, copy=True)
    if value.ndim not in (4, 5) or value.shape[-3] != 2 or value.shape[-2:] != tuple(sides):
        allowed = "(coils, H, W) complex or (coils, 2, H, W), with a leading B for maps per image"
        raise InputError(f"maps must be {allowed}, for images of {sides[0]} x {sides[1]}; given {tuple(torch.as_tensor(maps).shape)}")
    if not bool(torch.isfinite(value).all()):
        raise InputError("maps have NaN or infinite values")
    return value


def smooth_maps(coils: int, sides: Sequence[int], seed: int = 0) -> Tensor:
    """Sensitivities of coils on a ring about the image, (coils, 2, H, W) with sum_c |S_c|^2 = 1: for simulations.

    Each falls off as a Gaussian from its place on the ring, with a phase that turns slowly across the image.
    """
    height, width = sides
    u = (torch.arange(height, dtype=torch.float64) - (height - 1) / 2)[:, None] / max(1, height - 1)
    v = (torch.arange(width, dtype=torch.float64) - (width - 1) / 2) / max(1, width - 1)
    turns = Rng(seed, (0,), purpose="coils").normal((coils, 3), torch.empty(0, dtype=torch.float64))[0]
    found = []
    for coil in range(coils):
        angle = torch.tensor(2 * torch.pi * coil / coils, dtype=torch.float64)
        distance = (u - 0.6 * angle.sin()).square() + (v - 0.6 * angle.cos()).square()
        phase = turns[coil, 0] * u + turns[coil, 1] * v + torch.pi * turns[coil, 2]
        found.append(torch.polar(torch.exp(-1.5 * distance), phase))
    maps = torch.stack(found)
    return paired(maps / maps.abs().square().sum(0).sqrt())
