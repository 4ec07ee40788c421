"""What a denoiser is worth, in numbers: accuracy over noise levels, calibration, whether it is a score, what cutting costs."""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.priors.base import Denoiser
from invsolve.priors.convert import NetworkDenoiser
from invsolve.rng import Rng

LEVELS = (5 / 255, 15 / 255, 25 / 255, 50 / 255, 0.4, 1.0)
RATIOS = (0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4)
TILES = (40, 64, 128, 256)
MARGIN = 16


def psnr(estimate: Tensor, image: Tensor) -> float:
    """Mean over items of -10 log10 mean |clamp(estimate) - image|^2 in dB, peak 1."""
    error = (estimate.clamp(0, 1) - image).square().flatten(1).mean(1)
    return float((-10 * error.log10()).mean())


def noisy(image: Tensor, sigma: float, index: int) -> Tensor:
    """image + sigma n for (1, C, H, W); n depends on the image's index alone, so all priors and levels see the same noise."""
    return image + sigma * Rng(0, [index], purpose="prior-report").normal_like(image)


def usable(prior: Denoiser, levels: Sequence[float] = LEVELS) -> list[float]:
    """The levels within the prior's range."""
    low, high = prior.sigma_range
    return [sigma for sigma in levels if low <= sigma <= high]


@dataclass(frozen=True)
class Level:
    """One noise level.

    Args:
        sigma: standard deviation of the noise, in [0, 1] units.
        psnr: of the estimate, in dB, mean over images; `noisy` that of the noisy image itself.
        residual: |x - D| / (sigma sqrt n): what the denoiser takes out, beside what was put in.
        balance: sqrt(|x - D|^2 + |D - x0|^2) / (sigma sqrt n): 1 for an exact posterior mean.
        best: the factor on sigma at which the estimate is best: 1 where the prior's sigma means what it says.
    """

    sigma: float
    psnr: float
    noisy: float
    residual: float
    balance: float
    best: float


@torch.no_grad()
def measure_levels(prior: Denoiser, images: Sequence[Tensor], levels: Sequence[float] = LEVELS) -> list[Level]:
    """Accuracy and calibration at each level.

    For D(x) = E[x0 | x] the errors x - D and D - x0 are orthogonal on average, since x - D is a function of x alone:

        E |x - x0|^2 = E |x - D|^2 + E |D - x0|^2 = sigma^2 n

    so `balance` differs from 1 where D is not the posterior mean of these images at this sigma. PSNR is of clamped estimates,
    balance and residual of raw ones.

    Args:
        prior: D(x, sigma).
        images: (1, C, H, W) in [0, 1].
        levels: those outside the prior's range are left out.
    """
    found = []
    for sigma in usable(prior, levels):
        rows = []
        for index, image in enumerate(images):
            x = noisy(image, sigma, index)
            estimate = prior(x, sigma)
            taken, left = (float(error.double().square().mean()) / sigma**2 for error in (x - estimate, estimate - image))
            rows.append((psnr(estimate, image), psnr(x, image), taken, left))
        values, noise, taken, left = (statistics.fmean(column) for column in zip(*rows, strict=True))
        best = best_ratio(prior, images, sigma)
        found.append(Level(sigma, values, noise, math.sqrt(taken), math.sqrt(taken + left), best))
    return found


def best_ratio(prior: Denoiser, images: Sequence[Tensor], sigma: float) -> float:
    """The factor f for which D(x, f sigma) has the least squared error on noise sigma: a parabola through the least of `RATIOS`.

    Measured on the first image; NaN for a blind denoiser, and where the factors do not fit into the prior's range.
    """
    low, high = prior.sigma_range
    ratios = [ratio for ratio in RATIOS if low <= ratio * sigma <= high]
    if prior.blind or len(ratios) < 3:
        return math.nan
    x, image = noisy(images[0], sigma, 0), images[0]
    errors = [float((prior(x, ratio * sigma) - image).double().square().mean()) for ratio in ratios]
    least = min(range(len(errors)), key=errors.__getitem__)
    if least in (0, len(errors) - 1):
        return ratios[least]
    (a, b, c), (u, v, w) = ratios[least - 1 : least + 2], errors[least - 1 : least + 2]
    top = (b - a) ** 2 * (v - w) - (b - c) ** 2 * (v - u)
    bottom = (b - a) * (v - w) - (b - c) * (v - u)
    return b - top / (2 * bottom) if bottom else b


