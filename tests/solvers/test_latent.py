"""Solvers of codes against closed forms: a linear decoder and a Gaussian prior of codes leave the posteriors of code and image Gaussian."""

import itertools
import math

import pytest
import torch
from torch.nn import functional

from invsolve import GaussianNoise, NoNoise, Problem
from invsolve.errors import CapabilityError, CompatibilityError, InputError
from invsolve.operator import Operator
from invsolve.plugins import registry
from invsolve.priors import GaussianPrior, LatentPrior
from invsolve.rng import Rng
from invsolve.solvers import (
    DAPS,
    DPS,
    MMPS,
    PSLD,
    FlowChef,
    FlowDPS,
    LatentDAPS,
    LatentDPS,
    LatentLanPaint,
    LatentRePaint,
    RePaint,
    ReSample,
)
from invsolve.solvers.diffusion.common import proximal
from invsolve.solvers.latent.common import kept_cells
from invsolve.solvers.latent.resample import measured
from invsolve.testing.oracle import Bias, DenseOperator, Gaussian, empirical, gaussian_case, normal, propagate, standard_errors
from invsolve.testing.pooled import Pooled
from invsolve.testing.settings import Kept

DOUBLE = torch.float64
CODES, PIXELS, ROWS, SIGMA_Y, CHAINS = 8, 12, 5, 0.05, 1500


def eye(size):
    return torch.eye(size, dtype=DOUBLE)


def decoder_matrix(kind):
    """(12, 8): orthogonal columns, or singular values from .5 to 2."""
    basis = torch.linalg.qr(normal(PIXELS, CODES, seed=1))[0]
    return (
        basis
        if kind == "isometry"
        else basis @ torch.diag(torch.linspace(0.5, 2.0, CODES, dtype=DOUBLE)) @ torch.linalg.qr(normal(8, 8, seed=2))[0]
    )


class Case:
    """y = H D z + n: the law of z, the prior, the problem of x, A = H D, and both posteriors."""

    def __init__(self, kind, name="G"):
        self.law = gaussian_case(name, size=CODES)[0]
        self.matrix = decoder_matrix(kind)
        self.seen = normal(ROWS, PIXELS, seed=3) / math.sqrt(PIXELS)
        self.A = self.seen @ self.matrix
        decoder = Operator.from_matrix(self.matrix, (1, 1, CODES), (1, 1, PIXELS))
        self.codes = GaussianPrior(self.law.mean.reshape(1, 1, -1), cov=self.law.cov)
        self.prior = LatentPrior(self.codes, decoder)
        self.y = self.A @ self.law.sample(1, 4)[0] + SIGMA_Y * normal(ROWS, seed=5)
        self.problem = Problem(DenseOperator(self.seen), self.y[None], GaussianNoise(SIGMA_Y), check_range=False)
        self.inner = self.prior.space(self.problem)[0]
        posterior = self.law.posterior(self.A, self.y, SIGMA_Y)
        self.posterior = Gaussian(self.matrix @ posterior.mean, self.matrix @ posterior.cov @ self.matrix.T)
        self.before = Gaussian(self.matrix @ self.law.mean, self.matrix @ self.law.cov @ self.matrix.T)

    def samples(self, solver, chains=CHAINS):
        many = self.problem.repeat(chains)
        return solver.solve(many, self.prior, generator=Pooled(0, many.items))


SOLVERS = ["latent-dps", "psld", "resample", "latent-daps", "flowdps", "flowchef"]


@pytest.mark.parametrize("kind", ["isometry", "general"])
@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_of_codes_faces_the_posterior_of_the_image(kind, name):
    """Nearer to it than the prior of images that D makes, by the mean and by the trace, and its x is D of its code."""
    case = Case(kind)
    run = case.samples(registry().build("solver", name), 200)
    assert torch.equal(run.x, case.prior.decoder(run.latent))
    found, prior = Bias.of(empirical(run.x), case.posterior), Bias.of(case.before, case.posterior)
    assert found.mean < 0.75 * prior.mean
    assert abs(math.log(found.trace)) < abs(math.log(prior.trace))


