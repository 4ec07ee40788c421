"""Noise schedules x_t = scale(t) x0 + std(t) n, and the grids of sigmas that solvers run on.

Solvers live in VE form: one noise level sigma = std / scale, the standard deviation of x = x0 + sigma n. A schedule gives sigma in the
units its network lives in; `Unit` takes it to [0, 1] images, where that of a network in [-1, 1] is half of it.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from invsolve.errors import InputError, UnknownNameError, did_you_mean
from invsolve.unit import Unit

HALVINGS = 64  # of an interval of times: to the last digit of a float64


class Schedule(ABC):
    """t -> (scale, std), t a float tensor on `times`; sigma = std / scale rises or falls strictly with t.

    A subclass writes `__call__`; one that knows better overrides `times`, and `time` where the inverse has a closed form.
    """

    discrete: ClassVar[bool] = False  # whether only the levels of `levels` exist: grids are then made of them

    @abstractmethod
    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(scale, std) at times t, of t's shape."""

    @property
    def times(self) -> tuple[float, float]:
        """The first and the last time; t = 0 itself is left out, where sigma is 0 or infinite for most."""
        return 1e-3, 1.0

    def sigma(self, t: Tensor) -> Tensor:
        """std / scale."""
        scale, std = self(t)
        return std / scale

    def time(self, sigma: Tensor) -> Tensor:
        """The t of noise levels std / scale, of their shape, type and place; levels beyond the ends give the ends. By bisection."""
        level = sigma.detach().double()
        below, above = (torch.full_like(level, end) for end in self._ends())
        for _ in range(HALVINGS):
            middle = (below + above) / 2
            under = self.sigma(middle) < level
            below, above = torch.where(under, middle, below), torch.where(under, above, middle)
        return above.to(sigma.dtype)

    def scale(self, sigma: Tensor) -> Tensor:
        """The scale at noise levels std / scale."""
        return self(self.time(sigma))[0]

    def levels(self, count: int = 1000) -> list[float]:
        """Rising noise levels std / scale at `count` evenly spaced times, those that are positive and finite.

        Raises:
            InputError: a schedule whose sigma does not rise or fall strictly.
        """
        sigmas = self.sigma(torch.linspace(*self._ends(), count, dtype=torch.float64)).tolist()
        sigmas = [sigma for sigma in sigmas if sigma not in (0, math.inf)]
        if not all(low < high for low, high in pairwise([0.0, *sigmas])):
            raise InputError(f"sigma = std / scale must be positive and rise or fall strictly with t on {self.times}; {self} does not")
        return sigmas

    def _ends(self) -> tuple[float, float]:
        """The times of the lowest and of the highest level."""
        first, last = self.times
        low, high = self.sigma(torch.tensor([first, last], dtype=torch.float64)).tolist()
        return (last, first) if high < low else (first, last)

    def _clamped(self, t: Tensor) -> Tensor:
        return t.clamp(*self.times)


def _need(allowed: bool, schedule: Schedule, what: str) -> None:
    """Raise InputError unless a schedule's numbers are allowed."""
    if not allowed:
        raise InputError(f"{type(schedule).__name__} needs {what}; given {schedule}")


