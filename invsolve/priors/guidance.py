"""Guidance as priors: a conditional prior led further towards its condition than it goes by itself, for every solver that takes a prior.

Data units, VE form; D_c = prior.given(problem), D_u = prior.unconditional():

classifier-free:  D = D_u + scale (D_c - D_u)                     see `Guided`
classifier:       D = D_u + scale sigma^2 grad_x log p(c | x)     see `invsolve.priors.classifier_guidance`

At scale 1 both are the conditional denoiser. At any other scale the levels are no longer those of one law: what is drawn is not
p(x) p(c | x)^scale, nor any other law with a name. `benchmarks/results/conditional/guidance.md` measures by how much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator.measurement import column
from invsolve.priors.base import Denoiser, Prior, Wrapping, a_denoiser
from invsolve.priors.classes import SOURCE
from invsolve.unit import interval as ends

if TYPE_CHECKING:
    from invsolve.problem import Problem


class Leading(Wrapping):
    """A prior that leads another one: says of itself what the one inside says, and lives where that lives.

    A prior of codes stays one for the samplers that go by `space`; a solver that asks for a `LatentPrior` wants the guidance inside it:
    LatentPrior(Guided(D, 3.0), decoder).
    """

    def __init__(self, prior: Denoiser) -> None:
        super().__init__()
        if not isinstance(prior, Denoiser):
            raise InputError(f"{type(self).__name__} leads a Denoiser; given {type(prior).__name__} (as_denoiser wraps a network)")
        self.denoiser = prior
        self.take_after(prior)

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The estimate of the prior inside, not led: there is nothing to be led to before `given(problem)`."""
        return self.denoiser(x, sigma)

    def sigmas(self, steps: int, grid: str = "karras", sigma_max: float | None = None) -> list[float]:
        """The grid of the prior inside."""
        return self.denoiser.sigmas(steps, grid, sigma_max)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "denoiser" or name.startswith("__"):
                raise
            return getattr(self.denoiser, name)  # a decoder, a schedule, a method of its own


class Guided(Leading):
    """Classifier-free guidance: a prior that was trained with and without its condition, led by the difference.

        D(x, sigma) = D_u(x, sigma) + scale (D_c(x, sigma) - D_u(x, sigma))

    Two network evaluations a call; one at scale 1 (D_c), at scale 0 without rescaling (D_u), and at levels outside `interval` (D_c).
    The estimate is not clipped here: samplers clip what is led.

    Args:
        prior: conditional by `given(problem)`; at every scale but 1 it needs `unconditional()`.
        scale: 1 does not lead at all, 0 forgets the condition, 2 to 7 is what users choose. In the form (1 + w) D_c - w D_u: 1 + w.
        rescale: share, 0 to 1, of the estimate whose spread within each image is set back to that of D_c; .7 is its authors'.
        interval: (low, high), the levels low < sigma <= high, in data units, at which it leads; None for all.

    Raises:
        InputError: no denoiser, a scale that is negative or not finite, rescale outside [0, 1], not 0 <= low < high.
        CapabilityError: a prior without `unconditional()` at another scale than 1.

    References:
        Classifier-Free Diffusion Guidance (Ho, Salimans, 2022), arXiv:2207.12598, eq. 6, whose w is scale - 1.
        Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al., 2023), arXiv:2305.08891, section 3.4. Theirs multiplies
            what the network gives; ours x0_hat about the prior's centre, which is the same thing for networks that predict x0, works
            alike for every network and does not depend on units.
        Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in Diffusion Models (Kynkäänniemi et al., 2024),
            arXiv:2404.07724, section 3.
    """

    def __init__(self, prior: Denoiser, scale: float = 2.0, rescale: float = 0.0, interval: tuple[float, float] | None = None) -> None:
        super().__init__(prior)
        self.scale = a_scale(scale)
        if not (isinstance(rescale, int | float) and 0 <= rescale <= 1):
            raise InputError(f"rescale must be between 0 (none) and 1; given {rescale!r:.100}")
        self.rescale, self.interval = float(rescale), an_interval(interval)
        if self.scale != 1:
            prior.unconditional()  # says at once that there is none

    def given(self, problem: Problem) -> Denoiser:
        """The prior of this problem, led."""
        if self.scale == 1:
            return self.conditional(problem)
        without = self.opposite(problem)
        if self.scale == 0 and self.rescale == 0 and self.interval is None:
            return without
        return Between(self.conditional(problem), without, self.scale, self.rescale, self.interval)

    def conditional(self, problem: Problem) -> Denoiser:
        """The prior of this problem, not led."""
        return a_denoiser(self.denoiser.given(problem), self.denoiser)

    def opposite(self, problem: Problem) -> Denoiser:
        """What it leads away from: the prior without its condition, or under `problem.context["source"]`."""
        if SOURCE in problem.context:
            return a_denoiser(self.conditional(problem).unconditional(), self.denoiser)
        return a_denoiser(a_denoiser(self.denoiser.unconditional(), self.denoiser).given(problem), self.denoiser)

    def unconditional(self) -> Denoiser:
        """The prior inside without its condition."""
        return a_denoiser(self.denoiser.unconditional(), self.denoiser)

    def select(self, items: Sequence[int]) -> Prior:
        """The same guidance of some items' prior."""
        inner = a_denoiser(self.denoiser.select(items), self.denoiser)
        return self if inner is self.denoiser else Guided(inner, self.scale, self.rescale, self.interval)

    @classmethod
    def examples(cls) -> list[Prior]:
        """A mixture in closed form, led by its label: at all levels, rescaled, and at some of them."""
        from invsolve.priors.classes import LabelledMixturePrior

        prior = LabelledMixturePrior.examples()[0]
        assert isinstance(prior, Denoiser)
        return [cls(prior, 2.0, rescale=0.5), cls(prior, 2.0, interval=(0.02, 5.0))]


