"""Noise models: how y scatters about H(x), and what a solver may use of it. Abilities are found, as an operator's capabilities are."""

from __future__ import annotations

import math
from abc import abstractmethod
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from invsolve.errors import CapabilityError, InputError, ask
from invsolve.operator.measurement import Measurement, column, flat, mapped, minus, parts
from invsolve.plugins.arguments import Remembering
from invsolve.rng import Rng


class Ability(StrEnum):
    """What a solver may ask of a noise model."""

    NLL = "nll"
    SIGMA = "sigma"
    VARIANCE = "variance"


class NoiseModel(nn.Module, metaclass=Remembering):
    """p(y | clean).

    A subclass writes `sample` and what else it knows; each is an ability, which a solver may require:

        nll:       the method `nll`, differentiable in clean
        sigma:     an attribute, buffer or property `sigma`, a number or a tensor (), (B,): the noise is Gaussian of that width, or may be
                   treated so
        variance:  the method `variance`, Var[y | clean] entry by entry; follows from sigma

    What has neither sigma nor variance still has a level, about one standard deviation, wherever a solver needs one: it is estimated from
    draws of `sample`, see `drawn_level`.

    Attributes:
        quantum: the smallest difference that y can show (one count), 0 for continuous noise: entries are known no better than to it.

    `scaled` is no ability but a change of unit, which the conformance checks use.
    """

    arguments: dict[str, Any]
    sigma: Any
    quantum: float = 0.0

    @abstractmethod
    def sample(self, clean: Measurement, rng: Rng) -> Measurement:
        """A draw of y given the clean measurement (B, ...)."""

    def nll(self, y: Measurement, clean: Measurement) -> Tensor:
        """-log p(y | clean) up to a constant, (B,), differentiable in `clean`.

        Raises:
            CapabilityError: the model has none.
        """
        raise CapabilityError(f"{type(self).__name__} has no nll; it provides: {self.listed}")

    def variance(self, clean: Measurement) -> Measurement:
        """Var[y | clean], of clean's shape, in squared units of y; sigma^2 where there is a sigma.

        Raises:
            CapabilityError: the model has none.
        """
        if not hasattr(self, "sigma"):
            raise CapabilityError(f"{type(self).__name__} has no variance; it provides: {self.listed}")
        return mapped(lambda part: (column(self.sigma, part) ** 2).expand_as(part.real), clean)

    def scaled(self, factor: float) -> NoiseModel:
        """The model of factor * y where this one is y's, factor > 0: the same data in another unit.

        A class whose constructor takes a `sigma` is made again with factor * sigma; others write it.

        Raises:
            CapabilityError: the model does not say.
        """
        if "sigma" not in self.arguments:
            raise CapabilityError(f"{type(self).__name__} does not say what it is in another unit; write scaled(factor)")
        return type(self)(**{**self.arguments, "sigma": factor * self.sigma})

    @property
    def abilities(self) -> frozenset[Ability]:
        """What the model offers: methods that its class overrides, a sigma, and what follows."""
        found = {Ability(name) for name in ("nll", "variance") if getattr(type(self), name) is not getattr(NoiseModel, name)}
        return frozenset(found | {Ability.SIGMA, Ability.VARIANCE} if hasattr(self, "sigma") else found)

    @property
    def listed(self) -> str:
        """The abilities by name, sorted."""
        return ", ".join(sorted(ability.value for ability in self.abilities)) or "nothing"

    @classmethod
    def examples(cls) -> list[NoiseModel]:
        """Instances that the conformance checks run on, noise of about a tenth of the [0, 1] range."""
        return [cls()]

    def spread(self) -> float:
        """About one standard deviation of the noise on [0, 1] data, the largest item's: as the model says of a mid-grey, or draws there."""
        grey = torch.full((self.batch or 1, 1, 32, 32), 0.5, dtype=torch.float64)
        level = level_at(self, grey)
        return float(level.max()) if level.numel() else 0.0

    def check(self, y: Measurement) -> None:
        """Raise InputError where y cannot have come from this model."""
        del y

    @property
    def batch(self) -> int | None:
        """Number of items when parameters differ per item, else None."""
        return None

    def select(self, items: range) -> NoiseModel:
        """The model of some items."""
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value}' for key, value in self.arguments.items())})"


