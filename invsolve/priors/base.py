"""What a prior is: a Regulariser (a function to be small), a Denoiser (a posterior mean), or a DiffusionPrior (a denoiser
with a noise schedule of its own)."""

from __future__ import annotations

import math
from abc import abstractmethod
from bisect import bisect
from collections.abc import Callable, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from invsolve.errors import CapabilityError, InputError
from invsolve.priors.meter import current
from invsolve.priors.prior import Prior as Prior
from invsolve.priors.prior import no_prior as no_prior
from invsolve.priors.prior import same as same
from invsolve.ranges import Range, Ranges
from invsolve.schedule import Schedule, sigma_grid, vp_indices
from invsolve.unit import Unit, interval  # noqa: F401 (plug-ins take interval from here)

if TYPE_CHECKING:
    from invsolve.problem import Problem


class Regulariser(Prior):
    """R: (B, C, H, W) -> (B,), to be minimised with a data term: nll(y, Hx) + weight R(x).

    A subclass writes `value`, and `prox` where it has one; `weight` is an attribute.

    Attributes:
        ranges: where good values of its parameters are looked for, by name; see `invsolve.ranges`.
    """

    ranges: ClassVar[Ranges] = MappingProxyType({"weight": Range(0.02, 2.0, log=True, unit="1/sigma_x")})
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

    def smooth_value(self, x: Tensor, width: float) -> Tensor:
        """R with its corners rounded over a width, in the units of x, (B,), for solvers that need second differences of it; R itself here.

        Below R, and by as little as the width is small.
        """
        del width
        return self.value(x)

    @property
    def has_prox(self) -> bool:
        """Whether `prox` is there."""
        return type(self).prox is not Regulariser.prox

    def forward(self, x: Tensor) -> Tensor:
        """weight * R(x), (B,)."""
        return self.weight * self.value(x)


class ImageRegulariser(Regulariser):
    """Base of those that look at neighbours: for images (C, H, W) alone, where an item of another shape would be mixed with the next.

    Attributes:
        volumes: whether it takes (C, D, H, W), too.
    """

    volumes: ClassVar[bool] = False

    def gaps(self, problem: Problem) -> list[str]:
        """Another shape than (C, H, W), or (C, D, H, W) where volumes are taken."""
        shape, name = problem.operator.in_shape, type(self).__name__
        if len(shape) == 3 or (self.volumes and len(shape) == 4):
            return []
        taken = "images (C, H, W)" + (" and volumes (C, D, H, W)" if self.volumes else "")
        return [f"prior {name} is for {taken}, the operator's have shape {tuple(shape)}"]


# What a denoiser says of itself, and a wrapper says of the one inside.
TAKEN = (
    "sigma_range",
    "clip",
    "s0",
    "slope",
    "centre",
    "unit",
    "placeless",
    "batch",
    "channels",
    "in_shape",
    "differentiable",
    "blind",
    "sees_y",
    "few_step",
)


