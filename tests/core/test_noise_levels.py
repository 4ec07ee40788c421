"""How strong noise is, where its model does not say: found from draws of `sample`, wherever a level is needed."""

import math

import pytest
import torch

from invsolve import CompatibilityError, GaussianNoise, InputError, NoiseModel, Operator, Problem
from invsolve.gain import noise_level
from invsolve.noise import Ability, PoissonNoise, drawn_level
from invsolve.operator.measurement import flat, mapped, minus
from invsolve.priors import GaussianPrior, TotalVariation
from invsolve.solvers import ADMM, DDRM, DPS, HQS, AdamTV, DiffPIR, ScoreALD
from invsolve.testing import failures, noise_checks
from invsolve.testing.settings import Coupled, Kept, truth
from invsolve.which import which_solvers

SHAPE = (1, 12, 12)
# One standard error of an estimate from 4096 differences of Gaussian draws is 1 / sqrt(2 * 4096) = 1.1 %; 5 of them.
NEAR = 5 / math.sqrt(2 * 4096)


class OnlySample(NoiseModel):
    """y = clean + width n, and nothing is said of it."""

    def __init__(self, width=0.2):
        super().__init__()
        self.width = width

    def sample(self, clean, rng):
        return mapped(lambda part: part + self.width * rng.normal_like(part), clean)

    def scaled(self, factor):
        return type(self)(factor * self.width)


class OnlyNll(OnlySample):
    def nll(self, y, clean):
        return flat(minus(y, clean)).square().sum(1) / (2 * self.width**2)


class Laplace(OnlySample):
    """Density exp(-|y - clean| / width) / (2 width): variance 2 width^2."""

    def sample(self, clean, rng):
        def unit(part):
            u = rng.uniform(part.shape[1:], part) - 0.5
            return -u.sign() * (1 - 2 * u.abs()).clamp_min(1e-12).log()

        return mapped(lambda part: part + self.width * unit(part), clean)


class Rice(OnlySample):
    """|clean + width (n + i m)|: by its series the variance is width^2 (1 - width^2 / (2 clean^2) + ...)."""

    def sample(self, clean, rng):
        return mapped(
            lambda part: ((part + self.width * rng.normal_like(part)) ** 2 + (self.width * rng.normal_like(part)) ** 2).sqrt(), clean
        )


class PerItem(OnlySample):
    """A width of each item."""

    def __init__(self, widths):
        super().__init__()
        self.register_buffer("widths", widths)

    @property
    def batch(self):
        return len(self.widths)

    def select(self, items):
        return PerItem(self.widths[list(items)])

    def sample(self, clean, rng):
        return mapped(lambda part: part + self.widths.reshape(-1, *[1] * (part.ndim - 1)) * rng.normal_like(part), clean)


class NumberSigma(NoiseModel):
    """sigma is a plain number, as the docstring allows."""

    def __init__(self, std=0.1):
        super().__init__()
        self.sigma = float(std)

    def sample(self, clean, rng):
        return mapped(lambda part: part + self.sigma * rng.normal_like(part), clean)

    def nll(self, y, clean):
        return flat(minus(y, clean)).square().sum(1) / (2 * self.sigma**2)

    def scaled(self, factor):
        return NumberSigma(factor * self.sigma)


class Cauchy(OnlySample):
    """No variance at all."""

    def sample(self, clean, rng):
        return mapped(lambda part: part + self.width * (math.pi * (rng.uniform(part.shape[1:], part) - 0.5)).tan(), clean)


class Broken(OnlySample):
    """Draws at dark images only."""

    def sample(self, clean, rng):
        if float(flat(clean).max()) > 0.45:
            raise InputError("too bright")
        return super().sample(clean, rng)


class OldSpread(OnlySample):
    """As before there were levels: `spread` says it."""

    def spread(self):
        return 3.0


class SaysNothing(OnlySample):
    """The fault: a spread of 0 for a noise that is there."""

    def spread(self):
        return 0.0


def problem(noise, operator=None, batch=2, sigma=0.2, dtype=torch.float64):
    operator = operator or Kept(SHAPE)
    y = Problem.simulate(operator, truth(SHAPE, batch, dtype), GaussianNoise(sigma), generator=0).y
    return Problem(operator, y, noise)


