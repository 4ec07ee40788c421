"""Priors in closed form: a Gaussian and a mixture of Gaussians. They are the oracles every solver is held against.

x0 ~ N(m, C):  D(x, sigma) = m + C (C + sigma^2 I)^{-1} (x - m)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.priors.base import Denoiser, Prior
from invsolve.rng import Rng


def sigma_rows(sigma: float | Tensor, x: Tensor) -> Tensor:
    """sigma as (B, 1) or a scalar in x's dtype."""
    value = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    return value.reshape(-1, 1) if value.ndim else value


class GaussianPrior(Denoiser):
    """x0 ~ N(mean, C) with the exact posterior mean as denoiser, for any image size.

    Args:
        mean: a number, a tensor (C, H, W), or (B, C, H, W) for one mean per item; of volumes (1, C, D, H, W), or (B, C, D, H, W).
        std: standard deviation of independent pixels; used without `cov`.
        cov: a full covariance (n, n) of the flattened image, symmetric positive semi-definite.

    Raises:
        InputError: std is not positive, or cov is not a square symmetric PSD matrix.

    Its sigma_range is (0.002, 80), as for an EDM network, though the formula holds at every level.
    """

    slope = 0.0
    mean: Tensor
    vectors: Tensor
    values: Tensor

    def __init__(self, mean: float | Tensor = 0.5, std: float = 0.25, cov: Tensor | None = None) -> None:
        super().__init__()
        if not (math.isfinite(std) and std > 0):
            raise InputError(f"std must be positive and finite; given {std}")
        self.std = float(std)
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float64))
        several, volume = self.mean.ndim in (4, 5), self.mean.ndim == 5
        if several and not (volume and len(self.mean) == 1):  # a volume's mean has the shape of means of images, but for the first axis
            self.batch = len(self.mean)
        elif self.mean.numel():  # the mean of a batch of means would make an item's start depend on its batch
            self.centre = float(self.mean.mean())
        self.in_shape = tuple(self.mean.shape[-4 if volume else -3 :]) if self.mean.ndim else None
        # White noise about a grey has no place and no direction; a mean picture or a covariance has.
        self.placeless = self.mean.ndim == 0 and cov is None
        self.full = cov is not None
        if cov is not None:
            if cov.ndim != 2 or cov.shape[0] != cov.shape[1] or not torch.allclose(cov, cov.T, rtol=1e-6, atol=1e-10):
                raise InputError(f"cov must be a symmetric (n, n) matrix; given shape {tuple(cov.shape)}")
            values, vectors = torch.linalg.eigh(cov.double())
            if float(values.min()) < -1e-8 * max(1.0, float(values.max())):
                raise InputError(f"cov has a negative eigenvalue, {float(values.min()):.3g}")
            self.register_buffer("values", values.clamp_min(0))
            self.register_buffer("vectors", vectors)
            self.s0 = float(values.clamp_min(0).mean().sqrt())
        else:
            self.s0 = self.std

    def select(self, items: Sequence[int]) -> Prior:
        """The prior with the means of some items."""
        if self.batch is None:
            return self
        cov = self.vectors @ (self.values[:, None] * self.vectors.T) if self.full else None
        return GaussianPrior(self.mean[list(items)], self.std, cov).to(self.device)

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """m + C (C + sigma^2 I)^{-1} (x - m)."""
        mean = self.mean.to(x)
        level = sigma_rows(sigma, x)
        centred = (x - mean).flatten(1)
        if self.full:
            values, vectors = self.values.to(x), self.vectors.to(x)
            total = values + level**2
            gain = torch.where(total > 0, values / total.clamp_min(torch.finfo(x.dtype).tiny), torch.zeros_like(total))
            out = ((centred @ vectors) * gain) @ vectors.T
        else:
            out = centred * (self.std**2 / (self.std**2 + level**2))
        return mean + out.reshape(x.shape)

    def sample(self, shape: Sequence[int], rng: Rng, like: Tensor) -> Tensor:
        """(B, *shape) draws from the prior."""
        z = rng.normal(shape, like)
        if self.full:
            root = self.values.to(z).sqrt()
            z = ((z.flatten(1) * root) @ self.vectors.to(z).T).reshape(z.shape)
        else:
            z = z * self.std
        return self.mean.to(z) + z

    def log_prob(self, x: Tensor) -> Tensor:
        """log N(x; mean, C) per item up to a constant, (B,); -inf directions (zero eigenvalues) are left out."""
        centred = (x - self.mean.to(x)).flatten(1)
        if not self.full:
            return -0.5 * centred.square().sum(1) / self.std**2
        values = self.values.to(x)
        return -0.5 * torch.where(values > 0, (centred @ self.vectors.to(x)) ** 2 / values.clamp_min(1e-300), 0.0).sum(1)


