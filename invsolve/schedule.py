"""Noise schedules x_t = scale(t) x0 + std(t) n, and the grids of sigmas that solvers run on.

Solvers live in VE form: one noise level sigma = std / scale, the standard deviation of x = x0 + sigma n. A schedule of a
network that lives in [-1, 1] gives sigma in its own units; in [0, 1] data units it is half of that.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from invsolve.errors import InputError, UnknownNameError, did_you_mean


class Schedule(ABC):
    """t -> (scale, std), t a float tensor on [0, 1] unless a class says otherwise."""

    @abstractmethod
    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(scale, std) at times t, of t's shape."""

    def sigma(self, t: Tensor) -> Tensor:
        """std / scale."""
        scale, std = self(t)
        return std / scale


@dataclass(frozen=True)
class VE(Schedule):
    """Variance exploding: scale 1, std = low (high / low)^t.

    References:
        Score-Based Generative Modeling through SDEs (Song et al., 2021), arXiv:2011.13456.
    """

    low: float = 0.01
    high: float = 50.0

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(1, low (high / low)^t)."""
        return torch.ones_like(t), self.low * (self.high / self.low) ** t


@dataclass(frozen=True)
class EDM(Schedule):
    """Karras et al.: scale 1, std = (high^(1/rho) t + low^(1/rho) (1 - t))^rho.

    References:
        Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), arXiv:2206.00364, eq. 5.
    """

    low: float = 0.002
    high: float = 80.0
    rho: float = 7.0

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(1, std)."""
        root = self.high ** (1 / self.rho) * t + self.low ** (1 / self.rho) * (1 - t)
        return torch.ones_like(t), root**self.rho


@dataclass(frozen=True)
class VP(Schedule):
    """Variance preserving, linear beta in continuous time: log scale = -t^2 (high - low) / 4 - t low / 2.

    References:
        Score-Based Generative Modeling through SDEs (Song et al., 2021), arXiv:2011.13456, eq. 33.
    """

    low: float = 0.1
    high: float = 20.0

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(sqrt(a), sqrt(1 - a))."""
        log_a = -0.5 * t**2 * (self.high - self.low) - t * self.low
        return (0.5 * log_a).exp(), (-torch.expm1(log_a)).sqrt()


@dataclass(frozen=True)
class Cosine(Schedule):
    """scale = cos(pi/2 (t + s) / (1 + s)) / cos(pi/2 s / (1 + s)), t clamped below 1 so that scale stays positive.

    References:
        Improved Denoising Diffusion Probabilistic Models (Nichol, Dhariwal, 2021), arXiv:2102.09672, eq. 17.
    """

    s: float = 0.008

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(sqrt(a), sqrt(1 - a))."""
        angle = (t.clamp(0, 0.999) + self.s) / (1 + self.s) * math.pi / 2
        scale = (angle.cos() / math.cos(self.s / (1 + self.s) * math.pi / 2)).clamp(0, 1)
        return scale, (1 - scale**2).sqrt()


LAWS = ("linear", "scaled-linear", "cosine")


