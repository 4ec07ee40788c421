"""Numbers inside the solvers of an objective in closed form: what single-line faults asked for."""

import math
from dataclasses import fields

import pytest
import torch
from invsolve_operators import Identity

from invsolve import GaussianNoise, NoNoise, PoissonNoise, Problem
from invsolve.errors import InputError
from invsolve.operator.algebra import Scaled
from invsolve.priors.base import Denoiser
from invsolve.priors.gaussian import GaussianPrior
from invsolve.priors.tv import TotalVariation, differences
from invsolve.solvers import ADMM, HQS, RLTV, AdamTV
from invsolve.solvers.splitting.common import copies, data_step, keep, level_gaps, noise_levels, prox_copies, pulls
from invsolve.solvers.splitting.hqs import for_samplers, spaced
from invsolve.solvers.variational.common import objective, objective_gaps, rms
from invsolve.solvers.variational.rl_tv import neighbour, projected, ratio, smoothed
from invsolve.testing.subjects import NegativeLog, ValueOnly

DOUBLE, SHAPE = torch.float64, (1, 3, 4)


def test_the_last_level_lies_below_the_first_that_is_given():
    assert HQS(sigma_start=0.5, sigma_end=0.5).sigma_end == 0.5
    with pytest.raises(InputError, match="sigma_end must lie"):
        HQS(sigma_start=0.1, sigma_end=0.11)


def test_levels_that_leave_the_priors_range():
    prior = GaussianPrior(0.5, 0.25)
    low, high = prior.sigma_range
    for value, fits in ((None, True), (low, True), (high, True), (low * (1 - 0.5e-6), True), (high * (1 + 0.5e-6), True)):
        assert bool(level_gaps(prior, {"level": value})) != fits
    for value in (low * (1 - 2e-6), high * (1 + 2e-6)):
        assert "leaves the range" in level_gaps(prior, {"level": value})[0]


def made(factor=2.0, noise=0.1, y=1.0, batch=1):
    kind = GaussianNoise(noise) if noise else NoNoise()
    return Problem(Scaled(Identity(SHAPE), factor), torch.full((batch, *SHAPE), y, dtype=DOUBLE), kind, check_range=False)


# The shared pieces


def test_levels_and_pulls_in_units_of_the_image():
    assert float(noise_levels(made())) == pytest.approx(0.05, rel=1e-12)
    assert float(noise_levels(made(noise=0.0))) == pytest.approx(0.001, rel=1e-12)
    assert float(pulls(made(), TotalVariation(weight=8.0))) == pytest.approx(8 * 0.05**2, rel=1e-12)


def test_the_data_step_by_hand():
    """argmin |2 x - 1|^2 / 4 + rho |x - near|^2 = (1/2 + rho near) / (1 + rho)."""
    near, rho = torch.full((1, *SHAPE), 0.9, dtype=DOUBLE), torch.tensor([0.25], dtype=DOUBLE)
    wanted = (0.5 + 0.25 * 0.9) / 1.25
    assert torch.allclose(data_step(made(), near, rho), torch.full_like(near, wanted), rtol=0, atol=1e-14)


def test_copies_and_their_prox():
    x = torch.tensor([-0.2, 0.3], dtype=DOUBLE).reshape(1, 1, 1, 2)
    assert torch.equal(copies(x, False), x[:, None])
    assert torch.equal(copies(x, True), torch.stack([x, x.clamp_min(0)], 1))
    prior = NegativeLog(GaussianPrior(0.5, 0.25))
    pulled = (x + 16 * 0.1 * 0.5) / (1 + 16 * 0.1)
    tau = torch.tensor([0.1], dtype=DOUBLE)
    for positive in (False, True):
        found, dual = prox_copies(prior, copies(x, positive), tau, None, 1e-6, positive)
        assert dual is None
        assert torch.allclose(found[:, 0], pulled, rtol=0, atol=1e-14)
        assert found.shape[1] == 1 + positive
        if positive:
            assert torch.equal(found[:, 1], x.clamp_min(0))


