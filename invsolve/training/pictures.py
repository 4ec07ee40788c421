"""What a network in training can do by now, as pictures: validation images denoised, and samples drawn from noise."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from invsolve.io.images import picture_grid, write_image
from invsolve.priors.convert import NetworkDenoiser
from invsolve.problem import Problem
from invsolve.solvers import DDIM, FewStep


def denoised(network: nn.Module, images: Tensor, sigma: float) -> Tensor:
    """(3 N, C, H, W): the images, with noise, and denoised."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    noisy = images + sigma * noise
    with torch.no_grad():
        out = network(noisy, torch.full((len(images),), sigma)).float()
    return torch.cat([images, noisy, out]).clamp(0, 1)


def samples(
    network: nn.Module,
    shape: tuple[int, int, int],
    sigma_range: tuple[float, float],
    count: int = 16,
    steps: int = 25,
    few_step: bool = False,
) -> Tensor:
    """(count, C, H, W) drawn by DDIM, always from the same noise: progress is to be seen from picture to picture.

    Of a few-step map the first half in one call and the second in two, from the same noise.
    """
    prior = NetworkDenoiser(network, "x0", sigma_range=sigma_range)
    if few_step:
        prior.few_step = True
        problem = Problem.unconditional(shape, count // 2)
        return torch.cat([FewStep(steps=calls).solve(problem, prior, generator=0).x for calls in (1, 2)]).clamp(0, 1)
    return DDIM(steps=steps).solve(Problem.unconditional(shape, count), prior, generator=0).x.clamp(0, 1)


def write_pictures(
    network: nn.Module,
    out: Path,
    images: Tensor | None,
    shape: tuple[int, int, int],
    sigma_range: tuple[float, float],
    few_step: bool = False,
) -> None:
    """denoised.png (sigma 50/255, or the largest below) and, for networks that reach sigma 10, samples.png in the folder."""
    if images is not None:
        rows = denoised(network, images[:8], min(50 / 255, sigma_range[1]))
        write_image(out / "denoised.png", picture_grid(rows, len(images[:8])))
    if sigma_range[1] >= 10:
        write_image(out / "samples.png", picture_grid(samples(network, shape, sigma_range, few_step=few_step), 8))
