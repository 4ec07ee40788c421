"""Few-step maps in solvers: draws in 1, 2 and 4 calls, latino and cm4ir with the exact map, and what is said of solvers of means."""

import itertools
import math

import pytest
import torch
from few_step_maps import GaussianMap, Named

from invsolve import GaussianNoise, Problem
from invsolve.bench.prior_samples import draw_samples
from invsolve.errors import CompatibilityError, Note
from invsolve.priors import GaussianPrior, rescale
from invsolve.rng import Rng
from invsolve.schedule import karras
from invsolve.solvers import CM4IR, HQS, LATINO, Auto, DiffPIR, FewStep
from invsolve.solvers.paths import descend
from invsolve.testing.cases import failures
from invsolve.testing.denoisers import prior_checks
from invsolve.testing.oracle import Bias, DenseOperator, Gaussian, gaussian_case, propagate, standard_errors
from invsolve.testing.pooled import Pooled

SIZE, ROWS, CHAINS, SIGMA_Y = 8, 4, 2000, 0.05
EYE = torch.eye(SIZE, dtype=torch.float64)


def few(prior):
    """The map of a Gaussian prior."""
    cov = prior.vectors @ (prior.values[:, None] * prior.vectors.T) if prior.full else None
    return GaussianMap(prior.mean, prior.std, cov)


def map_of(law, sigma):
    """(G, g) of f(x, sigma) = G x + g: C^1/2 (C + sigma^2)^-1/2 by a dense eigendecomposition."""
    values, vectors = torch.linalg.eigh(law.cov)
    gain = vectors @ torch.diag((values.clamp_min(0) / (values.clamp_min(0) + sigma**2)).sqrt()) @ vectors.T
    return gain, law.mean - gain @ law.mean


def pulled(a, tau):
    """K of x + K (y - A x): the minimiser of |y - A x'|^2 + |x' - x|^2 / tau."""
    return a.T @ torch.linalg.inv(a @ a.T + torch.eye(len(a), dtype=torch.float64) / tau)


def white_tau(prior, sigma):
    return prior.s0**2 * sigma**2 / (prior.s0**2 + sigma**2) / SIGMA_Y**2


def start(prior, a, y, sigma):
    """sigma z about the posterior mean of N(1/2, s0^2)."""
    grey = torch.full((SIZE,), 0.5, dtype=torch.float64)
    return Gaussian(grey + pulled(a, (prior.s0 / SIGMA_Y) ** 2) @ (y - a @ grey), sigma**2 * EYE)


@pytest.mark.parametrize("calls", [1, 2, 4])
@pytest.mark.parametrize("name", ["S", "G"])
def test_draws_have_the_law_of_the_prior(calls, name):
    """From pure noise at 80 one call leaves C 80^2 / (C + 80^2), C to 1e-5, about the mean to s0 / 80; further calls keep C."""
    law, prior, _, _ = gaussian_case(name, 0, size=SIZE)
    problem = Problem.unconditional((1, 1, SIZE), CHAINS, dtype=torch.float64)
    found = FewStep(steps=calls).solve(problem, few(prior), generator=Pooled(0, range(CHAINS)))
    mean, cov = standard_errors(found.x, law)
    assert mean < 4
    assert cov < 4
    assert found.nfe == calls
    mean_law = FewStep(steps=calls, calls=1).solve(problem, prior, generator=Pooled(0, range(CHAINS)))
    assert float(mean_law.x.var(0).mean() / found.x.var(0).mean()) < 0.6  # as one call of the mean is no draw


def test_its_levels_are_the_rules():
    prior = GaussianPrior(0.5, 0.25)
    assert FewStep(steps=4).levels(prior) == pytest.approx([80, 0.75, 0.25, 0.25 / 3, 0])
    assert FewStep(steps=3, second=8.0, fall=4.0, sigma_max=1.0).levels(prior) == pytest.approx([1, 0.5, 0])
    assert FewStep(steps=1).levels(prior) == [80, 0]
    with pytest.raises(CompatibilityError, match="sigma_max must lie in the prior's range"):
        FewStep(sigma_max=90.0).solve(Problem.unconditional((1, 4, 4), 1), prior)


def latino_law(law, prior, a, y, steps=8, delta=1.0):
    sigmas = karras(steps, 0.002, 20 * prior.s0)

    def levels():
        for sigma, following in itertools.pairwise(sigmas):
            gain, offset = map_of(law, sigma)
            k = pulled(a, delta * white_tau(prior, sigma))
            yield (EYE - k @ a) @ gain, (EYE - k @ a) @ offset + k @ y, following**2 * EYE

    return propagate(start(prior, a, y, sigmas[0]), levels())


def cm4ir_law(law, prior, a, y, eta=1.0, delta=0.0):
    squares = [1 - min((1 - 0.69**2) * 1.2**index, 0.9999) for index in range(4)]
    sigmas = [math.sqrt(one) / 2 for one in squares]

    def levels():
        for sigma, following in itertools.pairwise([*sigmas, 0.0]):
            gain, offset = map_of(law, (1 + delta) * sigma)
            k, kept = pulled(a, white_tau(prior, sigma)), following / sigma * math.sqrt(1 - eta**2)
            matrix = (EYE - k @ a) @ gain + kept * (EYE - gain)
            yield matrix, (EYE - k @ a) @ offset + k @ y - kept * offset, (following * eta) ** 2 * EYE

    return propagate(start(prior, a, y, sigmas[0]), levels())


