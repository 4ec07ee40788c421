"""Solvers that are sound, and the same with one fault planted in each: what the conformance checks of solvers have to find."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch

from invsolve.errors import InputError
from invsolve.noise import GaussianNoise
from invsolve.operator import Capability
from invsolve.operator.measurement import column, minus
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver

CLEAN = 0.1  # the noise level at which the denoiser gives the score


@dataclass(frozen=True)
class Sound(Solver):
    """Gradient ascent on log p(y | x) + log p(x) with a momentum and a little noise, the score being (D(x, s) - x) / s^2.

    h = step / (1 / s^2 + 1 / sigma_x^2): a share of the stability limit, in units of the image.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.ADJOINT}), noise=(GaussianNoise,))
    steps: int = 100
    step: float = 1.0

    def fresh(self, problem: Problem, rng: Rng) -> torch.Tensor:
        return rng.normal_like(problem.image)

    def begin(self, problem: Problem) -> torch.Tensor:
        return problem.operator.adjoint(problem.y) / column(problem.gain**2, problem.image)

    def level(self, problem: Problem) -> torch.Tensor:
        """sigma_x, (B,), with a floor that keeps 1 / sigma_x^2 finite."""
        return problem.sigma_x.clamp_min(1e-4)

    def data(self, problem: Problem, x: torch.Tensor) -> torch.Tensor:
        """The likelihood's gradient times sigma_x^2, in units of the image."""
        back = problem.operator.adjoint(minus(problem.y, problem.operator(x)))
        return back / column(problem.gain**2, x)

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        x = self.begin(problem) if start is None else start.x
        speed = start.state["speed"] if start is not None and start.index >= 0 else torch.zeros_like(x)
        level = self.level(problem)
        h = column(self.step / (1 / CLEAN**2 + 1 / level**2), x)
        for index in range(0 if start is None else start.index + 1, self.steps):
            drift = (prior(x, CLEAN) - x) / CLEAN**2 + self.data(problem, x) / column(level**2, x)
            speed = 0.3 * speed + h * drift + 1e-3 * self.fresh(problem, rng)
            x = x + speed
            yield self.made(index, x, speed)

    def made(self, index: int, x: torch.Tensor, speed: torch.Tensor) -> Step:
        return Step(index, self.steps, x, x, CLEAN, state={"speed": speed})


class CoupledItems(Sound):
    def made(self, index, x, speed):
        x -= 1e-6 * x.mean(0, keepdim=True)
        return super().made(index, x, speed)


class GlobalNoise(Sound):
    def fresh(self, problem, rng):
        return torch.randn_like(problem.image)


class OneStream(Sound):
    def fresh(self, problem, rng):
        first = Rng(rng.seed + 1, [0])
        return torch.randn(problem.image.shape, generator=first.streams[0], dtype=problem.y.dtype)


class ForgetfulState(Sound):
    def made(self, index, x, speed):
        return Step(index, self.steps, x, x, CLEAN, state={"speed": torch.zeros_like(x)})


class LongerThanSaid(Sound):
    def made(self, index, x, speed):
        return Step(index, self.steps + 1, x, x, CLEAN, state={"speed": speed})


class ChangesY(Sound):
    def begin(self, problem):
        problem.y.mul_(0.999)
        return super().begin(problem)


class AlwaysDouble(Sound):
    def made(self, index, x, speed):
        return super().made(index, x.double(), speed)


class OverwritesSteps(Sound):
    def iterate(self, problem, prior, rng, start=None):
        held = None
        for step in super().iterate(problem, prior, rng, start):
            if held is None:
                held = step.x.clone()
            held.copy_(step.x)
            yield Step(step.index, step.total, held, held, CLEAN, state=step.state)


class CarriesAGraph(Sound):
    def made(self, index, x, speed):
        return super().made(index, x.clone().requires_grad_(True), speed)


class SameForAllSeeds(Sound):
    def fresh(self, problem, rng):
        rng.normal_like(problem.image)
        return torch.zeros_like(problem.image)


class HiddenCalls(Sound):
    """Calls the network past whoever counts the evaluations."""

    def iterate(self, problem, prior, rng, start=None):
        prior.inner.forward(problem.image, 0.1)
        yield from super().iterate(problem, prior, rng, start)


class CountsItsOwn(Sound):
    """A denoiser of its own beside the prior: evaluations that the prior did not see."""

    def iterate(self, problem, prior, rng, start=None):
        Quiet()(problem.image, 0.1)
        yield from super().iterate(problem, prior, rng, start)