@pytest.mark.parametrize("kind", ["isometry", "general"])
def test_mmps_in_codes_is_exact(kind):
    """Its covariance of z0 given z_t is the Gaussian's own, whatever the decoder: within .1 s.d. and 6 % at 100 steps, as for images.

    1500 chains add a covariance error of about sqrt((tr^2 + |C|^2) / N) / |C|, which is taken from the posterior here.
    """
    case = Case(kind)
    law = case.posterior
    noise = float(((law.cov.trace() ** 2 + law.cov.square().sum()) / CHAINS).sqrt() / law.cov.norm())
    found = Bias.of(empirical(case.samples(MMPS(steps=100, iterations=ROWS, eta=1.0)).x), law)
    assert found.mean < 0.1
    assert found.cov < math.hypot(0.06, 2 * noise)


def test_a_square_decoder_changes_variables_and_nothing_else():
    """x = Q z with Q orthogonal: DPS in codes has the law of DPS on x, whose first moment is compared chain by chain with Q's noise."""
    law = gaussian_case("G", size=CODES)[0]
    turn = torch.linalg.qr(normal(CODES, CODES, seed=7))[0]
    seen, y = normal(4, CODES, seed=8), normal(4, seed=9)
    problem = Problem(DenseOperator(seen), y[None], GaussianNoise(SIGMA_Y), check_range=False)
    of_images = GaussianPrior(law.mean.reshape(1, 1, -1), cov=law.cov)
    shape = (1, 1, CODES)
    of_codes = LatentPrior(
        GaussianPrior((turn.T @ law.mean).reshape(shape), cov=turn.T @ law.cov @ turn), Operator.from_matrix(turn, shape, shape)
    )
    level = of_images.sigmas(20, "karras", 3.0)[0]
    z = Rng(0, [0]).normal(shape, torch.zeros(1, dtype=DOUBLE)) * level
    settings = {"steps": 20, "sigma_max": 3.0, "zeta": 0.0}
    codes = DPS(**settings).solve(problem, of_codes, generator=0, x_init=z).x
    images = DPS(**settings).solve(problem, of_images, generator=0, x_init=(turn @ z.flatten()).reshape(z.shape)).x
    # |H| is by the power method, "within a few per cent", and begins elsewhere for H and H Q
    assert float((codes - images).abs().max()) < 0.02


def test_the_named_ones_are_dps_and_daps_to_the_bit():
    case = Case("general")
    for named, plain in ((LatentDPS(steps=6), DPS(steps=6, scale=1.0)), (LatentDAPS(steps=6), DAPS(steps=6))):
        assert torch.equal(named.solve(case.problem, case.prior, generator=3).x, plain.solve(case.problem, case.prior, generator=3).x)


def weights(case, sigma):
    """(w, |A|^2) of the docstrings."""
    size = float(case.inner.gain) ** 2
    return sigma**2 / (sigma**2 + SIGMA_Y**2 / size), size


def psld_step(case, scale, glue, sigma, following):
    """(F, f, Q) of one step with zeta = 1."""
    gain, shift = case.law.denoiser(sigma)
    w, size = weights(case, sigma)
    r2 = case.codes.s0**2 * sigma**2 / (case.codes.s0**2 + sigma**2)
    tau = size * r2 / (float(case.problem.gain) ** 2 * SIGMA_Y**2)
    put = tau * case.seen.T @ torch.linalg.inv(eye(ROWS) + tau * case.seen @ case.seen.T)
    back = torch.linalg.pinv(case.matrix) @ put  # E of what the proximal step adds
    pull = w * gain.T @ (scale / size * case.A.T + glue * back)  # times (A z0_hat - y)
    left = eye(CODES) - pull @ case.A
    matrix, offset = left @ gain, left @ shift + pull @ case.y
    return matrix, offset, following**2 * eye(CODES)


def flowdps_step(case, scale, inner, sigma, following):
    gain, shift = case.law.denoiser(sigma)
    w, size = weights(case, sigma)
    move = eye(CODES) - scale * w / size * case.A.T @ case.A
    near, offset = eye(CODES), torch.zeros(CODES, dtype=DOUBLE)
    for _ in range(inner):
        near, offset = move @ near, move @ offset + scale * w / size * case.A.T @ case.y
    if following == 0:
        return near @ gain, near @ shift + offset, torch.zeros(CODES, CODES, dtype=DOUBLE)
    s, after = (2 * level / (1 + 2 * level) for level in (sigma, following))  # the unit is [-1, 1]
    mixed = (1 - s) * eye(CODES) + s * near
    kept = following * math.sqrt(after) / sigma
    noise = following**2 * (1 - after) * eye(CODES)
    return mixed @ gain + kept * (eye(CODES) - gain), mixed @ shift + s * offset - kept * shift, noise