class GaussianMixturePrior(Denoiser):
    """x0 ~ sum_k w_k N(m_k, C) with one shared covariance: the posterior mean is a weighted sum of Gaussian ones.

    Args:
        means: (K, *image shape).
        std: standard deviation of independent pixels within a component.
        weights: (K,), positive; default equal.

    Raises:
        InputError: shapes that differ, a weight that is not positive, std that is not positive.
    """

    slope = 0.0
    means: Tensor
    log_weights: Tensor

    def __init__(self, means: Tensor, std: float = 0.1, weights: Tensor | None = None) -> None:
        super().__init__()
        weights = torch.ones(len(means)) if weights is None else torch.as_tensor(weights)
        if len(weights) != len(means) or not bool((weights > 0).all()) or not std > 0:
            raise InputError(
                f"need one positive weight per mean and std > 0; given {len(means)} means, weights {weights.tolist()}, std {std}"
            )
        self.std = float(std)
        self.register_buffer("means", means.double())
        self.in_shape = tuple(means.shape[1:])
        self.centre = float(means.double().mean())
        self.register_buffer("log_weights", (weights.double() / weights.double().sum()).log())
        spread = (means - means.mean(0)).double().square().mean()
        self.s0 = float((spread + std**2).sqrt())

    def responsibilities(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """P(component k | x0 + sigma n = x), (B, K)."""
        return self._logits(x, sigma).softmax(1)

    def log_responsibilities(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """log P(component k | x0 + sigma n = x), (B, K)."""
        return self._logits(x, sigma).log_softmax(1)

    def _logits(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        level, means = sigma_rows(sigma, x), self.means.to(x).flatten(1)
        centre = means.mean(0)
        apart = means - centre
        # |x - m_k|^2 less |x - centre|^2, which no k changes: K products, where K images apart would cost ten times as much
        square = apart.square().sum(1) - 2 * (x.flatten(1) - centre) @ apart.T
        return self.log_weights.to(x) - square / (2 * (self.std**2 + level**2))

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """sum_k r_k(x) D_k(x, sigma)."""
        level = sigma_rows(sigma, x)
        gain = self.std**2 / (self.std**2 + level**2)
        centre = (self.responsibilities(x, sigma) @ self.means.to(x).flatten(1)).reshape(x.shape)
        gain = gain.reshape(-1, *[1] * (x.ndim - 1)) if gain.ndim else gain
        return centre + gain * (x - centre)

    def sample(self, shape: Sequence[int], rng: Rng, like: Tensor) -> Tensor:
        """(B, *shape) draws from the prior."""
        cumulated = self.log_weights.exp().cumsum(0).to(like)
        component = torch.searchsorted(cumulated, rng.uniform((1,), like)).clamp_max(len(cumulated) - 1)[:, 0]
        return self.means.to(like)[component] + self.std * rng.normal(shape, like)

    @classmethod
    def examples(cls) -> list[Prior]:
        """Three components on (1, 4, 4) images."""
        means = torch.stack([torch.full((1, 4, 4), value) for value in (0.2, 0.5, 0.8)])
        return [cls(means, std=0.1)]
