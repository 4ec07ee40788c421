"""DPS against closed forms: its exact law, its authors' recurrence, what its one scale must not depend on, and noise that is not even."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from invsolve_operators import HDR, BlockMean, BoxMask, GaussianBlur, Mask

from invsolve import GaussianNoise, InputError, NoiseModel, NoNoise, PoissonNoise, Problem
from invsolve.operator.measurement import mapped
from invsolve.priors import GaussianPrior
from invsolve.rng import Rng
from invsolve.schedule import DiscreteVP, sigma_grid
from invsolve.solvers import DPS
from invsolve.solvers.diffusion.dps import crossed
from invsolve.testing.oracle import Bias, DenseOperator, Gaussian, gaussian_case, normal, propagate, standard_errors, wasserstein
from invsolve.testing.pooled import Pooled
from invsolve.testing.units import in_units

SIZE, CHAINS, SIGMA_Y = 8, 2000, 0.05
DOUBLE = torch.float64


def problem_of(matrix, y, chains, sigma=SIGMA_Y):
    return Problem(DenseOperator(matrix), y.expand(chains, -1), GaussianNoise(sigma), check_range=False)


def law_of(law, sigmas, matrix, y, *, scale=1.5, zeta=1.0, sigma_y=SIGMA_Y, denoiser=None):
    """The law of the answer under x0 ~ law, by the recursion of mean and covariance: G is the network's Jacobian."""
    denoiser = denoiser or law.denoiser
    eye, size = torch.eye(len(law.mean), dtype=DOUBLE), float(torch.linalg.matrix_norm(matrix, 2))

    def steps():
        for sigma, following in itertools.pairwise(sigmas):
            gain, offset = denoiser(sigma)
            pull = scale * sigma**2 / (sigma_y**2 + size**2 * sigma**2) * gain.T @ matrix.T
            guided, shift = (eye - pull @ matrix) @ gain, (eye - pull @ matrix) @ offset + pull @ y
            fresh = 1 - (following / sigma) ** 2 if zeta is None else zeta
            kept = following / sigma * math.sqrt(1 - fresh)
            yield guided + kept * (eye - guided), (1 - kept) * shift, following**2 * fresh * eye

    return propagate(Gaussian(torch.full_like(law.mean, float(law.mean.mean())), sigmas[0] ** 2 * eye), steps())


# ---- the law ----


@pytest.mark.parametrize("zeta", [1.0, 0.4, None])
@pytest.mark.parametrize("name", ["S", "G", "I"])
def test_dps_has_its_exact_law(name, zeta):
    """Mean and covariance of N chains within four standard errors in every entry."""
    law, prior, matrix, y = gaussian_case(name)
    x = DPS(steps=40, zeta=zeta, sigma_max=3.0).solve(problem_of(matrix, y, CHAINS), prior, generator=Pooled(0, range(CHAINS))).x
    mean, cov = standard_errors(x, law_of(law, prior.sigmas(40, sigma_max=3.0), matrix, y, zeta=zeta))
    assert mean < 4
    assert cov < 4


def test_the_defaults():
    """Nothing need be given; without sigma_max a run starts at 20 s0, inside the prior's range."""
    _, prior, matrix, y = gaussian_case("G")
    given = DPS(steps=100, scale=1.5, zeta=1.0, sigma_max=20 * prior.s0).solve(problem_of(matrix, y, 3), prior, generator=0).x
    assert torch.equal(DPS().solve(problem_of(matrix, y, 3), prior, generator=0).x, given)


def test_the_last_step_in_closed_form():
    """steps = 1: x = x0_hat + scale sigma^2 / (sigma_y^2 + |A|^2 sigma^2) G^T A^T (y - A x0_hat), no noise."""
    law, prior, matrix, y = gaussian_case("G", 2)
    x_init = normal(1, 1, 1, SIZE, seed=3)
    x = DPS(steps=1, scale=0.8, sigma_max=2.0).solve(problem_of(matrix, y, 1), prior, x_init=x_init, generator=0).x.flatten()
    gain, offset = law.denoiser(2.0)
    x0 = gain @ x_init.flatten() + offset
    weight = 0.8 * 2.0**2 / (SIGMA_Y**2 + float(torch.linalg.matrix_norm(matrix, 2)) ** 2 * 2.0**2)
    assert float((x - x0 - weight * gain.T @ matrix.T @ (y - matrix @ x0)).abs().max()) < 1e-12


