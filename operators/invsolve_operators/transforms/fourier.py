"""A real orthonormal Fourier basis, and kernels on the torus.

The half spectrum X of a real image (orthonormal FFT) becomes n real numbers: Re X - Im X where the half spectrum is, and
Re X + Im X in the columns that it leaves out. Each pair (X[k], X[-k]) is thus rotated by 45 degrees, so white noise stays
white noise and |c| = |x|.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from invsolve.errors import InputError, ask

SIDES = (-2, -1)


def any_batch(transform: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A transform of torch.fft that takes an empty batch: with oneMKL, torch 2.14's raise an error for one."""

    def called(x: Tensor, **options: Any) -> Tensor:
        if len(x):
            return transform(x, **options)
        return transform(torch.cat([x, x.new_zeros(1, *x.shape[1:])]), **options)[:0]

    return called


rfft2, irfft2, fft2, ifft2 = (any_batch(one) for one in (torch.fft.rfft2, torch.fft.irfft2, torch.fft.fft2, torch.fft.ifft2))


def turned(columns: Tensor) -> Tensor:
    """Row k to row -k modulo H."""
    return columns.flip(-2).roll(1, -2)


def mirrored(half: Tensor, width: int) -> Tensor:
    """Values of an even function on the half grid (..., H, W // 2 + 1), laid out as the real spectrum (..., H, W)."""
    return torch.cat([half, half[..., 1 : (width + 1) // 2].flip(-1)], dim=-1)


def to_real(half: Tensor, width: int) -> Tensor:
    """Orthonormal half spectrum (..., H, W // 2 + 1) to real coefficients (..., H, W)."""
    plus = (half.real + half.imag)[..., 1 : (width + 1) // 2]
    return torch.cat([half.real - half.imag, plus.flip(-1)], dim=-1)


def to_half(coefficients: Tensor) -> Tensor:
    """The inverse of `to_real`."""
    width = coefficients.shape[-1]
    count = width // 2 + 1
    minus = coefficients[..., :count]
    # The columns 0 and W / 2 are their own mirror images: there the partner of row k is row -k.
    columns = [turned(coefficients[..., :1]), coefficients[..., count:].flip(-1)]
    if width % 2 == 0:
        columns.append(turned(coefficients[..., count - 1 : count]))
    plus = torch.cat(columns, dim=-1)
    return torch.complex(plus + minus, plus - minus) / 2


def spectrum(x: Tensor) -> Tensor:
    """Orthonormal half spectrum of a real image."""
    return rfft2(x, norm="ortho")


def image(half: Tensor, width: int) -> Tensor:
    """The inverse of `spectrum`."""
    return irfft2(half, s=(half.shape[-2], width), norm="ortho")


def on_torus(kernel: Tensor, height: int, width: int) -> Tensor:
    """Kernel (..., kh, kw) laid on a periodic (H, W) grid with its index (kh // 2, kw // 2) at the origin; what sticks out wraps."""
    rows = (torch.arange(kernel.shape[-2], device=kernel.device) - kernel.shape[-2] // 2) % height
    columns = (torch.arange(kernel.shape[-1], device=kernel.device) - kernel.shape[-1] // 2) % width
    canvas = kernel.new_zeros(*kernel.shape[:-2], height * width)
    canvas.index_add_(-1, (rows[:, None] * width + columns).flatten(), kernel.flatten(-2))
    return canvas.unflatten(-1, (height, width))


def both_kernels(outer: Tensor, inner: Tensor, height: int, width: int) -> Tensor:
    """The kernel (..., H, W) of one circular convolution after another, centre at (H // 2, W // 2)."""
    half = rfft2(on_torus(outer, height, width)) * rfft2(on_torus(inner, height, width))
    kernel = irfft2(half, s=(height, width)).roll((height // 2, width // 2), SIDES)
    # Of kernels that are nowhere negative the sums are not either, but for rounding.
    return kernel.clamp_min(0) if bool((outer >= 0).all()) and bool((inner >= 0).all()) else kernel


def hermitian(half: Tensor, width: int) -> Tensor:
    """The half spectrum of a real image made Hermitian to the last bit in the columns that mirror onto themselves.

    Rounding alone would leave a phase X / |X| there that differs between k and -k where |X| is small.
    """
    half = half.clone()
    for column in {0, width // 2} if width % 2 == 0 else {0}:
        one = half[..., column : column + 1]
        half[..., column : column + 1] = (one + turned(one).conj()) / 2
    return half


def transfer_function(torus: Tensor) -> Tensor:
    """Half spectrum h (..., H, W // 2 + 1) of a real kernel on the torus: convolution is multiplication by h."""
    return hermitian(rfft2(torus), torus.shape[-1])


def pairs(value: Tensor) -> Tensor:
    """Complex as (..., 2) real: a buffer that survives `module.to(torch.float32)`, which would drop imaginary parts."""
    return torch.view_as_real(value.resolve_conj()).contiguous()


def checked_kernel(kernel: Tensor) -> Tensor:
    """(kh, kw) or (B, kh, kw) in float64.

    Raises:
        InputError: another rank, no entry, or values that are not finite.
    """
    value = torch.as_tensor(kernel)
    if value.is_complex() or value.ndim not in (2, 3) or value.numel() == 0 or not bool(torch.isfinite(value).all()):
        raise InputError(
            f"kernel must be real and finite, (kh, kw) or one per image (B, kh, kw); given shape {tuple(value.shape)}, {value.dtype}"
        )
    value = value.to(torch.float64, copy=True)
    question_kernel(value)
    return value


def question_kernel(kernel: Tensor) -> None:
    """Ask about what no lens, motion or sensor does: a kernel that is 0, has negative values, or sums to another number than 1.

    A hundredth of the whole is let pass, for rounding, and for kernels measured or drawn.
    """
    flat = kernel.flatten(-2)
    total, whole = flat.sum(-1), flat.abs().sum(-1)
    if not bool((whole > 0).all()):
        ask("the blur kernel is 0 everywhere: such a measurement says nothing about the image")
    elif bool((flat.clamp_max(0).sum(-1) < -0.01 * whole).any()):
        ask(f"the blur kernel has negative values, down to {float(flat.min()):.3g}: of a filter, not of a blur; was an offset subtracted?")
    elif bool(((total - 1).abs() > 0.01).any()):
        off = float(total[(total - 1).abs().argmax()] if total.ndim else total)
        ask(f"the blur kernel sums to {off:.4g}, so that pictures come out {off:.3g} times as bright; divide it by its sum if it is a blur")


def averages(kernel: Tensor) -> bool:
    """Whether every kernel is non-negative and sums to 1 (to single precision), so that images stay images."""
    total = kernel.flatten(-2).sum(-1)
    return bool((kernel >= 0).all()) and bool(((total - 1).abs() < 1e-6).all())
