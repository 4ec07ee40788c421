"""Every registered solver against the public checks; a new entry is tested unasked. And the checks against planted faults."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from invsolve.noise import GaussianNoise
from invsolve.operator import Capability
from invsolve.plugins import load_prior, registry
from invsolve.priors.base import Denoiser, Regulariser
from invsolve.priors.gaussian import GaussianPrior
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.testing.cases import failures
from invsolve.testing.denoisers import NETWORK
from invsolve.testing.settings import Kept, same, truth
from invsolve.testing.solvers import check_item_alone, check_sizes, settings, solver_cases, solver_checks

SOLVERS = [solver for entry in registry().of("solver") for solver in entry.load().examples()]
POSTERIOR = [solver for solver in SOLVERS if solver.requires.measurement]


def named(solver):
    return type(solver).__name__


@pytest.mark.parametrize(("solver", "check"), solver_cases(*SOLVERS))
def test_conformance(solver, check):
    check(solver)


@pytest.mark.parametrize("solver", POSTERIOR, ids=named)
def test_first_party_operators_at_odd_sizes(solver):
    mask, blur = (registry().load("operator", name) for name in ("mask", "gaussian-blur"))
    check_sizes(solver, lambda shape: [mask(shape, keep=0.4), blur(shape, sigma=1.2)])


@pytest.mark.parametrize("solver", POSTERIOR, ids=named)
def test_per_item_operators_and_noise_give_what_the_items_give_alone(solver):
    """A mask, a blur and a noise level of its own for every item: peers' samplers raise IndexError or ValueError here."""
    shape, x = (1, 6, 7), truth((1, 6, 7), 3, torch.float64)
    masks = torch.stack([Kept(shape).mask.roll(item, -1) for item in range(3)])
    mask = registry().build("operator", "mask", in_shape=shape, mask=masks)
    blur = registry().build("operator", "gaussian-blur", in_shape=shape, sigma=torch.tensor([0.5, 0.7, 0.9]))
    for operator in (mask, blur):
        problem = Problem.simulate(operator, x, GaussianNoise(torch.tensor([0.05, 0.1, 0.2])), generator=3)
        for prior in (GaussianPrior(0.5, 0.25), load_prior("tv", weight=1.0, max_iter=40)):
            if solver.mismatches(problem, prior):
                continue
            batch = solver.solve(problem, prior, generator=1)
            for item in range(3):
                alone = solver.solve(problem[item], prior, generator=1)
                # log2(42) roundings of eps a transform, two transforms a product, a hundred products: 1e-13; measured 4e-15
                same(alone.x[0], batch.x[item], 1e-10, f"{solver} on {operator.label} with {type(prior).__name__}, item {item}")


NATURAL_STEPS = 6


@pytest.mark.parametrize("solver", [solver for solver in SOLVERS if Denoiser in solver.requires.prior], ids=named)
def test_item_alone_with_the_natural_prior(solver, record_property):
    """The network rounds by NETWORK at most per call; the samplers contract between calls, so the calls' roundings add up."""
    short = type(solver)(steps=NATURAL_STEPS)
    prior, shape = load_prior("natural"), (3, 16, 16)
    if solver.requires.measurement:
        problem = Problem.simulate(Kept(shape), truth(shape, 3, torch.float32, texture=0.0), GaussianNoise(0.05), generator=0)
    else:
        problem = Problem.unconditional(shape, 3)
    batch = short.solve(problem, prior, generator=1)
    worst = 0.0
    for item in range(3):
        alone = short.solve(problem[item], prior, generator=1)
        worst = max(worst, float((alone.x[0] - batch.x[item]).abs().max()))
    record_property("largest_difference", worst)
    calls = batch.nfe
    assert worst <= calls * NETWORK, f"{short}: {worst:.3g} after {calls} calls"


def test_settings_offer_every_kind_of_prior_a_solver_takes():
    for solver in SOLVERS:
        kinds = {Denoiser if isinstance(setting.prior, Denoiser) else Regulariser for setting in settings(solver)}
        assert kinds == {kind for kind in (Denoiser, Regulariser) if kind in solver.requires.prior}, solver


