"""Rules and constants of solvers by hand: what single-line faults (benchmarks/studies/mutants.py) asked for."""

import math

import pytest
import torch
from invsolve_operators import Identity, Mask

from invsolve import GaussianNoise, NoNoise, PoissonNoise, Problem
from invsolve.errors import InputError
from invsolve.noise import NoiseModel, drawn_level, level_at
from invsolve.operator import Capability, Operator
from invsolve.priors.gaussian import GaussianPrior
from invsolve.priors.self_ensemble import turned, turned_back
from invsolve.priors.tv import TotalVariation
from invsolve.rng import Rng
from invsolve.solvers import ADMM, DDIM, DDPM, DDRM, DPS, HQS, DiffPIR, Heun, ScoreALD, start
from invsolve.solvers.diffusion import ddrm
from invsolve.solvers.diffusion.common import grid_gaps, proximal
from invsolve.solvers.diffusion.dps import crossed
from invsolve.solvers.lanczos import shifted_solve
from invsolve.solvers.splitting import admm
from invsolve.solvers.start import chebyshev, laplace_spectrum, rough, seen_image
from invsolve.solvers.variational.common import objective_gaps
from invsolve.solvers.variational.rl_tv import projected

DOUBLE, SHAPE = torch.float64, (1, 3, 4)


def flat(value, batch=1, shape=SHAPE, dtype=DOUBLE):
    return torch.full((batch, *shape), value, dtype=dtype)


# Where solvers begin


def test_chebyshevs_iteration_leaves_his_polynomial():
    """30 products for eigenvalues from largest / 200: the error is T_30((m - a) / h) / T_30(m / h) of what it was (Saad 2003, 6.11)."""
    largest, values = torch.full((1, 1, 1, 1), 1.3, dtype=DOUBLE), [1.3 / 200, 0.01, 0.2, 0.9, 1.3]
    middle, half = 1.3 * (1 + 1 / 200) / 2, 1.3 * (1 - 1 / 200) / 2

    def polynomial(x):
        return math.cosh(30 * math.acosh(x)) if x >= 1 else math.cos(30 * math.acos(max(x, -1)))

    for value in values:
        found = chebyshev(lambda x, a=value: a * x, lambda r: r, flat(value), flat(0.0), largest)
        wanted = polynomial((middle - value) / half) / polynomial(middle / half)
        assert float((1 - found).abs().max()) == pytest.approx(abs(wanted), abs=1e-12)


def test_the_spectrum_of_roughness_is_its_eigenvalues():
    """cos(k (i + 1/2) pi / n) is what a second difference with nothing over the edges multiplies by 2 - 2 cos(k pi / n)."""
    image = torch.zeros(1, 1, 5, 7, dtype=DOUBLE)
    found = laplace_spectrum(image)
    assert found.dtype == DOUBLE
    assert found.shape == (10, 8)
    rows, columns = (torch.arange(side, dtype=DOUBLE) + 0.5 for side in (5, 7))
    for k, j in ((0, 0), (1, 0), (0, 3), (2, 5), (4, 6)):
        mode = (k * math.pi / 5 * rows).cos()[:, None] * (j * math.pi / 7 * columns).cos()
        assert torch.allclose(rough(mode[None, None]), found[k, j] * mode, rtol=0, atol=1e-13)


class Flat(Operator):
    """H(x) = round(4 x) / 4 * span + black, channel by channel: not linear, and flat images stay flat."""

    def __init__(self, span, black):
        super().__init__()
        self.in_shape = self.out_shape = (2, 4, 4)
        self.span, self.black = (torch.tensor(one, dtype=DOUBLE)[:, None, None] for one in (span, black))

    def forward(self, x):
        return (4 * x).round() / 4 * self.span + self.black


def test_y_in_units_of_the_image_by_channel():
    operator = Flat((3.0, -0.5), (1.0, 2.0))
    x = torch.linspace(0, 1, 32, dtype=DOUBLE).reshape(1, 2, 4, 4)
    problem = Problem(operator, operator(x), NoNoise(), check_range=False)
    assert torch.allclose(seen_image(problem), (4 * x).round() / 4, rtol=0, atol=1e-14)
    beyond = Problem(operator, operator(x) + torch.tensor([9.0, 0.0], dtype=DOUBLE)[:, None, None], NoNoise(), check_range=False)
    assert (seen_image(beyond)[:, 0] == 1).all()


