"""Conditional priors against the truth: Gaussian pairs, of which p(x | y) is known; what they refuse; how y becomes the condition."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from solver_turns import in_turn

from invsolve import CompatibilityError, GaussianNoise, InputError, NoNoise, Problem
from invsolve.plugins import registry
from invsolve.priors import DiffusionPrior
from invsolve.priors.conditional import ConditionalPrior, Conditioned
from invsolve.priors.conditions import image_condition
from invsolve.priors.made_for import MadeFor
from invsolve.priors.pairs import SHAPE, STD, GaussianPairsPrior, neighbours, smooth_covariance
from invsolve.schedule import DiscreteVP
from invsolve.solvers import DDIM, DDPM, DPS, DiffPIR, Heun, PartDiff
from invsolve.testing import prior_checks
from invsolve.which import which_solvers

DRAWS = 1500
SIZE = math.prod(SHAPE)


def posterior(y, noise=0.05, mean=0.5):
    """Mean and covariance of x0 | y by the information form, which the network's own gain form does not use."""
    a, c = neighbours(), smooth_covariance()
    precision = torch.linalg.inv(c) + a.T @ a / noise**2
    cov = torch.linalg.inv(precision)
    return cov @ (torch.linalg.inv(c) @ torch.full((SIZE,), mean, dtype=torch.float64) + a.T @ y.flatten() / noise**2), cov


def one_problem(prior, draws=DRAWS):
    """The same y in every row: an item each for independent draws."""
    x = torch.linspace(0.2, 0.8, SIZE, dtype=torch.float64).reshape(1, *SHAPE)
    return prior.made_for.example(x).repeat(draws)


def agree(x, mean, cov):
    """Draws (N, ...) have a law: chi^2 of the standardised mean and of the pooled variances, four standard deviations of each.

    n (m - mu)^T C^-1 (m - mu) is chi^2 with d degrees, of variance 2 d; the mean of the N d squares is 1 to sqrt(2 / (N d)).
    """
    rows = x.flatten(1)
    root = torch.linalg.cholesky(torch.linalg.inv(cov))
    white = (rows - mean) @ root
    size, count = len(mean), len(rows)
    assert abs(float(count * white.mean(0).square().sum()) - size) < 4 * math.sqrt(2 * size)
    assert abs(float(white.square().mean()) - 1) < 4 * math.sqrt(2 / (count * size))


def distance(mean, cov, true_mean, true_cov):
    """(mean error in posterior standard deviations, relative error of the covariance)."""
    off = float(((mean - true_mean).square().mean() / true_cov.diagonal().mean()).sqrt())
    return off, float((cov - true_cov).norm() / true_cov.norm())