class Quiet(Denoiser):
    def forward(self, x, sigma):
        return x


class LeavesNoGrad(Sound):
    def iterate(self, problem, prior, rng, start=None):
        with torch.no_grad():
            yield from super().iterate(problem, prior, rng, start)


class NotCut(Sound):
    """Looks at the number of items: a part of a batch is another run."""

    def begin(self, problem):
        return super().begin(problem) + 1e-6 * problem.batch


class IgnoresY(Sound):
    def begin(self, problem):
        return problem.image + 0.5

    def data(self, problem, x):
        return torch.zeros_like(x)


class HardlyLooks(Sound):
    def begin(self, problem):
        return problem.image + 0.5

    def data(self, problem, x):
        return 1e-3 * super().data(problem, x)


class WrongSide(Sound):
    """Ascends where it should descend, a little."""

    def data(self, problem, x):
        return -0.1 * super().data(problem, x)


class StartsAtPinv(Sound):
    requires = Requires(operator=frozenset({Capability.ADJOINT, Capability.PINV}), noise=(GaussianNoise,))

    def begin(self, problem):
        return problem.operator.pinv(problem.y)


class FloorInUnitsOfY(Sound):
    def level(self, problem):
        return problem.sigma.expand(problem.batch).clamp_min(1e-3) / problem.gain


class StepInUnitsOfY(Sound):
    def data(self, problem, x):
        back = problem.operator.adjoint(minus(problem.y, problem.operator(x)))
        return back.clamp(-10, 10) / column(problem.gain**2, x)  # a guard, in squared units of y


class SaysConverged(Sound):
    """A stopping rule that holds at once: nothing has moved yet, in the unit that it looks at."""

    def made(self, index, x, speed):
        done = bool((speed.abs() < 10).all())
        return Step(index, self.steps, x, x, CLEAN, state={"speed": speed}, converged=done)


class StopsByUnitsOfY(Sound):
    """Sound where y is in units of the image, and done before it begins where y is a ten-thousandth of that."""

    @torch.no_grad()
    def iterate(self, problem, prior, rng, start=None):
        for step in super().iterate(problem, prior, rng, start):
            residual = minus(problem.y, problem.operator(step.x))
            yield Step(step.index, step.total, step.x, step.x, CLEAN, state=step.state, converged=bool((residual.abs() < 1e-3).all()))