@dataclass(frozen=True)
class VE(Schedule):
    """Variance exploding: scale 1, std = low (high / low)^t.

    Raises:
        InputError: not 0 < low < high < inf.

    References:
        Score-Based Generative Modeling through SDEs (Song et al., 2021), arXiv:2011.13456.
    """

    low: float = 0.01
    high: float = 50.0

    def __post_init__(self) -> None:
        _need(0 < self.low < self.high < math.inf, self, "0 < low < high < inf")

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(1, low (high / low)^t)."""
        return torch.ones_like(t), self.low * (self.high / self.low) ** t

    @property
    def times(self) -> tuple[float, float]:
        """0, where std = low, to 1."""
        return 0.0, 1.0

    def time(self, sigma: Tensor) -> Tensor:
        """log(sigma / low) / log(high / low)."""
        return self._clamped((sigma / self.low).log() / math.log(self.high / self.low))


@dataclass(frozen=True)
class EDM(Schedule):
    """Karras et al.: scale 1, std = (high^(1/rho) t + low^(1/rho) (1 - t))^rho.

    Raises:
        InputError: not 0 < low < high < inf, or rho is not positive.

    References:
        Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), arXiv:2206.00364, eq. 5.
    """

    low: float = 0.002
    high: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        _need(0 < self.low < self.high < math.inf and 0 < self.rho < math.inf, self, "0 < low < high < inf and rho > 0")

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(1, std)."""
        root = self.high ** (1 / self.rho) * t + self.low ** (1 / self.rho) * (1 - t)
        return torch.ones_like(t), root**self.rho

    @property
    def times(self) -> tuple[float, float]:
        """0, where std = low, to 1."""
        return 0.0, 1.0

    def time(self, sigma: Tensor) -> Tensor:
        """(sigma^(1/rho) - low^(1/rho)) / (high^(1/rho) - low^(1/rho))."""
        low, high = self.low ** (1 / self.rho), self.high ** (1 / self.rho)
        return self._clamped((sigma ** (1 / self.rho) - low) / (high - low))


class VariancePreserving(Schedule):
    """The schedules with scale^2 + std^2 = 1."""

    def scale(self, sigma: Tensor) -> Tensor:
        """1 / sqrt(1 + sigma^2), at every level."""
        return (1 + sigma**2).rsqrt()


@dataclass(frozen=True)
class VP(VariancePreserving):
    """Variance preserving, linear beta in continuous time: log scale = -t^2 (high - low) / 4 - t low / 2; t from 0.001.

    Raises:
        InputError: not 0 <= low <= high < inf, or high = 0.

    References:
        Score-Based Generative Modeling through SDEs (Song et al., 2021), arXiv:2011.13456, eq. 33; its first time, appendix C.
    """

    low: float = 0.1
    high: float = 20.0

    def __post_init__(self) -> None:
        _need(0 <= self.low <= self.high < math.inf and self.high > 0, self, "0 <= low <= high < inf, high > 0")

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(sqrt(a), sqrt(1 - a))."""
        log_a = -0.5 * t**2 * (self.high - self.low) - t * self.low
        return (0.5 * log_a).exp(), (-torch.expm1(log_a)).sqrt()

    def time(self, sigma: Tensor) -> Tensor:
        """The positive root t of t^2 (high - low) / 2 + t low = log(1 + sigma^2)."""
        lost = torch.log1p(sigma**2)  # -log a
        root = (self.low**2 + 2 * (self.high - self.low) * lost).sqrt()
        return self._clamped(2 * lost / (self.low + root).clamp_min(torch.finfo(lost.dtype).tiny))


@dataclass(frozen=True)
class Cosine(VariancePreserving):
    """scale = cos(pi/2 (t + s) / (1 + s)) / cos(pi/2 s / (1 + s)), t at most 0.999 so that scale stays positive.

    Raises:
        InputError: s is negative or not finite.

    References:
        Improved Denoising Diffusion Probabilistic Models (Nichol, Dhariwal, 2021), arXiv:2102.09672, eq. 17.
    """

    s: float = 0.008

    def __post_init__(self) -> None:
        _need(0 <= self.s < math.inf, self, "0 <= s < inf")

    @property
    def _start(self) -> float:
        """The angle at t = 0."""
        return self.s / (1 + self.s) * math.pi / 2

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(sqrt(a), sqrt(1 - a))."""
        turned = t.clamp(0, 0.999) / (1 + self.s) * math.pi / 2
        angle = self._start + turned
        scale = (angle.cos() / math.cos(self._start)).clamp(0, 1)
        # cos^2 B - cos^2 A = sin(A - B) sin(A + B): 1 - scale^2 would cancel at small t
        return scale, (turned.sin() * (angle + self._start).sin()).sqrt() / math.cos(self._start)

    @property
    def times(self) -> tuple[float, float]:
        """0.001 to 0.999."""
        return 1e-3, 0.999

    def time(self, sigma: Tensor) -> Tensor:
        """From the angle whose tangent is sqrt(sin^2 B + sigma^2) / cos B, B the angle at t = 0."""
        angle = ((math.sin(self._start) ** 2 + sigma**2).sqrt() / math.cos(self._start)).atan()
        return self._clamped((angle - self._start) * (1 + self.s) * 2 / math.pi)


