"""Every operator, denoiser and solver on a pretended device: nothing mixes devices, values are the CPU's, the host seldom waits."""

import copy
from dataclasses import dataclass, replace

import planted_faults_solvers as solvers
import pytest
import torch
from planted_faults import LinearOnly
from pretended_device import NAME, Away, MixedError, elsewhere, moved
from setting_turns import quarter
from sweeps import thinned

from invsolve import registry
from invsolve.operator.measurement import mapped, parts
from invsolve.priors.base import Denoiser
from invsolve.priors.gaussian import GaussianPrior
from invsolve.priors.tv import TotalVariation
from invsolve.testing.conditions import FirstItem, for_one_problem
from invsolve.testing.denoisers import middle, noisy
from invsolve.testing.probes import calls, image, measurement
from invsolve.testing.settings import settings
from invsolve.testing.subjects import NegativeLog

OPERATORS = registry().names("operator")
SPARSE = {"sparse-matrix"}  # a tensor that pretends cannot be sparse
# What looks at values in every call, and why it must.
LOOK = {
    "iterative-prox": "an iteration stops where its residual says",
    "iterative-pinv": "an iteration stops where its residual says",
    "chain": "whether a rank is sure is read off the singular values",
    "structured": "whether a rank is sure is read off the singular values",
}


def followed(operator):
    """{map: how often the host waited}, each map held against the CPU's values; the second call counts, after what is made once."""
    x, y = image(operator, dtype=torch.float32), measurement(operator, dtype=torch.float32)
    wanted = {name: call(operator, x, y) for name, call in calls(operator).items()}
    twin, found = copy.deepcopy(operator), {}
    with elsewhere() as device:
        moved(twin)
        there = x.to(NAME), mapped(lambda part: part.to(NAME), y)
        for name, call in calls(operator).items():
            call(twin, *there)
            device.counts.clear()
            result = call(twin, *there)
            found[name] = device.waits
            for part, other in zip(parts(result), parts(wanted[name]), strict=True):
                assert isinstance(part, Away), f"{name} gives a tensor on {part.device}"
                assert torch.equal(part.held, other), f"{name} gives other values on the device"
    return found


@pytest.mark.parametrize("name", [name for name in OPERATORS if name not in SPARSE])
def test_operators_stay_on_the_device_and_do_not_wait(name, pytestconfig):
    """One example of a class in a plain run, by turns along the classes."""
    examples = registry().load("operator", name).examples()
    place = OPERATORS.index(name) % len(examples)
    for operator in examples if pytestconfig.getoption("--whole") else examples[place : place + 1]:
        found = followed(operator)
        assert name in LOOK or not any(found.values()), found
        assert not found["forward"], found
        assert not found.get("adjoint", 0), found


TWINS = {}


def there(problem):
    """The problem, on the device; to be called while there is one. Once for all solvers, and so is what it keeps: where they begin."""
    if id(problem) not in TWINS:
        twin = copy.deepcopy(problem)
        moved(twin.operator)
        moved(twin.noise)
        context = {name: value.to(NAME) for name, value in twin.context.items()}
        TWINS[id(problem)] = problem, replace(twin, y=mapped(lambda part: part.to(NAME), twin.y), context=context)
    return TWINS[id(problem)][1]


def waits_per_step(solver, setting):
    """How often the host waited in each step but the first, which makes ready as well; the answer is held against the CPU's."""
    wanted = solver.solve(setting.problem, setting.prior, generator=1)
    twin, waits = copy.deepcopy(setting.prior), []
    with elsewhere() as device:

        def count(step):
            waits.append(device.waits)
            device.counts.clear()

        found = solver.solve(there(setting.problem), moved(twin), generator=1, callback=count)
        assert isinstance(found.x, Away)
        assert torch.equal(found.x.held, wanted.x)
    return waits[1:]


SOLVERS = [entry.load() for entry in registry().of("solver")]


def cases(cls, turn):
    """(solver, setting) for every example; in place of a prior whose prox iterates, which is not the solver's doing, one in closed form.

    Turn 0 takes a quarter of the settings of one example, which goes by turns from class to class, turn 1 the rest.
    """
    examples, place = cls.examples(), SOLVERS.index(cls)
    for index, solver in enumerate(examples):
        if turn == 0 and index != place % len(examples):
            continue
        every = settings(solver, dtype=torch.float32)
        first = set(map(id, quarter(place)(every))) if index == place % len(examples) else set()
        for setting in every:
            exact = isinstance(setting.prior, TotalVariation) and solver.requires.prox
            if (id(setting) in first) == (turn == 0):
                yield solver, replace(setting, prior=NegativeLog(GaussianPrior(0.5, 0.25))) if exact else setting


# Steps whose size is found on the way: the host must know each trial's error, value and slope, or residual, before the next.
TRIALS = {"pf-ode": 3, "lbfgs": 2 * 10 + 2, "resample": 10 + 1}


TURNS = [(name, turn) for name in registry().names("solver") for turn in (0, 1)]


@pytest.mark.parametrize(("name", "turn"), thinned(TURNS, lambda place: TURNS[place][1] == 0))
def test_solvers_stay_on_the_device_and_wait_once_a_step(name, turn):
    """Once: whether the iterate is finite, and whether to go on."""
    made = list(cases(registry().load("solver", name), turn))
    assert made or turn
    for solver, setting in made:
        waits = waits_per_step(solver, setting)
        single = name in ("one-shot", "auto", "bicubic", "nearest") or getattr(solver, "steps", 0) == 1  # a single step is a run's first
        assert waits or single, setting.label
        assert max(waits, default=0) <= TRIALS.get(name, 1), (setting.label, solver, waits)