def flowchef_step(case, scale, sigma, following):
    gain, shift = case.law.denoiser(sigma)
    w, size = weights(case, sigma)
    pull = scale * w / size * case.A.T
    left = eye(CODES) - pull @ case.A
    matrix, offset, kept = left @ gain, left @ shift + pull @ case.y, following / sigma
    return matrix + kept * (eye(CODES) - matrix), (1 - kept) * offset, torch.zeros(CODES, CODES, dtype=DOUBLE)


@pytest.mark.parametrize("kind", ["isometry", "general"])
@pytest.mark.parametrize(
    ("solver", "step"),
    [
        (PSLD(steps=8, sigma_max=2.0), lambda *a: psld_step(a[0], 1.0, 0.3, *a[1:])),
        (PSLD(steps=8, sigma_max=2.0, scale=0.0, glue=1.0), lambda *a: psld_step(a[0], 0.0, 1.0, *a[1:])),
        (FlowDPS(steps=8, sigma_max=2.0), lambda *a: flowdps_step(a[0], 1.5, 3, *a[1:])),
        (FlowChef(steps=8, sigma_max=2.0), lambda *a: flowchef_step(a[0], 1.5, *a[1:])),
    ],
    ids=["psld", "psld-glue", "flowdps", "flowchef"],
)
def test_laws_of_the_affine_ones(kind, solver, step):
    """Mean and covariance by a recursion of dense matrices: 1500 codes within 4 standard errors in every entry."""
    case = Case(kind)
    sigmas = solver.sigmas(case.codes)
    law = Gaussian(torch.full((CODES,), case.codes.centre, dtype=DOUBLE), sigmas[0] ** 2 * eye(CODES))
    law = propagate(law, [step(case, sigma, following) for sigma, following in itertools.pairwise(sigmas)])
    # a direction in which nothing is left but rounding has no standard error
    mean, cov = standard_errors(case.samples(solver).latent.flatten(1), Gaussian(law.mean, law.cov + 1e-12 * eye(CODES)))
    assert mean < 4
    assert cov < 4.5  # 36 covariance entries, 8 such runs: the largest of 288 standard normals passes 4 once in 55


def test_psld_glues_by_the_pseudoinverse():
    """Without noise the second pull is J^T (z0_hat - E(x + H^+ (y - H x))): H^T in place of H^+ would be nine times as far for 3 H.

    sigma_y is a thousandth of |H D| then, so that x_y misses H^+ by 1 / (tau s^2) of the smallest singular value's part, 1e-4 here.
    """
    case = Case("isometry")
    problem = Problem(DenseOperator(3 * case.seen), 3 * case.y[None], NoNoise(), check_range=False)
    inner, solver, sigma = case.prior.space(problem)[0], PSLD(scale=0.0, glue=1.0), 0.5
    z = normal(CODES, seed=11)
    gain, shift = case.law.denoiser(sigma)
    z0_hat = gain @ z + shift
    image = case.matrix @ z0_hat
    target = case.matrix.T @ (image + torch.linalg.pinv(case.seen) @ (case.y - case.seen @ image))
    found = solver.guide(inner, case.prior, z.reshape(1, 1, 1, CODES), sigma, proximal(problem))[1].flatten()
    wanted = gain.T @ (z0_hat - target)
    assert float((found - wanted).norm()) < 1e-3 * float(wanted.norm())


def test_resample_by_hand():
    """Two levels of one item: DPS's gradient, two steps to y, the draw between the fitted code and DDIM's state, a last fit."""
    case = Case("general", "S")
    solver = ReSample(steps=3, every=1, inner=2, lr=0.7, gamma=3.0, scale=0.5, sigma_max=1.0)
    centre = case.codes.centre
    sigmas = solver.sigmas(case.codes)
    rng = Rng(5, [0])
    like = torch.zeros(1, 1, 1, CODES, dtype=DOUBLE)
    size = float(case.inner.gain) ** 2
    z = centre + sigmas[0] * rng.normal_like(like).flatten()

    def fit(z):
        for _ in range(2):
            residual = case.A @ z - case.y
            if float(residual @ residual) <= ROWS * SIGMA_Y**2:
                return z
            z = z - 0.7 / size * case.A.T @ residual
        return z

    for index, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
        gain, shift = case.law.denoiser(sigma)
        z0 = gain @ z + shift
        pull = sigma**2 / (SIGMA_Y**2 + size * sigma**2) * gain.T @ case.A.T @ (case.A @ z0 - case.y)
        guided = z0 - 0.5 * pull
        if following == 0:
            z = fit(guided)
            continue
        z = guided + following / sigma * (z - guided)
        if 3 * index >= 3:
            v = 3.0 * (1 - (following / sigma) ** 2)
            share = v / (1 + v)
            z = z + share * (fit(guided) - z) + following * math.sqrt(share) * rng.normal_like(like).flatten()
    found = solver.solve(case.problem, case.prior, generator=Rng(5, [0])).latent.flatten()
    assert float((found - z).abs().max()) < 1e-9


