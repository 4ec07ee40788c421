"""Blur kernels in float64: sampled Gaussians and anti-aliased motion paths."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.rng import Rng

SAMPLES_PER_PIXEL = 32
REACH, DISK_REACH = 2048, 256  # a 2-D kernel of this reach takes 134 MB, the samples of a disk of that one 540 MB


def within(pixels: float, most: int = REACH) -> float:
    """A kernel's reach from its centre, in pixels.

    Raises:
        InputError: more than anything is blurred by, and than memory holds.
    """
    if not pixels <= most:
        raise InputError(f"this kernel may reach at most {most} pixels from its centre; given one that reaches {pixels:.4g}")
    return pixels


def gaussian_1d(sigma: float, truncate: float = 4.0, radius: int | None = None) -> Tensor:
    """exp(-i^2 / (2 sigma^2)) for |i| <= floor(truncate sigma + 1/2), normalised to sum 1; zero-padded to `radius`.

    Raises:
        InputError: sigma or truncate is not positive and finite.
    """
    if not (math.isfinite(sigma) and sigma > 0 and math.isfinite(truncate) and truncate > 0):
        raise InputError(f"a Gaussian needs sigma > 0 (pixels) and truncate > 0 (in sigmas); given sigma={sigma}, truncate={truncate}")
    reach = int(within(truncate * sigma + 0.5))
    index = torch.arange(-reach, reach + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (index / sigma) ** 2)
    kernel = kernel / kernel.sum()
    return kernel if radius is None else torch.nn.functional.pad(kernel, (radius - reach, radius - reach))


def gaussian_2d(sigma: Tensor, truncate: float) -> Tensor:
    """(k, k) for a scalar sigma, (B, k, k) for (B,): each Gaussian truncated at its own radius."""
    radius = int(within(truncate * float(sigma.max()) + 0.5)) if sigma.numel() and bool(torch.isfinite(sigma).all()) else 0
    rows = [gaussian_1d(float(value), truncate, radius) for value in sigma.reshape(-1)]
    kernels = torch.stack([row[:, None] * row for row in rows])
    return kernels if sigma.ndim else kernels[0]


def drawn(seed: int) -> Callable[..., Tensor]:
    """Kernels of any shape, one after the other from one generator: independent numbers above 0, each kernel's sum 1; for examples."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        value = torch.rand(shape, generator=generator, dtype=torch.float64)
        return value / value.sum((-2, -1), keepdim=True)

    return draw


def motion(length: float, angle: float, bend: float, seed: int) -> Tensor:
    """The time average of a point moving at constant speed along a path, spread bilinearly onto pixels; sums to 1.

    The heading is angle + bend W(t), W a standard Brownian motion on [0, 1]; the path's centre of mass is the kernel's centre.

    Raises:
        InputError: length is not positive, angle or bend is not finite, bend is negative.
    """
    if not (math.isfinite(length) and length > 0 and math.isfinite(angle) and math.isfinite(bend) and bend >= 0):
        raise InputError(f"motion needs length > 0 (pixels), a finite angle (degrees) and bend >= 0; given {length}, {angle}, {bend}")
    count = max(2, math.ceil(SAMPLES_PER_PIXEL * within(length)))
    heading = torch.full((count,), math.radians(angle), dtype=torch.float64)
    if bend > 0:
        steps = Rng(seed, (0,), purpose="motion-blur").normal((count,), heading)[0]
        heading = heading + bend * (steps / math.sqrt(count)).cumsum(0)
    # Rows grow downwards, angles counter-clockwise.
    moves = torch.stack([-heading.sin(), heading.cos()]) * (length / count)
    path = moves.cumsum(1) - moves / 2
    return splat(path)


def splat(path: Tensor, size: int | None = None) -> Tensor:
    """The time average of a point that runs through path (2, T), rows and columns, spread bilinearly; its mean is the kernel's centre.

    Args:
        path: in pixels.
        size: side of the kernel, odd; the least that holds the path where None. Points beyond it count at its edge.
    """
    path = path - path.mean(1, keepdim=True)
    reach = math.ceil(float(path.abs().max())) if size is None else size // 2
    path = path.clamp(-reach, reach)
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
    return (kernel / path.shape[1]).reshape(side, side)


