"""Circular blur by FFT: y = k * x (convolution on the torus), H = F^* diag(h) F.

With h = |h| e^{i phi} and F split into a real orthonormal basis V (`fourier`): s = |h|, U = V followed by the phase. Values
|h| <= eps max(m, n) max |h| are rounding and set to 0 in H itself, so that H, its SVD, pinv and prox agree exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Operator, image_shape
from invsolve.operator.svd import SVD
from invsolve_operators.blurs import kernels
from invsolve_operators.common import damping, expect, over, rank_is_sure, rank_text, ranked, select_arguments, size
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


class KernelBlur(Operator):
    """Circular convolution with any kernel: y[i] = sum_t k[t] x[i - (t - centre)], indices modulo the image.

    Args:
        in_shape: (C, H, W).
        kernel: (kh, kw), odd or even, or one per image (B, kh, kw); its centre is index (kh // 2, kw // 2). Used as given,
            not normalised. A kernel larger than the image wraps around it, which is what convolution with the periodic image
            means.

    Raises:
        InputError: the kernel is complex, empty, not finite or of another rank.

    In single precision `pinv`, and `prox` with tau = inf, amplify the rounding of y by 1 / s: take float64 or a finite tau
    for kernels with small |h|.
    """

    kernel: Tensor
    transfer: Tensor
    phase: Tensor
    s: Tensor

    channelwise = True

    def __init__(self, in_shape: Sequence[int], kernel: Tensor | Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.in_shape = self.out_shape = image_shape(in_shape)
        _, height, width = self.in_shape
        value = checked_kernel(torch.as_tensor(kernel))
        self.batch = len(value) if value.ndim == 3 else None
        h = transfer_function(on_torus(value, height, width)).unsqueeze(-3)
        s = ranked(h.abs(), size(self.in_shape), size(self.in_shape), batched=self.batch is not None)
        h = torch.where(s > 0, h, 0)
        self.register_buffer("kernel", value)
        self.register_buffer("transfer", pairs(h))
        self.register_buffer("phase", pairs(torch.where(s > 0, h / s, 1)))
        self.register_buffer("s", mirrored(s, width))
        self.output_range = (0.0, 1.0) if averages(value) else None

    def select(self, items: range) -> Operator:
        """The items' kernels."""
        if type(self) is KernelBlur:
            return select_arguments(self, items, "kernel")
        return KernelBlur(self.in_shape, self.kernel[list(items)]).to(self.device)

    def compose(self, inner: Operator) -> Operator | None:
        """A blur of a blur is the blur by both kernels; None where its rank would be a matter of rounding."""
        if not isinstance(inner, KernelBlur) or inner.in_shape != self.in_shape:
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
        return self._inverse(self._complex("transfer", x) * rfft2(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """F^* conj(h) F y."""
        return self._inverse(self._complex("transfer", y).conj() * rfft2(y))

    def pinv(self, y: Tensor) -> Tensor:
        """F^* (1 / h) F y, and 0 where h = 0."""
        h = self._complex("transfer", y)
        return self._inverse(over(rfft2(y), h))

    def prox(self, z: Tensor, y: Tensor, tau: float | Tensor) -> Tensor:
        """z + F^* conj(h) (F y - h F z) / (|h|^2 + 1 / tau)."""
        h = self._complex("transfer", z)
        power = h.real.square() + h.imag.square()
        gain = torch.where(power > 0, h.conj() / (power + damping(tau, z)), 0)
        return z + self._inverse(gain * (rfft2(y) - h * rfft2(z)))

    def svd(self) -> SVD:
        """s = |h| on the real spectrum (C, H, W), V the real Fourier basis, U = V after the phase of h."""
        width = self.in_shape[2]

        def left(c: Tensor) -> Tensor:
            return image(self._complex("phase", c) * to_half(c * (self.like("s", c) > 0)), width)

        def left_transposed(y: Tensor) -> Tensor:
            return to_real(self._complex("phase", y).conj() * spectrum(y), width) * (self.like("s", y) > 0)

        s = self.s.expand(*self.s.shape[:-3], *self.in_shape)
        return SVD(s, left, left_transposed, lambda c: image(to_half(c), width), lambda x: to_real(spectrum(x), width))

    def extra_repr(self) -> str:
        """The kernel's size and the rank."""
        return f"{super().extra_repr()}, kernel {tuple(self.kernel.shape)}, {rank_text(self.s, self.in_shape[0])}"

    @classmethod
    def examples(cls) -> list[Operator]:
        """An even kernel, one larger than the image, one per image; odd sizes and colour."""
        draw = kernels.drawn(0)
        return [cls((3, 8, 8), draw(3, 3)), cls((1, 9, 7), draw(4, 2)), cls((1, 4, 5), draw(7, 6)), cls((2, 6, 5), draw(3, 3, 5) - 0.02)]


class GaussianBlur(KernelBlur):
    """Circular blur with a sampled Gaussian.

    Args:
        in_shape: (C, H, W).
        sigma: standard deviation in pixels, or (B,) for one per image.
        truncate: the kernel ends at floor(truncate sigma + 1/2) pixels from its centre.

    Raises:
        InputError: sigma or truncate is not positive and finite.
    """

    def __init__(self, in_shape: Sequence[int], sigma: float | Tensor = 1.5, truncate: float = 4.0) -> None:
        value = torch.as_tensor(sigma, dtype=torch.float64)
        if value.ndim > 1 or not value.numel():
            raise InputError(f"sigma must be a number or (B,); given shape {tuple(value.shape)}")
        super().__init__(in_shape, kernels.gaussian_2d(value, truncate))

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
    """Circular blur by a motion at constant speed: an anti-aliased line, or a random path that bends.

    Args:
        in_shape: (C, H, W).
        length: of the path, in pixels.
        angle: of the motion in degrees, counter-clockwise from the horizontal; at the start of a path that bends.
        bend: standard deviation of the change of heading over the whole path, in radians; 0 for a straight line.
        seed: of the path, used where bend > 0.

    Raises:
        InputError: length is not positive, bend is negative, or a value is not finite.
    """

    def __init__(self, in_shape: Sequence[int], length: float = 9.0, angle: float = 0.0, bend: float = 0.0, seed: int = 0) -> None:
        super().__init__(in_shape, kernels.motion(length, angle, bend, seed))

    @classmethod
    def examples(cls) -> list[Operator]:
        """Lines and a bent path, odd sizes."""
        return [cls((3, 8, 8), 3.0), cls((1, 9, 7), 4.0, 30.0), cls((1, 7, 12), 6.0, 0.0, 1.5, 3)]
