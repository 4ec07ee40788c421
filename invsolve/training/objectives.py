"""The denoising objective and the distributions its noise levels are drawn from.

    L = E_{x0, n, sigma} w(sigma) mean |D(x0 + sigma n, sigma) - x0|^2,   w = (sigma^2 + s0^2) / (sigma s0)^2

Its minimiser is the posterior mean E[x0 | x0 + sigma n] at every sigma: a denoiser and a diffusion prior in one.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LogSigma:
    """log sigma ~ N(mean, std) with probability 1 - flat, else uniform on [log low, log high]; sigma in [0, 1] units."""

    mean: float
    std: float
    low: float
    high: float
    flat: float = 0.25

    def sample(self, count: int, rng: np.random.Generator) -> Tensor:
        """(count,) float32."""
        normal = rng.normal(self.mean, self.std, count)
        uniform = rng.uniform(math.log(self.low), math.log(self.high), count)
        log_sigma = np.where(rng.random(count) < self.flat, uniform, normal)
        return torch.from_numpy(np.exp(np.clip(log_sigma, math.log(self.low), math.log(self.high)))).float()


@dataclass(frozen=True)
class UniformSigma:
    """sigma uniform on [low, high], in [0, 1] units."""

    low: float
    high: float

    def sample(self, count: int, rng: np.random.Generator) -> Tensor:
        """(count,) float32."""
        return torch.from_numpy(rng.uniform(self.low, self.high, count)).float()


def denoising_loss(network: nn.Module, x0: Tensor, sigma: Tensor, noise: Tensor, s0: float) -> Tensor:
    """The weighted loss of a batch, a scalar; x0 and noise (B, C, H, W), sigma (B,).

    References:
        Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), arXiv:2206.00364, eq. 2 and
        table 1 for w.
    """
    column = sigma.reshape(-1, 1, 1, 1)
    error = network(x0 + column * noise, sigma) - x0
    weight = (sigma**2 + s0**2) / (sigma * s0) ** 2
    return (weight * error.square().flatten(1).mean(1)).mean()