def shake(size: int, intensity: float, seed: int, item: int = 0) -> Tensor:
    """(size, size): the path of a hand-held camera during an exposure, random with inertia, sum 1.

    A point moves at unit speed; its velocity keeps its direction but for small random changes, is pulled back to the centre, and
    now and then turns at once. `intensity` in [0, 1] is how much of each: 0 is a straight line. Every path is scaled to reach 3/4 of
    the way to the edge.

    References:
        Modeling the Performance of Image Restoration from Motion Blur (Boracchi, Foi, 2012), IEEE TIP 21(8), section II: inertia,
        pull to the centre, impulses. The parameters are ours.
    """
    steps = 1000
    rng = Rng(seed, (item,), purpose="camera-shake")
    like = torch.empty(0, dtype=torch.float64)
    start = float(rng.uniform((1,), like)[0, 0]) * 2 * math.pi
    drawn = rng.normal((steps,), like)[0], rng.uniform((steps,), like)[0], rng.normal((steps,), like)[0]
    x, y, heading = 0.0, 0.0, start
    points: list[tuple[float, float]] = []
    for turn, jump, reversal in zip(*(one.tolist() for one in drawn), strict=True):
        heading += 0.12 * intensity * turn
        if jump < 0.01 * intensity:  # about ten jerks at full intensity
            heading += 2 * reversal
        pull = 0.6 * intensity / steps
        down, right = math.sin(heading) - pull * y, math.cos(heading) - pull * x
        heading = math.atan2(down, right)
        y, x = y + down / steps, x + right / steps
        points.append((y, x))
    path = torch.tensor(points, dtype=torch.float64).T.contiguous()
    path = path - path.mean(1, keepdim=True)
    return splat(path * (0.75 * (size // 2) / float(path.abs().max())), size)


def anisotropic(sigma: Tensor, angle: Tensor, truncate: float) -> Tensor:
    """exp(-r^T S^-1 r / 2) on a grid that reaches truncate times the larger sigma, normalised; (k, k) or (B, k, k).

    Args:
        sigma: (2,) or (B, 2), along the angle and across it, in pixels.
        angle: degrees counter-clockwise from the horizontal, a number or (B,).
        truncate: in sigmas.
    """
    reach = int(within(truncate * float(sigma.max()) + 0.5))
    index = torch.arange(-reach, reach + 1, dtype=torch.float64)
    turn = torch.deg2rad(angle)[..., None, None]
    along = index * turn.cos() - index[:, None] * turn.sin()  # rows grow downwards
    across = index * turn.sin() + index[:, None] * turn.cos()
    widths = sigma[..., None, None]
    kernel = torch.exp(-0.5 * ((along / widths[..., 0, :, :]).square() + (across / widths[..., 1, :, :]).square()))
    # Each ends at its own reach, whatever the others need.
    own = (truncate * sigma.amax(-1) + 0.5).floor()[..., None, None]
    kernel = kernel * ((index.abs() <= own) & (index[:, None].abs() <= own))
    return kernel / kernel.sum((-2, -1), keepdim=True)


def disk(radius: float) -> Tensor:
    """The uniform disk of a lens out of focus: each pixel's covered part by 16 x 16 samples, sum 1."""
    reach = math.ceil(within(radius, DISK_REACH) - 0.5) if radius > 0.5 else 0
    fine = (torch.arange((2 * reach + 1) * 16, dtype=torch.float64) + 0.5) / 16 - reach - 0.5
    inside = (fine[:, None].square() + fine.square() <= radius**2).double()
    kernel = inside.reshape(2 * reach + 1, 16, 2 * reach + 1, 16).mean((1, 3))
    return kernel / kernel.sum()


def over_blocks(kernel: Tensor, factor: int) -> Tensor:
    """The kernel whose middle, between its pixels where its sides are even, lies over the middle of a block of `factor` pixels.

    What is (.., kh, kw) with its middle at ((kh - 1) / 2, (kw - 1) / 2) becomes one whose index k // 2 lies at the block's first pixel.
    Where the two middles are half a pixel apart the kernel is interpolated linearly: the mean of itself and its neighbour.
    """
    for axis in (-2, -1):
        side = kernel.shape[axis]
        if (side - factor) % 2:
            none = torch.zeros_like(kernel.narrow(axis, 0, 1))
            kernel = (torch.cat([kernel, none], axis) + torch.cat([none, kernel], axis)) / 2
            side += 1
        # y_i = sum_t k[t] x[r i + (r - 1) / 2 + (side - 1) / 2 - t], which index side // 2 + behind makes of r i
        behind = (factor - 1 - (side + 1) % 2) // 2
        sizes = list(kernel.shape)
        sizes[axis] = 2 * behind
        kernel = torch.cat([kernel, kernel.new_zeros(sizes)], axis)
    return kernel


def gaussian_over_blocks(sigma: float, factor: int, truncate: float = 4.0) -> Tensor:
    """A sampled Gaussian about the middle of a block, as `over_blocks` makes of kernels; its own values, not interpolated ones."""
    radius = (len(gaussian_1d(sigma, truncate)) - 1) // 2
    count = 2 * radius + 1 + (factor + 1) % 2
    places = torch.arange(count, dtype=torch.float64) - (count - 1) / 2
    one = torch.softmax(-places.square() / (2 * sigma**2), 0)
    return over_blocks(torch.outer(one, one), factor)
