"""Cascades: an image in several stages, each a conditional prior whose measurement is what the stage before drew."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from invsolve.errors import InputError
from invsolve.noise import GaussianNoise, NoNoise
from invsolve.operator import Operator
from invsolve.operator.measurement import parts
from invsolve.priors.base import Prior
from invsolve.priors.conditional import ConditionalPrior
from invsolve.priors.pairs import gaussian_stages
from invsolve.priors.staged import StagedPrior
from invsolve.problem import Problem
from invsolve.rng import Rng, derive
from invsolve.solution import Solution, Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.ddim import DDIM
from invsolve.solvers.ranges import need_count

FIFTY = DDIM(steps=50)


@dataclass(frozen=True)
class Stage:
    """One stage.

    Args:
        operator: from the stage's image to that of the stage before; of the first one to y.
        prior: p(image | operator(image)), such as a network for that operator.
        noise: standard deviation of the noise that is added to what the stage before drew, and that the prior is told: conditioning
            augmentation. 0 for none, and for the first stage, whose noise is y's own.
        solver: any sampler of a prior.
    """

    operator: Operator
    prior: ConditionalPrior
    noise: float = 0.0
    solver: Solver = FIFTY


@dataclass(frozen=True)
class Cascade(Solver):
    """Draw the stages of a staged prior one after the other: z ~ p(z | y), then x ~ p(x | z + s n), by DDIM in each.

    With exact stages and noise = 0 this draws from p(x | y) exactly where y depends on x through z alone. `invsolve.solvers.cascade` is the
    same as a call, for stages with samplers of their own.

    Args:
        steps: network evaluations of every stage.
        eta: 0 deterministic after the first noise, 1 ancestral.
        noise: s, which the later stages are told: conditioning augmentation, against faults of the stage before that theirs were not
            trained on.

    Raises:
        InputError: steps < 1, eta outside [0, 1], noise that is negative or not finite.
        CompatibilityError: a prior without stages, noise that its later stages were not trained for.

    References:
        Cascaded Diffusion Models for High Fidelity Image Generation (Ho et al., 2022), arXiv:2106.15282, section 4.2: noise on the
        condition with its level told, "non-truncated". Deviation: the noise is on the smaller image, before it is upsampled.
    """

    requires: ClassVar[Requires] = Requires(prior=(StagedPrior,), noise=(), measurement=False)
    unreached: ClassVar[Mapping[str, str]] = {
        "math.nan)": "a stage that diverged, which check_divergence makes",
        "lost, lost": "as above",
    }
    steps: int = 50
    eta: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        need_count(self, "steps")
        DDIM(steps=self.steps, eta=self.eta)
        if not 0 <= self.noise < math.inf:
            raise InputError(f"noise must be finite and at least 0; given {self.noise}")

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """Noise between the stages that the later ones do not know."""
        assert isinstance(prior, StagedPrior)
        tops = [stage.made_for.noise[1] for stage in prior.stages[1:]]
        if self.noise <= min(tops):
            return []
        return [f"noise={self.noise:g} between the stages is above what the later ones were trained for, {min(tops):g}"]

    def iterate(self, problem: Problem, prior: Any, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last stage's steps; the others are drawn before the first of them."""
        staged, sampler = prior.prior, DDIM(steps=self.steps, eta=self.eta)
        state = dict(start.state) if start is not None else {}
        z = state.get("z")
        if z is None:
            z = problem.y
            for number in range(len(staged.stages) - 1):
                own = staged.problem(number, z, problem, self.noise)
                for step in sampler.iterate(own, staged.stages[number].given(own), rng):
                    z = step.x
                if not bool(torch.isfinite(z).all()):  # pyright: ignore[reportArgumentType]
                    lost = torch.full_like(problem.image, math.nan)
                    yield Step(0, self.steps, lost, lost)  # the run says so, and stops
                z = z + self.noise * rng.normal_like(z) if self.noise > 0 else z  # pyright: ignore[reportArgumentType, reportOperatorIssue]
        last = staged.problem(len(staged.stages) - 1, z, problem, self.noise)
        for step in sampler.iterate(last, staged.stages[-1].given(last), rng, start):
            yield replace(step, state={**step.state, "z": z})

    @classmethod
    def settings(cls) -> list[tuple[Problem, Prior]]:
        """Two Gaussian stages in closed form."""
        prior = gaussian_stages()
        x = Rng(11, range(3), purpose="simulate").uniform(prior.made_for.shape, torch.zeros(1, dtype=torch.float64))
        return [(prior.made_for.example(x), prior)]

    @classmethod
    def examples(cls) -> list[Solver]:
        """Deterministic, and half ancestral."""
        return [cls(steps=8), cls(steps=4, eta=0.5)]