def sigma_of(noise: NoiseModel, like: Tensor) -> Tensor:
    """The model's sigma, a number or a tensor of its own, as a tensor () or (B,) in like's real dtype and device."""
    return torch.as_tensor(noise.sigma, dtype=like.real.dtype, device=like.device)


def level_at(noise: NoiseModel, clean: Measurement) -> Tensor:
    """About one standard deviation of y given a clean measurement, (B,): sigma, the root of the mean variance, or that of draws."""
    rows = flat(clean)
    if Ability.SIGMA in noise.abilities:
        return sigma_of(noise, rows).expand(len(rows))
    if Ability.VARIANCE in noise.abilities:
        return flat(noise.variance(clean)).real.to(rows.real.dtype).mean(1).sqrt()
    return drawn_level(noise, clean)


ENOUGH = 64  # numbers: of so many, white noise has less than half its level with a probability below 1e-10


def question_level(noise: NoiseModel, y: Measurement, span: tuple[float, float] | None) -> None:
    """Ask about a sigma in other units than y's: above the whole range of a [0, 1] image's measurement, or twice all that y holds.

    Args:
        noise: the model.
        y: what was measured, (B, ...).
        span: the range of H of a [0, 1] image, None where H has none.
    """
    rows = flat(y)
    if Ability.SIGMA not in noise.abilities or not rows.numel():
        return
    sigma = sigma_of(noise, rows).detach().expand(len(rows))
    most, how = float(sigma.max()), f"; of a level for 0..255 pictures take a 255th, {float(sigma.max()) / 255:.3g}"
    if span is not None and most > span[1] - span[0]:
        ask(f"noise sigma = {most:.4g} is above the whole range [{span[0]:g}, {span[1]:g}] of what is measured of a [0, 1] image{how}")
        return
    squares = rows.detach().abs().square()
    counts = (squares > 0).sum(1)  # what a mask does not measure is 0
    size = (squares.sum(1) / counts.clamp_min(1)).sqrt()
    if bool(((sigma > 2 * size) & (counts >= ENOUGH)).any()):
        given = f"noise sigma = {most:.4g} cannot be that of y, whose root mean square is {float(size.min()):.3g}"
        ask(f"{given}: they are in different units{how}")


DRAWN, MOST_PAIRS = 4096, 256  # differences of draws: 1.1 % of a Gaussian's sigma; of a measurement of few numbers at most so many draws