@dataclass(frozen=True)
class SoundSampler(Solver):
    """Draw x0 given the estimate and y, then add the noise of the next level: near to the posterior.

    x0 ~ N(D(x, sigma), r^2) p(y | x0),   r^2 = s0^2 sigma^2 / (s0^2 + sigma^2),   x <- x0 + sigma_next z

    The bias that it declares was measured: case I, 40 steps.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.PROX}))
    declared_bias: ClassVar[dict] = {"mean": 0.55, "cov": 0.3, "trace": (0.9, 1.3)}
    steps: int = 40

    def drawn(self, problem: Problem, x0_hat: torch.Tensor, r: float, rng: Rng) -> torch.Tensor:
        near = x0_hat + r * rng.normal_like(x0_hat)
        moved = problem.y + column(problem.sigma, problem.y) * rng.normal_like(problem.y)
        return problem.operator.prox(near, moved, self.tau(problem, r))

    def tau(self, problem: Problem, r: float) -> torch.Tensor:
        """r^2 / sigma_y^2, with sigma_x floored at 1e-4 so that it stays finite."""
        return (r / (problem.sigma_x.clamp_min(1e-4) * problem.gain)) ** 2

    def gaps(self, problem, prior):
        return [] if self.steps > 0 else ["steps must be positive"]

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        sigmas = prior.sigmas(self.steps, "karras", min(2.0, prior.sigma_range[1]))
        x = prior.centre + sigmas[0] * rng.normal_like(problem.image) if start is None else start.x
        for index in range(0 if start is None else start.index + 1, self.steps):
            sigma, following = sigmas[index], sigmas[index + 1]
            r = prior.s0 * sigma / math.hypot(prior.s0, sigma)
            x0 = self.drawn(problem, prior(x, sigma), r, rng)
            x = x0 + following * rng.normal_like(x) if following else x0
            yield Step(index, self.steps, x, x0, following)


class NoiseDoubled(SoundSampler):
    """Right on average, with twice the spread."""

    def drawn(self, problem, x0_hat, r, rng):
        return super().drawn(problem, x0_hat, r, rng) + 3**0.5 * (
            super().drawn(problem, x0_hat, r, rng) - super().drawn(problem, x0_hat, 1e-9, rng)
        )


class NoNoiseAtAll(SoundSampler):
    """The mean of every draw in place of a draw."""

    def drawn(self, problem, x0_hat, r, rng):
        rng.normal_like(x0_hat)
        return problem.operator.prox(x0_hat, problem.y, self.tau(problem, r))


class SigmaForgotten(SoundSampler):
    """sigma_y twice as large as it is."""

    def tau(self, problem, r):
        return super().tau(problem, r) / 4


class DeafToStrongNoise(SoundSampler):
    """Noise of more than a tenth of the range is taken for a tenth: worse than not looking where it is a half."""

    def tau(self, problem, r):
        return (r / (problem.sigma_x.clamp(1e-4, 0.1) * problem.gain)) ** 2


class SamplerFloor(SoundSampler):
    """A floor of a thousandth in units of y."""

    def tau(self, problem, r):
        return (r / problem.sigma.clamp_min(1e-3).expand(problem.batch)) ** 2


@dataclass(frozen=True)
class RePaint(Solver):
    """Sample the prior, put the measured pixels in at every level, and go back up `jump` levels `times` times after every `jump` down.

    References:
        RePaint: Inpainting using Denoising Diffusion Probabilistic Models (Lugmayr et al., 2022), arXiv:2201.09865, algorithm 1.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.MASK}))
    steps: int = 30
    jump: int = 10
    times: int = 2

    def __post_init__(self) -> None:
        if self.steps < 1 or self.jump < 1 or self.times < 1:
            raise InputError(f"steps, jump and times must be positive; given {self}")

    def walk(self) -> list[int]:
        """Places on the grid, in order."""
        path = [0]
        for place in range(1, self.steps + 1):
            path.append(place)
            if place % self.jump == 0 and place < self.steps:
                path += [*range(place - 1, place - self.jump - 1, -1), *range(place - self.jump + 1, place + 1)] * (self.times - 1)
        return path

    def back(self, x, sigma, higher, rng):
        return x + math.sqrt(higher**2 - sigma**2) * rng.normal_like(x)

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        sigmas, moves = prior.sigmas(self.steps, "karras", min(2.0, prior.sigma_range[1])), list(pairwise(self.walk()))
        mask = problem.operator.like("mask", problem.y)
        x = prior.centre + sigmas[0] * rng.normal_like(problem.image) if start is None else start.x
        for index in range(0 if start is None else start.index + 1, len(moves)):
            here, there = moves[index]
            if there < here:
                x = self.back(x, sigmas[here], sigmas[there], rng)
                yield Step(index, len(moves), x, x, sigmas[there])
                continue
            x0_hat = prior(x, sigmas[here])
            share = (sigmas[there] / sigmas[here]) ** 2
            x = x0_hat + share * (x - x0_hat) + sigmas[there] * math.sqrt(1 - share) * rng.normal_like(x)
            x = mask * (problem.y + sigmas[there] * rng.normal_like(x)) + (1 - mask) * x
            yield Step(index, len(moves), x, x0_hat, sigmas[there])


class HugeJump(RePaint):
    """Noise of ten thousand when it goes back; the examples, of 8 steps, never do. (More is growth, which every run looks for.)"""

    def back(self, x, sigma, higher, rng):
        return x + 1e4 * rng.normal_like(x)


class JumpNobodySees(RePaint):
    """The same, at a jump that neither the examples nor the defaults reach."""

    jump: int = 1000

    def __init__(self, steps=30, jump=1000, times=2):
        for name, value in (("steps", steps), ("jump", jump), ("times", times)):
            object.__setattr__(self, name, value)

    def back(self, x, sigma, higher, rng):
        return x + 1e6 * rng.normal_like(x)


class Declared(JumpNobodySees):
    """The same with its reasons, which is all that the check can ask."""

    unreached: ClassVar[dict[str, str]] = {
        "path += [": "goes back only where steps > jump",
        "x = self.back(": "as above",
        "yield Step(index, len(moves), x, x, ": "as above",
        "continue": "as above",
        "return x + 1e6": "as above",
    }


class DeclaredForNothing(RePaint):
    unreached: ClassVar[dict[str, str]] = {"share = (sigmas": "never, they say"}


class DeclaredWithoutReason(Declared):
    unreached: ClassVar[dict[str, str]] = {**Declared.unreached, "continue": ""}