def field_cases():
    """d = 64: a field of exponential covariance behind a hole, a blur and a dense operator with s over two decades; and d = 8."""
    side = 8
    places = torch.cartesian_prod(torch.arange(side, dtype=DOUBLE), torch.arange(side, dtype=DOUBLE))
    law = Gaussian(torch.linspace(0.3, 0.7, 64, dtype=DOUBLE), 0.25**2 * torch.exp(-torch.cdist(places, places) / 3))
    away = torch.minimum(torch.arange(side), side - torch.arange(side)).double()
    tap = torch.exp(-0.5 * away**2) / torch.exp(-0.5 * away**2).sum()
    line = torch.stack([tap.roll(shift) for shift in range(side)])
    known = ((places - 3.5).abs().amax(1) > 2).nonzero().flatten()
    left, right = (torch.linalg.qr(normal(size, 6, seed=size))[0] for size in (6, 64))
    yield "hole", law, torch.eye(64, dtype=DOUBLE)[known]
    yield "blur", law, torch.kron(line, line)
    yield "dense", law, left @ torch.diag(torch.logspace(math.log10(0.03), math.log10(3), 6, dtype=DOUBLE)) @ right.T
    for name in ("G", "I"):
        law, _, matrix, _ = gaussian_case(name)
        yield name, law, matrix


FIELDS = {name: (law, matrix) for name, law, matrix in field_cases()}
DENOISERS = {id(law): functools.cache(law.denoiser) for law, _ in FIELDS.values()}  # four in five of its calls are of a level met before


@pytest.mark.parametrize("zeta", [1.0, None])
@pytest.mark.parametrize("sigma_y", [0.005, 0.05, 0.5])
@pytest.mark.parametrize("name", FIELDS)
def test_one_scale_beats_the_prior_at_every_noise_level(name, sigma_y, zeta):
    """Over four y: the mean, and one answer, nearer to the truth than the prior's; of ancestral steps the law too (Wasserstein-2).

    The law of fresh noise is half as wide as the posterior, which costs more than y is worth where y says next to nothing. The norm's step
    is 2.2 to 4.5 posterior standard deviations off at sigma_y = .5, where the prior is .3 to .9 off.
    """
    law, matrix = FIELDS[name]
    sigmas = sigma_grid("karras", 100, low=0.002, high=20 * float(law.cov.diagonal().mean().sqrt()))
    both = []
    for seed in range(4):
        y = matrix @ law.sample(1, 50 + seed)[0] + sigma_y * normal(len(matrix), seed=70 + seed)
        posterior = law.posterior(matrix, y, sigma_y)
        for one in (law_of(law, sigmas, matrix, y, zeta=zeta, sigma_y=sigma_y, denoiser=DENOISERS[id(law)]), law):
            bias = Bias.of(one, posterior)
            both.append((bias.mean**2, bias.mean**2 + bias.trace, wasserstein(one, posterior) if zeta is None else 0.0))
    found, prior_only = (torch.tensor(both[which::2]).mean(0) for which in (0, 1))
    assert bool((found[:2] < prior_only[:2]).all())
    assert zeta is not None or found[2] < prior_only[2]


# ---- the authors' recurrence ----