@torch.no_grad()
def drawn_level(noise: NoiseModel, clean: Measurement, seen: Measurement | None = None, seed: int = 0) -> Tensor:
    """The root of the mean Var[y | clean] per item, (B,), from draws: half the mean square of the difference of two.

    The mean of y, whatever it is, is in no difference. The draws come from streams of their own, the same for every item, so that an item's
    level does not depend on its batch. Of complex data it is the level of each part. With n differences it is sqrt((k - 1) / n) / 2 off
    (relative, one standard error), k the kurtosis of a difference: 1.1 % for a Gaussian at the 4096 that are drawn, 1.5 % for Laplace's.

    Args:
        noise: the model.
        clean: (B, ...), where it is asked.
        seen: 1 where y counts and 0 where it does not, like clean; None for everywhere.
        seed: of the draws.

    Raises:
        InputError: `sample` fails there, or what it draws has no finite level.
    """
    pieces = parts(clean)
    weights = [torch.ones_like(part.real) for part in pieces] if seen is None else [part.real for part in parts(seen)]
    count = torch.stack([weight.flatten(1).sum(1) for weight in weights]).sum(0)
    pairs = min(MOST_PAIRS, math.ceil(DRAWN / max(1.0, float(count.min()) if count.numel() else 1.0)))
    rng, total = Rng(seed, [0] * len(count), purpose="noise level"), torch.zeros_like(count)
    for _ in range(pairs):
        try:
            gap = minus(noise.sample(clean, rng), noise.sample(clean, rng))
        except (InputError, TypeError, ValueError, RuntimeError) as error:
            what = f"{noise!r} says neither sigma nor variance, and nothing can be drawn at a mid-grey image"
            raise InputError(f"{what}: {error}; write its variance(clean)") from error
        for part, weight in zip(parts(gap), weights, strict=True):
            squares = part.abs().square() / (4 if part.is_complex() else 2)  # a complex number is two
            total += (weight * squares).flatten(1).sum(1)
    level = (total / (pairs * count.clamp_min(1))).sqrt()
    if not bool(torch.isfinite(level).all()):
        raise InputError(f"what {noise!r} draws has no finite level; write its variance(clean)")
    return level


class GaussianNoise(NoiseModel):
    """y = clean + sigma n, n ~ N(0, I); nll = |y - clean|^2 / (2 sigma^2). A complex number is a pair: sigma in each part.

    Args:
        sigma: standard deviation in data units ([0, 1] images), a float or (B,) for one level per item.

    Raises:
        InputError: sigma is negative, NaN or infinite, or not a scalar or (B,).
    """

    sigma: Tensor

    def __init__(self, sigma: float | Tensor) -> None:
        super().__init__()
        # As written for a float: the level is a plain number that is cast at use, in whatever precision y has.
        try:
            value = torch.as_tensor(sigma, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError):
            raise InputError(f"sigma must be a number or a (B,) tensor; given {sigma!r}") from None
        if value.ndim > 1 or not bool(torch.isfinite(value).all()) or bool((value < 0).any()):
            raise InputError(f"sigma must be finite and not negative, a number or (B,); given {sigma}")
        self.register_buffer("sigma", value)

    @property
    def batch(self) -> int | None:
        """B for a (B,) sigma."""
        return len(self.sigma) if self.sigma.ndim else None

    def select(self, items: range) -> GaussianNoise:
        """The items' levels."""
        return self if self.batch is None else GaussianNoise(self.sigma[list(items)])

    def sample(self, clean: Measurement, rng: Rng) -> Measurement:
        """clean + sigma n; of complex data sigma is the standard deviation of each part, as the density says."""
        # Rng's complex numbers have variance 1 in all.
        return mapped(lambda part: part + column(self.sigma, part) * (2**0.5 if part.is_complex() else 1.0) * rng.normal_like(part), clean)

    def nll(self, y: Measurement, clean: Measurement) -> Tensor:
        """|y - clean|^2 / (2 sigma^2); sigma = 0 is refused by solvers that need it."""
        square = flat(minus(y, clean)).abs().square().sum(1)
        return square / (2 * self.sigma.to(square).square())

    def spread(self) -> float:
        """sigma (the largest)."""
        return float(self.sigma.max()) if self.sigma.numel() else 0.0

    @classmethod
    def examples(cls) -> list[NoiseModel]:
        """sigma = .1."""
        return [cls(0.1)]


class NoNoise(NoiseModel):
    """y = clean: the limit of GaussianNoise at sigma = 0; variational solvers refuse it, since nll is 0 or infinite."""

    sigma: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("sigma", torch.zeros((), dtype=torch.float64))

    @property
    def abilities(self) -> frozenset[Ability]:
        """sigma = 0 and variance 0; its nll is no function that could be minimised."""
        return frozenset({Ability.SIGMA, Ability.VARIANCE})

    def scaled(self, factor: float) -> NoNoise:
        """No noise in any unit."""
        del factor
        return self

    def sample(self, clean: Measurement, rng: Rng) -> Measurement:
        """clean, unchanged."""
        return clean

    def nll(self, y: Measurement, clean: Measurement) -> Tensor:
        """0 where y = clean exactly, else infinite."""
        equal = (flat(minus(y, clean)) == 0).all(1)
        return torch.where(equal, 0.0, torch.inf)