class Denoiser(Prior):
    """D(x, sigma) = E[x0 | x0 + sigma n = x] on images (B, C, H, W) in [0, 1]; sigma a float or (B,), in data units.

    Attributes:
        sigma_range: the noise levels it is good for.
        clip: the interval its estimates are clipped to by samplers, None for no clipping (closed forms).
        s0: standard deviation of the data, for methods that use Var[x0 | x] ~ s0^2 sigma^2 / (s0^2 + sigma^2).
        slope: how what is left of the data falls with frequency, e ~ (f + f_0)^-slope: 2.5 for photographs (2 to 3 are within .1 dB; their
            own spectrum falls by 3 to 4, but edges are known sooner), 0 for white noise and what has no neighbours; see
            `invsolve.solvers.diffusion.covariance`.
        centre: mean of the data, about which samplers start.
        unit: the interval that [0, 1] images fill in the variables of its network's schedule, or of the field's convention.
        placeless: whether turning and mirroring the image turns and mirrors the estimate, at least in law: no place of its own.
        channels: the number of image channels it takes, None for any.
        made_with: the numbers that its constructor's argument `channels` may have: what a refusal may recommend.
        in_shape: the one image shape (C, H, W) it takes, None for any.
        differentiable: whether autograd goes through.
        blind: whether sigma is ignored.
        sees_y: whether given(problem) looks at the measurement, so that what samplers of the prior alone draw answers it.
        few_step: whether it is a few-step map f(x, sigma), a draw at the end of the ODE's path through x, in place of the mean.
        evaluations: network evaluations that one call is, where it calls no other denoiser: what `Solution.nfe` counts. 2 for one that
            calls a network of its own twice; one whose networks are `NetworkDenoiser`s has them counted there.
    """

    sigma_range: tuple[float, float] = (0.002, 80.0)
    clip: tuple[float, float] | None = None
    s0: float = 0.25
    slope: float = 2.5
    centre: float = 0.5
    unit: Unit = Unit(-1.0, 1.0)
    placeless: bool = False
    channels: int | None = None
    made_with: tuple[int, ...] = ()
    in_shape: tuple[int, ...] | None = None
    differentiable: bool = True
    blind: bool = False
    sees_y: bool = False
    few_step: bool = False
    evaluations: int = 1

    @abstractmethod
    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x0_hat, of x's shape and dtype."""

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x0_hat; counted, where a run counts its network evaluations."""
        meter = current()
        return super().__call__(x, sigma) if meter is None else meter.call(super().__call__, x, sigma, self.evaluations)

    def given(self, problem: Problem) -> Denoiser:
        """The denoiser of this problem: for priors that look at a condition, y or `problem.context`; itself unless overridden.

        `Solver.solve` calls it once a run. What it returns may hold rows per item.
        """
        del problem
        return self

    def unconditional(self) -> Denoiser:
        """The same prior without its condition (the null label, the empty or the negative prompt): what `Guided` leads away from.

        Raises:
            CapabilityError: it was not made to go without one.
        """
        name = type(self).__name__
        raise CapabilityError(
            f"{name} has no unconditional(): the same prior without its condition, which guidance and differences of conditions ask for. "
            "A prior that was trained with its condition left out now and then has one (a null label, an empty prompt); one without any "
            "condition cannot be guided so"
        )

    def take_after(self, inner: Denoiser) -> None:
        """Say of oneself what another denoiser says: for wrappers, which then correct what they change."""
        for name in TAKEN:
            if getattr(inner, name) != getattr(self, name):  # what nobody has said stays unsaid
                setattr(self, name, getattr(inner, name))

    def sigmas(self, steps: int, grid: str = "karras", sigma_max: float | None = None) -> list[float]:
        """The decreasing grid a sampler runs on, ending at 0; `karras` spans sigma_range (up to sigma_max if given)."""
        low, high = self.sigma_range
        return sigma_grid(grid, steps, low=low, high=high if sigma_max is None else sigma_max, unit=self.unit)


class Wrapping(Denoiser):
    """A denoiser around another one, `denoiser`, that lives where that lives and is asked for the same problems."""

    denoiser: Denoiser

    def space(self, problem: Problem) -> tuple[Problem, Callable[[Tensor], Tensor]]:
        """The denoiser's own."""
        return self.denoiser.space(problem)

    def gaps(self, problem: Problem) -> list[str]:
        """The denoiser's own."""
        return self.denoiser.gaps(problem)

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """The denoiser's own."""
        return self.denoiser.image_shape

    def example_problem(self, x: Tensor) -> Problem | None:
        """The denoiser's own."""
        return self.denoiser.example_problem(x)

    def example_context(self, batch: int) -> dict[str, Tensor]:
        """The denoiser's own."""
        return self.denoiser.example_context(batch)


