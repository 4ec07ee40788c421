"""Inpainting samplers: their exact laws under a Gaussian prior, steps by hand, pixels held to the bit, and what they refuse."""

import math
import statistics

import inpainting_laws as laws
import pytest
import torch
from invsolve_operators import Mask

from invsolve import GaussianNoise, NoNoise, Problem
from invsolve.errors import CompatibilityError, InputError
from invsolve.operator.algebra import Scaled
from invsolve.plugins import registry
from invsolve.priors.gaussian import GaussianPrior
from invsolve.rng import Rng
from invsolve.schedule import karras
from invsolve.solvers.inpainting.common import Known
from invsolve.solvers.inpainting.copaint import CoPaint, rising
from invsolve.solvers.inpainting.copaint_fast import CoPaintFast
from invsolve.solvers.inpainting.copaint_tt import CoPaintTT
from invsolve.solvers.inpainting.lanpaint import LanPaint
from invsolve.solvers.inpainting.repaint import RePaint
from invsolve.solvers.inpainting.replacement import Replacement
from invsolve.solvers.inpainting.resampling import Resampling, ancestors, log_weights
from invsolve.testing.oracle import Bias, empirical, standard_errors, wasserstein
from invsolve.testing.pooled import Pooled
from invsolve.testing.posterior import check_posterior
from invsolve.unit import Unit

DOUBLE, CHAINS, SHAPE = torch.float64, 1000, (1, 3, 4)
SHORT = [
    Replacement(steps=4),
    RePaint(steps=4, jump=2, repeats=2),
    LanPaint(steps=3, inner=2),
    CoPaint(steps=4),
    CoPaintTT(steps=6, jump=2),
    CoPaintFast(steps=4),
    Resampling(steps=4, particles=2),
]

DEFAULTS = [type(one)() for one in SHORT]


def named(one):
    return type(one).__name__


def grid(case, steps):
    """From 20 s0."""
    return karras(steps, 0.002, 20 * case.prior.s0)


LAWS = {
    "replacement": (Replacement(steps=10), lambda case: laws.repaint_law(case, grid(case, 10))),
    "repaint": (RePaint(steps=8, jump=2, repeats=3), lambda case: laws.repaint_law(case, grid(case, 8), 2, 3)),
    "repaint-1": (RePaint(steps=6, jump=1, repeats=2), lambda case: laws.repaint_law(case, grid(case, 6), 1, 2)),
    "lanpaint": (LanPaint(8, 2, 0.3, 6.0, 0.0), lambda case: laws.lanpaint_law(case, grid(case, 8), 2, 0.3)),
    "lanpaint-eta": (LanPaint(8, 1, 0.7, 2.0, 0.6), lambda case: laws.lanpaint_law(case, grid(case, 8), 1, 0.7, 2.0, 0.6)),
    "copaint": (CoPaint(10, inner=3, rate=0.03), lambda case: laws.copaint_law(case, grid(case, 10), 3, 0.03)),
    "copaint-tt": (CoPaintTT(8, jump=2), lambda case: laws.copaint_law(case, grid(case, 8), 2, 0.02, 2, 2)),
    "copaint-fast": (CoPaintFast(12), lambda case: laws.copaint_law(case, grid(case, 12), 1, 0.05)),
}