def test_a_channel_that_says_nothing_leaves_no_scale():
    operator = Flat((3.0, 0.0), (1.0, 2.0))
    found = seen_image(Problem(operator, operator(flat(0.25, shape=(2, 4, 4))), NoNoise(), check_range=False))
    assert torch.allclose(found[0, 0], torch.full_like(found[0, 0], 0.25), rtol=0, atol=1e-14)
    assert (found[0, 1] == 0.5).all()


SPECTRUM = Operator.from_matrix(1j * torch.eye(12, dtype=DOUBLE), SHAPE, SHAPE)


@pytest.mark.parametrize("operator", [SPECTRUM, Mask(SHAPE, mask=torch.ones(3, 4))])
def test_where_y_is_no_image_of_that_kind_it_begins_with_grey(operator):
    """y with imaginary parts is none; that of a mask is one."""
    found = seen_image(Problem(operator, operator(flat(0.25)), NoNoise()))
    assert torch.equal(found, flat(0.5 if operator.complex_output else 0.25))


# A linear system in a few products


def test_fifty_products_by_default():
    seen = []

    def square(x):
        seen.append(x)
        return torch.linspace(0.01, 1, 80, dtype=DOUBLE) * x

    shifted_solve(square, Rng(0, [0], purpose="test").normal_like(torch.zeros(1, 80, dtype=DOUBLE)), torch.ones(1, dtype=DOUBLE))
    assert len(seen) == 50
    seen.clear()
    few = torch.linspace(0.1, 1, 7, dtype=DOUBLE)
    shifted_solve(lambda x: seen.append(x) or few * x, torch.ones(1, 7, dtype=DOUBLE), torch.ones(1, dtype=DOUBLE))
    assert len(seen) == 7
    seen.clear()  # one eigenvalue: the space is whole after one product
    shifted_solve(lambda x: seen.append(x) or x / 2, torch.ones(1, 7, dtype=DOUBLE), torch.ones(1, dtype=DOUBLE))
    assert len(seen) == 1


def test_a_prox_from_an_adjoint_has_the_precision_of_the_image():
    """z + tau h (y - h z) / (1 + tau h^2) with h = 1/3: to 1e-14 in float64."""

    class Third(Operator):
        traits = frozenset({Capability.LINEAR, Capability.ADJOINT})

        def __init__(self):
            super().__init__()
            self.in_shape = self.out_shape = SHAPE

        def forward(self, x):
            return x / 3

        def adjoint(self, y):
            return y / 3

    problem = Problem(Third(), flat(0.2, 2), GaussianNoise(0.1))
    tau = torch.tensor([0.7, 5.0], dtype=DOUBLE)
    found = proximal(problem)(flat(0.9, 2), problem.y, tau)
    wanted = 0.9 + tau / 3 * (0.2 - 0.3) / (1 + tau / 9)
    assert torch.allclose(found[:, 0, 0, 0], wanted, rtol=0, atol=1e-14)
    assert torch.allclose(proximal(problem)(flat(0.3, 2), problem.y, 0.7), flat(0.3 + 0.7 / 3 * 0.1 / (1 + 0.7 / 9), 2), rtol=0, atol=1e-14)


# Noise


class Counted(NoiseModel):
    """Uniform noise that says nothing of itself and counts how often it is drawn from."""

    def __init__(self):
        super().__init__()
        self.drawn = 0

    def sample(self, clean, rng):
        self.drawn += 1
        return clean + rng.uniform(clean.shape[1:], clean)


@pytest.mark.parametrize(("size", "pairs"), [(1, 256), (16, 256), (100, 41), (4096, 1), (5000, 1)])
def test_how_often_a_level_is_drawn(size, pairs):
    """4096 differences: as many pairs of measurements as have them, at most 256."""
    noise = Counted()
    drawn_level(noise, torch.zeros(2, size, dtype=DOUBLE))
    assert noise.drawn == 2 * pairs