def test_resample_stops_at_the_noise():
    """|y - H D z*|^2 ends at m sigma_y^2: no step takes more of it than its share. Without noise it goes on."""
    case = Case("isometry", "S")
    z = torch.full((1, 1, 1, CODES), 2.0, dtype=DOUBLE)
    solver = ReSample(inner=3000, lr=0.05)

    def left(problem):
        fitted = solver.fitted(problem, z)
        return float((problem.y - problem.operator(fitted)).square().sum())

    noise = Problem(case.problem.operator, case.y[None], GaussianNoise(0.2), check_range=False)
    # a step takes 1 - (1 - lr)^2 at most, a tenth
    assert 0.9 < left(case.prior.space(noise)[0]) / (ROWS * 0.2**2) <= 1
    exact = Problem(case.problem.operator, case.y[None], NoNoise(), check_range=False)
    assert left(case.prior.space(exact)[0]) < 1e-3
    masked = Problem(Kept((1, 2, 5)), torch.zeros(2, 1, 2, 5, dtype=DOUBLE), GaussianNoise(0.1))
    assert measured(masked).tolist() == [float(Kept((1, 2, 5)).mask.sum())] * 2


def pairs_prior(std=0.3):
    """Codes (1, 4, 2) of images (1, 4, 4): a place is two neighbours in a row, x = 2 (z, z)."""
    matrix = 2 * eye(8).repeat_interleave(2, 0)
    return LatentPrior(GaussianPrior(0.25, std), Operator.from_matrix(matrix, (1, 4, 2), (1, 4, 4)))


class Shown(Kept):
    """A mask of one's own."""

    def __init__(self, mask):
        super().__init__((1, *mask.shape))
        self.mask = mask[None].to(DOUBLE)


def test_a_place_is_known_where_all_its_pixels_are_in_every_channel():
    mask = torch.ones(2, 6, 8)
    mask[1, 0, 3] = 0  # one channel of one pixel
    known = kept_cells(mask, (3, 3, 4))[0, 0]
    assert not known[0, 1]
    assert int(known.sum()) == 11
    eroded = kept_cells(mask, (3, 3, 4), erode=1)[0, 0]
    assert eroded.tolist() == [[False, False, False, True]] * 2 + [[True] * 4]
    each = torch.stack([mask, torch.ones_like(mask)])
    assert kept_cells(each, (3, 3, 4)).sum((1, 2, 3)).tolist() == [11, 12]
    assert torch.equal(kept_cells(mask, (3, 3, 4))[0, 0], -functional.max_pool2d(-mask.amin(0)[None, None], 2)[0, 0] > 0)


@pytest.mark.parametrize(("cls", "options"), [(LatentRePaint, {"steps": 6, "sigma_max": 2.0}), (LatentLanPaint, {"steps": 4, "inner": 2})])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_latent_inpainting_is_inpainting_of_the_codes(cls, options, noise):
    """RePaint on y_z = E(y) with noise sigma_y / |D|, here |D| = 2 sqrt(2), behind the mask of whole pairs; to the bit."""
    mask = torch.ones(4, 4)
    mask[1, 1] = mask[2, 2] = mask[2, 3] = 0
    prior = pairs_prior()
    x = prior.decoder(torch.linspace(0.1, 0.4, 8, dtype=DOUBLE).reshape(1, 1, 4, 2))
    model = GaussianNoise(noise) if noise else NoNoise()
    problem = Problem.simulate(Shown(mask), x, model, generator=1, check_range=False)
    found = cls(**options).solve(problem, prior, generator=2)
    known = torch.tensor([[1, 1], [0, 1], [1, 0], [1, 1]], dtype=DOUBLE)
    code = problem.y.reshape(1, 1, 4, 2, 2).sum(-1) / 4  # E = D^+
    level = GaussianNoise(prior.space(problem)[0].sigma_x) if noise else NoNoise()
    assert not noise or float(level.sigma) == pytest.approx(noise / (2 * math.sqrt(2)), rel=0.02)  # |H D| by the power method
    by_hand = Problem(Shown(known), known * code, level, check_range=False)
    plain = cls.__bases__[-1](**options).solve(by_hand, prior.denoiser, generator=2)
    assert float((found.latent - plain.x).abs().max()) < 1e-12
    if not noise:  # pixels without noise are y in the image, half known pairs too
        assert torch.equal(found.x[problem.operator.mask[None] != 0], problem.y[problem.operator.mask[None] != 0])