@pytest.mark.parametrize(
    ("noise", "wanted"),
    [
        (OnlySample(0.2), 0.2),
        (OnlyNll(0.2), 0.2),
        (Laplace(0.1), 0.1 * math.sqrt(2)),
        # kurtosis of a difference of Laplace draws: (6 + 6) / 4 = 3 + 1.5, so sqrt(3.5 / 2) as uncertain as a Gaussian's
        (Rice(0.05), 0.05 * math.sqrt(1 - 0.05**2 / (2 * 0.5**2))),
        (NumberSigma(0.1), 0.1),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("operator", [Kept(SHAPE), Operator.from_matrix(torch.eye(144, dtype=torch.float64), SHAPE, SHAPE)])
def test_the_level_is_that_of_the_law(noise, wanted, operator):
    given = problem(noise, operator)
    if type(noise) is Rice and operator.supports[0] is None:
        assert float(given.y.min()) < 0.5  # nothing to do with where it is asked
    assert given.level.shape == (2,)
    assert torch.allclose(given.level, torch.full((2,), wanted, dtype=torch.float64), rtol=1.4 * NEAR)
    assert torch.equal(given.sigma_x, given.level / given.gain)


def test_a_mask_hides_what_it_hides():
    """Rice's noise where the clean value is 0 has variance (2 - pi / 2) width^2 = .43 width^2: it must not enter."""
    level = float(problem(Rice(0.05)).level[0])
    assert abs(level / 0.05 - 1) < NEAR


def test_it_is_the_same_every_time_for_every_item_and_in_every_unit():
    noise = OnlySample(0.2)
    three = problem(noise, batch=3)
    assert torch.equal(three.level, problem(noise, batch=3).level)
    assert torch.equal(three[1].level, three.level[1:2])
    other = Problem(1e3 * three.operator, 1e3 * three.y, noise.scaled(1e3), check_range=False)
    assert torch.allclose(other.sigma_x, three.sigma_x, rtol=1e-12)
    state = torch.get_rng_state()
    _ = problem(noise).level
    assert torch.equal(torch.get_rng_state(), state)


def test_every_item_has_its_own():
    widths = torch.tensor([0.05, 0.2], dtype=torch.float64)
    level = problem(PerItem(widths)).level
    assert torch.allclose(level, widths, rtol=NEAR)


def test_of_complex_data_it_is_that_of_each_part():
    """A complex draw of Rng has variance 1 in all, 1/2 in each part."""
    clean = torch.zeros(1, 64, 64, dtype=torch.complex128)
    assert abs(float(drawn_level(OnlySample(0.2), clean)) / (0.2 / math.sqrt(2)) - 1) < NEAR
    both = drawn_level(OnlySample(0.2), (torch.zeros(1, 64, 64), torch.zeros(1, 64, 64, dtype=torch.complex64)))
    # mean of the two parts' variances, the complex one's halved
    assert abs(float(both) / (0.2 * math.sqrt(0.75)) - 1) < NEAR


def answers(solver, noises, **options):
    return [solver.solve(problem(noise, **options), GaussianPrior(0.5, 0.25), generator=1).x for noise in noises]


@pytest.mark.parametrize("operator", [Kept(SHAPE), Coupled(SHAPE)], ids=lambda one: one.label)
@pytest.mark.parametrize("solver", [DPS(steps=30), DPS(steps=30, zeta=None), DPS(steps=30, authors=True)], ids=str)
def test_dps_takes_a_gaussian_that_says_nothing_for_what_it_is(solver, operator):
    """With the same seed the answer moves by what the same error of a stated sigma moves it."""
    given = problem(OnlySample(), operator)
    said, plain = (GaussianNoise(sigma) for sigma in (float(given.level[0]), 0.2))
    unsaid, same, exact = answers(solver, [OnlySample(), said, plain], operator=operator)
    assert torch.allclose(unsaid, same, rtol=0, atol=1e-12)
    noiseless = answers(solver, [GaussianNoise(0.0)], operator=operator)[0]
    gap, all_of_it = (float((one - exact).square().mean().sqrt()) for one in (unsaid, noiseless))
    assert gap <= NEAR * all_of_it if not solver.authors else gap <= 1e-12  # theirs has no sigma


@pytest.mark.parametrize("noise", [OnlyNll(), Rice(0.2), Laplace(0.2 / math.sqrt(2))], ids=lambda one: type(one).__name__)
def test_dps_beats_y_under_strong_noise(noise):
    """White prior N(.5, .25^2) under noise of .2 on the pixels seen: the posterior's mean is .16 rms off, y .2, and the prior .25."""
    x = 0.5 + 0.25 * torch.randn(4, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).clamp(-1.9, 1.9)
    operator = Kept(SHAPE)
    given = Problem.simulate(operator, x, noise, generator=0)
    found = DPS(steps=50).solve(given, GaussianPrior(0.5, 0.25), generator=0).x
    seen = (operator.mask > 0).expand_as(x)
    error = float((found - x)[seen].square().mean().sqrt())
    bias = float((given.y - x)[seen].mean())  # Rice's, which no level knows
    assert error < math.hypot(0.185, bias)
    noiseless = DPS(steps=50).solve(Problem(operator, given.y, GaussianNoise(0.0)), GaussianPrior(0.5, 0.25), generator=0).x
    assert float((noiseless - x)[seen].square().mean().sqrt()) > 1.05 * error


def test_the_range_check_knows_it():
    """y four standard deviations above white is no 0..255 picture."""
    y = torch.full((1, *SHAPE), 1.0, dtype=torch.float64) + 0.8 * (1 + torch.rand(1, *SHAPE, dtype=torch.float64))
    assert Problem(Kept(SHAPE), y, OnlySample(0.2)).batch == 1
    with pytest.raises(InputError, match=r"divide 0\.\.255 data by 255"):
        Problem(Kept(SHAPE), 100 * y, OnlySample(0.2))
    with pytest.raises(InputError, match=r"divide 0\.\.255 data by 255"):
        Problem(Kept(SHAPE), y + 1.5, OnlySample(0.01))
    assert abs(OnlySample(0.2).spread() / 0.2 - 1) < NEAR
    assert NumberSigma(0.1).spread() == 0.1


def test_what_cannot_be_drawn_or_has_no_variance_says_so():
    with pytest.raises(InputError, match=r"nothing can be drawn at a mid-grey image: too bright; write its variance"):
        Problem(Kept(SHAPE), torch.zeros(1, *SHAPE), Broken())
    assert noise_level(OldSpread(), torch.zeros(2, 5)).tolist() == [3.0, 3.0]


@pytest.mark.parametrize(("noise", "check"), [(Cauchy(), "no level"), (Broken(), "too bright"), (SaysNothing(), "its level is 0")])
def test_the_kit_fails_a_model_without_a_level(noise, check):
    found = failures(noise, noise_checks(noise))
    assert "check_level" in found
    assert check in str(found["check_level"])


@pytest.mark.parametrize(
    "noise", [OnlySample(0.1), OnlyNll(0.1), Laplace(0.05), Rice(0.05), NumberSigma(0.1)], ids=lambda one: type(one).__name__
)
def test_the_kit_passes_the_others(noise):
    assert failures(noise, noise_checks(noise)) == {}


SOLVERS = [
    DiffPIR(steps=4),
    DDRM(steps=4),
    ScoreALD(steps=4),
    ScoreALD(steps=4, precondition=False),
    DPS(steps=4),
    HQS(steps=4),
    ADMM(steps=4),
]


@pytest.mark.parametrize("solver", [*SOLVERS, AdamTV(steps=8)], ids=str)
def test_a_sigma_that_is_a_number_is_one(solver):
    """Bit for bit what GaussianNoise of that level gives."""
    prior = TotalVariation(2.0) if isinstance(solver, AdamTV) else GaussianPrior(0.5, 0.25)
    mine, theirs = (solver.solve(problem(noise, sigma=0.1), prior, generator=0).x for noise in (NumberSigma(0.1), GaussianNoise(0.1)))
    assert torch.equal(mine, theirs)
    assert problem(NumberSigma(0.1)).sigma.dtype == torch.float64


class WrongSigma(NumberSigma):
    """A sigma that is no number: an attribute of a text, accepted by nothing."""

    def __init__(self, std=0.1):
        super().__init__(std)
        self.sigma = "0.1"


def test_the_kit_solves_under_every_noise():
    assert "check_solved" in failures(WrongSigma(), noise_checks(WrongSigma()))


def test_a_solver_that_needs_sigma_still_refuses():
    with pytest.raises(CompatibilityError, match=r"noise OnlySample lacks 'sigma' \(it has: nothing\)"):
        DiffPIR().solve(problem(OnlySample()), GaussianPrior(), generator=0)
    fits = {fit.solver for fit in which_solvers(problem(OnlySample()), GaussianPrior()) if fit.fits}
    assert "dps" in fits
    assert "diffpir" not in fits


def test_what_says_its_variance_is_not_drawn():
    """Poisson's level is the root of the mean variance at y, as before."""
    y = torch.full((1, *SHAPE), 0.3, dtype=torch.float64)
    operator = Operator.from_matrix(torch.eye(144, dtype=torch.float64), SHAPE, SHAPE)
    assert abs(float(Problem(operator, y, PoissonNoise(0.01)).level[0]) - math.sqrt(0.003)) < 1e-12
    assert Ability.VARIANCE not in OnlyNll().abilities