def test_draws_for_a_level_have_a_stream_of_their_own_that_a_seed_names():
    clean = torch.zeros(3, 50, dtype=DOUBLE)
    assert torch.equal(drawn_level(Counted(), clean), drawn_level(Counted(), clean, seed=0))
    assert not torch.equal(drawn_level(Counted(), clean), drawn_level(Counted(), clean, seed=1))
    rng, squares = Rng(0, [0, 0, 0], purpose="noise level"), torch.zeros(3, dtype=DOUBLE)
    for _ in range(82):
        squares += (Counted().sample(clean, rng) - Counted().sample(clean, rng)).square().sum(1) / 2
    assert torch.allclose(drawn_level(Counted(), clean), (squares / (82 * 50)).sqrt(), rtol=1e-12)


def test_a_level_lies_where_the_measurement_lies():
    assert level_at(GaussianNoise(0.1), torch.zeros(2, 3, device="meta")).device.type == "meta"
    assert level_at(GaussianNoise(0.1), torch.zeros(2, 3, dtype=torch.complex128)).dtype == DOUBLE


def test_without_noise_one_wrong_entry_is_enough():
    y = torch.tensor([[1.0, 2.0]], dtype=DOUBLE)
    assert NoNoise().nll(y, torch.tensor([[1.0, 2.5]], dtype=DOUBLE)).tolist() == [math.inf]


def test_parts_of_a_measurement_have_a_tolerance_each():
    """What rounding leaves below 0 is that of the coarsest part."""
    coarse, fine = torch.tensor([[-1e-6]], dtype=torch.float32), torch.tensor([[0.5]], dtype=DOUBLE)
    found = PoissonNoise(0.1).sample((coarse, fine), Rng(0, [0]))
    assert float(found[0]) == 0


def test_counts_worth_another_number():
    assert PoissonNoise(0.04).scaled(0.5).gain == pytest.approx(0.02, rel=1e-12)


class OneWild(NoiseModel):
    """Draws that are infinite in the second item."""

    def sample(self, clean, rng):
        return clean + rng.uniform(clean.shape[1:], clean) * torch.tensor([[1.0], [math.inf]], dtype=DOUBLE)


def test_every_item_needs_a_finite_level():
    with pytest.raises(InputError, match="no finite level"):
        drawn_level(OneWild(), torch.zeros(2, 50, dtype=DOUBLE))


# What solvers say of themselves


def test_arguments_that_are_fixed_are_not_shown():
    assert "eta" not in repr(DDPM())


def test_stated_bias_of_diffpir():
    """What can be said of other settings than the defaults holds with the variance of the posterior and a weight of 1 alone."""
    exact = {"variance": "posterior"}
    assert DiffPIR(**exact, zeta=0.3).stated_bias() == {"white": {"mean": 0.1, "trace": (0.8, 0.9)}}
    assert DiffPIR(**exact, zeta=0.5).stated_bias() == {"white": {"mean": 0.1}}
    assert DiffPIR().stated_bias() == DiffPIR.declared_bias
    for other in (DiffPIR(**exact, weight=2.0), DiffPIR(**exact, authors=True), DiffPIR(zeta=0.3)):
        assert other.stated_bias() == {}


def test_stated_bias_of_admm():
    for same in (ADMM(), ADMM(rho=1.0), ADMM(denoiser_sigma=0.2), ADMM(tol=ADMM.tol / 2)):
        assert same.stated_bias() == ADMM.declared_bias
    for other in (ADMM(strength=2.0), ADMM(tol=0.0), ADMM(tol=2 * ADMM.tol), ADMM(positive=True)):
        assert other.stated_bias() == {}


def test_a_weight_that_is_none_is_a_gap():
    problem, prior = Problem(Identity(SHAPE), flat(0.5), GaussianNoise(0.1)), TotalVariation(weight=1.0)
    assert objective_gaps(problem, prior) == []
    for weight in (-1.0, math.nan, math.inf):
        prior.weight = weight
        assert "weight of prior TotalVariation" in objective_gaps(problem, prior)[0]


def test_turns_need_a_prior_without_a_place():
    problem, prior = Problem(Identity(SHAPE), flat(0.5), GaussianNoise(0.1)), GaussianPrior(0.5, 0.25)
    for placeless in (True, False):
        prior.placeless = placeless
        assert (HQS(ensemble=True).gaps(problem, prior) == []) is placeless
        assert HQS(ensemble=False).gaps(problem, prior) == []