def test_what_latent_solvers_refuse():
    images, mask = GaussianPrior(0.5, 0.25), Kept((1, 4, 4))
    problem = Problem(mask, torch.zeros(1, 1, 4, 4, dtype=DOUBLE), GaussianNoise(0.1))
    for solver, plain in ((LatentDPS(), "dps"), (PSLD(), "dps"), (ReSample(), "dps"), (LatentDAPS(), "daps"), (LatentRePaint(), "repaint")):
        with pytest.raises(CompatibilityError, match=f"GaussianPrior is not one of codes.*the solver is {plain}"):
            solver.solve(problem, images)
    net = Operator.from_function(lambda z: torch.tanh(z).repeat_interleave(2, -1), (1, 4, 2), linear=False)
    blind = LatentPrior(GaussianPrior(0.0, 1.0), net)
    for solver in (PSLD(), LatentRePaint(), LatentLanPaint()):
        with pytest.raises(CompatibilityError, match="LatentPrior has no encoder"):
            solver.solve(problem, blind)
    assert LatentDPS(steps=2).solve(problem, blind, generator=0).x.shape == (1, 1, 4, 4)
    dense = Problem(DenseOperator(normal(3, 16, seed=0), (1, 4, 4)), torch.zeros(1, 3, dtype=DOUBLE), GaussianNoise(0.1))
    with pytest.raises(CompatibilityError, match="DenseOperator lacks 'mask'"):
        LatentRePaint().solve(dense, pairs_prior())
    stripes = Shown(torch.tensor([1.0, 0.0]).repeat(4, 2))
    lost = Problem(stripes, torch.zeros(1, 1, 4, 4, dtype=DOUBLE), GaussianNoise(0.1))
    for solver in (LatentRePaint(), LatentLanPaint()):
        with pytest.raises(CompatibilityError, match="a pixel of every place"):
            solver.solve(lost, pairs_prior())
    with pytest.raises(CompatibilityError, match="a pixel of every place"):
        LatentRePaint(erode=4).solve(problem, pairs_prior())
    odd = LatentPrior(GaussianPrior(), Operator.from_matrix(normal(16, 9, seed=0), (1, 3, 3), (1, 4, 4)))
    with pytest.raises(CompatibilityError, match="no cells"):
        LatentRePaint().solve(problem, odd)
    for solver, options in (
        (PSLD, {"scale": 1.5, "glue": 0.5}),
        (PSLD, {"glue": -1}),
        (ReSample, {"every": 0}),
        (ReSample, {"scale": 2.0}),
        (ReSample, {"gamma": -1.0}),
        (FlowDPS, {"scale": 2.0}),
        (FlowDPS, {"inner": 0}),
        (FlowChef, {"scale": 0.0}),
        (LatentRePaint, {"erode": -1}),
        (LatentLanPaint, {"erode": 0.5}),
    ):
        with pytest.raises(InputError):
            solver(**options)


def test_the_ceiling_and_the_encoder():
    case = Case("isometry")
    x = normal(2, PIXELS, seed=0).reshape(2, 1, 1, PIXELS)
    projected = (x.flatten(1) @ case.matrix @ case.matrix.T).reshape(x.shape)
    assert float((case.prior.ceiling(x) - projected).abs().max()) < 1e-12
    net = Operator.from_function(torch.tanh, (1, 4, 4), linear=False)
    with pytest.raises(CapabilityError, match="no encoder"):
        LatentPrior(GaussianPrior(), net).ceiling(x)
    x = torch.full((1, 1, 4, 4), 0.3)
    assert torch.allclose(LatentPrior(GaussianPrior(), net, encode=torch.atanh).ceiling(x), x)


def test_a_problem_of_codes_knows_that_of_the_image_and_its_items():
    case = Case("isometry")
    inner = case.prior.space(case.problem.repeat(3))[0]
    assert inner.outer is not None
    assert inner.outer.operator is case.problem.operator
    assert inner.rows([2]).outer.batch == 1
    assert case.problem.outer is None
    assert RePaint().mismatches(case.problem, case.prior)