def test_authors_is_their_recurrence_from_the_top_to_the_end():
    """1000 steps of their VP recurrence in [-1, 1], with the same random numbers: the whole path, and its end."""
    law, prior, matrix, y = gaussian_case("G", 1)
    zeta, problem = 0.7, problem_of(matrix, y, 1)
    kept = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    top = math.sqrt((1 - kept[-1]) / kept[-1]) / 2
    x_init = 0.5 + top * normal(1, 1, 1, SIZE, seed=7)
    rng, ones = Rng.make(5, problem.items), torch.ones(SIZE, dtype=DOUBLE)
    x_t, path = math.sqrt(kept[-1]) * (2 * x_init.flatten() - 1), []
    for t in range(999, -1, -1):
        a_t, a_s = kept[t], kept[t - 1] if t else 1.0
        gain, offset = law.denoiser(math.sqrt((1 - a_t) / a_t) / 2)
        x0 = 2 * (gain @ ((x_t / math.sqrt(a_t) + 1) / 2) + offset) - 1
        residual = (2 * y - matrix @ ones) - matrix @ x0
        gradient = -gain.T @ matrix.T @ residual / residual.norm() / math.sqrt(a_t)
        beta = 1 - a_t / a_s
        mean = math.sqrt(a_s) * beta / (1 - a_t) * x0 + math.sqrt(1 - beta) * (1 - a_s) / (1 - a_t) * x_t
        noise = rng.normal_like(problem.image).flatten() if t else torch.zeros(SIZE, dtype=DOUBLE)
        x_t = mean + math.sqrt(beta * (1 - a_s) / (1 - a_t)) * noise - zeta * gradient
        path.append((x_t / math.sqrt(a_s) + 1) / 2)
    solver = DPS(steps=1000, scale=zeta, grid="vp-respaced", authors=True)
    prior.sigma_range = (0.002, 80.0)
    steps = solver.solve(problem, prior, x_init=x_init, generator=5, keep=1).trace
    assert len(steps) == 1000
    for ours, theirs in zip(steps, path, strict=True):  # 1000 steps of some roundings of numbers up to 4 * 79; measured 2e-12
        assert float((ours.x.flatten() - theirs).abs().max()) < 1e-9 * max(1.0, ours.sigma)


def test_the_authors_steps_are_counted_on_any_grid():
    """n = 1 between neighbours of their table, their last step included, and 1000 in all from their top, whatever the grid."""
    table = [*DiscreteVP().sigmas[::-1], 0.0]
    assert max(abs(crossed(high, low) - 1) for high, low in itertools.pairwise(table)) < 1e-9
    for grid, steps in (("karras", 17), ("karras", 250), ("vp-respaced", 40), ("vp-sqrt", 100)):
        sigmas = sigma_grid(grid, steps, low=0.002, high=80.0)
        counts = [crossed(2 * high, 2 * low) for high, low in itertools.pairwise(sigmas)]
        assert sum(counts) == pytest.approx(1000, abs=1e-9)
        assert min(counts) >= 0


def test_authors_guidance_does_not_depend_on_the_number_of_steps():
    """A step of n authors' steps pulls n times as hard: one step over the last tenth of the grid, against the formula."""
    law, prior, matrix, y = gaussian_case("G", 2)
    x_init, sigma = normal(1, 1, 1, SIZE, seed=3), DiscreteVP().sigmas[99] / 2
    solver = DPS(steps=1, scale=0.3, sigma_max=sigma, authors=True)
    x = solver.solve(problem_of(matrix, y, 1), prior, x_init=x_init, generator=0).x.flatten()
    gain, offset = law.denoiser(sigma)
    x0 = gain @ x_init.flatten() + offset
    residual = y - matrix @ x0
    expected = x0 + 100 * 0.5 * 0.3 * math.sqrt(1 + 4 * sigma**2) * gain.T @ matrix.T @ residual / residual.norm()
    assert float((x - expected).abs().max()) < 1e-10


# ---- what the answer must not depend on ----


def test_one_scale_means_the_same_on_every_grid():
    """Laws of six grids from 50 to 250 steps lie together: nearer to each other, in Wasserstein-2, than a fifth of what they share.

    What they share is the way from the prior to the posterior. Measured: .13 of it, between 50 and 250 steps.
    """
    law, matrix = FIELDS["blur"]
    y = matrix @ law.sample(1, 50)[0] + SIGMA_Y * normal(len(matrix), seed=70)
    way = wasserstein(law, law.posterior(matrix, y, SIGMA_Y))
    grids = [sigma_grid("karras", steps, low=0.002, high=top) for steps, top in ((50, 5.0), (100, 5.0), (250, 5.0), (100, 80.0))]
    grids += [sigma_grid("vp-respaced", steps, low=0.002, high=80.0) for steps in (100, 250)]
    laws = [law_of(law, sigmas, matrix, y) for sigmas in grids]
    assert max(wasserstein(one, two) for one, two in itertools.combinations(laws, 2)) < 0.2 * way


SHAPE = (1, 8, 8)


def picture(count=2, seed=0):
    return 0.3 + 0.4 * torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


