"""Pictures drawn from a prior alone, and two statistics of natural images to hold them against real patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solver import Solver
from invsolve.solvers import DDIM, FewStep, Heun

# A prior that ends below this level of noise has pictures left in what a sampler would start from.
START = 2.0


@dataclass(frozen=True)
class Drawn:
    """Samples by one sampler with their statistics: spectrum slope and kurtosis of gradients."""

    name: str
    images: Tensor
    slope: float
    kurtosis: float


def spectrum_slope(images: Tensor) -> float:
    """Slope of log power against log frequency of the grey images (N, C, H, W), about -2 for photographs.

    Power is averaged over images and over rings of one frequency step; the fit runs from 2 cycles an image to half the Nyquist
    frequency. A Hann window keeps the jump at the border from adding its own slope of -2.

    References:
        Field, Relations between the statistics of natural images and the response properties of cortical cells, 1987.
    """
    grey = images.double().mean(1)
    height, width = grey.shape[-2:]
    window = torch.hann_window(height, periodic=False, dtype=torch.float64)[:, None] * torch.hann_window(
        width, periodic=False, dtype=torch.float64
    )
    power = torch.fft.fft2((grey - grey.mean((-2, -1), keepdim=True)) * window).abs().square().mean(0)
    rows, columns = torch.fft.fftfreq(height, dtype=torch.float64)[:, None], torch.fft.fftfreq(width, dtype=torch.float64)
    ring = ((rows.square() + columns.square()).sqrt() * min(height, width)).round().long()
    last = min(height, width) // 4
    if last < 4:
        raise InputError(f"a spectrum's slope needs images of at least 16 pixels a side; given {height} x {width}")
    x = torch.arange(2, last + 1, dtype=torch.float64).log()
    y = torch.stack([power[ring == k].mean() for k in range(2, last + 1)]).log()
    return float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())


def gradient_kurtosis(images: Tensor) -> float:
    """E d^4 / (E d^2)^2 of the horizontal and vertical differences of the grey images: 3 for Gaussian noise, 10 or more for photographs."""
    grey = images.double().mean(1)
    differences = torch.cat([grey.diff(dim=-1).flatten(), grey.diff(dim=-2).flatten()])
    return float(differences.pow(4).mean() / differences.square().mean() ** 2)


def patches(images: Sequence[Tensor], side: int, count: int = 64) -> Tensor | None:
    """(N, C, side, side) random patches of the (1, C, H, W) images; None where none is large enough."""
    large = [image for image in images if min(image.shape[-2:]) >= side]
    if not large:
        return None
    found = []
    for index in range(count):
        image = large[index % len(large)]
        draws = Rng(2, [index], purpose="prior-report").uniform((2,), image)[0]
        top, left = (int(float(draw) * (extent - side + 1)) for draw, extent in zip(draws, image.shape[-2:], strict=True))
        found.append(image[0, :, min(top, image.shape[-2] - side) :, min(left, image.shape[-1] - side) :][:, :side, :side])
    return torch.stack(found)


def draw_samples(prior: Denoiser, side: int, count: int, seed: int = 0) -> list[Drawn]:
    """Samples by DDIM (50 calls) and Heun (18 steps), of a few-step map in 1 and 2 calls; none from a range that ends below `START`."""
    if prior.sigma_range[1] < START:
        return []
    shape = prior.in_shape or (prior.channels or 3, side, side)
    found = []
    ways: list[tuple[str, Solver]] = [("DDIM, 50 steps", DDIM(steps=50)), ("Heun, 18 steps", Heun(steps=18))]
    if prior.few_step:
        ways = [(f"few-step, {calls}", FewStep(steps=calls)) for calls in (1, 2)]
    for name, solver in ways:
        images = solver.solve(Problem.unconditional(shape, count), prior, generator=seed).x.clamp(0, 1)
        large = min(shape[-2:]) >= 16
        found.append(Drawn(name, images, spectrum_slope(images) if large else math.nan, gradient_kurtosis(images)))
    return found