@pytest.mark.parametrize("name", ["hqs", "admm"])
def test_a_prox_that_iterates_stays_on_the_device_too(name):
    solver = registry().load("solver", name).examples()[0]
    tv = [one for one in settings(solver, dtype=torch.float32) if isinstance(one.prior, TotalVariation)]
    assert tv
    for setting in tv:
        assert waits_per_step(solver, setting)


THEIRS = {
    "deepinv-denoiser": "deepinv's own denoiser, in whose loop a stopping rule is asked",
    "diffusers": "networks of diffusers, which take their time to the device in every call",
    "cascade": "its stages are asked for their problems in every call; the solver cascade asks them once",
}
ROUNDS = {"diffusers": "its attention takes another kernel for tensors of a class of their own"}


def close(found, wanted):
    """Some hundred roundings of float32 (the layers' sums) at the size of the largest value."""
    return float((found - wanted).abs().max()) <= 300 * torch.finfo(torch.float32).eps * float(wanted.abs().max())


DENOISERS = [name for name in registry().names("prior") if hasattr(registry().load("prior", name), "examples")]


@pytest.mark.parametrize("name", DENOISERS)
def test_denoisers_stay_on_the_device_and_do_not_wait(name):
    def check(denoiser):
        sigma = middle(denoiser)
        x = noisy(denoiser, sigma, torch.float32)[1]
        if isinstance(denoiser, FirstItem):  # it asks for its problem in every call, a run once
            denoiser = denoiser.bound(len(x), x.dtype)
        with torch.no_grad(), elsewhere() as device:
            wanted, twin, there = denoiser(x, sigma), moved(copy.deepcopy(denoiser)), x.to(NAME)
            device.counts.clear()
            found = twin(there, sigma)
        assert isinstance(found, Away)
        assert close(found.held, wanted) if name in ROUNDS else torch.equal(found.held, wanted)
        assert name in THEIRS or device.waits == 0, device.counts

    for prior in registry().load("prior", name).examples():
        if isinstance(prior, Denoiser):
            for_one_problem(check)(prior)


class HeldOnCpu(LinearOnly):
    """A mask that is no buffer."""

    def __init__(self, in_shape=(2, 4, 5)):
        super().__init__(in_shape)
        self.held = torch.ones(in_shape)

    def forward(self, x):
        return x * self.held.to(x.dtype)


class MadeOnCpu(LinearOnly):
    """A tensor made without a device."""

    def forward(self, x):
        return x + torch.zeros(x.shape)


class ReadsValues(LinearOnly):
    """Looks at the image."""

    def forward(self, x):
        return x / 2 if float(x.detach().abs().max()) > 1e9 else 2 * x


class SelectsByMask(LinearOnly):
    """A boolean index: as many entries as there are true ones, which the host has to know."""

    def forward(self, x):
        out = torch.zeros_like(x)
        out[x == x] = 2 * x[x == x]
        return out


class ThroughNumpy(LinearOnly):
    """There and back."""

    def adjoint(self, y):
        return 2 * y

    def forward(self, x):
        return torch.from_numpy(2 * x.detach().cpu().numpy()).to(x.device)


@pytest.mark.parametrize("fault", [HeldOnCpu, MadeOnCpu])
def test_a_planted_mix_of_devices_is_caught(fault):
    with pytest.raises(MixedError, match="different devices"):
        followed(fault())


@pytest.mark.parametrize(("fault", "least"), [(ReadsValues, 1), (SelectsByMask, 2), (ThroughNumpy, 1)])
def test_planted_waiting_is_counted(fault, least):
    assert followed(fault())["forward"] >= least
    assert followed(LinearTwice())["forward"] == 0


class LinearTwice(LinearOnly):
    def forward(self, x):
        return 2 * x


@dataclass(frozen=True)
class LooksEveryStep(solvers.Sound):
    """A norm printed in every step."""

    steps: int = 8

    def made(self, index, x, speed):
        assert x.norm().item() >= 0
        return super().made(index, x, speed)


@dataclass(frozen=True)
class DrawsOnCpu(solvers.Sound):
    """Noise that stays where it was drawn."""

    steps: int = 8

    def fresh(self, problem, rng):
        return torch.zeros(problem.image.shape)


def test_planted_faults_in_a_solver_are_caught():
    sound = solvers.Sound(steps=8)
    setting = settings(sound, dtype=torch.float32)[0]
    assert waits_per_step(sound, setting) == [1] * 7
    assert waits_per_step(LooksEveryStep(), setting) == [2] * 7
    with pytest.raises(MixedError):
        waits_per_step(DrawsOnCpu(), setting)


def test_a_problem_moves_with_all_that_belongs_to_it():
    from invsolve import GaussianNoise, Problem
    from invsolve.testing.subjects import Kept

    problem = Problem(Kept((1, 3, 4)), torch.rand(2, 1, 3, 4), GaussianNoise(0.1), context={"label": torch.tensor([1, 2])})
    with elsewhere():
        twin = copy.deepcopy(problem)
        # nn.Module.to swaps data in place, which a pretended tensor cannot: `moved` does it.
        asked = []
        for part in (twin.operator, twin.noise):
            part.to = lambda device, part=part: (asked.append((part, device)), moved(part))[1]
        there = twin.to(NAME)
    assert isinstance(there.y, Away)
    assert isinstance(there.context["label"], Away)
    assert asked == [(twin.operator, NAME), (twin.noise, NAME)]