def asymmetry(prior: Denoiser, image: Tensor, sigma: float, probes: int = 4) -> float:
    """|J v - J^T v| / (|J v| + |J^T v|), J the Jacobian of D at a noisy image, mean over random v: 0 for a gradient field.

    An exact posterior mean is one (Tweedie): D(x) = x + sigma^2 grad log p(x), so J = I + sigma^2 Hessian is symmetric. J v is
    taken by differentiating the vector-Jacobian product, so no step is chosen. NaN where autograd does not go through.

    References:
        Efron, Tweedie's formula and selection bias, 2011. Reehorst and Schniter, Regularization by Denoising: Clarifications and
        New Interpretations, 2019, arXiv:1806.02296, on denoisers that are no gradients.
    """
    if not prior.differentiable:
        return math.nan
    values = []
    for probe in range(probes):
        x = noisy(image, sigma, 0).requires_grad_()
        v = Rng(1, [probe], purpose="prior-report").normal_like(image)
        with torch.enable_grad():
            estimate = prior(x, sigma)
            weight = torch.zeros_like(estimate, requires_grad=True)
            (back,) = torch.autograd.grad(estimate, x, weight, create_graph=True)
            (forward,) = torch.autograd.grad(back, weight, v, retain_graph=True)
            (transposed,) = torch.autograd.grad(estimate, x, v)
        values.append(float((forward - transposed).norm() / (forward.norm() + transposed.norm())))
    return statistics.fmean(values)


@dataclass(frozen=True)
class Tile:
    """A tile size: PSNR minus that of the whole image, in all pixels and in those `MARGIN` or more from a cut."""

    side: int
    whole: float
    inside: float


