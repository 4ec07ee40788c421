"""What the data determine, against dense matrices; and the check of the prior, against its own level."""

import math

import pytest
import torch
from invsolve_operators import BlockMean, BoxMask, GaussianBlur, Identity, PhaseRetrieval

from invsolve import GaussianNoise, PoissonNoise, Problem, Rng, Stack
from invsolve.errors import InputError
from invsolve.operator.iterative import matrix
from invsolve.operator.matrix import MatrixOperator
from invsolve.predictive import draw, fit, split
from invsolve.priors import GaussianPrior

SHAPE = (1, 6, 6)
ODD = torch.randn(20, 36, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LINEAR = {
    "box": BoxMask(SHAPE, 3),
    "mean": BlockMean(SHAPE, 2),
    "blur": GaussianBlur(SHAPE, 1.0),
    "matrix": MatrixOperator(ODD, SHAPE),
    "scaled": 255 * BoxMask(SHAPE, 3),
    "composed, without a pinv": GaussianBlur(SHAPE, 0.8) @ BoxMask(SHAPE, 3),
}


def images(seed, count=2):
    return torch.rand(count, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", LINEAR)
def test_parts_are_those_of_the_pseudo_inverse(name):
    operator, x = LINEAR[name].double(), images(1)
    found = split(Problem(operator, operator(x), GaussianNoise(0.1), check_range=False), x)
    A = matrix(operator).double()
    projector = torch.linalg.pinv(A, rtol=1e-10) @ A
    expected = (x.flatten(1) @ projector.T).reshape(x.shape)
    iterative = "without" in name
    assert torch.allclose(found.determined, expected, atol=2e-3 if iterative else 1e-8)  # CG's own tolerance, on a blur of 6 x 6
    assert torch.allclose(found.determined + found.filled, x, atol=1e-12)
    energy = lambda part: part.flatten(1).square().sum(1)  # noqa: E731
    share = energy(x - expected) / energy(x)  # the two are orthogonal
    assert torch.allclose(found.share(), share, atol=5e-3 if iterative else 1e-8)


@pytest.mark.parametrize("name", [name for name in LINEAR if "without" not in name])
def test_with_noise_they_are_those_of_linear_estimation(name):
    operator, x, sigma, spread, centre = LINEAR[name].double(), images(2), 0.3, 0.2, 0.4
    found = split(Problem(operator, operator(x), GaussianNoise(sigma), check_range=False), x, noise=True, spread=spread, centre=centre)
    A = matrix(operator).double()
    weight = torch.linalg.solve(A.T @ A + (sigma / spread) ** 2 * torch.eye(36, dtype=torch.float64), A.T @ A)
    expected = ((x - centre).flatten(1) @ weight.T).reshape(x.shape)
    assert torch.allclose(found.determined, expected, atol=1e-7)
    assert torch.allclose(found.determined + found.filled + centre, x, atol=1e-12)


def test_a_mask_fills_in_what_it_hides_and_nothing_else():
    x = images(3)
    found = split(Problem(BoxMask(SHAPE, 4), BoxMask(SHAPE, 4)(x), GaussianNoise(0.1)), x)
    hidden = BoxMask(SHAPE, 4).supports[0].reshape(SHAPE) == 0
    assert float(found.share(hidden).min()) == 1
    assert float(found.share(~hidden).max()) == 0
    assert torch.equal(found.share(hidden[0]), found.share(hidden))


@pytest.mark.parametrize(
    ("region", "words"),
    [
        (torch.ones(6, 6), "bool"),
        ("all", "bool"),
        (torch.ones(5, 6, dtype=torch.bool), "fit"),
        (torch.zeros(6, 6, dtype=torch.bool), "pixel"),
    ],
)
def test_regions_are_checked(region, words):
    x = images(3)
    with pytest.raises(InputError, match=words):
        split(Problem(Identity(SHAPE), x, GaussianNoise(0.1)), x).share(region)


def test_what_cannot_be_parted_says_so():
    x = images(4)
    phase = PhaseRetrieval(SHAPE)
    with pytest.raises(InputError, match="not linear"):
        split(Problem(phase, phase(x), GaussianNoise(0.1), check_range=False), x)
    problem = Problem(Identity(SHAPE), x, GaussianNoise(0.1))
    for wrong in (x[:, 0], x[0], "x"):
        with pytest.raises(InputError, match="shape"):
            split(problem, wrong)
    for spread in (0, -1, math.nan):
        with pytest.raises(InputError, match="spread"):
            split(problem, x, noise=True, spread=spread)
    with pytest.raises(InputError, match="level"):
        split(Problem(Identity(SHAPE), x, PoissonNoise(0.1)), x, noise=True)


def fields(prior, seed, shape=(1, 16, 16), operator=None):
    x = prior.sample(shape, Rng(seed, [0], purpose="fields"), torch.zeros(1))
    return Problem.simulate(operator or GaussianBlur(shape, 0.7), x, GaussianNoise(0.05), generator=seed, check_range=False)


def test_alarms_are_false_no_more_often_than_it_says():
    """Of 300 measurements that do come from the prior at most .01 should alarm: 3, and 9 are beyond 3 standard deviations of that."""
    prior = GaussianPrior(0.5, 0.2)
    draws = [draw(fields(prior, 0), prior, 8, generator=seed) for seed in range(20)]
    alarms = sum(not fit(fields(prior, seed), draws[seed % 20]).fits for seed in range(300))
    assert alarms <= 9


@pytest.mark.parametrize(
    ("truth", "words"), [(GaussianPrior(0.5, 0.4), "more"), (GaussianPrior(0.5, 0.05), "less"), (GaussianPrior(0.9, 0.2), "more")]
)
def test_another_law_is_seen(truth, words):
    prior = GaussianPrior(0.5, 0.2)
    found = fit(fields(truth, 5), draw(fields(prior, 0), prior, 12))
    assert not found.fits
    assert words in found.said
    assert "pool=FOLDER" in found.said


def test_a_wrong_spectrum_is_seen_at_the_same_contrast():
    prior, shape = GaussianPrior(0.5, 0.2), (1, 16, 16)
    coarse = torch.nn.functional.interpolate(prior.sample((1, 4, 4), Rng(1, [0]), torch.zeros(1)), scale_factor=4)
    strange = Problem.simulate(Identity(shape), coarse, GaussianNoise(0.01), generator=0, check_range=False)
    assert not fit(strange, draw(fields(prior, 0, operator=Identity(shape)), prior, 12)).fits


def test_one_strange_item_of_a_batch_is_enough():
    prior, shape = GaussianPrior(0.5, 0.2), (1, 16, 16)
    x = torch.cat([prior.sample(shape, Rng(3, [0, 1]), torch.zeros(1)), torch.full((1, *shape), 0.5)])
    problem = Problem.simulate(Identity(shape), x, GaussianNoise(0.05), generator=0)
    draws = draw(problem, prior, 12)
    assert not fit(problem, draws).fits
    assert fit(problem[0:2], draws).fits


def test_too_few_draws_say_so():
    prior = GaussianPrior(0.5, 0.2)
    found = fit(fields(prior, 0), draw(fields(prior, 0), prior, 3))
    assert found.fits
    assert "too few" in found.said


def test_several_measurements_and_complex_ones():
    prior, shape = GaussianPrior(0.5, 0.2), (1, 16, 16)
    x = prior.sample(shape, Rng(0, [0]), torch.zeros(1))
    operator = Stack(Identity(shape), GaussianBlur(shape, 1.0))
    problem = Problem.simulate(operator, x, GaussianNoise(0.05), generator=0)
    assert fit(problem, draw(problem, prior, 8)).fits
    shifted = Problem(operator, (problem.y[0], problem.y[1] + 2), problem.noise, check_range=False)
    assert "in part 1" in fit(shifted, draw(problem, prior, 8)).said
