"""Blur by FFT: y = k * x, on the torus (H = F^* diag(h) F) or with another boundary.

On the torus, with h = |h| e^{i phi} and F split into a real orthonormal basis V (`fourier`): s = |h|, U = V followed by the phase. Values
|h| <= eps max(m, n) max |h| are rounding and set to 0 in H itself, so that H, its SVD, pinv and prox agree exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability, Operator, image_shape
from invsolve.operator.svd import SVD
from invsolve_operators.blurs import kernels
from invsolve_operators.blurs.padded import BOUNDARIES as PADDED
from invsolve_operators.blurs.padded import PaddedBlur
from invsolve_operators.common import damping, expect, over, rank_is_sure, rank_text, ranked, select_arguments, size
from invsolve_operators.masks.patterns import one_of
from invsolve_operators.transforms.fourier import (
    averages,
    both_kernels,
    checked_kernel,
    image,
    irfft2,
    mirrored,
    on_torus,
    pairs,
    rfft2,
    spectrum,
    to_half,
    to_real,
    transfer_function,
)

BOUNDARIES = ("circular", *PADDED)


def on_the_torus(operator: Operator) -> TypeGuard[KernelBlur]:
    """Whether it is a blur with a spectrum."""
    return isinstance(operator, KernelBlur) and operator.bounded is None


class KernelBlur(Operator):
    """Convolution with any kernel: y[i] = sum_t k[t] x[i - (t - centre)], indices modulo the image, or with another boundary.

    A photograph's scene goes on beyond its frame, so "valid" is what a camera does: x is larger than y by the kernel. There is no closed
    form but on the torus; `IterativeProx(H, preconditioner="circular")` adds a prox.

    Args:
        in_shape: (C, H, W).
        kernel: (kh, kw), odd or even, or one per image (B, kh, kw); its centre is index (kh // 2, kw // 2). Used as given,
            not normalised. A kernel larger than the image wraps around it, which is what convolution with the periodic image
            means.
        boundary: "circular", or as `PaddedBlur` continues the image: "valid", "reflect", "symmetric", "zero".

    Raises:
        InputError: the kernel is complex, empty, not finite or of another rank; another boundary, a kernel larger than a "valid" image.

    In single precision `pinv`, and `prox` with tau = inf, amplify the rounding of y by 1 / s: take float64 or a finite tau
    for kernels with small |h|.
    """

    kernel: Tensor
    transfer: Tensor
    phase: Tensor
    s: Tensor

    channelwise = True
    uniform = True

    def __init__(self, in_shape: Sequence[int], kernel: Tensor | Sequence[Sequence[float]], boundary: str = "circular") -> None:
        super().__init__()
        self.boundary = one_of(boundary, "boundary", BOUNDARIES)
        self.in_shape = self.out_shape = image_shape(in_shape)
        _, height, width = self.in_shape
        value = checked_kernel(torch.as_tensor(kernel))
        self.batch = len(value) if value.ndim == 3 else None
        self.reach = max(value.shape[-2:]) // 2
        self.register_buffer("kernel", value)
        self.output_range = (0.0, 1.0) if averages(value) else None
        self.bounded = None if boundary == "circular" else PaddedBlur(self.in_shape, value, boundary)
        if self.bounded is None:
            self._build(height, width)
        else:
            self.out_shape, self.reach = self.bounded.out_shape, self.bounded.reach

    def _build(self, height: int, width: int) -> None:
        """The spectrum on the torus."""
        h = transfer_function(on_torus(self.kernel, height, width)).unsqueeze(-3)
        s = ranked(h.abs(), size(self.in_shape), size(self.in_shape), batched=self.batch is not None)
        h = torch.where(s > 0, h, 0)
        self.register_buffer("transfer", pairs(h))
        self.register_buffer("phase", pairs(torch.where(s > 0, h / s, 1)))
        self.register_buffer("s", mirrored(s, width))

    @property
    def capabilities(self) -> frozenset[Capability]:
        """All on the torus; elsewhere those of a linear map."""
        return super().capabilities if self.bounded is None else self.bounded.capabilities

    def select(self, items: range) -> Operator:
        """The items' kernels."""
        if type(self) is KernelBlur:
            return select_arguments(self, items, "kernel")
        return KernelBlur(self.in_shape, self.kernel[list(items)], self.boundary).to(self.device)

    def compose(self, inner: Operator) -> Operator | None:
        """On the torus a blur of a blur is the blur by both kernels; None where its rank would be a matter of rounding."""
        if not on_the_torus(self) or not on_the_torus(inner) or inner.in_shape != self.in_shape:
            return None
        _, height, width = self.in_shape
        product = KernelBlur(self.in_shape, both_kernels(self.kernel, inner.kernel, height, width)).to(self.device)
        return product if rank_is_sure(product, self.s, inner.s) else None

    def _complex(self, name: str, x: Tensor) -> Tensor:
        return torch.view_as_complex(self.like(name, x))

    def _inverse(self, half: Tensor) -> Tensor:
        return irfft2(half, s=self.in_shape[1:])

    def forward(self, x: Tensor) -> Tensor:
        """F^* h F x."""
        expect(self, x)
        if self.bounded is not None:
            return self.bounded(x)
        return self._inverse(self._complex("transfer", x) * rfft2(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """F^* conj(h) F y."""
        if self.bounded is not None:
            return self.bounded.adjoint(y)
        return self._inverse(self._complex("transfer", y).conj() * rfft2(y))

    def pinv(self, y: Tensor) -> Tensor:
        """F^* (1 / h) F y, and 0 where h = 0."""
        self.need(Capability.PINV)
        h = self._complex("transfer", y)
        return self._inverse(over(rfft2(y), h))

    def prox(self, z: Tensor, y: Tensor, tau: float | Tensor) -> Tensor:
        """z + F^* conj(h) (F y - h F z) / (|h|^2 + 1 / tau)."""
        self.need(Capability.PROX)
        h = self._complex("transfer", z)
        power = h.real.square() + h.imag.square()
        gain = torch.where(power > 0, h.conj() / (power + damping(tau, z)), 0)
        return z + self._inverse(gain * (rfft2(y) - h * rfft2(z)))

    def svd(self) -> SVD:
        """s = |h| on the real spectrum (C, H, W), V the real Fourier basis, U = V after the phase of h."""
        self.need(Capability.SVD)
        width = self.in_shape[2]

        def left(c: Tensor) -> Tensor:
            return image(self._complex("phase", c) * to_half(c * (self.like("s", c) > 0)), width)

        def left_transposed(y: Tensor) -> Tensor:
            return to_real(self._complex("phase", y).conj() * spectrum(y), width) * (self.like("s", y) > 0)

        s = self.s.expand(*self.s.shape[:-3], *self.in_shape)
        return SVD(s, left, left_transposed, lambda c: image(to_half(c), width), lambda x: to_real(spectrum(x), width))

    def extra_repr(self) -> str:
        """The kernel's size and the rank, or the boundary."""
        rest = rank_text(self.s, self.in_shape[0]) if self.bounded is None else self.boundary
        return f"{super().extra_repr()}, kernel {tuple(self.kernel.shape)}, {rest}"

    @classmethod
    def examples(cls) -> list[Operator]:
        """An even kernel, one larger than the image, one per image; odd sizes and colour; another boundary."""
        draw = kernels.drawn(0)
        per_image = draw(3, 3, 5) - 0.02
        circular = [cls((3, 8, 8), draw(3, 3)), cls((1, 9, 7), draw(4, 2)), cls((1, 4, 5), draw(7, 6)), cls((2, 6, 5), per_image)]
        return [*circular, cls((1, 7, 6), draw(2, 4, 3), "valid")]


class GaussianBlur(KernelBlur):
    """Blur with a sampled Gaussian, circular unless said.

    Args:
        in_shape: (C, H, W).
        sigma: standard deviation in pixels, or (B,) for one per image.
        truncate: the kernel ends at floor(truncate sigma + 1/2) pixels from its centre.
        boundary: as in KernelBlur.

    Raises:
        InputError: sigma or truncate is not positive and finite, or as KernelBlur.
    """

    def __init__(self, in_shape: Sequence[int], sigma: float | Tensor = 1.5, truncate: float = 4.0, boundary: str = "circular") -> None:
        value = torch.as_tensor(sigma, dtype=torch.float64)
        if value.ndim > 1 or not value.numel():
            raise InputError(f"sigma must be a number or (B,); given shape {tuple(value.shape)}")
        super().__init__(in_shape, kernels.gaussian_2d(value, truncate), boundary)

    def select(self, items: range) -> Operator:
        """The items' blurs."""
        return select_arguments(self, items, "sigma")

    @classmethod
    def examples(cls) -> list[Operator]:
        """Colour, odd grey, wide enough to lose rank, one per image."""
        return [
            cls((3, 8, 8), 1.0),
            cls((1, 9, 7), 0.7),
            cls((1, 12, 10), 3.0, truncate=12.0),
            cls((1, 6, 5), torch.tensor([0.5, 1.0, 2.0])),
        ]


class MotionBlur(KernelBlur):
    """Blur by a motion at constant speed: an anti-aliased line, or a random path that bends.

    Args:
        in_shape: (C, H, W).
        length: of the path, in pixels.
        angle: of the motion in degrees, counter-clockwise from the horizontal; at the start of a path that bends.
        bend: standard deviation of the change of heading over the whole path, in radians; 0 for a straight line.
        seed: of the path, used where bend > 0.
        boundary: as in KernelBlur.

    Raises:
        InputError: length is not positive, bend is negative, or a value is not finite; or as KernelBlur.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        length: float = 9.0,
        angle: float = 0.0,
        bend: float = 0.0,
        seed: int = 0,
        boundary: str = "circular",
    ) -> None:
        super().__init__(in_shape, kernels.motion(length, angle, bend, seed), boundary)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Lines and a bent path, odd sizes."""
        return [cls((3, 8, 8), 3.0), cls((1, 9, 7), 4.0, 30.0), cls((1, 7, 12), 6.0, 0.0, 1.5, 3)]