def test_frozen_items_keep_theirs():
    new, old = torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    kept = keep(torch.tensor([True, False]), new, old)
    assert kept[0].eq(1).all()
    assert kept[1].eq(0).all()


def test_root_mean_square_and_objective():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=DOUBLE).reshape(2, 1, 1, 2)
    assert rms(x).tolist() == pytest.approx([math.sqrt(12.5), 0.0])
    problem, prior = made(batch=2), TotalVariation(weight=3.0)
    x = torch.zeros(2, *SHAPE, dtype=DOUBLE)
    x[0, 0, 0, 0] = 1.0  # its gradient: (-1, -1) there
    nll = [(11 * 1 + 1) / (2 * 0.01), 12 / (2 * 0.01)]
    assert objective(problem, prior, x).tolist() == pytest.approx([nll[0] + 3 * math.sqrt(2), nll[1]], rel=1e-12)


def test_what_is_no_objective():
    tv = TotalVariation(weight=1.0)
    assert objective_gaps(made(), tv) == []
    assert "without noise" in objective_gaps(made(noise=0.0), tv)[0]
    some = Problem(Identity(SHAPE), torch.zeros(2, *SHAPE), GaussianNoise(torch.tensor([0.1, 0.0])))
    assert "sigma must be positive" in objective_gaps(some, tv)[0]
    for weight in (-1.0, math.inf, math.nan):
        prior = ValueOnly()
        prior.weight = weight
        assert "weight of prior" in objective_gaps(made(), prior)[0]
    zero = ValueOnly()
    zero.weight = 0.0
    assert objective_gaps(made(), zero) == []


# hqs


def test_even_steps_in_the_logarithm():
    first, last = torch.tensor([1.0, 0.5], dtype=DOUBLE), torch.tensor([0.01, 0.5], dtype=DOUBLE)
    found = spaced(first, last, 3)
    assert torch.allclose(found, torch.tensor([[1.0, 0.5], [0.1, 0.5], [0.01, 0.5]], dtype=DOUBLE), rtol=1e-12, atol=0)
    assert torch.allclose(spaced(first, last, 1), last[None], rtol=1e-12, atol=0)


def test_penalties_by_hand():
    """From 5 weight sigma_x^2 to steps weight sigma_x, never downwards; growth k where that is given."""
    prior = TotalVariation(weight=8.0)
    found = HQS().penalties(made(), prior, 50)[:, 0]
    assert float(found[0]) == pytest.approx(5 * 8 * 0.05**2, rel=1e-12)
    assert float(found[-1]) == pytest.approx(50 * 8 * 0.05, rel=1e-12)
    loud = HQS().penalties(made(noise=40.0), prior, 2)[:, 0]
    assert loud.tolist() == pytest.approx([5 * 8 * 400.0] * 2, rel=1e-12)
    assert HQS(growth=0.3).penalties(made(), prior, 3)[:, 0].tolist() == pytest.approx([0.3, 0.6, 0.9], rel=1e-12)
    none = HQS().penalties(made(), TotalVariation(weight=0.0), 2)[:, 0]
    assert none.tolist() == pytest.approx([5 * 1e-3 * 0.05**2, 2 * 1e-3 * 0.05], rel=1e-12)


class Named(Denoiser):
    """The Gaussian's denoiser that says for what it was made."""

    def __init__(self, highest, clip):
        super().__init__()
        self.sigma_range, self.clip = (0.002, highest), clip

    def forward(self, x, sigma):
        return GaussianPrior(0.5, 0.25)(x, sigma)