@pytest.mark.parametrize("noise", [GaussianNoise(0.05), GaussianNoise(torch.tensor([0.01, 0.3])), NoNoise(), PoissonNoise(0.02)], ids=repr)
@pytest.mark.parametrize("operator", [GaussianBlur(SHAPE, sigma=1.0), BlockMean(SHAPE, factor=2), HDR(SHAPE)], ids=lambda one: one.label)
def test_the_unit_of_y_does_not_matter(operator, noise):
    """(cH, cy, c sigma) from 1e-4 to 1e4, linear or not, counts too."""
    problem = Problem.simulate(operator, picture(), noise, generator=0)
    solver, prior = DPS(steps=20), GaussianPrior(0.5, 0.2)
    plain = solver.solve(problem, prior, generator=1).x
    for factor in (1e-4, 0.3, 1e4):
        assert torch.allclose(solver.solve(in_units(problem, factor), prior, generator=1).x, plain, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "make", [lambda shape: GaussianBlur(shape, sigma=1.0), lambda shape: BlockMean(shape, factor=2)], ids=["blur", "means"]
)
def test_the_size_of_the_image_does_not_matter(make):
    """A picture tiled 2 x 2, with a prior of independent pixels and no fresh noise, gives the answer tiled: to rounding, in every step."""
    solver, prior, x_init = DPS(steps=12, zeta=0.0), GaussianPrior(0.5, 0.2), 0.5 + 3 * normal(1, *SHAPE, seed=2)

    def tiled(x):
        return x.tile(1, 1, 2, 2)

    small = Problem.simulate(make(SHAPE), picture(1), GaussianNoise(0.05), generator=0)
    large = Problem(make((1, 16, 16)), tiled(small.y), GaussianNoise(0.05))
    kwargs = {"generator": 0, "keep": 1}
    steps = zip(*(solver.solve(one, prior, x_init=x, **kwargs).trace for one, x in ((small, x_init), (large, tiled(x_init)))), strict=True)
    for one, four in steps:
        assert torch.allclose(four.x, tiled(one.x), rtol=0, atol=1e-12)


def test_nothing_is_overshot():
    """Without noise, where the network's Jacobian is 1 (a broad prior), one step leaves |1 - scale| of the residual, whatever its size."""
    operator, prior = Mask(SHAPE, keep=1.0), GaussianPrior(0.5, 1e6)
    x_init = 0.5 + 3 * normal(1, *SHAPE, seed=2)
    problem = Problem(operator, picture(1), NoNoise())
    for scale in (0.5, 1.0, 1.9):
        x = DPS(steps=1, scale=scale, sigma_max=1.0).solve(problem, prior, x_init=x_init, generator=0, paste=False).x
        # x0_hat and J differ from x and 1 by sigma^2 / std^2 = 1e-12
        assert torch.allclose(problem.y - x, (1 - scale) * (problem.y - x_init), rtol=0, atol=1e-10)


@pytest.mark.parametrize("solver", [DPS(steps=6), DPS(steps=6, zeta=None), DPS(steps=6, authors=True)], ids=repr)
@pytest.mark.parametrize("noise", [GaussianNoise(torch.tensor([0.01, 0.1, 0.4])), PoissonNoise(0.05)], ids=["gaussian", "poisson"])
def test_an_item_does_not_see_its_batch(solver, noise):
    problem, prior = Problem.simulate(BoxMask(SHAPE, box=3), picture(3), noise, generator=0), GaussianPrior(0.5, 0.2)
    batch = solver.solve(problem, prior, generator=1).x
    for item in range(3):
        assert torch.allclose(solver.solve(problem[item], prior, generator=1).x[0], batch[item], rtol=0, atol=1e-12)


# ---- noise that differs from entry to entry ----


class Speckle(NoiseModel):
    """y = clean (1 + .2 n): a plug-in's noise that says its variance and no more."""

    def sample(self, clean, rng):
        return mapped(lambda part: part * (1 + 0.2 * rng.normal_like(part)), clean)

    def variance(self, clean):
        return mapped(lambda part: (0.2 * part) ** 2, clean)


class Silent(NoiseModel):
    """A plug-in's noise that says nothing but its spread."""

    def sample(self, clean, rng):
        return mapped(lambda part: part + 0.1 * rng.normal_like(part), clean)

    def spread(self):
        return 0.1