@dataclass(frozen=True)
class DiscreteVP(Schedule):
    """T discrete steps: a_t = prod (1 - beta); t is an index 0 .. T-1.

    Args:
        steps: T.
        low, high: first and last beta of the linear laws.
        law: "linear": beta linear from low to high; "scaled-linear": sqrt(beta) linear; "cosine": prod (1 - beta) = cos^2((t / T + 0.008)
            / 1.008 pi / 2), beta at most 0.999 (low and high unused).

    Raises:
        InputError: another law, fewer than two steps, or betas that are not 0 < low <= high < 1.

    References:
        Denoising Diffusion Probabilistic Models (Ho et al., 2020), arXiv:2006.11239: linear.
        High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), arXiv:2112.10752, its code: scaled-linear.
        Improved Denoising Diffusion Probabilistic Models (Nichol and Dhariwal, 2021), arXiv:2102.09672, eq. 17: cosine.
    """

    steps: int = 1000
    low: float = 1e-4
    high: float = 0.02
    law: str = "linear"
    sigmas: tuple[float, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.law not in LAWS or self.steps < 2 or not 0 < self.low <= self.high < 1:
            given = f"{self.law!r}, {self.steps}, {self.low}, {self.high}"
            raise InputError(f"need a law of {', '.join(LAWS)}, at least 2 steps, 0 < low <= high < 1; given {given}")
        a = np.cumprod(1 - self._betas())
        object.__setattr__(self, "sigmas", tuple(np.sqrt((1 - a) / a).tolist()))

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(sqrt(a_t), sqrt(1 - a_t)); t is rounded to the nearest index."""
        table = torch.tensor(self.sigmas, dtype=t.dtype, device=t.device)
        sigma = table[t.round().long().clamp(0, self.steps - 1)]
        scale = (1 + sigma**2).rsqrt()
        return scale, sigma * scale

    def _betas(self) -> np.ndarray:
        if self.law == "linear":
            return np.linspace(self.low, self.high, self.steps)
        if self.law == "scaled-linear":
            return np.linspace(np.sqrt(self.low), np.sqrt(self.high), self.steps) ** 2
        kept = np.cos((np.arange(self.steps + 1) / self.steps + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.minimum(1 - kept[1:] / kept[:-1], 0.999)

    def index(self, sigma: Tensor) -> Tensor:
        """The (fractional) index of a noise level std / scale, by interpolation in log sigma; clamped to the ends."""
        table = np.log(np.array(self.sigmas))
        values = np.interp(sigma.detach().double().log().cpu().numpy(), table, np.arange(self.steps))
        return torch.as_tensor(values, dtype=sigma.dtype, device=sigma.device)


def karras(steps: int, low: float, high: float, rho: float = 7.0) -> list[float]:
    """high .. low, dense near low (EDM, eq. 5); then 0."""
    if steps == 1:
        return [high, 0.0]
    root = [high ** (1 / rho) + i / (steps - 1) * (low ** (1 / rho) - high ** (1 / rho)) for i in range(steps)]
    return [*(value**rho for value in root), 0.0]


def vp_indices(name: str, steps: int, total: int) -> list[int]:
    """Decreasing indices of a T-step schedule by the rules of the field.

    vp-uniform: i floor(T / K) (DDRM, DDNM: starts at T - T / K). vp-respaced: round(linspace(0, T - 1, K))
    (guided-diffusion). vp-quadratic: floor(linspace(0, sqrt(0.8 T), K)^2) (DDIM). vp-sqrt: max(0, T - 1 - floor(T sqrt(i / (K - 1))))
    (DiffPIR; without the max its last index would be -1). Equal entries are removed.
    """
    if name == "vp-uniform":
        indices = list(range(0, total, max(1, total // steps)))[:steps]
    elif name == "vp-respaced":
        indices = [round(value) for value in np.linspace(0, total - 1, steps)]
    elif name == "vp-quadratic":
        indices = [int(value) for value in np.linspace(0, math.sqrt(0.8 * total), steps) ** 2]
    else:
        indices = [max(0, total - 1 - math.floor(total * math.sqrt(i / max(1, steps - 1)))) for i in range(steps)]
    return sorted(set(indices), reverse=True)


GRIDS = ("karras", "vp-uniform", "vp-respaced", "vp-sqrt", "vp-quadratic")


def sigma_grid(name: str, steps: int, *, low: float, high: float, schedule: DiscreteVP | None = None) -> list[float]:
    """A decreasing list of sigmas in [0, 1] data units that ends at 0.

    Args:
        name: one of `GRIDS`. `karras` runs from high to low; the vp grids are those of a linear-beta network in [-1, 1],
            whose sigma is halved: they bring their own ends (78.7 at the top) whatever low and high are.
        steps: number of network calls of a solver that makes one a step (fewer where entries coincide).
        low, high: the ends of `karras`.
        schedule: another discrete schedule for the vp grids.

    Raises:
        UnknownNameError: no such grid.
        InputError: steps < 1.
    """
    if name not in GRIDS:
        raise UnknownNameError(f"no grid '{name}'{did_you_mean(name, GRIDS)} There are: {', '.join(GRIDS)}")
    if steps < 1:
        raise InputError(f"steps must be at least 1; given {steps}")
    if name == "karras":
        return karras(steps, low, high)
    schedule = schedule or DiscreteVP()
    return [*(schedule.sigmas[index] / 2 for index in vp_indices(name, steps, schedule.steps)), 0.0]