def test_grids_may_leave_the_range_by_a_rounding_error():
    prior = GaussianPrior(0.5, 0.25)
    low, high = prior.sigma_range
    for factor, fits in ((1.0, True), (1 - 0.5e-6, True), (1 - 1.5e-6, False)):
        assert (grid_gaps(prior, 4, "karras", low * factor) == []) is fits or factor == 1.0
        told = grid_gaps(prior, 4, "karras", low * factor)
        assert ("sigma_max must be" in told[0] if told else False) is not fits
    assert grid_gaps(prior, 4, "karras", high * (1 + 0.5e-6)) == []
    assert "spans sigma" in grid_gaps(prior, 4, "karras", high * (1 + 1.5e-6))[0]


# Steps


def test_ddim_goes_to_the_next_level_on_a_line_through_its_estimate():
    """x' = D(x) + sigma' / sigma (x - D(x)), D the mean of N(1/2, 1/16) given x; the levels by name of the steps."""
    prior, steps, solver = GaussianPrior(0.5, 0.25), [], DDIM(steps=5)
    solver.solve(Problem.unconditional(SHAPE, 2, dtype=DOUBLE), prior, generator=0, callback=steps.append)
    levels = solver.sigmas(prior)
    for before, after, sigma, following in zip(steps[:-1], steps[1:], levels[1:-1], levels[2:], strict=True):
        estimate = 0.5 + (before.x - 0.5) / 16 / (1 / 16 + sigma**2)
        assert torch.allclose(after.x, estimate + following / sigma * (before.x - estimate), rtol=0, atol=1e-12)


def test_diffpir_as_its_authors_ends_with_the_networks_estimate_and_else_with_a_data_step():
    prior, problem = GaussianPrior(0.5, 0.25), Problem(Identity(SHAPE), flat(0.9), GaussianNoise(0.1))
    for authors in (True, False):
        steps = []
        DiffPIR(steps=4, authors=authors).solve(problem, prior, generator=0, callback=steps.append)
        before, last = steps[-2], steps[-1]
        level = DiffPIR(steps=4, authors=authors).sigmas(prior)[-2]
        estimate = 0.5 + (before.x - 0.5) / 16 / (1 / 16 + level**2)
        tau = level**2 / 0.1**2
        wanted = estimate if authors else (estimate + tau * 0.9) / (1 + tau)
        assert torch.allclose(last.x0_hat, wanted, rtol=0, atol=1e-6)


def test_ddrm_trusts_y_by_the_first_level_of_the_grid_in_every_step(monkeypatch):
    """r = min(10 s0, 4 sigma_0); a component of noise l has the share 1 / (1 + (l / r)^2) of y in all steps."""
    prior, problem, told = GaussianPrior(0.5, 0.25), Problem(Identity(SHAPE), flat(0.9), GaussianNoise(0.1)), []
    monkeypatch.setattr(ddrm, "reach", lambda prior, first: told.append(first) or 2.0)
    DDRM(steps=4, sigma_max=0.5).solve(problem, prior, generator=0)
    assert told == [pytest.approx(0.5)] * len(told)
    assert len(told) >= 4
    monkeypatch.undo()
    assert [ddrm.reach(prior, first) for first in (0.5, 0.625, 8.0)] == [2.0, 2.5, 2.5]


def test_the_last_step_of_score_ald_has_no_noise_left():
    prior, problem, steps = GaussianPrior(0.5, 0.25), Problem(Identity(SHAPE), flat(0.9), GaussianNoise(0.1)), []
    solver = ScoreALD(steps=3)
    solver.solve(problem, prior, generator=0, callback=steps.append)
    assert [step.sigma for step in steps] == [*solver.sigmas(prior)[: len(steps) - 1], 0.0]