def test_the_network_in_closed_form_is_the_conditional_mean():
    """D by stacking both measurements, y and x_t, of one Gaussian."""
    prior = GaussianPairsPrior()
    problem = one_problem(prior, 1)
    x = torch.rand(1, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mean, cov = posterior(problem.y)
    for sigma in (0.01, 0.3, 20.0):
        gain = cov @ torch.linalg.inv(cov + sigma**2 * torch.eye(SIZE, dtype=torch.float64))
        wanted = mean + gain @ (x.flatten() - mean)
        assert torch.allclose(prior.given(problem)(x, sigma).flatten(), wanted, atol=1e-9)


def affine_law(prior, problem, walk, sigma, start):
    """Mean and covariance of a sampler's answer: `walk` maps a state and (mu, k) of D = mu + K (x - mu) to the next coefficients."""
    mu, cov = posterior(problem.y)
    values, basis = torch.linalg.eigh(cov)
    offset = basis.T @ (start - mu)
    mean, var = offset, torch.full_like(values, sigma**2)
    for move, spread in walk(values):
        mean, var = move * mean, move**2 * var + spread
    return mu + basis @ mean, basis @ torch.diag(var) @ basis.T


def ddim_walk(sigmas, eta):
    """x - mu -> (k + s (1 - k) sqrt(1 - eta^2 r)) (x - mu) + s_next eta sqrt(r) z, along an eigenvector of C_y."""

    def walk(values):
        for sigma, following in pairwise(sigmas):
            k = values / (values + sigma**2)
            r = 1 - (following / sigma) ** 2
            yield k + (1 - k) * following / sigma * math.sqrt(1 - eta**2 * r), following**2 * eta**2 * r * (following > 0)

    return walk


@pytest.mark.parametrize(("solver", "eta"), [(DDIM(steps=50), 0.0), (DDPM(steps=100), 1.0)], ids=["ddim", "ddpm"])
def test_samplers_of_a_conditional_prior_draw_from_the_posterior(solver, eta):
    """The samples have the law of the recursion, and that law is the posterior up to the steps' own error, which is of first order.

    .128 of the covariance with 50 deterministic steps, .131 with 100 ancestral ones: half of it with twice as many.
    """
    prior = GaussianPairsPrior()
    problem = one_problem(prior)
    start = torch.full((SIZE,), prior.centre, dtype=torch.float64)
    sigmas = prior.sigmas(solver.steps)
    mean, cov = affine_law(prior, problem[0], ddim_walk(sigmas, eta), sigmas[0], start)
    found = distance(mean, cov, *posterior(problem[0].y))
    assert found[0] < 0.01
    assert found[1] < 0.15
    finer = prior.sigmas(2 * solver.steps)
    assert distance(*affine_law(prior, problem[0], ddim_walk(finer, eta), finer[0], start), *posterior(problem[0].y))[1] < 0.6 * found[1]
    agree(solver.solve(problem, prior, generator=3).x, mean, cov)


def test_heun_draws_from_it_too():
    """Second order: with 60 steps within the noise of these draws of the posterior itself."""
    prior = GaussianPairsPrior()
    problem = one_problem(prior)
    agree(Heun(steps=60).solve(problem, prior, generator=3).x, *posterior(problem[0].y))


def partdiff_law(problem, moving, align, eta):
    """The answer's law by a recursion in the pixels' own basis: D(x_t) = mu + G (x_t - (1 - w) c - w mu), G = w C (w^2 C + sigma^2)^-1."""
    mu, cov = posterior(problem.y)
    c = (torch.linalg.pinv(neighbours()) @ problem.y.flatten()).double()
    eye = torch.eye(SIZE, dtype=torch.float64)
    levels, last = [0.0, *moving.levels], moving.part
    mean, spread = c.clone(), levels[last] ** 2 * eye
    for t in range(last, 0, -1):
        w, following = 1 - t / last, 1 - (t - 1) / last
        gain = w * cov @ torch.linalg.inv(w**2 * cov + levels[t] ** 2 * eye)
        aim = following if align == "exact" else w
        r = 1 - (levels[t - 1] / levels[t]) ** 2
        keep = levels[t - 1] / levels[t] * math.sqrt(1 - eta**2 * r)
        # x_{t-1} = aim D + (1 - aim) c + keep (x - w D - (1 - w) c) + noise
        estimate = mu + gain @ (mean - (1 - w) * c - w * mu)
        mean_next = aim * estimate + (1 - aim) * c + keep * (mean - w * estimate - (1 - w) * c)
        matrix = (aim - keep * w) * gain + keep * eye
        fresh = levels[t - 1] ** 2 * eta**2 * r if t > 1 else 0.0
        mean, spread = mean_next, matrix @ spread @ matrix.T + fresh * eye
    return mean, spread


@pytest.mark.parametrize("align", ["exact", "paper"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_partdiff_has_the_law_of_its_recursion(align, eta):
    prior = GaussianPairsPrior(total=40, part=12)
    problem = one_problem(prior)
    mean, cov = partdiff_law(problem[0], prior.moving, align, eta)
    cov = cov + 1e-12 * torch.eye(SIZE, dtype=torch.float64)
    agree(PartDiff(align=align, eta=eta).solve(problem, prior, generator=5).x, mean, cov)


def test_partdiff_exact_comes_to_the_posterior_and_paper_stays_behind():
    """Exact: no error of the mean, and one of the covariance that falls as 1 / K. Paper: every state lags by (x0 - c) / K, K times."""
    found = {}
    for total, part in ((100, 25), (400, 100), (1600, 400)):
        prior = GaussianPairsPrior(total=total, part=part)
        problem = one_problem(prior, 1)
        truth = posterior(problem.y)
        for align in ("exact", "paper"):
            found[align, part] = distance(*partdiff_law(problem, prior.moving, align, 1.0), *truth)
    assert all(found["exact", part][0] < 1e-12 for part in (25, 100, 400))
    assert found["exact", 25][1] < 0.25
    assert found["exact", 100][1] < 0.4 * found["exact", 25][1]
    assert found["exact", 400][1] < 0.4 * found["exact", 100][1] < 0.03
    assert all(0.03 < found["paper", part][0] < 0.1 for part in (25, 100, 400))
    assert all(0.35 < found["paper", part][1] < 0.65 for part in (25, 100, 400))


def test_a_hand_written_partdiff_of_two_steps():
    """K = 2 of 25, deterministic, one item: x_2 = c + s_2 z, then two estimates written out."""
    prior = GaussianPairsPrior(total=25, part=2)
    problem = one_problem(prior, 1)
    c = (torch.linalg.pinv(neighbours()) @ problem.y.flatten()).reshape(1, *SHAPE)
    one, two = prior.moving.levels
    kept = PartDiff(eta=0.0).solve(problem, prior, generator=9, keep=1)
    net = prior.net.network

    def ask(x, sigma):
        return net(x, torch.tensor([sigma], dtype=torch.float64), c)

    from invsolve.rng import Rng

    x2 = c + two * Rng.make(9, problem.items).normal_like(c)
    d2 = ask(x2, two * (1 - 1e-12))
    x1 = 0.5 * d2 + 0.5 * c + one / two * (x2 - c)
    d1 = ask(x1, one)
    assert torch.allclose(kept.trace[0].x, x1, atol=1e-5)
    assert torch.allclose(kept.x, d1, atol=1e-5)


class TestWhatItIsFor:
    def test_other_operators_noise_and_sizes_are_refused_with_what_it_is_for(self):
        made = MadeFor(({"name": "block-mean", "factor": 4},), noise=(0.0, 0.1), shape=(3, 16, 16))
        prior = ConditionalPrior(torch.nn.Identity(), made)
        x = torch.rand(2, 3, 16, 16)

        def why(name, noise=0.05, shape=(3, 16, 16), **arguments):
            operator = registry().build("operator", name, in_shape=shape, **arguments)
            given = Problem.simulate(operator, torch.rand(2, *shape), GaussianNoise(noise), generator=0)
            return " ".join(prior.gaps(given))

        assert why("block-mean", factor=4) == ""
        assert "trained for block-mean(factor=4), noise 0 to 0.1, images of shape (3, 16, 16)" in why("block-mean", factor=2)
        assert "does not serve operator Bicubic" in why("bicubic", factor=4)
        assert "noise of standard deviation 0.3" in why("block-mean", noise=0.3, factor=4)
        assert "images of shape (3, 32, 32)" in why("block-mean", factor=4, shape=(3, 32, 32))
        assert why("ddrm-super-resolution-4") == ""  # the same map under another name
        with pytest.raises(CompatibilityError, match="NoMeasurement; the network was trained for"):
            DDIM(steps=2).solve(Problem.unconditional((3, 16, 16)), prior)
        for solver in (DPS(steps=2), DiffPIR(steps=2)):
            operator = registry().build("operator", "block-mean", in_shape=(3, 16, 16), factor=4)
            with pytest.raises(CompatibilityError, match="count a second time"):
                solver.solve(Problem.simulate(operator, x, GaussianNoise(0.05), generator=0), prior)

    def test_any_mask_where_it_was_trained_for_masks(self):
        made = MadeFor(({"name": "stroke-mask"},), shape=(3, 16, 16), also=("mask",))
        for name, arguments in (("box-mask", {"box": 5}), ("half-mask", {}), ("mask", {"keep": 0.4})):
            operator = registry().build("operator", name, in_shape=(3, 16, 16), **arguments)
            assert made.ratio(operator) == 1.0
        assert made.ratio(registry().build("operator", "grey", in_shape=(3, 16, 16))) is None

    def test_another_unit_of_the_measurement_is_the_same_problem(self):
        prior = GaussianPairsPrior()
        plain = one_problem(prior, 2)
        scaled = Problem(3.0 * plain.operator, 3.0 * plain.y, GaussianNoise(0.15), plain.items, check_range=False)
        one, other = (DDIM(steps=6).solve(problem, prior, generator=0).x for problem in (plain, scaled))
        assert torch.allclose(one, other, atol=1e-10)

    def test_numbers_that_cannot_be(self):
        table = ({"name": "block-mean"},)
        for arguments in ({"operators": ()}, {"noise": (0.2, 0.1)}, {"up": "lanczos"}, {"shape": (3, 8)}):
            with pytest.raises(InputError):
                MadeFor(**{"operators": table, **arguments})


class TestCondition:
    def test_the_holes_of_an_item_are_the_same_alone_and_in_a_batch(self):
        made = MadeFor(({"name": "box-mask", "box": 6},), shape=(3, 12, 12))
        problem = made.example(torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(0)))
        whole = made.condition(problem)
        hole = problem.y == 0
        assert abs(float(whole[hole].mean()) - 0.5) < 4 * 0.5 / math.sqrt(int(hole.sum()))
        for item in range(3):
            assert torch.equal(made.condition(problem[item])[0], whole[item])

    def test_y_of_each_kind_as_an_image(self):
        x = torch.rand(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        build = registry().build
        grey = build("operator", "grey", in_shape=(3, 8, 8))
        assert torch.equal(image_condition(grey, grey(x)), grey(x).expand(-1, 3, -1, -1))
        jpeg = build("operator", "jpeg", in_shape=(3, 8, 8), quality=30)
        assert torch.equal(image_condition(jpeg, jpeg(x)), jpeg(x))
        mean = build("operator", "block-mean", in_shape=(3, 8, 8), factor=2)
        assert torch.allclose(image_condition(mean, mean(x), "pinv"), mean.pinv(mean(x)))
        assert torch.allclose(image_condition(mean, mean(x), "nearest"), mean.pinv(mean(x)))
        flat = build("operator", "matrix", matrix=torch.eye(192, dtype=torch.float64), in_shape=(3, 8, 8))
        with pytest.raises(InputError, match="pinv"):
            image_condition(flat, flat(x))

    def test_known_pixels_are_pasted(self):
        """As for every solver: what a mask shows without noise is y in the answer, to the bit."""
        made = MadeFor(({"name": "box-mask", "box": 4},), shape=(1, 8, 8))

        class Half(torch.nn.Module):
            def forward(self, x, sigma, condition):
                return 0.5 * condition + 0.1

        prior = ConditionalPrior(Half(), made)
        problem = made.example(torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
        x = DDIM(steps=3).solve(problem, prior, generator=0).x
        known = problem.y != 0
        assert torch.equal(x[known], problem.y[known])

    def test_a_conditioned_prior_is_sliced_with_its_items(self):
        prior = GaussianPairsPrior()
        problem = prior.made_for.example(torch.rand(3, *SHAPE, dtype=torch.float64))
        given = prior.given(problem)
        assert isinstance(given, Conditioned)
        x = problem.image + 0.3
        assert torch.allclose(given.select([2, 0])(x[:2], 0.2), given(x, 0.2)[[2, 0]])
        with pytest.raises(InputError, match="3 items"):
            given(x[:2], 0.2)


@pytest.mark.parametrize("place", [0, 1], ids=["image", "moving"])
def test_the_kit_certifies_conditional_priors(place, pytestconfig):
    prior = GaussianPairsPrior.examples()[place]
    for _, check in prior_checks(prior):
        in_turn(check, prior, place, pytestconfig)


def test_the_spread_of_the_pairs():
    assert np.isclose(float(smooth_covariance().diagonal().mean()), STD**2)
    assert isinstance(GaussianPairsPrior().made_for.example(torch.rand(1, *SHAPE)).noise, GaussianNoise)
    assert isinstance(MadeFor(({"name": "identity"},), shape=(1, 4, 4)).example(torch.rand(1, 1, 4, 4)).noise, NoNoise)


def test_a_plug_ins_conditional_prior_is_offered_to_the_solvers_that_fit_it():
    """Registered as any prior: found by name, and of all solvers those that do not look at y themselves."""
    entries = registry().entries
    before = dict(entries)
    try:
        registry().add("prior", "lab-pairs", "invsolve.priors.pairs:GaussianPairsPrior", summary="pairs")
        prior = registry().build("prior", "lab-pairs", total=40, part=8)
        problem = one_problem(prior, 2)
        fits = {fit.solver for fit in which_solvers(problem, prior) if fit.fits}
        assert {"ddim", "ddpm", "heun", "dpm-solver", "partdiff"} <= fits
        assert not {"dps", "diffpir", "ddrm", "hqs"} & fits
        plain = registry().build("prior", "lab-pairs")
        assert "partdiff" not in {fit.solver for fit in which_solvers(problem, plain) if fit.fits}
    finally:
        entries.clear()
        entries.update(before)


def test_a_schedule_around_a_conditional_prior_sees_y_too():
    """A wrapper says what the prior inside says."""
    prior = DiffusionPrior(GaussianPairsPrior(), DiscreteVP())
    problem = one_problem(prior.denoiser, 2)
    assert prior.sees_y
    assert DDIM(steps=10).mismatches(problem, prior) == []
    x = DDIM(steps=10).solve(problem, prior, generator=0).x
    assert float((problem.operator(x) - problem.y).abs().max()) < 0.2
    assert "count a second time" in DPS(steps=2).mismatches(problem, prior)[0]
