"""The denoising objective and the distributions its noise levels are drawn from.

    L = E_{x0, n, sigma} w(sigma) mean |D(x0 + sigma n, sigma) - x0|^2

w is chosen by the target (x0, eps or v) in which the error is measured; v is EDM's weighting. The minimiser is the posterior
mean E[x0 | x0 + sigma n] at every sigma: a denoiser and a diffusion prior in one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from invsolve.errors import InputError

if TYPE_CHECKING:
    from invsolve.training.pairs import Pairs

TARGETS = ("x0", "eps", "v")


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


def loss_weight(sigma: Tensor, s0: float, target: str) -> Tensor:
    """w(sigma) that turns |D - x0|^2 into the squared error of the target.

        x0:  1 / s0^2                             eps = (x - x0) / sigma:  1 / sigma^2
        v:   (sigma^2 + s0^2) / (sigma s0)^2,     v = (s0 eps - sigma x0 / s0) / sqrt(sigma^2 + s0^2)

    v is the variance-preserving velocity of data in units of their standard deviation s0; its weight is EDM's.

    Raises:
        InputError: another target.

    References:
        Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), arXiv:2206.00364, table 1: v's w.
        Progressive Distillation for Fast Sampling of Diffusion Models (Salimans and Ho, 2022), arXiv:2202.00512, section 4: v.
        Deviation: networks here are maps D(x, sigma) -> x0_hat whatever the target, which only says where the error is measured.
    """
    if target == "x0":
        return torch.full_like(sigma, 1 / s0**2)
    if target == "eps":
        return 1 / sigma**2
    if target == "v":
        return (sigma**2 + s0**2) / (sigma * s0) ** 2
    raise InputError(f"target must be one of {', '.join(TARGETS)}; given {target!r}")


def denoising_losses(network: nn.Module, x0: Tensor, sigma: Tensor, noise: Tensor, s0: float, target: str = "v") -> Tensor:
    """The weighted loss of each item, (B,); x0 and noise (B, C, H, W), sigma (B,); see `loss_weight` for the target."""
    error = network(x0 + sigma.reshape(-1, 1, 1, 1) * noise, sigma) - x0
    return loss_weight(sigma, s0, target) * error.square().flatten(1).mean(1)


def paired_losses(
    network: nn.Module, pairs: Pairs, pair: tuple[Tensor, Tensor], sigma: Tensor, noise: Tensor, s0: float, target: str = "v"
) -> Tensor:
    """The weighted loss of each item of a conditional network, (B,): see `pairs`; `pair` is (what is estimated, condition)."""
    wanted, condition = pair
    noised = pairs.noised(wanted, condition, sigma.reshape(-1, 1, 1, 1), noise)
    error = network(noised, sigma, condition) - wanted
    return pairs.factors(sigma) * loss_weight(sigma, s0, target) * error.square().flatten(1).mean(1)


def damping(sigma: Tensor, above: float, weight: float) -> Tensor:
    """1 for the items up to the noise level `above`, `weight` for those beyond it, (B,).

    High levels fill the gradient with noise (its variance at sigma 2 is forty times that at 0.1) and are learnt early; a weight
    below 1 lets late training serve the low ones without forgetting them.
    """
    return torch.where(sigma > above, weight, 1.0)


class Balance:
    """Divides each item's loss by the recent mean loss at its noise level, so that all levels count the same.

        L = E l(sigma) / m(sigma),    m <- m + (l - m) / 33 in the one of 40 bins of log sigma that the item falls into

    The minimiser at each sigma stays what it was. Levels whose error no network can lower (sigma far above or below the data's
    own scale: v's loss is near 1 there and 0.1 at sigma 0.1) no longer fill the gradient with their noise.

    Args:
        low, high: ends of the noise levels.

    References:
        Analyzing and Improving the Training Dynamics of Diffusion Models (Karras et al., 2024), arXiv:2312.02696, appendix B.2.
        Deviation: a running mean in bins in place of a small network for m, since m is a smooth function of one number.
    """

    BINS, MEMORY = 40, 32 / 33

    def __init__(self, low: float, high: float) -> None:
        self.low, self.width = math.log(low), (math.log(high) - math.log(low)) / self.BINS
        self.means = [0.0] * self.BINS

    def factors(self, sigma: Tensor, losses: Tensor) -> Tensor:
        """1 / m of each item, (B,), after m has taken in these losses; a bin begins with its first loss."""
        bins = [min(max(int((math.log(level) - self.low) / self.width), 0), self.BINS - 1) for level in sigma.tolist()]
        for index, loss in zip(bins, losses.detach().tolist(), strict=True):
            if math.isfinite(loss):
                self.means[index] = self.MEMORY * self.means[index] + (1 - self.MEMORY) * loss if self.means[index] else loss
        return torch.tensor([1 / max(self.means[index], 1e-8) for index in bins], dtype=losses.dtype, device=losses.device)