@dataclass(frozen=True)
class Flow(Schedule):
    """Flow matching along straight lines (rectified flow): x_t = t x0 + (1 - t) n, so t = 1 / (1 + sigma), noise first.

    Networks that count the other way (s = 1 - t, velocity n - x0, time 1000 s, as Stable Diffusion 3 does) come in as
    `lambda x, t: -net(x, 1000 * (1 - t))`.

    Args:
        t_min: the first time, so that sigma stays finite: 999 at 0.001. The last one is 0.999.
        shift: of the levels that the vp grids pick from, s -> shift s / (1 + (shift - 1) s) with s = 1 - t evenly spaced: more steps at
            high noise, for large images. It multiplies sigma. The map from t to (scale, std) is not changed by it.

    Raises:
        InputError: not 0 < t_min < 0.999, or shift is not positive and finite.

    References:
        Flow Straight and Fast (Liu et al., 2023), arXiv:2209.03003; Flow Matching for Generative Modeling (Lipman et al., 2023),
        arXiv:2210.02747. shift: Scaling Rectified Flow Transformers (Esser et al., 2024), arXiv:2403.03206, eq. 23.
    """

    t_min: float = 1e-3
    shift: float = 1.0

    def __post_init__(self) -> None:
        _need(0 < self.t_min < 0.999 and 0 < self.shift < math.inf, self, "0 < t_min < 0.999 and 0 < shift < inf")

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(t, 1 - t)."""
        t = t.clamp(self.t_min, 1.0)
        return t, 1 - t

    @property
    def times(self) -> tuple[float, float]:
        """t_min to 0.999."""
        return self.t_min, 0.999

    def time(self, sigma: Tensor) -> Tensor:
        """1 / (1 + sigma)."""
        return self._clamped(1 / (1 + sigma))

    def levels(self, count: int = 1000) -> list[float]:
        """Rising noise levels at `count` times that are evenly spaced but for the shift, over all of `times`."""
        first, last = (1 / (1 + (1 - t) / t / self.shift) for t in self._ends())
        t = torch.linspace(first, last, count, dtype=torch.float64)
        return (self.shift * (1 - t) / t).tolist()


LAWS = ("linear", "scaled-linear", "cosine")


@dataclass(frozen=True)
class DiscreteVP(VariancePreserving):
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
    discrete: ClassVar[bool] = True

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

    @property
    def times(self) -> tuple[float, float]:
        """0 to T - 1."""
        return 0.0, self.steps - 1.0

    def time(self, sigma: Tensor) -> Tensor:
        """The (fractional) index of a noise level std / scale, by interpolation in log sigma; clamped to the ends."""
        table = np.log(np.array(self.sigmas))
        values = np.interp(sigma.detach().double().log().cpu().numpy(), table, np.arange(self.steps))
        return torch.as_tensor(values, dtype=sigma.dtype, device=sigma.device)

    index = time  # the older name

    def levels(self, count: int = 1000) -> list[float]:
        """Its T levels, whatever `count`."""
        return list(self.sigmas)


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


def sigma_grid(
    name: str, steps: int, *, low: float, high: float, schedule: Schedule | None = None, unit: Unit | None = None
) -> list[float]:
    """A decreasing list of sigmas in [0, 1] data units that ends at 0.

    Args:
        name: one of `GRIDS`. `karras` runs from high to low; the vp grids pick from the levels of a schedule, that of a linear-beta
            network unless another is given, and bring their own ends (78.7 at the top in [-1, 1]) whatever low and high are.
        steps: number of network calls of a solver that makes one a step (fewer where entries coincide).
        low, high: the ends of `karras`.
        schedule: another schedule for the vp grids.
        unit: the interval that its network lives in; (-1, 1) unless given.

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
    levels, unit = (schedule or DiscreteVP()).levels(), unit or Unit()
    return [*(unit.unsigma(levels[index]) for index in vp_indices(name, steps, len(levels))), 0.0]