def cascade(problem: Problem, stages: Sequence[Stage], *, generator: int | None = None, samples: int | None = None) -> list[Solution]:
    """The answers of all stages, the last one's x being the image: z_1 ~ p(z_1 | y), z_2 ~ p(z_2 | z_1 + s n), ..., x ~ p(x | z + s n).

    With exact stages and s = 0 this draws from p(x | y) exactly where y depends on x through z alone.

    Args:
        problem: y = H x + n with H the operators of all stages, one after the other.
        stages: from the smallest image to x.
        generator: seed of the run.
        samples: n draws, each with a first stage of its own; every solution's x is then (n, B, C, H, W).

    Raises:
        InputError: no stage, operators that do not make H together, noise of the first stage or below 0.
        CompatibilityError: a prior that was made for another operator or other noise.

    References:
        Cascaded Diffusion Models for High Fidelity Image Generation (Ho et al., 2022), arXiv:2106.15282, section 4.2: noise on the
        condition with its level told, "non-truncated". Deviation: the noise is on the smaller image, before it is upsampled.
    """
    stages = list(stages)
    _check(problem, stages)
    count = samples or 1
    ids = [derive(0, "cascade", sample, item) if sample else item for sample in range(count) for item in problem.items]
    whole = problem.repeat(count)
    current = Problem(stages[0].operator, whole.y, whole.noise, tuple(ids), problem.check_range)
    seed, found = generator, []
    for number, stage in enumerate(stages):
        if number:
            z, rng = found[-1].x, Rng.make(derive(seed, number) if seed is not None else None, ids, purpose="cascade")
            noise = GaussianNoise(stage.noise) if stage.noise > 0 else NoNoise()
            y = z + stage.noise * rng.normal_like(z) if stage.noise > 0 else z
            current = Problem(stage.operator, y, noise, tuple(ids), check_range=False)
        own = None if seed is None else derive(seed, "stage", number)
        found.append(stage.solver.solve(current, stage.prior, generator=own))
    return found if samples is None else [_stacked(one, count) for one in found]


def _stacked(solution: Solution, count: int) -> Solution:
    return replace(solution, x=solution.x.unflatten(0, (count, -1)))


@torch.no_grad()
def _check(problem: Problem, stages: list[Stage]) -> None:
    """Raise InputError unless the stages' operators, the last one first, are the problem's."""
    if not stages:
        raise InputError("a cascade has at least one Stage(operator, prior)")
    if stages[0].noise != 0 or any(stage.noise < 0 for stage in stages):
        raise InputError("noise is at least 0, and 0 for the first stage, whose measurement has its own; give it to the later ones")
    x = Rng(0, problem.items[:1], purpose="cascade").uniform(problem.operator.in_shape, problem.image)
    seen = x
    for stage in reversed(stages):
        if tuple(seen.shape[1:]) != tuple(stage.operator.in_shape):
            given, wanted = tuple(seen.shape[1:]), tuple(stage.operator.in_shape)
            raise InputError(f"a stage of images {wanted} is given ones of {given}; the order is from small to large")
        seen = parts(stage.operator(seen))[0]
    whole = parts(problem.operator(x))[0] if problem.operator.batch is None else seen
    if seen.shape != whole.shape or float((seen - whole).abs().max()) > 1e-4:
        raise InputError(f"the stages' operators, one after the other, are not the problem's {problem.operator.label}")
