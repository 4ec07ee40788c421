"""Light that differs from pixel to pixel: y = g * x, as behind a soft mask, with vignetting, a flat field, or a lamp at one side.

H = diag(g), so s = |g|, V = I and U = diag(sign g).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Operator, Shape, Window, image_shape
from invsolve.operator.svd import SVD
from invsolve_operators.common import damping, expect, over, rank_is_sure, rank_text, ranked, select_arguments, size
from invsolve_operators.masks.mask import Mask


class Gain(Operator):
    """Multiply every pixel by a number of its own: y = g * x.

    Where g is 0 (to rounding: below eps n times the largest |g|) nothing is measured. `mask` is the case of 0 and 1, with what follows from
    pixels that are known exactly; here y has noise in every pixel, also where g is 0.

    Args:
        in_shape: (C, H, W).
        gain: g, real and finite: (H, W), (1, H, W), (C, H, W), or per image (B, 1, H, W), (B, C, H, W); a number for all pixels. In a file
            { file = "light.npy" } is the array of that file. 1 unless given.

    Raises:
        InputError: another shape, complex numbers, NaN or infinite values.
    """

    gain: Tensor

    def __init__(self, in_shape: Sequence[int], gain: float | Tensor = 1.0) -> None:
        super().__init__()
        self.in_shape = self.out_shape = image_shape(in_shape)
        value = checked_gain(gain, self.in_shape)
        self.batch = len(value) if value.ndim == 4 else None
        self.channelwise = value.shape[-3] == 1 or self.in_shape[0] == 1
        kept = ranked(value.abs(), size(self.in_shape), size(self.in_shape), batched=self.batch is not None)
        self.register_buffer("gain", torch.where(kept > 0, value, 0))
        self.output_range = (min(0.0, float(value.min())), max(0.0, float(value.max())))

    def select(self, items: range) -> Operator:
        """The items' gains."""
        return select_arguments(self, items, "gain")

    def window(self, window: Window) -> Operator:
        """The gain of the window."""
        return Gain((self.in_shape[0], window.height, window.width), window.of(self.gain)).to(self.device)

    def compose(self, inner: Operator) -> Operator | None:
        """A gain of a gain is their product, of a mask too; None where its rank would be a matter of rounding."""
        if isinstance(inner, Mask):
            return Gain(self.in_shape, self.gain * inner.mask).to(self.device)
        if not isinstance(inner, Gain):
            return None
        product = Gain(self.in_shape, self.gain * inner.gain).to(self.device)
        return product if rank_is_sure(product, self.gain.abs(), inner.gain.abs()) else None

    def forward(self, x: Tensor) -> Tensor:
        """g * x."""
        expect(self, x)
        return self.like("gain", x) * x

    def adjoint(self, y: Tensor) -> Tensor:
        """g * y."""
        return self.like("gain", y) * y

    def pinv(self, y: Tensor) -> Tensor:
        """y / g, and 0 where g = 0."""
        return over(y, self.like("gain", y))

    def prox(self, z: Tensor, y: Tensor, tau: float | Tensor) -> Tensor:
        """z + g (y - g z) / (g^2 + 1 / tau), and z where g = 0."""
        gain = self.like("gain", z)
        return z + over(gain * (y - gain * z), torch.where(gain != 0, gain.square() + damping(tau, z), 0))

    def svd(self) -> SVD:
        """s = |g|, V = I, U = diag(sign g)."""

        def signed(c: Tensor) -> Tensor:
            return self.like("gain", c).sign() * c

        s = self.gain.abs().expand(*self.gain.shape[:-3], *self.in_shape)
        return SVD(s, signed, signed, torch.clone, torch.clone)

    def extra_repr(self) -> str:
        """The range of g and the rank."""
        span = f"gain {float(self.gain.min()):.3g} to {float(self.gain.max()):.3g}"
        return f"{super().extra_repr()}, {span}, {rank_text(self.gain, self.in_shape[0] if self.gain.shape[-3] == 1 else 1)}"

    @classmethod
    def examples(cls) -> list[Operator]:
        """A lamp at one side, colour with zeros and a sign, one per image."""
        generator = torch.Generator().manual_seed(0)
        signed = torch.rand(3, 5, 7, generator=generator, dtype=torch.float64) - 0.3
        signed[:, 1, 2] = 0
        several = torch.rand(3, 1, 6, 5, generator=generator) + 0.1
        return [
            cls((3, 8, 8), torch.linspace(0.2, 1.0, 8).expand(8, 8)),
            cls((3, 5, 7), signed),
            cls((2, 6, 5), several),
            cls((1, 4, 4), 0.5),
        ]


def checked_gain(gain: float | Tensor, shape: Shape) -> Tensor:
    """(1 or C, H, W) or (B, 1 or C, H, W) in float64."""
    value = torch.as_tensor(gain)
    value = value.expand(shape[1:]) if value.ndim == 0 else value
    value = value[None] if value.ndim == 2 else value
    fits = value.ndim in (3, 4) and value.shape[-3] in (1, shape[0]) and value.shape[-2:] == shape[1:] and value.numel() > 0
    if not fits or value.is_complex():
        allowed = "a number, (H, W), (1, H, W), (C, H, W), (B, 1, H, W) or (B, C, H, W), real"
        raise InputError(f"gain must be {allowed}, for (C, H, W) = {shape}; given {tuple(value.shape)}, {value.dtype}")
    if not bool(torch.isfinite(value).all()):
        raise InputError("gain holds NaN or infinite values; 0 is what measures nothing")
    return value.to(torch.float64, copy=True)
