"""Blur kernels in float64: sampled Gaussians and anti-aliased motion paths."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.rng import Rng

SAMPLES_PER_PIXEL = 32


def gaussian_1d(sigma: float, truncate: float = 4.0, radius: int | None = None) -> Tensor:
    """exp(-i^2 / (2 sigma^2)) for |i| <= floor(truncate sigma + 1/2), normalised to sum 1; zero-padded to `radius`.

    Raises:
        InputError: sigma or truncate is not positive and finite.
    """
    if not (math.isfinite(sigma) and sigma > 0 and math.isfinite(truncate) and truncate > 0):
        raise InputError(f"a Gaussian needs sigma > 0 (pixels) and truncate > 0 (in sigmas); given sigma={sigma}, truncate={truncate}")
    reach = int(truncate * sigma + 0.5)
    index = torch.arange(-reach, reach + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (index / sigma) ** 2)
    kernel = kernel / kernel.sum()
    return kernel if radius is None else torch.nn.functional.pad(kernel, (radius - reach, radius - reach))


def gaussian_2d(sigma: Tensor, truncate: float) -> Tensor:
    """(k, k) for a scalar sigma, (B, k, k) for (B,): each Gaussian truncated at its own radius."""
    radius = int(truncate * float(sigma.max()) + 0.5) if sigma.numel() and bool(torch.isfinite(sigma).all()) else 0
    rows = [gaussian_1d(float(value), truncate, radius) for value in sigma.reshape(-1)]
    kernels = torch.stack([row[:, None] * row for row in rows])
    return kernels if sigma.ndim else kernels[0]


def motion(length: float, angle: float, bend: float, seed: int) -> Tensor:
    """The time average of a point moving at constant speed along a path, spread bilinearly onto pixels; sums to 1.

    The heading is angle + bend W(t), W a standard Brownian motion on [0, 1]; the path's centre of mass is the kernel's centre.

    Raises:
        InputError: length is not positive, angle or bend is not finite, bend is negative.
    """
    if not (math.isfinite(length) and length > 0 and math.isfinite(angle) and math.isfinite(bend) and bend >= 0):
        raise InputError(f"motion needs length > 0 (pixels), a finite angle (degrees) and bend >= 0; given {length}, {angle}, {bend}")
    count = max(2, math.ceil(SAMPLES_PER_PIXEL * length))
    heading = torch.full((count,), math.radians(angle), dtype=torch.float64)
    if bend > 0:
        steps = Rng(seed, (0,), purpose="motion-blur").normal((count,), heading)[0]
        heading = heading + bend * (steps / math.sqrt(count)).cumsum(0)
    # Rows grow downwards, angles counter-clockwise.
    moves = torch.stack([-heading.sin(), heading.cos()]) * (length / count)
    path = moves.cumsum(1) - moves / 2
    path = path - path.mean(1, keepdim=True)
    reach = math.ceil(float(path.abs().max()))
    side = 2 * reach + 1
    corner = path.floor()
    part = path - corner
    kernel = torch.zeros(side * side, dtype=torch.float64)
    for down in (0, 1):
        for right in (0, 1):
            weight = (part[0] if down else 1 - part[0]) * (part[1] if right else 1 - part[1])
            # A point on the last row or column has weight 0 beyond it: clamping keeps the index legal.
            row = (corner[0].long() + reach + down).clamp_max(side - 1)
            column = (corner[1].long() + reach + right).clamp_max(side - 1)
            kernel.index_add_(0, row * side + column, weight)
    return (kernel / count).reshape(side, side)