GAIN = 0.05
# v at a clean value, floored at one count where there are counts
VARIANCES = {
    "poisson": (PoissonNoise(GAIN), lambda clean: (GAIN * clean.clamp_min(0)).clamp_min(GAIN**2)),
    "speckle": (Speckle(), lambda clean: (0.2 * clean) ** 2),
    "silent": (Silent(), lambda clean: torch.full_like(clean, 0.01)),
}


def uneven(noise):
    """(problem behind a gain of 2, x_init, x0_hat, J, sigma) with dark entries whose estimate is below a count, one below 0."""
    sigma, std = 0.05, 0.2
    y = torch.tensor([0.0, GAIN, 0.0, 0.6, 1.2, 0.9], dtype=DOUBLE).reshape(1, 1, 1, 6)
    x_init = torch.tensor([0.01, 0.02, -0.2, 0.2, 0.8, 0.4], dtype=DOUBLE).reshape(1, 1, 1, 6)
    slope = std**2 / (std**2 + sigma**2)
    return Problem(2.0 * Mask((1, 1, 6), keep=1.0), y, noise), x_init, 0.1 + slope * (x_init - 0.1), slope, sigma


@pytest.mark.parametrize("name", VARIANCES)
def test_each_entry_is_weighed_by_its_own_variance(name):
    """One step against the formula, entry by entry; the floor of one count is at work in the dark."""
    noise, variance = VARIANCES[name]
    problem, x_init, x0, slope, sigma = uneven(noise)
    x = DPS(steps=1, sigma_max=sigma).solve(problem, GaussianPrior(0.1, 0.2), x_init=x_init, generator=0).x
    pull = 1.5 * sigma**2 * slope * 2 * (problem.y - 2 * x0) / (variance(2 * x0) + 4 * sigma**2)
    assert torch.allclose(x, x0 + pull, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", VARIANCES)
def test_the_authors_norm_is_weighed_by_the_variance_at_y(name):
    """|W r| with W^2 = mean v / v, v = gain max(y, gain) for counts; entries without a variance keep the weight 1."""
    noise, variance = VARIANCES[name]
    problem, x_init, x0, slope, sigma = uneven(noise)
    solver = DPS(steps=1, scale=0.02, sigma_max=sigma, authors=True)
    x = solver.solve(problem, GaussianPrior(0.1, 0.2), x_init=x_init, generator=0).x
    spread = variance(problem.y)
    weight = torch.where(spread > 0, spread.mean() / spread, 1.0)
    residual = problem.y - 2 * x0
    pull = slope * 2 * weight * residual / (weight * residual**2).sum().sqrt()
    length = crossed(2 * sigma, 0.0) * 0.02 / 2 * math.sqrt(1 + 4 * sigma**2)
    assert torch.allclose(x, x0 + length * pull, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("solver", "most"), [(DPS(), 0.8), (DPS(scale=1.0), 0.15), (DPS(zeta=None), 0.6)], ids=repr)
def test_counts_have_their_posterior_mean(solver, most):
    """0 to 20 counts, independent pixels: within `most` posterior standard deviations of the mean by quadrature; the prior's is 2.9 off.

    The limits are what was measured on these counts, .74, .11 and .50, and three standard errors of 1000 pixels, .07.
    """
    mean, std, counts = 0.3, 0.12, torch.tensor([0.0, 1.0, 3.0, 6.0, 12.0, 20.0], dtype=DOUBLE)
    clean = torch.linspace(1e-6, 2, 100001, dtype=DOUBLE)
    weight = torch.softmax(-((clean - mean) ** 2) / (2 * std**2) + counts[:, None] * clean.log() - clean / GAIN, dim=1)
    exact = (weight * clean).sum(1)
    spread = ((weight * clean**2).sum(1) - exact**2).sqrt()
    y = (GAIN * counts)[None, None, :, None].expand(1, 1, 6, 1000)
    x = solver.solve(Problem(Mask((1, 6, 1000), keep=1.0), y, PoissonNoise(GAIN)), GaussianPrior(mean, std), generator=0).x[0, 0]
    assert float(((x.mean(1) - exact) / spread).abs().max()) < most


# ---- what is refused ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": -1.0}, "not negative"),
        ({"scale": math.nan}, "finite"),
        ({"scale": 8.0}, r"below 2.*1\.5 is the default.*DPS\(authors=True\)"),
        ({"zeta": 1.5}, "between 0 and 1, or None"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        DPS(**arguments)
    DPS(scale=8.0, authors=True)