@torch.no_grad()
def measure_tiles(prior: Denoiser, images: Sequence[Tensor], sigma: float = 25 / 255, sides: Sequence[int] = TILES) -> list[Tile]:
    """PSNR of noisy images cut into tiles, minus that of the same noisy images denoised whole, on the same pixels, in dB.

    A prior for images of any size loses nothing away from the cuts; one with statistics over the whole image does.
    """
    found = []
    for side in sides:
        rows = []
        for index, image in enumerate(images):
            height, width = (extent - extent % side for extent in image.shape[-2:])
            if not height or not width or (height, width) == (side, side) == tuple(image.shape[-2:]):
                continue
            truth, x = image[..., :height, :width], noisy(image, sigma, index)
            whole = (prior(x, sigma)[..., :height, :width].clamp(0, 1) - truth).square()
            pieces = prior(tiles(x[..., :height, :width], side), sigma)
            cut = (join(pieces, height, width).clamp(0, 1) - truth).square()
            inner = torch.zeros(side, side, dtype=torch.bool)
            inner[MARGIN : side - MARGIN, MARGIN : side - MARGIN] = True
            inside = inner.repeat(height // side, width // side)
            compared = (whole, cut), (whole[..., inside], cut[..., inside])
            rows.append([float(10 * (before.mean() / after.mean()).log10()) for before, after in compared])
        if rows:
            found.append(Tile(side, *(statistics.fmean(column) for column in zip(*rows, strict=True))))
    return found


def tiles(x: Tensor, side: int) -> Tensor:
    """(1, C, H, W) to its (count, C, side, side) tiles, row by row."""
    _, channels, height, width = x.shape
    parts = x.reshape(channels, height // side, side, width // side, side)
    return parts.permute(1, 3, 0, 2, 4).reshape(-1, channels, side, side)


def join(parts: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `tiles`."""
    _, channels, side, _ = parts.shape
    grid = parts.reshape(height // side, width // side, channels, side, side)
    return grid.permute(2, 0, 3, 1, 4).reshape(1, channels, height, width)


@dataclass(frozen=True)
class Speed:
    """A way to run the network: its median seconds a call, as a share of the first way's, and the change of PSNR in dB."""

    name: str
    seconds: float
    ratio: float
    change: float
    options: dict[str, object] = field(default_factory=dict)


WAYS: dict[str, dict[str, object]] = {
    "float32": {"precision": "float32", "channels_last": False},
    "float32, channels last": {"precision": "float32", "channels_last": True},
    "bfloat16": {"precision": "bfloat16", "channels_last": False},
    "bfloat16, channels last": {"precision": "bfloat16", "channels_last": True},
}


def configured(prior: Denoiser, precision: str, channels_last: bool) -> Denoiser | None:
    """A copy that runs its network so; None where it holds no NetworkDenoiser."""
    twin = copy.deepcopy(prior)
    inner = [module for module in twin.modules() if isinstance(module, NetworkDenoiser)]
    for module in inner:
        module.precision, module.channels_last = precision, channels_last
        for part in module.children():
            part.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    return twin if inner else None


@torch.no_grad()
def measure_speed(prior: Denoiser, images: Sequence[Tensor], sigma: float = 25 / 255, repeats: int = 7, side: int = 128) -> list[Speed]:
    """The ways to run the network side by side, in turns (A B C D A B C D ...), medians; PSNR on the images as they are.

    Timed on one image of at most `side` pixels a side. Empty for a prior without a network.
    """
    ways = {name: made for name, options in WAYS.items() if (made := configured(prior, **options)) is not None}  # pyright: ignore[reportArgumentType]
    if not ways:
        return []
    x = noisy(images[0], sigma, 0)[..., :side, :side]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, made in ways.items():
            seconds[name].append(timed(made, x, sigma))
            if not turn:
                seconds[name].clear()  # the first call builds what later ones keep
    values = {name: statistics.fmean(value for value, _ in pairs(made, images, sigma)) for name, made in ways.items()}
    first = next(iter(ways))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return [Speed(name, medians[name], medians[name] / medians[first], values[name] - values[first], WAYS[name]) for name in ways]


def timed(prior: Denoiser, x: Tensor, sigma: float) -> float:
    """Seconds of one call."""
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    start = time.perf_counter()
    prior(x, sigma)
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.perf_counter() - start


def pairs(prior: Denoiser, images: Sequence[Tensor], sigma: float) -> Iterator[tuple[float, Tensor]]:
    """PSNR and estimate of each image."""
    for index, image in enumerate(images):
        estimate = prior(noisy(image, sigma, index), sigma)
        yield psnr(estimate, image), estimate


def fitting_images(prior: Denoiser, images: Sequence[Tensor]) -> list[Tensor]:
    """(1, C, H, W) float32 in the prior's channels: grey from colour by the mean, colour from grey by repetition.

    Raises:
        InputError: a prior bound to one shape, to which no image can be cut.
    """
    found = []
    for image in images:
        x = image[None].float()
        if prior.channels == 1 or (prior.channels is None and x.shape[1] not in (1, 3)):
            x = x.mean(1, keepdim=True)
        elif prior.channels is not None and x.shape[1] != prior.channels:
            x = x.mean(1, keepdim=True).repeat(1, prior.channels, 1, 1)
        if prior.in_shape is not None:
            height, width = prior.in_shape[-2:]
            top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
            x = x[..., max(top, 0) : max(top, 0) + height, max(left, 0) : max(left, 0) + width]
            if tuple(x.shape[1:]) != tuple(prior.in_shape):
                raise InputError(f"the prior takes images of shape {prior.in_shape} only; no such part in one of {tuple(image.shape)}")
        found.append(x)
    return found