@pytest.mark.parametrize("sigma", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("name", LAWS)
def test_the_law_of_the_answer(name, sigma):
    """.3 leaves levels below y's own between which the state goes up."""
    case = laws.entries(0, sigma)
    solver, law_of = LAWS[name]
    x, law = solver.solve(case.problem(CHAINS), case.prior, generator=Pooled(0, range(CHAINS))).x.flatten(1), law_of(case)
    free = case.shown == 0
    if sigma == 0:
        assert torch.equal(x[:, ~free], case.y[~free].expand(CHAINS, -1))
    else:
        free = free | True
    mean, cov = standard_errors(x[:, free], type(law)(law.mean[free], law.cov[free][:, free]))
    assert mean < 4
    assert cov < 4


def test_particles_tend_to_the_posterior():
    """32 particles, 30 levels, 200 chains: half of replacement's error of the mean at most, one standard error of a mean being .07 s.d."""
    case = laws.entries(0, 0.05)
    found = Resampling(30, 32).solve(case.problem(200), case.prior, generator=0).x
    replacement = Bias.of(laws.repaint_law(case, grid(case, 30)), case.posterior).mean
    assert Bias.of(empirical(found), case.posterior).mean < replacement / 2


@pytest.mark.parametrize("solver", DEFAULTS, ids=named)
def test_the_bias_of_the_defaults_is_what_the_class_declares(solver):
    assert solver.stated_bias()
    check_posterior(solver)


def test_the_defaults_are_those_that_the_page_was_measured_with():
    """benchmarks/results/inpainting.md: whoever changes one measures anew."""
    assert [repr(one) for one in DEFAULTS] == [
        "Replacement(steps=20, grid='karras', sigma_max=None)",
        "RePaint(steps=10, jump=1, repeats=10, grid='karras', sigma_max=None)",
        "LanPaint(steps=20, inner=5, step=2.0, guidance=6.0, eta=1.0, grid='karras', sigma_max=None)",
        "CoPaint(steps=50, inner=2, rate=0.02, jump=1, repeats=1, grid='karras', sigma_max=None)",
        "CoPaintTT(steps=30, inner=2, rate=0.02, jump=3, repeats=2, grid='karras', sigma_max=None)",
        "CoPaintFast(steps=20, inner=1, rate=0.05, jump=1, repeats=1, grid='karras', sigma_max=None)",
        "Resampling(steps=30, particles=8, grid='karras', sigma_max=None)",
    ]


def far(law, case):
    return wasserstein(law, case.posterior) / math.sqrt(float(case.posterior.cov.trace()))


@pytest.mark.parametrize("kind", [laws.entries, laws.field])
def test_lanpaint_is_as_near_as_repaint_at_an_eleventh_of_the_calls(kind):
    """Medians over five draws of the exact laws' distance from the posterior; RePaint(250, 10, 10) on its authors' grid."""
    cases = [kind(seed, 0.0) for seed in range(5)]
    authors = GaussianPrior(0.5, 0.25).sigmas(250, "vp-respaced")
    repaint = statistics.median(far(laws.repaint_law(case, authors, 10, 10), case) for case in cases)
    lanpaint = statistics.median(far(laws.lanpaint_law(case, grid(case, 20), 10, 0.2), case) for case in cases)
    replacement = statistics.median(far(laws.repaint_law(case, grid(case, 220)), case) for case in cases)
    assert lanpaint < 1.05 * repaint
    assert replacement > 2.5 * lanpaint


@pytest.mark.parametrize(
    ("solver", "evaluations", "backward"),
    [
        (RePaint(20, 2, 6), 110, 0),
        (Replacement(7), 7, 0),
        (LanPaint(20, 10), 220, 0),
        (Resampling(5, 3), 15, 0),
        (CoPaint(10, 2), 30, 20),
        (CoPaintFast(10), 20, 10),
        (CoPaintTT(25, 2, jump=10), 25 * 3 + 20 * 3 + 2 * 3, 25 * 2 + 20 * 2 + 2 * 2),  # two jumps of ten, each fitted once more before it
    ],
    ids=repr,
)
def test_what_a_run_costs(solver, evaluations, backward):
    problem = Problem(Mask((1, 1, 2), mask=torch.tensor([[1, 0]])), torch.zeros(1, 1, 1, 2, dtype=DOUBLE), NoNoise())
    found = solver.solve(problem, GaussianPrior(0.5, 0.25), generator=0)
    assert found.nfe == evaluations
    assert found.backward == backward


# Steps by hand, with GaussianPrior(0.5, 0.25)


def shrunk(x, sigma):
    return 0.5 + (1 / 16) / (1 / 16 + sigma**2) * (x - 0.5)


def half(sigma):
    """(problem, mask): two of three columns shown, y = .7, one level of noise."""
    mask = torch.zeros(SHAPE, dtype=DOUBLE)
    mask[..., :2] = 1
    y = 0.7 * mask[None]
    return Problem(Mask(SHAPE, mask=mask), y, GaussianNoise(sigma) if sigma else NoNoise()), mask[None].bool()


def test_repaint_by_hand():
    """Three levels, one jump at the last, sigma_y between the second and the third: put back, down, past y, and up between x and y."""
    prior = GaussianPrior(0.5, 0.25)
    solver = RePaint(steps=3, jump=1, repeats=2, sigma_max=2.0)
    first, second, third, _ = solver.sigmas(prior)
    noise = math.sqrt(second * third)
    problem, shown = half(noise)
    rng = Rng(0, [0])

    def draw():
        return rng.normal_like(problem.image)

    def back(x, sigma):
        return torch.where(shown, 0.7 + math.sqrt(sigma**2 - noise**2) * draw(), x)

    def step(x, sigma, following):
        share = (following / sigma) ** 2
        return shrunk(x, sigma) * (1 - share) + share * x + following * math.sqrt(1 - share) * draw()

    x = 0.5 + first * draw()
    for _ in range(2):  # the way from the first level to the second, gone twice
        x = step(back(x, first), first, second)
        x = x + math.sqrt(first**2 - second**2) * draw() if _ == 0 else x
    for _ in range(2):  # and that from the second to the third, past y
        x = back(x, second)
        share = torch.where(shown, (third / noise) ** 2, torch.tensor((third / second) ** 2, dtype=DOUBLE))
        x = (1 - share) * shrunk(x, second) + share * torch.where(shown, 0.7, x) + third * (1 - share).sqrt() * draw()
        x = x + math.sqrt(second**2 - third**2) * draw() if _ == 0 else x
    draw()  # nothing is put back below sigma_y, though the numbers are drawn: an item's stream does not depend on its noise
    found = solver.solve(problem, prior, generator=Rng(0, [0])).x
    assert torch.allclose(found, shrunk(x, third), rtol=0, atol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_step_down_by_hand(eta):
    """From .8 to .3 past sigma_y = .5: shares 3/8 of x and 3/5 of y, fresh noise eta^2 of what is missing; an estimate of .4."""
    problem, shown = half(0.5)
    x, x0 = (torch.full((1, *SHAPE), value, dtype=DOUBLE) for value in (0.9, 0.4))
    share = torch.where(shown, 0.6, torch.tensor(0.375, dtype=DOUBLE))
    kept = share * (1 - eta**2 * (1 - share**2)).sqrt()
    wanted = x0 + kept * (torch.where(shown, 0.7, x) - x0) + 0.3 * eta * (1 - share**2).sqrt() * Rng(3, [0]).normal_like(x)
    assert torch.allclose(Known.of(problem).down(x, x0, 0.8, 0.3, Rng(3, [0]), eta), wanted, rtol=0, atol=1e-14)


def test_going_up_below_the_noise_of_y_is_drawn_between_x_and_y():
    """x_r at .1, y at .5, x_s at .3: weights by the distances 0.08 and 0.16, variance 0.08 0.16 / 0.24; hidden pixels as ever."""
    problem, shown = half(0.5)
    x = torch.full((1, *SHAPE), 0.2, dtype=DOUBLE)
    z = Rng(3, [0]).normal_like(x)
    wanted = torch.where(shown, (0.16 * 0.2 + 0.08 * 0.7) / 0.24 + math.sqrt(0.08 * 0.16 / 0.24) * z, 0.2 + math.sqrt(0.08) * z)
    assert torch.allclose(Known.of(problem).up(x, 0.1, 0.3, Rng(3, [0])), wanted, rtol=0, atol=1e-15)
    wanted = 0.2 + math.sqrt(0.48) * z  # past y, where pixels shown are put back anyway
    assert torch.allclose(Known.of(problem).up(x, 0.1, 0.7, Rng(3, [0])), wanted, rtol=0, atol=1e-15)


@pytest.mark.parametrize("sigma", [0.0, 0.4])
def test_a_langevin_step_by_hand(sigma):
    """Level .8, step .3, lambda 2: rates 1 and 3 without noise; with sigma_y .4 the known pixels' is 3 / (1 - 1/4) = 4."""
    problem, shown = half(sigma)
    x = torch.full((1, *SHAPE), 0.9, dtype=DOUBLE)
    x0, z = 0.6 * torch.ones_like(x), Rng(3, [0]).normal_like(x)
    rate = torch.where(shown, 4.0 if sigma else 3.0, 1.0).double()
    centre = torch.where(shown, 0.7 - 2 * (0.6 - 0.9) / rate, x0)
    decay = (-0.3 * rate).exp()
    wanted = centre + decay * (0.9 - centre) + 0.8 * ((1 - decay.square()) / rate).sqrt() * z
    found = LanPaint(step=0.3, guidance=2.0).langevin(Known.of(problem), x, x0, 0.8, Rng(3, [0]))
    assert torch.allclose(found, wanted, rtol=0, atol=1e-14)


def test_a_langevin_step_at_and_below_the_noise_of_y():
    """At sigma_y the known pixels are y's; below, their score has (y - x) / (sigma_y^2 - sigma^2): rate 1 + .64 / .36."""
    problem, shown = half(0.8)
    x = torch.full((1, *SHAPE), 0.9, dtype=DOUBLE)
    at = LanPaint().langevin(Known.of(problem), x, 0.6 * torch.ones_like(x), 0.8, Rng(3, [0]))
    assert torch.equal(at[shown], torch.full_like(at[shown], 0.7))
    problem, _ = half(1.0)
    rate = 1 + shown.double() * 0.64 / 0.36
    centre = torch.where(shown, (0.6 + 0.64 / 0.36 * 0.7) / rate, 0.6)
    decay = (-0.15 * rate).exp()
    wanted = centre + decay * (0.9 - centre) + 0.8 * ((1 - decay.square()) / rate).sqrt() * Rng(3, [0]).normal_like(x)
    found = LanPaint(step=0.15).langevin(Known.of(problem), x, 0.6 * torch.ones_like(x), 0.8, Rng(3, [0]))
    assert torch.allclose(found, wanted, rtol=0, atol=1e-14)


def test_known_and_filled_pixels_have_numbers_of_their_own():
    """The known pixels' noise at a level is no function of that of the others: the covariance over chains is 0 within 4 errors."""
    problem, shown = half(0.0)
    many = problem.rows([0] * 4000)
    rng = Rng(0, many.items)
    x = torch.zeros_like(many.image)
    for _ in range(2):
        x = Known.of(many).at(x + 0.5 * rng.normal_like(x), 0.5, rng)
    rows = x.flatten(1)
    known, hidden = rows[:, shown.flatten()], rows[:, ~shown.flatten()]
    assert float((known.var(0) - 0.25).abs().max()) < 4 * 0.25 * math.sqrt(2 / 4000)
    assert float((known - 0.7).T.div(4000).matmul(hidden).abs().max()) < 4 * 0.5 * math.sqrt(0.5) / math.sqrt(4000)


def test_weights_of_particles_by_hand():
    """Level 1 to .5, sigma_y 0: the kernel's mean is x0 + (x - x0) / 4, its variance 1/4 (1 - 1/4); hidden pixels count nothing."""
    problem, shown = half(0.0)
    known = Known.of(problem).of_particles()
    x = torch.stack([torch.full(SHAPE, value, dtype=DOUBLE) for value in (0.2, 0.9)])[None]
    path = torch.full((1, 1, *SHAPE), 0.4, dtype=DOUBLE)
    mean = x[:, :, 0, 0, 0] * 0.75 * 0.5 + 0.25 * x[:, :, 0, 0, 0]  # estimates x / 2
    wanted = -0.5 * int(shown.sum()) * (0.4 - mean) ** 2 / (0.25 * 0.75)
    assert torch.allclose(log_weights(known, x, x / 2, path, 1.0, 0.5), wanted, rtol=1e-12)
    past, _ = half(0.5)  # y's own level lies between: the next point of the path is y, at .5
    mean = x[:, :, 0, 0, 0] * 0.75 * 0.5 + 0.25 * x[:, :, 0, 0, 0]
    wanted = -0.5 * int(shown.sum()) * (0.7 - mean) ** 2 / (0.25 * 0.75)
    assert torch.allclose(log_weights(Known.of(past).of_particles(), x, x / 2, path, 1.0, 0.1), wanted, rtol=1e-12)


def test_particles_are_drawn_by_their_weights():
    weights = torch.tensor([0.1, 0.6, 0.3], dtype=DOUBLE)
    drawn = ancestors(weights.log().expand(4000, 3), Rng(0, range(4000))).flatten()
    share = torch.bincount(drawn, minlength=3) / len(drawn)
    assert bool(((share - weights).abs() < 4 * (weights * (1 - weights) / len(drawn)).sqrt()).all())


def test_a_path_of_the_known_pixels_is_brownian():
    """From 1 to .5 about y with sigma_y .3: mean y + (.16 / .91) (path - y), variance .16 (1 - .16 / .91); y itself below."""
    problem, _ = half(0.3)
    known, path = Known.of(problem), torch.full((1, *SHAPE), 1.2, dtype=DOUBLE)
    share = 0.16 / 0.91
    wanted = known.y + share * (path - known.y) + math.sqrt(0.16 * (1 - share)) * Rng(3, [0]).normal_like(path)
    assert torch.allclose(known.along(path, 1.0, 0.5, Rng(3, [0])), wanted, rtol=0, atol=1e-14)
    assert torch.equal(known.along(path, 1.0, 0.2, Rng(3, [0])), known.y)
    assert torch.equal(known.along(path, 0.2, 0.1, Rng(3, [0])), known.y)


def test_copaint_takes_no_step_that_raises_the_misfit():
    """One level, a rate that overshoots: with k = D' = c, L goes to (1 - 2 l c^2)^2 L, above L from l = 1 / c^2 on."""
    prior = GaussianPrior(0.5, 0.25)
    problem, shown = half(0.0)
    known, x = Known.of(problem), torch.full((1, *SHAPE), 0.9, dtype=DOUBLE)
    for rate, taken in ((0.02, True), (5.0, False)):
        solver = CoPaint(inner=1, rate=rate)
        moved, x0_hat, length = solver.fitted(known, prior, x, 0.1, torch.ones(1, dtype=DOUBLE))
        assert torch.equal(moved, x) != taken
        assert float(length) == (1.0 if taken else 0.8)
        assert torch.allclose(x0_hat, shrunk(moved, 0.1), rtol=0, atol=1e-14)
        assert torch.equal(moved[~shown], x[~shown])  # pixels are independent here


@pytest.mark.parametrize("sigma", [0.0, 0.3])
def test_what_copaint_makes_small_by_hand(sigma):
    """Level .1 of x = .9, x_t = .2, y = .7: v = 1 or .01 / .10, c = 1e-4 1.01^(250 p) / 1.04, and the gradient of both terms."""
    prior = GaussianPrior(0.5, 0.25)
    problem, shown = half(sigma)
    x, origin = (torch.full((1, *SHAPE), value, dtype=DOUBLE) for value in (0.9, 0.2))
    v, c = 0.01 / (0.01 + sigma**2), 1e-4 * rising(prior.unit, 0.1, 1.01**250) / 1.04
    missed, slope = shown * (shrunk(x, 0.1) - 0.7), (1 / 16) / (1 / 16 + 0.01)
    x0_hat, loss, gradient = CoPaint().misfit(Known.of(problem), prior, x, origin, 0.1)
    assert torch.allclose(x0_hat, shrunk(x, 0.1), rtol=0, atol=1e-14)
    assert float(loss) == pytest.approx(float(v * missed.square().sum()) + c * 12 * 0.49, rel=1e-12)
    assert torch.allclose(gradient, 2 * v * slope * missed + 2 * c * 0.7, rtol=0, atol=1e-14)


def test_two_steps_of_copaint_by_hand():
    """Level .5, two lengths of sqrt(2) for the VE state; pixels shown shrink their miss, hidden ones are held where they were."""
    prior = GaussianPrior(0.5, 0.25)
    problem, shown = half(0.0)
    length, slope = 0.02 * rising(prior.unit, 0.5, 1.012**250) * math.sqrt(2), (1 / 16) / (1 / 16 + 0.25)
    anchor, x = 1e-4 * rising(prior.unit, 0.5, 1.01**250) / 2, 0.9
    for _ in range(2):
        x = x - length * (2 * slope * (0.5 + slope * (x - 0.5) - 0.7) + 2 * anchor * (x - 0.9))
    start = torch.full((1, *SHAPE), 0.9, dtype=DOUBLE)
    moved, _, _ = CoPaint(inner=2).fitted(Known.of(problem), prior, start, 0.5, torch.ones(1, dtype=DOUBLE))
    assert torch.allclose(moved, torch.where(shown, x, start), rtol=0, atol=1e-14)


def test_how_the_authors_numbers_rise():
    """1 at their top, the whole growth at their lowest level and below; in between by where a_t = 1/2 lies in their steps."""
    unit = Unit()
    assert rising(unit, 80.0, 20.0) == 1.0
    assert rising(unit, 1e-4, 20.0) == pytest.approx(20.0)
    a = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=DOUBLE)).cumprod(0)
    index = int((a > 0.5).sum())  # the first step beyond
    assert 1 - index / 999 <= math.log(rising(unit, 0.5, math.e)) <= 1 - (index - 1) / 999