LAWS = {
    "latino": (LATINO(), latino_law, 8),
    "latino-calls": (LATINO(steps=4, calls=5, delta=0.5), lambda *of: latino_law(*of, steps=4, delta=0.5), 4),
    "cm4ir": (CM4IR(), cm4ir_law, 4),
    "cm4ir-kept": (CM4IR(eta=0.3, delta=0.1, calls=3), lambda *of: cm4ir_law(*of, eta=0.3, delta=0.1), 4),
}


@pytest.mark.parametrize("name", ["S", "G"])
@pytest.mark.parametrize("solver", LAWS)
def test_the_law_with_the_exact_map(solver, name):
    """Affine in what is drawn: mean and covariance by a recursion of dense matrices, to 4 standard errors; `calls` is not looked at."""
    law, prior, matrix, y = gaussian_case(name, 0, size=SIZE, rows=ROWS, sigma=SIGMA_Y)
    made, expected, calls = LAWS[solver]
    problem = Problem(DenseOperator(matrix), y.expand(CHAINS, ROWS), GaussianNoise(SIGMA_Y))
    found = made.solve(problem, few(prior), generator=Pooled(0, range(CHAINS)))
    mean, cov = standard_errors(found.x, expected(law, prior, matrix, y))
    assert mean < 4
    assert cov < 4
    assert found.nfe == calls


@pytest.mark.parametrize("name", ["S", "G", "I"])
@pytest.mark.parametrize("expected", [latino_law, cm4ir_law], ids=["latino", "cm4ir"])
def test_draws_of_a_map_spread_as_the_posterior_does_where_those_of_means_have_half(expected, name):
    """What the docstrings say of the total variance over the posterior's, without sampling error, over four draws of (A, y)."""
    for seed in range(4):
        law, prior, matrix, y = gaussian_case(name, seed, size=SIZE, rows=ROWS, sigma=SIGMA_Y)
        bias = Bias.of(expected(law, prior, matrix, y), law.posterior(matrix, y, SIGMA_Y))
        if name == "S":
            low, high = (0.97, 1.0) if expected is latino_law else (0.6, 0.65)
        else:
            low, high = 1.0, 1.5
        assert low < bias.trace < high
        if expected is latino_law and name == "S":
            assert bias.cov < 0.05
            assert bias.mean < 0.05


def test_a_short_path_is_one_call_of_the_map():
    """And of many steps of the mean it is the limit: second order, 64 calls, errors of 1e-3 of what the state is off."""
    x = 0.5 + 2 * Rng(0, range(3)).normal((1, 2, 2), torch.zeros(1, dtype=torch.float64))
    exact = GaussianMap(0.5, 0.25)
    for calls in (1, 5):
        assert torch.equal(descend(exact, x, 1.5, calls, Rng(0, range(3))), exact(x, 1.5))
    steps = descend(GaussianPrior(0.5, 0.25), x, 1.5, 64, Rng(0, range(3)))
    assert float((steps - exact(x, 1.5)).abs().max()) < 2e-3 * float((exact(x, 1.5) - 0.5).abs().max())


def test_solvers_of_means_say_so_and_others_do_not():
    matrix = torch.eye(4, dtype=torch.float64)
    problem = Problem(DenseOperator(matrix), torch.full((1, 4), 0.5, dtype=torch.float64), GaussianNoise(0.1))
    prior = GaussianMap(0.5, 0.25)
    for solver in (DiffPIR(steps=3), HQS(steps=3)):
        with pytest.warns(Note, match=rf"{type(solver).__name__} takes answers of the prior for means; those of a few-step map are draws"):
            solver.solve(problem, prior, generator=0)
        solver.solve(problem, GaussianPrior(0.5, 0.25), generator=0)
    for solver in (LATINO(steps=3), CM4IR()):
        solver.solve(problem, prior, generator=0)  # a Note is an error in tests
    FewStep().solve(Problem.unconditional((1, 2, 2), 1), prior, generator=0)
    found = Auto().solve(problem, prior, generator=0)
    assert found.why.startswith("latino: a few-step map")


def test_a_report_draws_by_few_calls():
    drawn = draw_samples(GaussianMap(0.5, 0.1), 16, 3)
    assert [one.name for one in drawn] == ["few-step, 1", "few-step, 2"]
    assert float(drawn[0].images.std()) == pytest.approx(0.1, rel=0.1)  # 2304 numbers: 4 / sqrt(2 2304) = .06, and what is cut at 0 and 1


def test_wrappers_say_what_the_map_inside_says():
    assert rescale(GaussianMap(0.0, 0.5), (-1.0, 1.0)).few_step
    assert not rescale(GaussianPrior(0.0, 0.5), (-1.0, 1.0)).few_step


@pytest.mark.parametrize("prior", [GaussianMap(0.5, 0.25), rescale(GaussianMap(0.0, 0.5), (-1.0, 1.0))], ids=["map", "rescaled"])
def test_the_checks_of_priors_take_a_map(prior):
    assert failures(prior, prior_checks(prior)) == {}


def test_a_mean_that_is_said_to_be_a_map_is_found():
    prior = Named(GaussianPrior(0.5, 0.25))
    found = failures(prior, prior_checks(prior))
    assert set(found) == {"check_few_step"}
    assert "it is a mean" in found["check_few_step"]