@dataclass(frozen=True)
class Sound(Solver):
    """x <- x + step (D(x, 0.1) - x) with a momentum and a little noise: conforms, and is spoilt below."""

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.ADJOINT}), noise=(GaussianNoise,))
    steps: int = 4
    step: float = 0.5

    def fresh(self, problem: Problem, rng: Rng) -> torch.Tensor:
        return rng.normal_like(problem.image)

    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        x = problem.operator.adjoint(problem.y) if start is None else start.x
        speed = start.state["speed"] if start is not None and start.index >= 0 else torch.zeros_like(x)
        for index in range(0 if start is None else start.index + 1, self.steps):
            with torch.no_grad():
                speed = 0.3 * speed + self.step * (prior(x, 0.1) - x) + 0.01 * self.fresh(problem, rng)
                x = x + speed
            yield self.made(index, x, speed)

    def made(self, index: int, x: torch.Tensor, speed: torch.Tensor) -> Step:
        return Step(index, self.steps, x, x, 0.1, state={"speed": speed})


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
        return Step(index, self.steps, x, x, 0.1, state={"speed": torch.zeros_like(x)})


class LongerThanSaid(Sound):
    def made(self, index, x, speed):
        return Step(index, self.steps + 1, x, x, 0.1, state={"speed": speed})


class ChangesY(Sound):
    def made(self, index, x, speed):
        return super().made(index, x, speed)

    def iterate(self, problem, prior, rng, start=None):
        problem.y.mul_(0.999)
        return super().iterate(problem, prior, rng, start)


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
            yield Step(step.index, step.total, held, held, 0.1, state=step.state)


class CarriesAGraph(Sound):
    def made(self, index, x, speed):
        return super().made(index, x.clone().requires_grad_(True), speed)


class SameForAllSeeds(Sound):
    def fresh(self, problem, rng):
        rng.normal_like(problem.image)
        return torch.zeros_like(problem.image)


class HiddenCalls(Sound):
    def iterate(self, problem, prior, rng, start=None):
        getattr(prior, "inner", prior)(problem.image, 0.1)
        return super().iterate(problem, prior, rng, start)


class LeavesNoGrad(Sound):
    def iterate(self, problem, prior, rng, start=None):
        with torch.no_grad():
            yield from super().iterate(problem, prior, rng, start)


FAULTS = {
    CoupledItems: "check_item_alone",
    GlobalNoise: "check_untouched",
    OneStream: "check_item_alone",
    ForgetfulState: "check_resume",
    LongerThanSaid: "check_steps",
    ChangesY: "check_untouched",
    AlwaysDouble: "check_finite_answer",
    OverwritesSteps: "check_keep",
    CarriesAGraph: "check_finite_answer",
    SameForAllSeeds: "check_other_seed",
    HiddenCalls: "check_nfe",
    LeavesNoGrad: "check_untouched",
}


def test_a_sound_solver_passes():
    assert failures(Sound(), solver_checks(Sound())) == {}


@pytest.mark.parametrize("faulty", FAULTS, ids=lambda cls: cls.__name__)
def test_a_planted_fault_is_found(faulty):
    found = failures(faulty(), solver_checks(faulty()))
    assert FAULTS[faulty] in found, found


def test_a_changed_gradient_mode_says_what_to_do():
    found = failures(LeavesNoGrad(), solver_checks(LeavesNoGrad()))
    assert "gradient mode was changed; decorate iterate with @torch.no_grad()" in str(found["check_untouched"])


def test_the_item_check_sees_every_item():
    """A coupling that leaves the first item alone, as x - x.cumsum(0) of the others would."""

    class LaterItems(Sound):
        def made(self, index, x, speed):
            x = torch.cat([x[:1], x[1:] - 1e-6 * x[:1].expand_as(x[1:])]) if len(x) > 1 else x
            return super().made(index, x, speed)

    with pytest.raises(AssertionError, match="item 1"):
        check_item_alone(LaterItems())