@pytest.mark.parametrize(
    ("highest", "clip", "sampler", "share", "moved"),
    [
        (80.0, (0.0, 1.0), True, 0.25, 1.0),
        (1.0, (0.0, 1.0), False, 0.5, 0.2),
        (80.0, None, False, 0.5, 1.0),
        (0.3, (0.0, 1.0), False, 0.5, 0.2),
    ],
)
def test_rules_for_the_two_kinds_of_networks(highest, clip, sampler, share, moved):
    prior = Named(highest, clip)
    assert for_samplers(prior) is sampler
    levels = HQS().sigmas(made(), prior, 5)[:, 0]
    assert float(levels[0]) == pytest.approx(min(49 / 255, highest), rel=1e-6)
    assert float(levels[-1]) == pytest.approx(share * 0.05, rel=1e-6)
    assert HQS().moved(prior, 40) == pytest.approx(moved)
    assert HQS().moved(prior, 4) == 1.0
    assert HQS(relaxation=0.3).moved(prior, 40) == 0.3


@pytest.mark.parametrize(("highest", "share", "fidelity"), [(80.0, 1.0, 0.35), (0.5, 0.0, 0.23)])
def test_a_sweep_with_a_denoiser_by_hand(highest, share, fidelity):
    """Two sweeps: the noise that a network for samplers is told is drawn but in the last; the answer is the last z."""
    from invsolve.rng import Rng
    from invsolve.solvers.start import first_image

    problem, prior, rng = made(), Named(highest, (-9.0, 9.0)), Rng(0, [0])
    z, levels = first_image(problem, None), HQS().sigmas(problem, prior, 2)[:, 0].tolist()
    for index, level in enumerate(levels):
        rho = fidelity * (0.05 / level) ** 2
        x = (0.5 + rho * z) / (1 + rho)
        if share and not index:
            x = x + level * rng.normal_like(x)
        z = 0.5 + (1 / 16) / (1 / 16 + level**2) * (x - 0.5)
    steps = []
    found = HQS(steps=2).solve(problem, prior, generator=Rng(0, [0]), callback=steps.append)
    assert torch.allclose(found.x, z, rtol=0, atol=1e-12)
    assert [float(step.stats["sigma"]) for step in steps] == pytest.approx(levels, rel=1e-12)


# admm


def test_the_first_penalty_and_the_level_by_rule():
    for weight, wanted in ((1.0, 15 * 0.05**2), (100.0, 0.3), (0.0, 15 * 1e-3 * 0.05**2)):
        assert float(ADMM()._penalty(made(), TotalVariation(weight=weight))) == pytest.approx(wanted, rel=1e-12)
    assert float(ADMM(rho=2.0)._penalty(made(), TotalVariation(weight=100.0))) == 2.0
    prior = GaussianPrior(0.5, 0.25)
    # All is seen, so sigma_x itself, at least 0.05; a hundredth seen would be 10 sigma_x, of which at most 3.
    assert float(ADMM().level(made(noise=0.4), prior)) == pytest.approx(0.2, rel=1e-9)
    assert float(ADMM().level(made(noise=0.02), prior)) == pytest.approx(0.05, rel=1e-12)
    assert float(ADMM(denoiser_sigma=0.7).level(made(), prior)) == pytest.approx(0.7, rel=1e-12)
    from invsolve_operators import Mask

    shape, mask = (1, 10, 10), torch.zeros(10, 10)
    mask[0, 0] = 1
    dark = Problem(Mask(shape, mask=mask), torch.zeros(1, *shape, dtype=DOUBLE), GaussianNoise(0.1))
    assert float(ADMM().level(dark, prior)) == pytest.approx(0.3, rel=1e-9)


def test_an_iteration_with_a_regulariser_by_hand():
    """One pixel value everywhere, so that all is a scalar: x, the relaxed mix, the prox, the dual, both residuals and the objective."""
    prior, rho, weight = NegativeLog(GaussianPrior(0.5, 0.25)), 0.4, 1.0
    problem, steps = made(), []
    ADMM(steps=3, rho=rho, tol=0.0).solve(
        problem, prior, generator=0, callback=steps.append, x_init=torch.full((1, *SHAPE), 0.9, dtype=DOUBLE)
    )
    z, u, pull = 0.9, 0.0, weight * 0.05**2
    for step in steps:
        x = (0.5 + rho * (z - u)) / (1 + rho)
        mixed = 1.6 * x - 0.6 * z
        tau = pull / rho
        new = (mixed + u + 16 * tau * 0.5) / (1 + 16 * tau)
        primal, dual = abs(x - new), rho * abs(new - z)
        z, u = new, u + mixed - new
        assert torch.allclose(step.x, torch.full_like(step.x, z), rtol=0, atol=1e-12)
        assert float(step.stats["primal"]) == pytest.approx(primal, abs=1e-12)
        assert float(step.stats["dual"]) == pytest.approx(dual, abs=1e-12)
        assert torch.allclose(step.stats["objective"], objective(problem, prior, step.x), rtol=1e-12)