# What is held to the bit, and what is refused


@pytest.mark.parametrize("solver", SHORT, ids=named)
def test_exact_pixels_are_in_the_answer_as_they_are_in_y(solver):
    """Masks per item and per channel, Bayer, one item of a batch exact and one not; float32; the fields' names in the repr."""
    prior, shape = GaussianPrior(0.5, 0.25), (3, 6, 8)
    x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    masks = torch.rand(2, 3, 6, 8, generator=torch.Generator().manual_seed(1)) < 0.5
    for operator in (Mask(shape, mask=masks), registry().build("operator", "bayer-mask", in_shape=shape)):
        problem = Problem.simulate(operator, x, GaussianNoise(torch.tensor([0.0, 0.1])), generator=2)
        found = solver.solve(problem, prior, generator=3, callback=lambda step: None).x
        shown = (operator.mask != 0).expand(2, *shape)
        assert torch.equal(found[0][shown[0]], problem.y[0][shown[0]])
        assert not torch.equal(found[1][shown[1]], problem.y[1][shown[1]])
        assert not torch.equal(found[0][~shown[0]], problem.y[0][~shown[0]])


@pytest.mark.parametrize("solver", SHORT, ids=named)
def test_what_is_no_mask_is_refused_and_who_can_is_named(solver):
    prior, x = GaussianPrior(0.5, 0.25), torch.rand(1, 3, 6, 8)
    mask = Mask((3, 6, 8), keep=0.5)
    for operator in (registry().build("operator", "gaussian-blur", in_shape=(3, 6, 8)), Scaled(mask, 2.0)):
        with pytest.raises(CompatibilityError, match=r"lacks 'mask'(.|\n)*solvers that can: .*diffpir"):
            solver.solve(Problem.simulate(operator, x, GaussianNoise(0.05), generator=0), prior)
    noisy = Problem.simulate(mask, x, GaussianNoise(torch.tensor([0.5])), generator=0)
    low = type(solver)(steps=4, sigma_max=0.4)
    with pytest.raises(CompatibilityError, match=r"sigma 0.5, is above the first noise level of the run, 0.4; raise sigma_max"):
        low.solve(noisy, prior)


@pytest.mark.parametrize(
    ("cls", "name", "inside", "outside"),
    [
        *((cls, name, (1, 7), (0, -1, 1.5)) for cls in (RePaint, CoPaint, CoPaintTT) for name in ("jump", "repeats")),
        (LanPaint, "inner", (0, 9), (-1, 1.5)),
        (LanPaint, "step", (1e-9, 1e9), (0, -1.0, math.inf, math.nan)),
        (LanPaint, "guidance", (0, 1e9), (-1e-9, math.inf, math.nan)),
        (LanPaint, "eta", (0, 1), (-1e-9, 1 + 1e-9, math.nan)),
        (CoPaint, "inner", (1, 9), (0, -1, 1.5)),
        (CoPaint, "rate", (1e-9, 1e9), (0, -1.0, math.inf, math.nan)),
        (Resampling, "particles", (1, 9), (0, -1, 1.5)),
    ],
    ids=lambda one: getattr(one, "__name__", one if isinstance(one, str) else ""),
)
def test_the_ends_of_every_range(cls, name, inside, outside):
    for value in inside:
        assert getattr(cls(**{name: value}), name) == value
    for value in outside:
        with pytest.raises(InputError, match=name):
            cls(**{name: value})