class Between(Denoiser):
    """D_u + scale (D_c - D_u) of two denoisers, both already those of one problem; arguments as `Guided`."""

    def __init__(
        self, conditional: Denoiser, without: Denoiser, scale: float, rescale: float = 0.0, interval: tuple[float, float] | None = None
    ) -> None:
        super().__init__()
        self.conditional, self.without = conditional, without
        self.scale, self.rescale, self.interval = scale, rescale, interval
        self.take_after(conditional)
        self.batch = without.batch if conditional.batch is None else conditional.batch
        self.differentiable = conditional.differentiable and without.differentiable

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """x0_hat; at levels outside the interval that of the conditional denoiser alone, without asking the other."""
        towards = self.conditional(x, sigma)
        led = self._led(sigma, x)
        if led is not None and not bool(led.any()):  # of a tensor the host waits for the answer: that costs less than a network
            return towards
        away = self.without(x, sigma)
        out = away + self.scale * (towards - away)
        if self.rescale:
            out = out + self.rescale * (with_spread(out, towards, self.centre) - out)
        return out if led is None else torch.where(led.to(x.device).reshape(-1, *[1] * (x.ndim - 1)), out, towards)

    def _led(self, sigma: float | Tensor, x: Tensor) -> Tensor | None:
        """Which items are led, (B,), where sigma is; None for all."""
        if self.interval is None:
            return None
        low, high = self.interval
        level = sigma.reshape(-1).expand(len(x)) if isinstance(sigma, Tensor) else torch.full((len(x),), float(sigma))
        return (level > low) & (level <= high)

    def select(self, items: Sequence[int]) -> Prior:
        """The same of some items."""
        conditional = a_denoiser(self.conditional.select(items), self.conditional)
        without = a_denoiser(self.without.select(items), self.without)
        return Between(conditional, without, self.scale, self.rescale, self.interval)

    def unconditional(self) -> Denoiser:
        """The one that it leads away from."""
        return self.without

    def sigmas(self, steps: int, grid: str = "karras", sigma_max: float | None = None) -> list[float]:
        """The grid of the conditional denoiser."""
        return self.conditional.sigmas(steps, grid, sigma_max)


def with_spread(x: Tensor, other: Tensor, centre: float) -> Tensor:
    """x, its distance from the centre multiplied so that the standard deviation within each item is that of the other's item."""
    own, wanted = (column(one.flatten(1).std(1), x) for one in (x, other))
    factor = torch.where(own > 0, wanted / own.clamp_min(torch.finfo(x.dtype).tiny), 1.0)
    return centre + factor * (x - centre)


def a_scale(scale: object) -> float:
    """The scale as a float.

    Raises:
        InputError: it is negative, not finite or no number.
    """
    if not (isinstance(scale, int | float) and not isinstance(scale, bool) and 0 <= scale < math.inf):
        raise InputError(f"scale must be a number, 0 or more and finite (1: the conditional prior itself); given {scale!r:.100}")
    return float(scale)


def an_interval(value: Any) -> tuple[float, float] | None:
    """Levels (low, high) as floats, or None.

    Raises:
        InputError: not 0 <= low < high.
    """
    if value is None:
        return None
    low, high = ends("interval (of levels, in data units)", value)
    if low < 0:
        raise InputError(f"interval must be two levels in data units, 0 <= low < high, or None; given {value!r:.100}")
    return low, high