@pytest.mark.parametrize("kind", [ADMM, HQS])
def test_pictures_that_must_not_be_negative_are_cut_at_0_and_nowhere_else(kind):
    prior = GaussianPrior(0.5, 0.25)
    for y, cut in ((0.3, False), (-2.0, True)):
        problem = Problem(Identity(SHAPE), flat(y), GaussianNoise(0.1), check_range=False)
        free, held = (kind(steps=3, positive=positive).solve(problem, prior, generator=0).x for positive in (False, True))
        assert bool((free < 0).all()) is cut
        assert torch.equal(held, torch.zeros_like(held) if cut else free)


@pytest.mark.parametrize("kind", [ADMM, HQS])
def test_one_step_is_a_number_of_steps(kind):
    assert kind(steps=1).steps == 1
    with pytest.raises(InputError, match="steps must"):
        kind(steps=0)


def test_diffpir_weighs_y_as_its_authors_do():
    """(sigma / sigma_y)^2 / weight, with the network's own sigma: in [0, 1] units twice it for a network of [-1, 1]."""
    prior = GaussianPrior(0.5, 0.25)
    problem = Problem(Identity(SHAPE), flat(0.5), GaussianNoise(0.1))
    found = DiffPIR(authors=True, weight=2.0).tau(problem, prior, 0.3)
    assert float(found) == pytest.approx((prior.unit.sigma(0.3) / 0.1) ** 2 / 2, rel=1e-12)


def test_how_many_of_the_authors_steps_lie_between_two_levels_is_computed_in_float64():
    """Between neighbouring entries of their schedule exactly one: float32 leaves 1e-4."""
    betas = torch.linspace(0.1 / 1000, 20 / 1000, 1000, dtype=DOUBLE)
    kept = (1 - betas).cumprod(0)
    sigma = ((1 - kept) / kept).sqrt()
    for index in (10, 500, 990):
        assert crossed(float(sigma[index]), float(sigma[index - 1])) == pytest.approx(1.0, abs=1e-8)
    assert DPS().zeta is None or 0 <= DPS().zeta <= 1


def test_the_eight_turns_are_undone():
    x = torch.arange(24, dtype=DOUBLE).reshape(1, 2, 3, 4)
    for index in range(8):
        assert torch.equal(turned_back(turned(x, index), index), x)
    mirrored = turned(x, 4)
    assert torch.equal(mirrored, x.flip(3))


@pytest.mark.parametrize("isotropic", [True, False])
def test_onto_the_unit_ball_or_the_unit_square(isotropic):
    p = torch.tensor([[3.0, -0.2, -3.0], [4.0, 0.1, 0.5]], dtype=DOUBLE).reshape(1, 2, 1, 1, 3)
    found = projected(p, isotropic).reshape(2, 3)
    size = math.hypot(3.0, 0.5)
    wanted = [[0.6, -0.2, -3 / size], [0.8, 0.1, 0.5 / size]] if isotropic else [[1.0, -0.2, -1.0], [1.0, 0.1, 0.5]]
    assert torch.allclose(found, torch.tensor(wanted, dtype=DOUBLE), rtol=0, atol=1e-15)


def test_a_finished_run_goes_on_with_what_it_had():
    problem, prior = Problem(Identity(SHAPE), flat(0.5), GaussianNoise(0.1)), TotalVariation(weight=1.0)
    steps = []
    ADMM(steps=60, tol=1e-2).solve(problem, prior, generator=0, callback=steps.append)
    assert steps[-1].converged
    again = list(ADMM(steps=60, tol=1e-2).iterate(problem, prior, Rng(0, [0]), steps[-1]))
    assert again == [steps[-1]]


def test_defaults_that_nothing_else_says():
    heun = Heun()
    assert (heun.s_noise, heun.s_min) == (1.0, 0.0)
    assert Heun.requires.noise == ()
    assert ADMM.requires.prox is True
    assert DiffPIR().authors is False
    assert (admm.PATIENCE, admm.FALL) == (6, 0.95)
    assert start.LEVELS == (0.1, 0.01)  # the last is the 0.01 of the formula
    assert (start.PRODUCTS, start.SPREAD) == (30, 200.0)
    mask = Problem(Mask(SHAPE, mask=torch.ones(3, 4)), flat(0.5), GaussianNoise(0.1))
    steps = []
    ADMM(tol=0.0).solve(mask, GaussianPrior(0.5, 0.25), generator=0, callback=steps.append)
    assert len(steps) == 100