class DiffusionPrior(Wrapping):
    """A denoiser in VE form together with the schedule it was trained on, which gives the grid.

        x_t = scale x0 + std n   ->   denoiser(x_t / scale, std / scale)

    Its levels are those of the schedule that lie in the denoiser's sigma_range; of a continuous schedule all between its ends.

    Args:
        denoiser: D(x, sigma) in data units.
        schedule: the network's schedule.
        unit: the interval that [0, 1] images fill in the schedule's variables, as the denoiser says unless given. A number u is one unit
            of the schedule's sigma in data units: 0.5 stands for (-1, 1), any other for (0, 1 / u).

    Raises:
        InputError: fewer than two of the schedule's levels lie in the denoiser's sigma_range; a number that is not positive.
    """

    def __init__(self, denoiser: Denoiser, schedule: Schedule, unit: Unit | float | None = None) -> None:
        super().__init__()
        self.denoiser, self.schedule = denoiser, schedule
        self.take_after(denoiser)
        self.unit = denoiser.unit if unit is None else as_unit(unit)
        table = self._table()
        if len(table) < 2:
            raise InputError(f"sigma_range {denoiser.sigma_range} in data units leaves {len(table)} levels of {schedule}; 2 are needed")
        low, high = denoiser.sigma_range
        levels = [self.unit.unsigma(sigma) for sigma in schedule.levels()]
        self.sigma_range = (table[0], table[-1]) if schedule.discrete else (max(low, levels[0]), min(high, levels[-1]))

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The denoiser's own estimate."""
        return self.denoiser(x, sigma)

    def given(self, problem: Problem) -> Denoiser:
        """The same schedule on the denoiser of this problem."""
        return self._with(self.denoiser.given(problem))

    def unconditional(self) -> Denoiser:
        """The same schedule on the denoiser without its condition."""
        return self._with(self.denoiser.unconditional())

    def select(self, items: Sequence[int]) -> Prior:
        """The same schedule on the denoiser of some items."""
        return self._with(self.denoiser.select(items))

    def _with(self, denoiser: Prior) -> Denoiser:
        inner = a_denoiser(denoiser, self.denoiser)
        return self if inner is self.denoiser else DiffusionPrior(inner, self.schedule, self.unit)

    def at(self, x_t: Tensor, t: Tensor) -> Tensor:
        """x0_hat for the network's own state x_t = scale x0 + std n (x0 in data units) at times t (B,)."""
        scale, std = self.schedule(t)
        column = scale.reshape(-1, *[1] * (x_t.ndim - 1))
        return self.denoiser(x_t / column, self.unit.unsigma(std / scale))

    def _table(self) -> list[float]:
        low, high = self.denoiser.sigma_range
        # the ends were multiplied and divided by the width on their way here, which may round them inwards
        least, most, width = low * (1 - 1e-9), high * (1 + 1e-9), self.unit.width
        return [level for sigma in self.schedule.levels() if least <= (level := sigma / width) <= most]

    def sigmas(self, steps: int, grid: str = "karras", sigma_max: float | None = None) -> list[float]:
        """Levels of the schedule: the vp rules pick indices of its table; `karras` is snapped to the table of a discrete schedule.

        Raises:
            UnknownNameError: no such grid.
            InputError: steps < 1, or a sigma_max below every level.
        """
        table = [sigma for sigma in self._table() if sigma_max is None or sigma <= sigma_max]
        low, high = self.sigma_range
        sigma_grid(grid, steps, low=low, high=high)  # refuses an unknown name or steps < 1
        if not table:
            raise InputError(f"sigma_max must be at least the lowest level of the schedule, {low:.4g}; given {sigma_max}")
        if grid != "karras":
            picked = {table[index] for index in vp_indices(grid, steps, len(table))}
        elif self.schedule.discrete:
            middles = [(below + above) / 2 for below, above in pairwise(table)]
            picked = {table[bisect(middles, aim)] for aim in sigma_grid(grid, steps, low=table[0], high=table[-1])[:-1]}
        else:
            return sigma_grid(grid, steps, low=low, high=high if sigma_max is None else min(high, sigma_max))
        return [*sorted(picked, reverse=True), 0.0]


def a_denoiser(value: object, by: Prior) -> Denoiser:
    """What another prior's `given`, `select` or `unconditional` returned, if it is a Denoiser.

    Raises:
        InputError: it is none.
    """
    if not isinstance(value, Denoiser):
        given = type(value).__name__
        raise InputError(
            f"{type(by).__name__}: given(problem), select(items) and unconditional() must return a Denoiser; it returned {given}"
        )
    return value


def as_unit(unit: Unit | float) -> Unit:
    """A Unit, or what a number of the older convention stands for: one unit of the network's sigma in data units.

    Raises:
        InputError: a number that is not positive and finite.
    """
    if isinstance(unit, Unit):
        return unit
    if not (isinstance(unit, int | float) and 0 < unit < math.inf):
        raise InputError(f"unit must be a Unit, or a positive number (1 / width); given {unit!r}")
    return Unit() if unit == 0.5 else Unit(0.0, 1 / unit)