def test_an_iteration_with_a_denoiser_by_hand():
    prior, level = GaussianPrior(0.5, 0.25), 0.2
    problem, steps = made(), []
    start = torch.full((1, *SHAPE), 0.9, dtype=DOUBLE)
    ADMM(steps=3, denoiser_sigma=level, strength=2.0, tol=0.0).solve(problem, prior, generator=0, callback=steps.append, x_init=start)
    z, u, rho = 0.9, 0.0, 2.0 * (0.05 / level) ** 2
    for step in steps:
        x = (0.5 + rho * (z - u)) / (1 + rho)
        new = 0.5 + (1 / 16) / (1 / 16 + level**2) * (x + u - 0.5)
        left = abs((new - x) - rho * (new - z))
        primal = abs(x - new)
        z, u = new, u + x - new
        assert torch.allclose(step.x, torch.full_like(step.x, z), rtol=0, atol=1e-12)
        assert float(step.stats["primal"]) == pytest.approx(primal, abs=1e-12)
        assert float(step.stats["gradient"]) == pytest.approx(left, abs=1e-12)


# adam-tv


def test_adam_by_hand():
    """Three steps on a quadratic, one value everywhere: both moments with their corrections, the cosine, eps; cut at 0 where asked."""
    prior, problem = NegativeLog(GaussianPrior(0.5, 0.25)), made(y=-3.0)

    def slope(x):
        return 2 * (2 * x + 3.0) / 0.01 + 16 * (x - 0.5)

    for positive in (False, True):
        solver, steps = AdamTV(steps=3, lr=0.3, betas=(0.8, 0.9), eps=0.5, positive=positive), []
        solver.solve(problem, prior, generator=0, callback=steps.append, x_init=torch.full((1, *SHAPE), 0.4, dtype=DOUBLE))
        x, mean, square = 0.4, 0.0, 0.0
        for index, step in enumerate(steps):
            gradient = slope(x)
            mean, square = 0.8 * mean + 0.2 * gradient, 0.9 * square + 0.1 * gradient**2
            lr = 0.3 * (1 + math.cos(math.pi * index / 3)) / 2
            x = x - lr * (mean / (1 - 0.8 ** (index + 1))) / (math.sqrt(square / (1 - 0.9 ** (index + 1))) + 0.5)
            x = max(x, 0.0) if positive else x
            assert torch.allclose(step.x, torch.full_like(step.x, x), rtol=0, atol=1e-11)
            assert torch.allclose(step.stats["objective"], objective(problem, prior, step.x), rtol=1e-12)


# rl-tv


def test_the_ratio_of_counts():
    noise = PoissonNoise(0.5)
    mean, y = torch.tensor([2.0, 0.05, 0.02, -1.0], dtype=DOUBLE), torch.tensor([3.0, 1.0, 1.0, 0.0], dtype=DOUBLE)
    least = 0.05
    wanted = [1.5, 1 / least, 1 + (1.0 - 0.02) / least, 1 + 1.0 / least]
    assert ratio(y, mean, noise).tolist() == pytest.approx(wanted, rel=1e-12)
    # and it is 1 - gain d nll / d mean
    leaf = mean.clone()[None].requires_grad_()
    (slope,) = torch.autograd.grad(noise.nll(y[None], leaf).sum(), leaf)
    assert ratio(y, mean, noise).tolist() == pytest.approx((1 - 0.5 * slope[0]).tolist(), rel=1e-9)


