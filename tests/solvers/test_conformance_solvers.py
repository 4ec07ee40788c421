"""Every registered solver against the public checks; a new entry is tested unasked."""

import dataclasses
import functools

import pytest
import torch
from setting_turns import TURNS, eighth, in_turn, quarter
from sweeps import thinned
from turns import by_turns, sparser

from invsolve.noise import GaussianNoise
from invsolve.operator import Operator
from invsolve.plugins import load_prior, registry
from invsolve.priors.base import Denoiser, Prior, Regulariser
from invsolve.priors.classes import Against
from invsolve.priors.gaussian import GaussianPrior
from invsolve.priors.latent import LatentPrior
from invsolve.problem import Problem
from invsolve.solvers import DDIM, DDNM, DiffEdit, Replacement
from invsolve.testing import posterior
from invsolve.testing.denoisers import NETWORK
from invsolve.testing.settings import Kept, same, truth
from invsolve.testing.solvers import check_sizes, settings, solver_cases

SOLVERS = [solver for entry in registry().of("solver") for solver in entry.load().examples()]
FIRST = [entry.load().examples()[0] for entry in registry().of("solver")]  # one of every class
CLASSES = [type(solver) for solver in FIRST]
POSTERIOR = [solver for solver in SOLVERS if solver.requires.measurement]


def named(solver):
    return type(solver).__name__


def derived(cls):
    """Whether a class is another solver's with other fields or a few other lines: it takes a third of the checks, as presets do."""
    return any(cls is not other and issubclass(cls, other) for other in CLASSES)


def cases():
    """Every check of every class, each by one of the class's examples in a plain run, by turns; a third of them of one that is derived."""
    return sparser(3, by_turns(solver_cases(*SOLVERS)), lambda solver: derived(type(solver)))


@pytest.mark.parametrize(("solver", "check"), cases())
def test_conformance(solver, check, pytestconfig):
    in_turn(check, solver, CLASSES.index(type(solver)), pytestconfig)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 8])
