"""What a prior is: a Regulariser (a function to be small), a Denoiser (a posterior mean), or a DiffusionPrior (a denoiser
with a noise schedule of its own)."""

from __future__ import annotations

import math
from abc import abstractmethod
from bisect import bisect
from itertools import pairwise
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from invsolve.arguments import Remembering
from invsolve.errors import CapabilityError, InputError
from invsolve.schedule import DiscreteVP, Schedule, sigma_grid, vp_indices


def interval(name: str, value: Any, above: float = -math.inf) -> tuple[float, float]:
    """(low, high) as two floats with above < low < high, both finite.

    Raises:
        InputError: anything else; `name` says what it is.
    """
    pair = value if isinstance(value, tuple | list) and len(value) == 2 else ()
    numbers = pair and all(isinstance(end, Real) and not isinstance(end, bool) for end in pair)
    try:
        low, high = (float(end) for end in pair) if numbers else (math.nan, math.nan)
    except OverflowError:  # an integer beyond the floats
        low = high = math.nan
    if not above < low < high < math.inf:
        least = "" if above == -math.inf else f"{above:g} < "
        raise InputError(f"{name} must be two finite numbers (low, high) with {least}low < high; given {value!r:.100}")
    return low, high


class Prior(nn.Module, metaclass=Remembering):
    """Base of the two kinds; `examples()` gives the instances that conformance checks run on."""

    arguments: dict[str, Any]

    @property
    def device(self) -> torch.device | None:
        """Where the parameters live; None without any."""
        tensor = next(iter([*self.buffers(), *self.parameters()]), None)
        return None if tensor is None else tensor.device

    @classmethod
    def examples(cls) -> list[Prior]:
        """Small instances for the conformance checks."""
        return [cls()]


class Regulariser(Prior):
    """R: (B, C, H, W) -> (B,), to be minimised with a data term: nll(y, Hx) + weight R(x).

    A subclass writes `value`, and `prox` where it has one; `weight` is an attribute.
    """

    weight: float = 1.0

    @abstractmethod
    def value(self, x: Tensor) -> Tensor:
        """R(x) per item, (B,), without the weight; differentiable (a subgradient will do)."""

    def prox(self, x: Tensor, tau: float | Tensor) -> Tensor:
        """argmin_u R(u) + |u - x|^2 / (2 tau), without the weight; tau a float or (B,).

        Raises:
            CapabilityError: the regulariser has no prox.
        """
        raise CapabilityError(f"{type(self).__name__} has no prox; use a solver that needs only its value, such as adam-tv")

    @property
    def has_prox(self) -> bool:
        """Whether `prox` is there."""
        return type(self).prox is not Regulariser.prox

    def forward(self, x: Tensor) -> Tensor:
        """weight * R(x), (B,)."""
        return self.weight * self.value(x)


class Denoiser(Prior):
    """D(x, sigma) = E[x0 | x0 + sigma n = x] on images (B, C, H, W) in [0, 1]; sigma a float or (B,), in data units.

    Attributes:
        sigma_range: the noise levels it is good for.
        clip: the interval its estimates are clipped to by samplers, None for no clipping (closed forms).
        s0: standard deviation of the data, for methods that use Var[x0 | x] ~ s0^2 sigma^2 / (s0^2 + sigma^2).
        channels: the number of image channels it takes, None for any.
        in_shape: the one image shape (C, H, W) it takes, None for any.
        differentiable: whether autograd goes through.
        blind: whether sigma is ignored.
    """

    sigma_range: tuple[float, float] = (0.002, 80.0)
    clip: tuple[float, float] | None = None
    s0: float = 0.5
    channels: int | None = None
    in_shape: tuple[int, ...] | None = None
    differentiable: bool = True
    blind: bool = False

    @abstractmethod
    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x0_hat, of x's shape and dtype."""

    def take_after(self, inner: Denoiser) -> None:
        """Say of oneself what another denoiser says: for wrappers, which then correct what they change."""
        for name in ("sigma_range", "clip", "s0", "channels", "in_shape", "differentiable", "blind"):
            setattr(self, name, getattr(inner, name))

    def sigmas(self, steps: int, grid: str = "karras", sigma_max: float | None = None) -> list[float]:
        """The decreasing grid a sampler runs on, ending at 0; `karras` spans sigma_range (up to sigma_max if given)."""
        low, high = self.sigma_range
        return sigma_grid(grid, steps, low=low, high=high if sigma_max is None else sigma_max)


class DiffusionPrior(Denoiser):
    """A denoiser in VE form together with the schedule it was trained on, which gives the grid.

        x_t = scale x0 + std n   ->   denoiser(x_t / scale, std / scale)

    Its levels are those of the schedule that lie in the denoiser's sigma_range.

    Args:
        denoiser: D(x, sigma) in data units.
        schedule: the network's schedule.
        unit: one network unit of sigma in data units: 0.5 for a network in [-1, 1], 1 for one in [0, 1].

    Raises:
        InputError: fewer than two of the schedule's levels lie in the denoiser's sigma_range.
    """

    def __init__(self, denoiser: Denoiser, schedule: Schedule, unit: float = 0.5) -> None:
        super().__init__()
        self.denoiser, self.schedule, self.unit = denoiser, schedule, unit
        self.take_after(denoiser)
        ends = self._table()
        if len(ends) < 2:
            raise InputError(f"sigma_range {denoiser.sigma_range} in data units leaves {len(ends)} levels of {schedule}; 2 are needed")
        self.sigma_range = (ends[0], ends[-1])

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The denoiser's own estimate."""
        return self.denoiser(x, sigma)

    def at(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x0_hat for the network's own state x_t = scale x0 + std n (x0 in data units) at times t (B,)."""
        scale, std = self.schedule(t)
        column = scale.reshape(-1, *[1] * (x_t.ndim - 1))
        return self.denoiser(x_t / column, std / scale * self.unit)

    def _table(self, count: int = 1000) -> list[float]:
        if isinstance(self.schedule, DiscreteVP):
            sigmas = [self.unit * sigma for sigma in self.schedule.sigmas]
        else:
            times = torch.linspace(1e-3, 1, count, dtype=torch.float64)
            sigmas = [self.unit * float(sigma) for sigma in self.schedule.sigma(times)]
        low, high = self.denoiser.sigma_range
        # the ends were multiplied and divided by the width on their way here, which may round them inwards
        return [sigma for sigma in sigmas if low * (1 - 1e-9) <= sigma <= high * (1 + 1e-9)]

    def sigmas(self, steps: int, grid: str = "karras", sigma_max: float | None = None) -> list[float]:
        """Levels of the schedule itself: the vp rules pick indices, `karras` is snapped to the nearest level."""
        table = [sigma for sigma in self._table() if sigma_max is None or sigma <= sigma_max]
        if grid == "karras":
            wanted = sigma_grid(grid, steps, low=table[0], high=table[-1])[:-1]
            middles = [(low + high) / 2 for low, high in pairwise(table)]
            picked = {table[bisect(middles, aim)] for aim in wanted}
        else:
            sigma_grid(grid, steps, low=1, high=2)  # refuses an unknown name or steps < 1
            picked = {table[index] for index in vp_indices(grid, steps, len(table))}
        return [*sorted(picked, reverse=True), 0.0]