class PoissonNoise(NoiseModel):
    """y = gain * Poisson(clean / gain): counts in units of the image; nll = sum clean / gain - (y / gain) log clean.

    nll has a meaning below 0 too, since no solver need keep H(x) >= 0. With the counts k = y / gain and their mean m = clean / gain, below
    m_0 = 1/10 of a count m - k log m goes on as (m - k)^2 / (2 m_0), which has its value (up to a constant) and its slope there: the
    likelihood of a Gaussian of variance m_0. It is convex, its slope has the mean 0 at the true m as before, it pulls back what is
    negative, and where nothing was counted it has its minimum at 0.

    Args:
        gain: the value of one count in data units; the variance of y is gain * clean.

    Raises:
        InputError: gain is not a positive finite number; a value of H(x), or of a Problem's y, is negative.
    """

    floor = 0.1  # m_0, in counts

    def __init__(self, gain: float) -> None:
        super().__init__()
        try:
            self.gain = float(gain)
        except (TypeError, ValueError, RuntimeError):
            raise InputError(f"gain must be a number, one for all items; given {gain!r}") from None
        if not 0 < self.gain < float("inf"):
            raise InputError(f"gain must be positive and finite; given {gain}")
        self.quantum = self.gain

    def check(self, y: Measurement) -> None:
        """Counts are real and not negative; below 0 the likelihood has no maximum."""
        if any(part.is_complex() for part in parts(y)):
            raise InputError("Poisson noise is of counts, which are real; of complex y take GaussianNoise")
        least = min((float(part.detach().min()) for part in parts(y) if part.numel()), default=0.0)
        if least < 0:
            raise InputError(f"Poisson noise needs y >= 0; its smallest value is {least:.3g}: clip it, or take GaussianNoise")

    def sample(self, clean: Measurement, rng: Rng) -> Measurement:
        """gain * Poisson(clean / gain)."""
        if any(part.is_complex() for part in parts(clean)):
            raise InputError("Poisson noise is of counts, which are real; H(x) is complex: take GaussianNoise")
        tolerance = max(float(torch.finfo(part.dtype).eps) * 100 for part in parts(clean))
        low = min((float(part.min()) for part in parts(clean) if part.numel()), default=0.0)
        if low < -tolerance:
            raise InputError(f"Poisson noise needs H(x) >= 0; its smallest value is {low:.3g}")
        return mapped(lambda part: self.gain * rng.poisson(part.clamp_min(0) / self.gain), clean)

    def nll(self, y: Measurement, clean: Measurement) -> Tensor:
        """sum m - k log m of the counts k = y / gain and their mean m = clean / gain, continued below 1/10 of a count."""
        mean, counts = flat(clean) / self.gain, flat(y) / self.gain
        safe = mean.clamp_min(self.floor)
        below = mean - safe  # 0 where nothing is continued
        return (safe - counts * safe.log() + below * (1 + (below / 2 - counts) / self.floor)).sum(1)

    def variance(self, clean: Measurement) -> Measurement:
        """gain clean, clean floored at 0."""
        return mapped(lambda part: self.gain * part.clamp_min(0), clean)

    def scaled(self, factor: float) -> PoissonNoise:
        """The same counts, each worth factor * gain."""
        return PoissonNoise(factor * self.gain)

    @classmethod
    def examples(cls) -> list[NoiseModel]:
        """A hundred counts at clean = 1."""
        return [cls(0.01)]

    def spread(self) -> float:
        """sqrt(gain): the noise at clean = 1."""
        return self.gain**0.5