def test_two_checks_that_follow_each_other_have_half_the_settings_and_four_have_all(count):
    parts = [quarter(turn)(list(range(count))) for turn in range(4)]
    assert sorted({one for part in parts for one in part}) == list(range(count))
    for first, second in (parts[:2], parts[2:]):
        assert count < 2 or not {*first} & {*second}
    assert all(len(part) <= max(2, count // 4 + 1) for part in parts)
    assert all(len({one % 2 for one in part}) == 2 for part in parts) or count in (1, 2, 3, 6)  # of two operators by turns, both


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 6, 8, 9, 16, 17])
def test_eight_dear_checks_that_follow_each_other_have_every_setting(count):
    parts = [eighth(turn)(list(range(count))) for turn in range(TURNS)]
    assert sorted({one for part in parts for one in part}) == list(range(count))
    assert all(part or not count for part in parts)
    assert all(len(part) <= max(1, -(-count // TURNS)) for part in parts)


def test_the_law_is_found_in_every_case_by_four_classes_that_follow_each_other(pytestconfig):
    """And all else is as it was afterwards."""
    met = []

    def check_posterior(solver):
        met.append(set(posterior.CASES))

    if pytestconfig.getoption("--whole"):
        pytest.skip("every class has every case")
    for place in range(len(posterior.CASES)):
        in_turn(check_posterior, SOLVERS[0], place, pytestconfig)
    firsts = met[:: len(posterior.CASES)]  # what finds no law goes on to the others
    assert set.union(*firsts) == set(posterior.CASES)
    assert max(map(len, met)) == 2


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("solver", [DDIM(steps=3), DDNM(steps=3), Replacement(steps=3)], ids=named)
def test_a_law_that_a_solver_has_is_found_whatever_its_turn(solver, place, pytestconfig, monkeypatch):
    """A sampler of the prior has two of the four, one that needs a mask has one."""
    found = []

    def check_posterior(solver):
        found.extend(posterior.rows(solver, chains=2, cases=[name for name in posterior.CASES if name != "N"]))

    if pytestconfig.getoption("--whole"):
        pytest.skip("every class has every case")
    in_turn(check_posterior, solver, place, pytestconfig)
    assert found


def test_a_plain_run_has_every_check_of_every_class_and_some_of_every_example():
    plain = [one.values for one in cases() if not any(mark.name == "whole" for mark in one.marks)]
    for first in FIRST:
        examples = [solver for solver in SOLVERS if type(solver) is type(first)]
        every = {one.values[1].__name__ for one in solver_cases(*examples)}
        met = sorted(check.__name__ for one, check in plain if one in examples)
        if derived(type(first)):
            assert len(met) >= len(every) // 3
            continue
        assert met == sorted(every), first
        for solver in examples:
            assert sum(one == solver for one, _ in plain) >= len(every) // len(examples), solver
    assert len(plain) < len(cases())


@pytest.mark.parametrize("solver", by_turns(POSTERIOR, first=0, step=3), ids=named)
def test_first_party_operators_at_odd_sizes(solver):
    mask, blur = (registry().load("operator", name) for name in ("mask", "gaussian-blur"))
    check_sizes(solver, lambda shape: [mask(shape, keep=0.4), blur(shape, sigma=1.2)])


@pytest.mark.parametrize("solver", by_turns(POSTERIOR, first=1, step=3), ids=named)
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


NATURAL_STEPS = 4
natural = functools.cache(functools.partial(load_prior, "natural"))


@pytest.mark.parametrize(
    "solver", thinned([solver for solver in FIRST if Denoiser in solver.requires.prior], lambda place: place % 6 == 0), ids=named
)
def test_item_alone_with_the_natural_prior(solver, record_property):
    """A sixth of the classes in a plain run; all meet `check_item_alone`.

    The network rounds by NETWORK at most per call; the samplers contract between calls, so the calls' roundings add up.
    """
    short = dataclasses.replace(solver, steps=NATURAL_STEPS) if hasattr(solver, "steps") else solver
    prior, shape = natural(), (3, 16, 16)
    if isinstance(solver, DiffEdit):  # it compares two conditions
        prior = Against(prior, GaussianPrior(0.5, 0.25))
    if solver.requires.measurement:
        x, noise = truth(shape, 3, torch.float32, texture=0.0), GaussianNoise(0.05)
        problem = Problem.simulate(Kept(shape), x, noise, generator=0)
        if "not one of codes" in str(short.mismatches(problem, prior)):
            prior = LatentPrior(prior, Operator.from_function(torch.clone, shape), encode=torch.clone)
        if short.mismatches(problem, prior):  # it is for noise alone
            problem = Problem.simulate(Operator.from_function(lambda x: x, shape), x, noise, generator=0)
    else:
        problem = Problem.unconditional(shape, 3)
    worst, calls = from_alone(short, problem, prior, 1)
    if (
        worst > calls * NETWORK
    ):  # a gradient jumps where a state lies within rounding of a ReLU's kink: of one run in some dozens, not of two
        worst, calls = from_alone(short, problem, prior, 2)
    record_property("largest_difference", worst)
    assert worst <= calls * NETWORK, f"{short}: {worst:.3g} after {calls} calls"


def from_alone(solver, problem, prior, seed):
    """How far the first and the last item in a batch are from themselves alone, and the calls of the batch."""
    batch = solver.solve(problem, prior, generator=seed)
    apart = [float((solver.solve(problem[item], prior, generator=seed).x[0] - batch.x[item]).abs().max()) for item in (0, 2)]
    return max(apart), batch.nfe


def test_settings_offer_every_kind_of_prior_a_solver_takes():
    for solver in SOLVERS:
        if Prior in solver.requires.prior:  # bicubic and nearest ask for none, and are given any
            continue
        kinds = {Denoiser if isinstance(setting.prior, Denoiser) else Regulariser for setting in settings(solver)}
        assert kinds == {kind for kind in (Denoiser, Regulariser) if any(issubclass(asked, kind) for asked in solver.requires.prior)}, (
            solver
        )