def test_neighbours_and_projections():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 1, 2, 2)
    assert neighbour(x, -1).flatten().tolist() == [2.0, 2.0, 4.0, 4.0]
    assert neighbour(x, -2).flatten().tolist() == [3.0, 4.0, 3.0, 4.0]
    p = torch.tensor([3.0, 4.0], dtype=DOUBLE).reshape(1, 2, 1, 1, 1)
    assert projected(p, True).flatten().tolist() == pytest.approx([0.6, 0.8])
    assert projected(p / 10, True).flatten().tolist() == pytest.approx([0.3, 0.4])
    assert projected(torch.tensor([3.0, -4.0, 0.5]), False).tolist() == [1.0, -1.0, 0.5]


@pytest.mark.parametrize("isotropic", [True, False])
def test_the_weighted_denoising_is_the_optimum(isotropic):
    """u = max(x - weight spread D^T p, 0) with |p| <= 1 and p on the sphere along D u where D u is not 0: then it is the minimiser."""
    prior = TotalVariation(weight=0.7, isotropic=isotropic)
    grid = torch.arange(20, dtype=DOUBLE).reshape(1, 1, 4, 5)
    x, spread = (grid * 1.7).sin(), 0.05 + 0.02 * (grid * 0.9).cos()
    u, dual = smoothed(prior, x, spread, torch.zeros_like(differences(x)), 4000)
    assert bool((u >= 0).all())

    def worth(v):
        return float(((v - x).square() / (2 * spread)).sum() + prior.weight * prior.value(v))

    best = worth(u)
    generator = torch.Generator().manual_seed(0)
    for size in (1e-4, 1e-3, 1e-2, 1e-1):
        for _ in range(10):
            other = (u + size * torch.randn(u.shape, generator=generator, dtype=DOUBLE)).clamp_min(0)
            assert worth(other) >= best - 1e-9 * best
    assert worth(x.clamp_min(0)) > best
    size = dual.square().sum(1).sqrt() if isotropic else dual.abs()
    assert float(size.max()) <= 1 + 1e-12
    assert torch.equal(smoothed(TotalVariation(weight=0.0), x, spread, dual, 5)[0], x.clamp_min(0))


# benchmarks/results (quick.md, defaults_splitting.md, units.md) were measured with these: whoever changes one measures anew.
DEFAULTS = {
    HQS: {
        **dict.fromkeys(("steps", "growth", "sigma_start", "sigma_end", "fidelity", "noise", "relaxation")),
        "ensemble": False,
        "positive": False,
    },
    ADMM: {"steps": None, "tol": 4e-3, "rho": None, "relaxation": 1.6, "denoiser_sigma": None, "strength": 1.0, "positive": False},
    AdamTV: {"steps": 400, "lr": 0.02, "betas": (0.9, 0.99), "eps": 1e-4, "positive": False},
    RLTV: {"steps": 1000, "inner": 3},
}


@pytest.mark.parametrize("cls", DEFAULTS, ids=lambda cls: cls.__name__)
def test_defaults_are_those_that_the_tables_were_measured_with(cls):
    assert {field.name: getattr(cls(), field.name) for field in fields(cls)} == DEFAULTS[cls]


def test_a_richardson_lucy_step_without_total_variation_by_hand():
    """H = 2, weight 0: x <- x H^T(y / Hx) / H^T 1 = y / 2 after one step, whatever x was; then x stays."""
    y = torch.linspace(0.5, 3.0, 12, dtype=DOUBLE).reshape(1, *SHAPE)
    problem = Problem(Scaled(Identity(SHAPE), 2.0), y, PoissonNoise(0.01), check_range=False)
    steps = []
    RLTV(steps=2).solve(problem, TotalVariation(weight=0.0), generator=0, callback=steps.append, x_init=torch.full_like(y, 0.7))
    for step in steps:
        assert torch.allclose(step.x, y / 2, rtol=1e-12, atol=0)
        assert torch.allclose(step.stats["objective"], problem.noise.nll(y, y), rtol=1e-12)
